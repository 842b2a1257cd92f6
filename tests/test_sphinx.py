"""The documentation builds, and each warning is an error: a missing name, a page in no table of contents.

Depends on Sphinx.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpcache import mutexes

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    return subprocess.run(
        [*command, "-d", str(out / "doctrees"), str(source), str(out / "html")], capture_output=True, text=True
    )


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    built = build(ROOT / "docs", tmp_path)
    assert built.returncode == 0, built.stderr
    assert "CacheRegion.get_or_create" in (tmp_path / "html" / "api.html").read_text()
    page = (tmp_path / "html" / "mutexes.html").read_text()
    figure = re.compile(r"[\d.e+,]+ (ns|µs|ms|s|B|%)")
    measured = rows((tmp_path / "html" / "performance.html").read_text(), "mpcache.shm")
    assert len(measured) == 4
    assert all(figure.fullmatch(cell) for row in measured for cell in row)
    for name in mutexes.names():
        promises, costs = rows(page, name)
        promised = mutexes.resolve(name).guarantees
        said = ["yes" if yes else "no" for yes in promised]
        assert promises[:3] == said[:3]
        assert promises[-2:] == [said[promised._fields.index(what)] for what in ("fair", "leased")]
        assert re.fullmatch(r"[\d.e+]+ (ns|µs|ms)", costs[0])


def rows(page: str, name: str) -> list[list[str]]:
    """Return the other cells of each row of the page's tables that begins with a name."""
    found = [re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.S) for row in re.findall(r"<tr.*?</tr>", page, re.S)]
    plain = [[re.sub("<.*?>", "", cell).strip() for cell in row] for row in found]
    return [row[1:] for row in plain if row[:1] == [name]]


def test_a_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in (ROOT / "docs").glob("*.py"):
        shutil.copy(path, source)
    (source / "index.rst").write_text("Title\n=====\n\n:class:`mpcache.region.CacheRegio`\n")
    built = build(source, tmp_path)
    assert built.returncode != 0
    assert "CacheRegio" in built.stderr
