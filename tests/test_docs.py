"""Everything that the documentation shows is run, and all names in it exist.

Each kind of text on a page is checked in its own way::

    >>> ...                      an example: run in the order of the page, in one process
    .. code-block:: python       with a :caption:, a file, beside which the page's examples and sessions run
    .. code-block:: ini          likewise; and toml
    .. code-block:: console      a session: what follows a "$ " is run, and prints what is shown below it
    ::                           a drawing, and therefore no code
"""

from __future__ import annotations

import configparser
import doctest
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.rst"
PAGES = [README, ROOT / "CHANGES.rst", *sorted((ROOT / "docs").rglob("*.rst"))]

FILES, SESSION, DRAWING = {"python", "ini", "toml"}, "console", "::"

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:\.\. code(?:-block)?:: *(?P<language>\w+)|(?!\.\. ).*::)\n"
    r"(?P<options>(?:(?P=indent) +:.*\n)*)\n"
    r"(?P<text>(?:(?P=indent) +.*\n|\n)+)",
    re.M,
)
_CAPTION = re.compile(r":caption: *(.+)")
_CODE = re.compile(r"^ *(?:>>> |\$ |@\w|(?:import|from|def|class|with|for|return|async) )", re.M)


class Block(NamedTuple):
    """An indented block of a page."""

    language: str
    caption: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(page.read_text()):
        caption = _CAPTION.search(match["options"])
        text = textwrap.dedent(match["text"]).strip("\n") + "\n"
        found.append(Block(match["language"] or DRAWING, caption[1].strip() if caption else None, text))
    return found


def files(page: Path) -> dict[str, str]:
    return {block.caption: block.text for block in blocks(page) if block.language in FILES and block.caption}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


SHOWN = [page for page in PAGES if "\n>>> " in page.read_text()]
SESSIONS = [
    pytest.param(page, block.text, id=f"{named(page)}-{number}")
    for page in PAGES
    for number, block in enumerate(one for one in blocks(page) if one.language == SESSION)
]


