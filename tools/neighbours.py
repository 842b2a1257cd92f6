#!/usr/bin/env python3
"""Run the test suites of programs that use dogpile.cache: with dogpile.cache, and with mpcache in its place.

    python tools/neighbours.py [NAME...]            all programs, or the named ones: keystone oslo.cache subliminal ...
    python tools/neighbours.py --folder DIR         the directory of the environments and sources, which are kept
    python tools/neighbours.py --rst                print the table of docs/migrating.rst, too

Each program is the source distribution of PyPI, whose tests run unmodified.  The second run has one directory more on
its PYTHONPATH, whose sitecustomize lets `import dogpile.cache` find mpcache.  Tests that pass with dogpile.cache and
fail with mpcache are listed, and make the exit status 1.  Needs a network; redis-server and memcached, if they are
installed, are started for the tests that use them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ALIAS = '''
"""`import dogpile.X` and `import dogpile.cache.X` find mpcache.X."""
import importlib
import importlib.util
import sys


class Alias:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "dogpile":
            return importlib.util.spec_from_loader(name, Alias)

    @staticmethod
    def create_module(spec):
        parts = [part for part in spec.name.split(".")[1:]]
        module = importlib.import_module(".".join(["mpcache", *(parts[1:] if parts[:1] == ["cache"] else parts)]))
        Alias.kept = module.__spec__
        return module

    @staticmethod
    def exec_module(module):
        module.__spec__ = Alias.kept


sys.meta_path.insert(0, Alias)
'''


@dataclass(frozen=True)
class Program:
    """A program and its tests.

    :ivar tests: paths in its source distribution.
    :ivar needs: what its tests need besides the program's requirements.
    :ivar extra: the extras of mpcache that are installed.
    :ivar files: files of the source distribution that name further requirements.
    :ivar parallel: whether its tests may run in several processes.
    :ivar differs: tests of differences that docs/migrating.rst explains.
    """

    name: str
    version: str
    tests: tuple[str, ...]
    needs: tuple[str, ...]
    extra: str = ""
    files: tuple[str, ...] = ()
    parallel: bool = False
    differs: tuple[str, ...] = ()


_KEYSTONE = (
    *("common/test_cache.py", "token", "catalog", "test_revoke.py", "credential", "trust", "receipt", "identity"),
    *("resource", "test_token_provider.py", "test_receipt_provider.py"),
)

PROGRAMS = (
    Program(
        "keystone",
        "30.0.0",
        tuple(f"keystone/tests/unit/{path}" for path in _KEYSTONE),
        (
            *("freezegun", "fixtures", "lxml", "oslotest", "WebTest", "testtools", "testresources", "testscenarios"),
            *("python-memcached", "python-ldap", "ldappool"),  # python-ldap: apt-get install libldap2-dev libsasl2-dev
        ),
        files=("requirements.txt",),
        parallel=True,
    ),
    Program(
        "oslo.cache",
        "4.3.0",
        ("oslo_cache/tests/unit", "oslo_cache/tests/functional"),
        (
            *("oslotest", "fixtures", "python-memcached", "pymemcache", "python-binary-memcached"),
            *("pymongo", "redis", "etcd3gw"),
        ),
        extra="redis,pymemcache,memcached,bmemcached",
        # The text of the tests' argument is its address, for which mpcache makes no key.
        differs=(
            *("test_kwarg_function_key_generator_no_kwargs", "test_kwarg_function_key_generator_with_kwargs"),
            "test_should_cache_fn_global_cache_enabled",
            "test_should_cache_fn_global_cache_enabled_group_cache_enabled",
        ),
    ),
    Program("subliminal", "2.8.0", ("tests",), ("vcrpy", "sympy", "colorama", "win32-setctime")),
    Program("dogpile_filesystem", "", ("tests",), ("mock",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *(program.name for program in PROGRAMS)], default=[])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mpcache-neighbours")
    parser.add_argument("--workers", default="1", help="processes that run the tests of keystone, by pytest-xdist")
    parser.add_argument("--rst", action="store_true")
    given = parser.parse_args()
    rows, lost = [], 0
    for program in PROGRAMS:
        if not given.names or program.name in given.names:
            row, missing = compare(program, given.folder.resolve(), given.workers)
            rows.append(row)
            lost += len(missing)
    if given.rst:
        print("\n".join(table(rows)))
    return bool(lost)


Row = tuple[str, int, int, int]
"""A program; how many tests ran, passed with dogpile.cache, and passed with mpcache."""


def compare(program: Program, folder: Path, workers: str) -> tuple[Row, list[str]]:
    """Run the tests with both libraries; print and return the tests that pass with dogpile.cache only."""
    here = folder / program.name
    options = ["-n", workers] if program.parallel and workers != "1" else []
    python, source = environment(program, here), unpacked(program, here)
    with servers() as addresses:
        theirs = outcomes(program.tests, options, python, source, here / "dogpile.xml", addresses)
        (here / "alias").mkdir(exist_ok=True)
        (here / "alias" / "sitecustomize.py").write_text(ALIAS)
        paths = {"PYTHONPATH": str(here / "alias")}
        ours = outcomes(program.tests, options, python, source, here / "mpcache.xml", addresses | paths)
    passed = {name for name, outcome in theirs.items() if outcome == "passed"}
    mine = {name for name, outcome in ours.items() if outcome == "passed"}
    missing = sorted(name for name in passed - mine if name.partition("::")[2] not in program.differs)
    print(f"{source.name}: {len(theirs)} tests; passed {len(passed)} with dogpile.cache, {len(mine)} with mpcache")
    for name in sorted(passed - mine):
        known = "" if name in missing else ", as docs/migrating.rst says"
        print(f"    passes with dogpile.cache only ({ours.get(name, 'not run')}{known}): {name}")
    for name in sorted(mine - passed):
        print(f"    passes with mpcache only: {name}")
    return (source.name, len(theirs), len(passed), len(mine)), missing


def environment(program: Program, here: Path) -> Path:
    """Make an environment with the program's requirements, dogpile.cache and this checkout; return its python."""
    python = here / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", here / "venv"], check=True)
    source = unpacked(program, here)
    files = [word for name in program.files for word in ("-r", str(source / name))]
    mpcache = str(ROOT) + (f"[{program.extra}]" if program.extra else "")
    given = [
        str(source) if not program.files else "pbr",
        "pytest",
        "pytest-xdist",
        "dogpile.cache>=1.5",
        *program.needs,
    ]
    subprocess.run([python, "-m", "pip", "install", "-q", *given, *files], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", mpcache], check=True)
    if program.files:  # the program reads its version and its entry points from its own metadata
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-e", source], check=True)
    return python


def unpacked(program: Program, here: Path) -> Path:
    """Download the source distribution, and return the directory of its files."""
    here.mkdir(parents=True, exist_ok=True)
    if not list(here.glob("*.tar.gz")):
        wanted = f"{program.name}=={program.version}" if program.version else program.name
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command[:-1], program.name, wanted, "-d", here], check=True)
    (archive,) = here.glob("*.tar.gz")
    source = here / archive.name.removesuffix(".tar.gz")
    if not source.exists():
        with tarfile.open(archive) as files:
            files.extractall(here, filter="data")
    return source


