"""Death at every instruction: the program prove.c, built from the engine's sources, run over every operation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "mpcache" / "shm" / "core"
OPERATIONS = 13


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prove")


def prover(build: Path, *flags: str) -> Path:
    program = build / "-".join(["prove", *flags])
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    sources = [HERE / "prove.c", *sorted(CORE.glob("*.c"))]
    standard = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-O2", f"-I{CORE}"]
    subprocess.run([compiler, *standard, *flags, *sources, "-o", program], check=True)
    return program


def run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=100)


def test_death_at_any_instruction_leaves_a_whole_store(build: Path) -> None:
    done = run(prover(build))
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == OPERATIONS
    assert all(int(line.split()[1]) > 0 for line in lines[:-1])
    assert int(lines[-1].split()[0]) > 200


def test_real_kills_leave_the_same(build: Path) -> None:
    done = run(prover(build), "-k", "131", "overwrite", "delete", "lease", "takeover", "fill")
    assert done.returncode == 0, done.stdout


def test_a_head_that_moves_before_its_record_is_found_out(build: Path) -> None:
    """The harness has eyes: with the order of two stores reversed, there are deaths that it must complain of."""
    done = run(prover(build, "-DMPC_FAULT_HEAD_FIRST"), "insert", "overwrite")
    assert done.returncode == 1
    assert "check() failed" in done.stdout
