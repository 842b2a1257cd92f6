"""One thread stopped at each of its points while another does all that it wants: the program pauses.c, with the engine.

The faults of the leases, the fills and the readers are found here every time, and in milliseconds; those of the log are
found in test_prove.py.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "mpcache" / "shm" / "core"
SCENES = {"late-void": 1, "old-token": 3, "take-over": 4, "fill": 8, "read": 2, "damage": 1, "removal": 6}
"""Each scene, and at how many points it has to stop at least: else it proved less than it says."""


def play(folder: Path, *scenes: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    standard = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-O1", "-w", "-DMPC_POINTS", f"-I{CORE}"]
    sources = [HERE / "pauses.c", *sorted(CORE.glob("*.c"))]
    subprocess.run([compiler, *standard, *flags, *sources, "-o", folder / "pauses"], check=True)
    done = subprocess.run([folder / "pauses", *scenes], capture_output=True, text=True, timeout=100)
    print(done.stdout)
    return done


def test_no_change_of_hands_does_harm(tmp_path: Path) -> None:
    done = play(tmp_path)
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
def test_a_broken_rule_is_found_out(tmp_path: Path, fault: str, scene: str, complaint: str) -> None:
    done = play(tmp_path, scene, flags=(f"-DMPC_FAULT_{fault}",))
    assert done.returncode == 1
    assert complaint in done.stdout
