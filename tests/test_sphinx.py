"""The documentation is built, and each of its warnings is an error: a name that is not there, a page in no contents.

Leans on Sphinx.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (source / "index.rst").write_text("Title\n=====\n\n:class:`mpcache.region.CacheRegio`\n")
    built = build(source, tmp_path)
    assert built.returncode != 0
    assert "CacheRegio" in built.stderr
