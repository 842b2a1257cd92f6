"""Many contexts as threads on one mapping, under ThreadSanitizer: the program crowd.c, built with the engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "mpcache" / "shm" / "core"
SECONDS = 4
# Without builtins, so that no memcpy() is hidden from it; it knows no fences, and the compiler would warn of each.
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-O1", "-g", "-fsanitize=thread", "-fno-builtin", "-w", f"-I{CORE}"]

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    assert found is not None
    source = tmp_path_factory.mktemp("tsan") / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    linked = subprocess.run([found, "-fsanitize=thread", source, "-o", source.with_suffix("")], capture_output=True)
    if linked.returncode != 0:
        pytest.skip("the compiler has no runtime of ThreadSanitizer; with Debian's gcc it is in libtsan")
    return found


def crowd(compiler: str, folder: Path, *flags: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    sources = [HERE / "crowd.c", *sorted(CORE.glob("*.c"))]
    subprocess.run([compiler, *FLAGS, *flags, *sources, "-o", folder / "crowd"], check=True)
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=0 exitcode=66"}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [folder / "crowd", str(seconds)], capture_output=True, text=True, env=environment, timeout=100
    )
    print(done.stdout[-2000:], done.stderr[-8000:])
    return done


def test_nothing_is_read_that_nothing_orders(compiler: str, tmp_path: Path) -> None:
    done = crowd(compiler, tmp_path)
    assert "ThreadSanitizer" not in done.stderr
    assert done.returncode == 0
    counted = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", done.stdout)}
    assert min(counted["operations"], counted["fills"], counted["refused"], counted["deaths"]) > 20


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("PLAIN_COPY", "mpc_copy_"),  # values are copied by memcpy(), as in ordinary builds
        ("RELAXED", "in prove"),  # what was written before a value was published is not there for its reader
    ],
)
def test_it_would_be_seen(compiler: str, tmp_path: Path, fault: str, place: str) -> None:
    done = crowd(compiler, tmp_path, f"-DMPC_FAULT_{fault}", seconds=2)
    assert done.returncode == 66
    assert any(place in line for line in done.stderr.splitlines() if line.startswith("SUMMARY"))
