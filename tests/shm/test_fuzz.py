"""The fuzz in its short form (``make fuzz`` is the long one), and that it would find something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpcache.stress.builds import Build, engine

from .fuzz import layout
from .fuzz.director import fuzz

ROOT = Path(__file__).parents[2]


@pytest.mark.engine
def test_a_damaged_segment_ends_no_process_and_no_call_takes_long() -> None:
    outcome = fuzz(int.from_bytes(os.urandom(4), "big"), seconds=12)
    print(outcome)
    assert outcome.findings == []
    assert outcome.corruptions > 100
    assert outcome.calls > outcome.errors + 100


def test_a_call_that_takes_too_long_is_found() -> None:
    outcome = fuzz(1, seconds=30, limit=0.0, findings=1)
    assert "slow, process" in outcome.findings[0]
    assert f"--seed 1 --only {outcome.episodes - 1}" in outcome.findings[0]


@pytest.mark.slow
def test_an_engine_that_believes_lengths_is_found(tmp_path: Path) -> None:
    """The seeded fault reads records as long as they say they are."""
    engine(Build("NO_BOUNDS"), tmp_path)
    command = [sys.executable, "-m", "tests.shm.fuzz", "--seed", "1", "--seconds", "60", "--findings", "1"]
    environment = layout.plain_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    print(done.stdout[-4000:], done.stderr[-4000:])
    assert done.returncode == 1
    assert "death, process" in done.stdout


def test_the_same_seed_plays_the_same_episode(tmp_path: Path) -> None:
    """How often it is damaged, at least: where, depends on what the other process has done there."""
    first, second = (fuzz(7, only=3, seconds=20) for _ in range(2))
    assert first.corruptions == second.corruptions > 0


def test_every_field_of_the_layout_is_known(tmp_path: Path) -> None:
    found = layout.read_layout(tmp_path)
    record = found.fields["record"]
    assert sum(field.size for field in record.values()) == found.sizes["record"] == 64
    assert found.constants["MPC_MAX_KEY"] == 65535
    with pytest.raises(ValueError, match="cannot read"):
        layout._declared("struct mpc_new {\n    u32 bits : 3;\n};")
    with pytest.raises(ValueError, match="bytes from 8 to 64"):
        layout._check_whole(layout.Layout({"new": 64}, {"new": {"a": layout.Field(0, 8, 8)}}, {}), set())
