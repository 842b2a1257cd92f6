"""Programs that were written for dogpile.cache run on mpcache once two prefixes are replaced, and say the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HAS_SHM

pytest.importorskip("dogpile.cache")

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"
NEEDS = {"web": "flask", "orm": "sqlalchemy", "job": "dogpile"}


def migrated(text: str) -> str:
    """All that a user has to do."""
    return text.replace("dogpile.cache", "mpcache").replace("dogpile.", "mpcache.")


def run(program: Path, **environment: str) -> str:
    """What the program printed; it must have ended well."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", **environment}
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def original(name: str, folder: Path) -> Path:
    folder.mkdir()
    for path in (PROGRAMS / f"{name}.py", PROGRAMS / "cache.ini"):
        shutil.copy(path, folder)
    return folder / f"{name}.py"


def moved(name: str, folder: Path) -> Path:
    """The same program on mpcache; the ini file stays as it is, and dogpile.cache cannot be imported any more."""
    program = original(name, folder)
    program.write_text(migrated(program.read_text()))
    assert "dogpile" not in program.read_text()
    (folder / "dogpile.py").write_text("raise ImportError('this program has moved')\n")
    return program


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_2_a_program_runs_unchanged_on_both(name: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[name])
    before, after = (run(make(name, tmp_path / make.__name__)) for make in (original, moved))
    assert before.count("\n") > 5
    assert after == before


@pytest.mark.skipif(not HAS_SHM, reason="the engine is not compiled")
def test_the_job_on_shared_memory_creates_each_value_once(tmp_path: Path) -> None:
    job = moved("job", tmp_path / "job")
    on_memory, on_shm = (run(job, JOB_BACKEND=f"mpcache.{store}").splitlines() for store in ("memory", "shm"))
    differing = [lines for lines in zip(on_memory, on_shm, strict=True) if lines[0] != lines[1]]
    # The parent has made 4 digests and 3 squares of 8 each: the children are left with 4 and 5.
    assert differing == [("created in children 22", "created in children 9")]