def outcomes(
    tests: tuple[str, ...], options: list[str], python: Path, source: Path, report: Path, env: dict[str, str]
) -> dict[str, str]:
    """Run the tests, and return the outcome of each by its name."""
    report.unlink(missing_ok=True)
    there = [path for path in tests if (source / path).exists()]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options, *there]
    log = report.with_suffix(".log")
    with log.open("w") as file:
        environment = {**os.environ, **env, "PYTHONHASHSEED": "0"}
        subprocess.run(command, cwd=source, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if not report.exists():
        raise SystemExit(f"the tests of {source.name} did not run; see {log}")
    found = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = "passed" if not kinds else "failed" if kinds & {"failure", "error"} else "skipped"
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name] = outcome if found.get(name, "passed") == "passed" else found[name]
    return found


@contextlib.contextmanager
def servers() -> Iterator[dict[str, str]]:
    """Start the installed servers, and yield their ports as the variables of oslo.cache's functional tests."""
    redis, sentinel, memcached = 16379, 16380, 21211
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "sentinel.conf").write_text(f"port {sentinel}\nsentinel monitor pifpaf 127.0.0.1 {redis} 1\n")
        for command in (
            ["redis-server", "--port", str(redis), "--save", "", "--appendonly", "no"],
            ["redis-server", str(folder / "sentinel.conf"), "--sentinel"],
            ["memcached", "-l", "127.0.0.1", "-p", str(memcached), "-u", "nobody"],
        ):
            with contextlib.suppress(FileNotFoundError):
                process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                stack.callback(process.wait)
                stack.callback(process.terminate)
        ports = {"REDIS": redis, "REDIS_SENTINEL": sentinel, "MEMCACHED": memcached}
        yield {f"OSLO_CACHE_TEST_{name}_PORT": str(port) for name, port in ports.items()}


def table(rows: list[Row]) -> list[str]:
    """Return the lines of the table in docs/migrating.rst."""
    head = [".. list-table::", "   :header-rows: 1", "", "   * - suite", "     - tests"]
    head += ["     - pass with dogpile.cache", "     - pass with mpcache"]
    return head + [
        f"   * - {name}\n" + "\n".join(f"     - {number:,}" for number in numbers) for name, *numbers in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
