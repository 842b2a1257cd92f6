"""The distributions: an sdist that builds alone, a wheel without source, for this Python.

MPCACHE_LONG=1 tries each supported Python that is installed (``make long``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.processes.support import LONG

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
NOT_SHIPPED = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "*.o", "__pycache__", ".*_cache", ".hypothesis"
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, **options: Any) -> str:
    """Run a command, and return its output.

    :raises AssertionError: the command failed; with its output.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


# A build needs a venv module, and the headers that the engine is compiled against.
ABLE = """
import ensurepip, os, sys, sysconfig, venv
if os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"):
    print("%d.%d" % sys.version_info[:2])
"""


def interpreters() -> dict[str, Path]:
    """Return a Python of each supported version that is installed and can compile; the running one first, or alone."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    on_path = [Path(found) for version in SUPPORTED if (found := shutil.which(f"python{version}"))]
    found: dict[str, Path] = {}
    for path in [Path(sys.executable), *(pyenv + on_path if LONG else [])]:
        said = subprocess.run([path, "-c", ABLE], capture_output=True, text=True).stdout.strip()
        if said in SUPPORTED:
            found.setdefault(said, path)
    return found


HERE = interpreters()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an sdist of the checkout, and a wheel that was built from that sdist."""
    tree = tmp_path_factory.mktemp("tree") / "checkout"
    shutil.copytree(ROOT, tree, ignore=NOT_SHIPPED)
    run(sys.executable, "-m", "build", "--outdir", tree.parent / "dist", cwd=tree)
    return tree.parent / "dist"


@pytest.fixture(scope="module")
def sdist(shipped: Path) -> Path:
    return next(shipped.glob("mpcache-*.tar.gz"))


def test_the_sdist_carries_all_that_building_and_testing_takes(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        carried = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        str(path.relative_to(ROOT))
        for folder in ("mpcache", "tests", "tools", "docs", "stress", "bench")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".pyi", ".c", ".h", ".rst", ".sh", ".typed", ".html")
        if "_build" not in path.parts
    }
    assert any(name.endswith(".c") for name in wanted)
    assert wanted | {"LICENSE", "README.rst", "CHANGES.rst", "Makefile", "setup.py", "setup.cfg"} <= carried
    assert [name for name in carried if name.endswith((".so", ".pyc"))] == []


def test_the_wheel_carries_what_runs_and_nothing_else(shipped: Path) -> None:
    with zipfile.ZipFile(next(shipped.glob("mpcache-*.whl"))) as archive:
        carried = archive.namelist()
        entry_points = archive.read(next(n for n in carried if n.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in carried} == {"mpcache"}
    assert [name for name in carried if name.endswith((".c", ".h"))] == []
    assert [name for name in carried if name.startswith("mpcache/shm/_engine.") and name.endswith(".so")]
    assert {"mpcache/py.typed", "mpcache/shm/_engine.pyi", "mpcache/stress/report/report.html"} <= set(carried)
    assert "mpcache = mpcache.cli:main" in entry_points


# Run outside of the checkout, so that the installed package is imported.
SMOKE = """
import os, sys
from pathlib import Path
import mpcache

assert Path(mpcache.__file__).is_relative_to(sys.prefix), mpcache.__file__
region = mpcache.make_region().configure("mpcache.shm", arguments={"name": sys.argv[1], "size": "4MB"})
try:
    child = os.fork()
    if child == 0:
        region.set("from the child", {"pid": os.getpid()})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert region.get("from the child") == {"pid": child}
    created = []
    for _ in range(2):
        assert region.get_or_create("key", lambda: created.append(1) or "value") == "value"
    assert created == [1]
finally:
    region.actual_backend.unlink()
assert not list(Path("/dev/shm").glob(f"mpcache-*/*{sys.argv[1]}*"))
print("mpcache", mpcache.__version__)
"""


def install_and_use(python: Path, sdist: Path, folder: Path) -> str:
    """Return the output of SMOKE in a new venv with only the sdist and its base dependencies."""
    run(python, "-m", "venv", folder / "venv")
    run(folder / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", sdist, cwd=folder)
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "MPCACHE_"))}
    segment = f"smoke-{os.getpid()}-{folder.name}"
    return run(folder / "venv/bin/python", "-c", SMOKE, segment, cwd=folder, env=clean)


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[str]]:
    """Return the result of installation and use by version; two run at a time: one compiles, one downloads."""
    with ThreadPoolExecutor(2) as pool:
        return {
            version: pool.submit(install_and_use, python, sdist, tmp_path_factory.mktemp(f"py{version}"))
            for version, python in HERE.items()
        }


@pytest.mark.parametrize("version", HERE)
def test_the_sdist_installs_alone_and_works(version: str, installed: dict[str, Future[str]]) -> None:
    assert installed[version].result().startswith("mpcache ")


def test_the_running_python_is_among_those_tried() -> None:
    assert HERE.get(f"{sys.version_info[0]}.{sys.version_info[1]}") == Path(sys.executable)
