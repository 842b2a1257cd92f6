"""Death, and rivals, at every instruction: prove.c, built from the engine's sources, run over every operation.

With MPCACHE_PROVE=full, as `make prove` has it, every state is looked at, and short operations are really killed after
every single instruction; otherwise of hundreds of states that are alike each 32nd.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.shm import c_program

FULL = os.environ.get("MPCACHE_PROVE") == "full"
PATIENCE = 600 if FULL else 110
OPERATIONS = 31
LONG = ("attach", "restart-main")  # a third of the time; `make prove` plays them, too
MET = ["add", "swap", "swap-own", "incr", "incr-own", "count", "touch", "touch-own", "keys"]
EVENTS = {
    "evict": {"small": 1, "main": 0},
    "promote": {"promoted": 1, "reinserted": 1, "main": 1},
    "own": {"small": 0, "promoted": 0, "main": 1},
    "own-in-main": {"reinserted": 1},
    "swap-own": {"reinserted": 1},
    "incr-own": {"reinserted": 1},
    "touch-own": {"reinserted": 1},
    "superseded": {"small": 0},
    "evict-many": {"reinserted": 60, "promoted": 1, "small": 1},
    "ghost": {"ghosts": 1},
    "guest": {"small": 0, "main": 0, "promoted": 0},
    "restart": {"cleared": 1},
    "restart-main": {"cleared": 1},
}
"""What each operation must have done at least once, or exactly 0 times: else it proved another thing than it says."""


pytestmark = pytest.mark.timeout(PATIENCE + 10)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prove")


def prover(build: Path, fault: str = "") -> Path:
    return c_program.build(build, "prove", ["-O2"], fault)


def run(program: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *args], capture_output=True, text=True, timeout=PATIENCE)


def events_of(line: str) -> dict[str, int]:
    return {name: int(count) for name, count in (event.split("=") for event in line.partition(";")[2].split())}


def did(line: str) -> bool:
    events = events_of(line)
    wanted = EVENTS.get(line.split()[0], {})
    return all(events[name] >= count if count else events[name] == 0 for name, count in wanted.items())


def test_death_at_any_instruction_leaves_a_whole_store(build: Path) -> None:
    done = run(prover(build), *(["-a"] if FULL else [f"^{name}" for name in LONG]))
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    *lines, last = done.stdout.splitlines()
    assert len(lines) == OPERATIONS - 1 - (0 if FULL else len(LONG))
    assert all(int(line.split()[1]) > 0 for line in lines)
    assert int(last.split()[0]) > 1000
    assert [line for line in lines if not did(line)] == []


def test_real_kills_leave_the_same(build: Path) -> None:
    done = run(prover(build), "-k", "13" if FULL else "131", "overwrite", "promote", "fill")
    print(done.stdout)
    assert done.returncode == 0, done.stdout


def test_so_do_real_kills_of_what_is_short(build: Path) -> None:
    done = run(prover(build), "-k", "1" if FULL else "131", "delete", "lease", "takeover", "invalidate")
    print(done.stdout)
    assert done.returncode == 0, done.stdout


def test_a_rival_at_any_moment_comes_before_or_after(build: Path) -> None:
    done = run(prover(build), "-r", "31" if FULL else "89")
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == MET


@pytest.mark.parametrize(
    ("fault", "operation", "complaint"),
    [
        ("BLIND_PUBLISH", "swap", "what was deleted is back"),
        ("BLIND_PUBLISH", "incr", "what was deleted is back"),
        ("BLIND_PUBLISH", "touch", "what was deleted is back"),
        ("ANY_VERSION", "swap", "overwritten by what had not seen it"),
        ("STALE_COUNT", "incr", "a count was lost"),
        ("KEYS_LOOK_ONCE", "keys", "a key that stays was not seen"),
    ],
)
def test_a_broken_rule_is_found_by_rivals(build: Path, fault: str, operation: str, complaint: str) -> None:
    done = run(prover(build, fault), "-r", "5", operation)
    assert done.returncode == 1
    assert complaint in done.stdout


@pytest.mark.parametrize(
    ("fault", "operation", "complaint"),
    [
        ("HEAD_FIRST", "insert", "check() failed"),
        ("HEAD_FIRST", "overwrite", "check() failed"),
        ("TAIL_LATE", "evict", "check() failed"),
        ("TAIL_LATE", "promote", "check() failed"),
        ("SLOT_BEFORE_COPY", "promote", "where no record is"),
        ("TAIL_BEFORE_SLOT", "promote", "a value is gone"),
        ("MOVE_SUPERSEDED", "superseded", "a value is another one"),
        ("OWN_LEAVES", "own", "a value is gone"),
        ("ANY_VERSION", "swap-in-vain", "a value is another one"),
    ],
)
def test_a_broken_rule_is_found_out(build: Path, fault: str, operation: str, complaint: str) -> None:
    """The harness has eyes: with one rule of the protocol broken there are deaths that it must complain of."""
    done = run(prover(build, fault), operation)
    assert done.returncode == 1
    assert complaint in done.stdout
