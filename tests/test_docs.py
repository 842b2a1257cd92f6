"""Everything that the documentation shows is run."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpcache.shm import segment

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.rst"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.rst"))]
SHOWN = [page for page in PAGES if "\n>>> " in page.read_text()]

NAME = re.compile(r'(?<=shared\(")[\w-]+|(?<=arguments=\{"name": ")[\w-]+')
"""Where an example names its segment."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Iterator[str]:
    """A page's text, its segments renamed so that no other run and no user of this machine has them."""
    text = NAME.sub(lambda name: f"{name[0]}-{os.getpid()}", request.param.read_text())
    yield text
    for name in set(NAME.findall(text)):
        segment.unlink(name)


@pytest.mark.parametrize("page", SHOWN, indirect=True, ids=named)
def test_examples_do_what_they_show(page: str) -> None:
    example = doctest.DocTestParser().get_doctest(page, {"__name__": "shown"}, "page", None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(example, out=said.append).failed == 0, "".join(said)


def test_there_are_examples() -> None:
    assert "docs/quickstart.rst" in map(named, SHOWN)


@pytest.mark.parametrize("page", [README], indirect=True, ids=named)
def test_the_first_example_is_created_once_by_three_processes(page: str, tmp_path: Path) -> None:
    block = re.search(r"\.\. code:: python\n\n((?:    .*\n|\n)+)", page)
    assert block is not None
    script = tmp_path / "report.py"
    script.write_text(textwrap.dedent(block[1]).replace("time.sleep(2)", "time.sleep(0.5)"))
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    racing = [subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=here) for _ in range(3)]
    said = [process.communicate(timeout=30)[0].decode() for process in racing]
    assert len(set(said)) == 1, said
    assert said[0].startswith("monday, by process ")
    assert int(said[0].split()[-1]) in [process.pid for process in racing]


def test_commands_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    asked = {match for page in PAGES for match in re.findall(r"\bmake ([a-z-]+) +#", page.read_text())}
    assert {"demo", "test"} <= asked
    assert [target for target in asked if not re.search(rf"^{target}:", makefile, re.M)] == []


def test_pages_that_pages_point_to_exist() -> None:
    broken = [
        f"{named(page)}: {target}"
        for page in PAGES
        for target in re.findall(r"<([\w/.-]+\.rst)>`", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
