"""One thread stopped at each of its points while another does all that it wants: the program pauses.c, with the engine.

The faults of the leases, the fills and the readers are found here every time, and in milliseconds; those of the log are
found in test_prove.py.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shm import c_program

SCENES = {"late-void": 1, "old-token": 3, "take-over": 4, "fill": 8, "read": 2, "damage": 1, "removal": 6}
"""Each scene, and at how many points it has to stop at least: else it proved less than it says."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pauses")


def play(folder: Path, *scenes: str, fault: str = "") -> subprocess.CompletedProcess[str]:
    program = c_program.build(folder, "pauses", ["-O1", "-w", "-DMPC_POINTS"], fault)
    done = subprocess.run([program, *scenes], capture_output=True, text=True, timeout=100)
    print(done.stdout)
    return done


def test_no_change_of_hands_does_harm(folder: Path) -> None:
    done = play(folder)
    assert done.returncode == 0
    stops = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()[:-1]}
    assert stops.keys() == SCENES.keys()
    assert [scene for scene in SCENES if stops[scene] < SCENES[scene]] == []


@pytest.mark.parametrize(
    ("fault", "scene", "complaint"),
    [
        ("VOID_OVERWRITES", "late-void", "a fill was stored that a delete had forbidden"),
        ("OWNER_FIRST", "old-token", "an old token gave back a lease"),
        ("STALE_VERDICT", "take-over", "two have taken over one lease"),
        ("FILL_UNCHECKED", "fill", "a fill is there that a delete had forbidden"),
        ("NO_SECOND_LOOK", "fill", "a fill is there that a delete had forbidden"),
        ("NO_RECHECK", "read", "a value is another one's"),
        ("PUNCH_FIRST", "removal", "a reader was served zeros"),
        ("NO_BOUNDS", "damage", "a length was believed that leads out of the ring"),
    ],
)
def test_a_broken_rule_is_found_out(folder: Path, fault: str, scene: str, complaint: str) -> None:
    done = play(folder, scene, fault=fault)
    assert done.returncode == 1
    assert complaint in done.stdout
