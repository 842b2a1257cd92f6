"""Known bugs of the binding, each compiled into an engine of its own: the checks that hold without them find them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpcache.stress.builds import Build, engines

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SIZED_BEFORE_CLOCK = """
import time, mpcache

region, real = mpcache.shared(None, size="64MB"), time.time
values = {f"key {number}": b"v" for number in range(8)}

def clock():
    values.update({f"more {number}": b"w" for number in range(20_000)})
    return real()

time.time = clock
region.set_multi(values)
assert region.get_multi(["key 7", "more 0"]) == [b"v", mpcache.NO_VALUE]
"""

TORN_BUFFER = """
import sys, threading, mpcache

space = mpcache.shared(None, size="64MB", shards=1).actual_backend.segment.engine.namespace("")
size = 1_000_000
target, letters = bytearray(b"a" * size), [b"b" * size, b"a" * size]
over = False

def flip():
    while not over:
        for letter in letters:
            target[:] = letter

sys.setswitchinterval(1e-5)
flipper = threading.Thread(target=flip)
flipper.start()
for _ in range(3000 if torn_is_expected else 200):
    space.set("k", memoryview(target))
    found = space.get("k")[0]
    torn = 0 < found.count(b"a") < size
    if torn:
        break
over = True
flipper.join()
assert not torn, "a torn value"
"""

PROGRAMS = {"SIZED_BEFORE_CLOCK": SIZED_BEFORE_CLOCK, "TORN_BUFFER": TORN_BUFFER}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = engines((Build(flag) for flag in PROGRAMS), tmp_path_factory.mktemp("faults"))
    return {build.flag: path for build, path in found.items()}


def play(flag: str, path: Path | None) -> int:
    """Run its program, in the engine that lies there or in the ordinary one; what it ends with."""
    environment = os.environ | {"PYTHONMALLOC": "debug"}  # where an overrun ends the process
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    program = f"import mpcache.shm._engine as engine\nassert engine.__file__.startswith({str(path or '')!r})\n"
    program += f"torn_is_expected = {path is not None}\n{PROGRAMS[flag]}"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd="/")
    return done.returncode


@pytest.mark.parametrize("flag", PROGRAMS)
def test_it_is_found_and_nothing_else_is(flag: str, built: dict[str, Path]) -> None:
    assert play(flag, None) == 0
    found = {1} if flag == "TORN_BUFFER" else {-signal.SIGABRT, -signal.SIGSEGV}
    assert play(flag, built[flag]) in found
