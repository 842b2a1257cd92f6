"""An owner of a shard that is slow and not stopped, while other threads of its process work: the program slow.c."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "mpcache" / "shm" / "core"


def test_a_copy_of_seconds_is_waited_for_while_a_thread_beside_it_sets_in_another_shard(tmp_path: Path) -> None:
    """The unlocks of the other thread say nothing about the copy; the pieces that it has copied do."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    standard = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-O1", "-w", "-DMPC_POINTS", f"-I{CORE}"]
    sources = [HERE / "slow.c", *sorted(CORE.glob("*.c"))]
    subprocess.run([compiler, *standard, *sources, "-o", tmp_path / "slow"], check=True)
    done = subprocess.run([tmp_path / "slow"], capture_output=True, text=True, timeout=100)
    print(done.stdout)
    assert done.returncode == 0
    assert int(done.stdout.split()[3]) > 1000, "the copy was over before it was worth waiting for"
