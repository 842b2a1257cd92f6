"""dogpile.cache's own tests of its decorators, from its source distribution, pass on mpcache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
RELEASE = "dogpile.cache==1.5.0"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked source distribution; where the package index cannot be reached, only CI insists on it."""
    folder = tmp_path_factory.mktemp("dogpile")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", RELEASE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"{RELEASE} cannot be had: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


@pytest.mark.slow
def test_the_decorators_pass_their_tests(theirs: Path, tmp_path: Path) -> None:
    """Moved by their imports alone; the keys that they expect have the name of their package in them."""
    suite = tmp_path / "tests" / "cache"
    suite.mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    for name in ("__init__.py", "test_decorator.py"):
        text = (theirs / "tests" / "cache" / name).read_text()
        (suite / name).write_text(re.sub(r"(?m)^(from|import) dogpile(\.cache)?\b", r"\1 mpcache", text))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "python_classes=*Test", "tests"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 40