class Sandbox:
    """A folder of the test's own, and a directory of its own for segments."""

    def __init__(self, folder: Path, shm: str) -> None:
        self.folder = folder
        scripts = folder / "bin"
        scripts.mkdir()
        for name, as_here in self._commands():
            script = scripts / name
            script.write_text(f"#!/bin/sh\nexec {sys.executable} {as_here}\n")
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self._announce()
        self.environment = os.environ | {
            "MPCACHE_SHM": shm,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}:{folder}/installed:{ROOT}",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "120",
        }

    def _announce(self) -> None:
        """Write the entry points of mpcache, as if this checkout were installed; it may be."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        announced = self.folder / "installed" / "mpcache-0.dist-info"
        announced.mkdir(parents=True)
        entries = [f"[{group}]{names}\n" for group, names in setup["options.entry_points"].items()]
        (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: mpcache\nVersion: 0\n")
        (announced / "entry_points.txt").write_text("".join(entries))

    def _commands(self) -> Iterator[tuple[str, str]]:
        """Write the commands that a session may use, which run this Python in the sandbox."""
        yield "python", '"$@"'
        yield "mpcache", '-m mpcache.cli "$@"'
        yield "pytest", '-m pytest "$@"'
        yield "pip", f'-m pip "$@" --no-build-isolation --no-deps --target {self.folder}/installed'

    def hold(self, page: Path) -> None:
        """Write the files that a page shows."""
        for name, text in files(page).items():
            (self.folder / name).write_text(text)

    def run(self, *command: str, said: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=said, text=True
        )


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    shm = tempfile.mkdtemp(prefix="mpcache-docs-", dir=os.environ.get("MPCACHE_SHM", "/dev/shm"))
    try:
        yield Sandbox(tmp_path, shm)
    finally:
        shutil.rmtree(shm)


@pytest.mark.parametrize("page", SHOWN, ids=named)
def test_examples_do_what_they_show(sandbox: Sandbox, page: Path) -> None:
    sandbox.hold(page)
    examples = sandbox.run(sys.executable, "-m", "doctest", "-o", "ELLIPSIS", str(page))
    said, _ = examples.communicate(timeout=60)
    assert examples.returncode == 0, said


@pytest.mark.parametrize(("page", "session"), SESSIONS)
def test_sessions_print_what_they_show(sandbox: Sandbox, page: Path, session: str) -> None:
    sandbox.hold(page)
    first, *steps = re.split(r"^\$ ", session, flags=re.M)
    assert first == "", "a session begins with a command"
    for step in steps:
        command, _, expected = re.sub(r"\\\n", "", step).partition("\n")
        asked = sandbox.run("bash", "-c", command)
        said, _ = asked.communicate(timeout=60)
        assert asked.returncode == 0, f"{command}\n{said}"
        assert doctest.OutputChecker().check_output(expected, said, doctest.ELLIPSIS), f"{command}\n{said}"


def test_a_wrong_example_is_seen(sandbox: Sandbox) -> None:
    page = sandbox.folder / "page.rst"
    page.write_text("Sum:\n\n>>> 1 + 1\n3\n")
    with pytest.raises(AssertionError, match="Expected"):
        test_examples_do_what_they_show(sandbox, page)
    with pytest.raises(AssertionError, match="echo 2"):
        test_sessions_print_what_they_show(sandbox, page, "$ echo 2\n3\n")


def test_nothing_escapes() -> None:
    """Check that each block that looks like code is an example, a file or a session."""
    strange = [
        f"{named(page)}: {block.language} {block.text[:60]!r}"
        for page in PAGES
        for block in blocks(page)
        if page != README  # it is shown where nothing but "::" and "code" is known; what it shows is run below
        if not (block.language == SESSION or (block.language in FILES and block.caption))
        if block.language != DRAWING or _CODE.search(block.text)
    ]
    assert strange == []


def test_every_file_is_used() -> None:
    unused = [
        f"{named(page)}: {name}"
        for page in PAGES
        for name in files(page)
        if not re.search(rf"^(?:>>> |\.\.\. |\s+\$ |\s+).*\b{Path(name).stem}\b", page.read_text(), re.M)
    ]
    assert unused == []


def test_this_sees_what_it_is_to_see(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text(
        "Look::\n\n    import this\n\n"
        ".. code-block:: python\n   :caption: here.py\n\n   x = 1\n\n   y = 2\n\n"
        ".. code-block:: console\n\n   $ python here.py\n\nThe end::\n\n    --->\n"
    )
    assert blocks(page) == [
        (DRAWING, None, "import this\n"),
        ("python", "here.py", "x = 1\n\ny = 2\n"),
        ("console", None, "$ python here.py\n"),
        (DRAWING, None, "--->\n"),
    ]
    assert [bool(_CODE.search(block.text)) for block in blocks(page) if block.language == DRAWING] == [True, False]
    assert "docs/quickstart.rst" in map(named, SHOWN)
    assert SESSIONS


def test_the_first_example_is_created_once_by_three_processes(sandbox: Sandbox) -> None:
    (example,) = (block.text for block in blocks(README) if block.language == "python")
    (sandbox.folder / "report.py").write_text(example.replace("time.sleep(2)", "time.sleep(0.5)"))
    racing = [sandbox.run("python", "report.py") for _ in range(3)]
    said = [process.communicate(timeout=30)[0] for process in racing]
    assert len(set(said)) == 1, said
    assert said[0].startswith("monday, by process ")
    assert int(said[0].split()[-1]) in [process.pid for process in racing]


@pytest.mark.slow
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_the_web_recipe_serves_one_value_from_four_workers(sandbox: Sandbox, preload: list[str]) -> None:
    sandbox.hold(ROOT / "docs" / "recipes.rst")
    path = Path(tempfile.mkdtemp(prefix="mpc-")) / "web"  # a socket's path may have 107 bytes only
    bound = ["--bind", f"unix:{path}", "--config", "/dev/null"]
    server = sandbox.run(sys.executable, "-m", "gunicorn", "--workers", "4", *preload, *bound, "web:app")
    try:
        deadline = time.monotonic() + 20
        while not _listens(path):
            assert server.poll() is None, server.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with ThreadPoolExecutor(8) as clients:
            texts = list(clients.map(lambda _: _ask(path, "/monday"), range(16)))
    finally:
        server.terminate()
        log, _ = server.communicate(timeout=30)
        shutil.rmtree(path.parent)
    assert len(set(texts)) == 1, log
    assert texts[0].startswith("monday, by process "), log


def _listens(path: Path) -> bool:
    """Return whether a server accepts connections: a socket has its path before it listens."""
    with socket(AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _ask(path: Path, what: str) -> str:
    connection = HTTPConnection("localhost", timeout=20)
    connection.sock = socket(AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", what)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_commands_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    asked = {match for page in PAGES for match in re.findall(r"\bmake ([a-z-]+) +#", page.read_text())}
    assert {"demo", "test"} <= asked
    assert [target for target in asked if not re.search(rf"^{target}:", makefile, re.M)] == []


def test_each_difference_has_its_test() -> None:
    differences = (ROOT / "docs" / "migrating.rst").read_text()
    marks = re.findall(r"\b[A-F]\d+\b", " ".join(re.findall(r"^   \* - (.*)$", differences, re.M)))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(marks) > 20
    assert [mark for mark in marks if not re.search(rf"def test_\w*{mark}_", tests)] == []


def test_pages_that_pages_point_to_exist() -> None:
    broken = [
        f"{named(page)}: {target}"
        for page in PAGES
        for target in re.findall(r"<([\w/.-]+\.rst)>`", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
