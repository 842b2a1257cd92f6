"""Many contexts as threads on one mapping, under ThreadSanitizer: the program crowd.c, built with the engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.shm import c_program

SECONDS = 4
# Without builtins, so that no memcpy() is hidden from it; it knows no fences, and the compiler would warn of each.
FLAGS = ["-O1", "-g", "-fsanitize=thread", "-fno-builtin", "-w"]

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for programs; skip the tests where ThreadSanitizer is not installed."""
    folder = tmp_path_factory.mktemp("tsan")
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [c_program.compiler(), "-fsanitize=thread", source, "-o", source.with_suffix("")]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("the compiler has no runtime of ThreadSanitizer; with Debian's gcc it is in libtsan")
    return folder


def crowd(folder: Path, fault: str = "", seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    program = c_program.build(folder, "crowd", FLAGS, fault)
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=0 exitcode=66"}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run([program, str(seconds)], capture_output=True, text=True, env=environment, timeout=100)
    print(done.stdout[-2000:], done.stderr[-8000:])
    return done


def test_nothing_is_read_that_nothing_orders(folder: Path) -> None:
    done = crowd(folder)
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
def test_it_would_be_seen(folder: Path, fault: str, place: str) -> None:
    done = crowd(folder, fault, seconds=2)
    assert done.returncode == 66
    assert any(place in line for line in done.stderr.splitlines() if line.startswith("SUMMARY"))
