"""What the tests with real processes share: values that prove themselves, children with deadlines, a look inside.

Depends on mpcache being importable, and on the layout of a segment (mpcache/shm/core/layout.h) where it looks inside.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import mpcache
from mpcache.stress.builds import Build, engine

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(mpcache.__file__).parent
LONG = bool(os.environ.get("MPCACHE_LONG"))
"""Whether tests that have a short form are to be played in full: ``make long``."""

PATIENCE = 20.0
"""Seconds until something that must come is given up."""

T = TypeVar("T")


# -- values that prove themselves ----------------------------------------------------------------------------


class Sign(NamedTuple):
    """Which process wrote a value, and how many it had written before."""

    writer: int
    sequence: int


SMALLEST = 10
"""Bytes of a value without a body: 5 of digest, 2 of writer, 3 of sequence."""

_BODIES = random.Random(1).randbytes(1 << 19)


class Corrupt(AssertionError):
    """A value is not what any process wrote for this key."""


def prove(key: str, sign: Sign, size: int) -> bytes:
    """Return a value of that many bytes, whose digest covers the key, its writer, and all of its bytes."""
    body = size - SMALLEST
    start = (sign.writer * 7919 + sign.sequence * 104_729) % (len(_BODIES) - body)
    rest = struct.pack("<HI", sign.writer, sign.sequence)[:5] + _BODIES[start : start + body]
    return _digest(key, rest) + rest


def proven(key: str, value: bytes) -> Sign:
    """Return which process wrote it.  Raises Corrupt."""
    if len(value) < SMALLEST or _digest(key, value[5:]) != value[:5]:
        raise Corrupt(f"the {len(value)} bytes under {key!r} prove nothing; they begin with {value[:32].hex()}")
    return Sign(*struct.unpack("<HI", value[5:10] + b"\0"))


def _digest(key: str, rest: bytes) -> bytes:
    return blake2b(rest, digest_size=5, key=key.encode()).digest()


# -- waiting ---------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """What the condition returns as soon as that is true.

    :param what: what does not come, should it not come.
    """
    deadline = time.monotonic() + seconds
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"within {seconds:g} s there was no {what}"
        time.sleep(0.001)
    return outcome


def queued(pid: int | None = None) -> int:
    """Nanoseconds for which this thread could have run and had no core, since it began, as the kernel counts them.

    Eight processes on two cores, next to whatever else the machine does, queue for milliseconds: no cache's doing.
    0 where the kernel does not say (proc(5), schedstat).

    :param pid: of another process, whose first thread is meant.
    """
    try:
        with open("/proc/thread-self/schedstat" if pid is None else f"/proc/{pid}/task/{pid}/schedstat") as file:
            return int(file.read().split()[1])
    except FileNotFoundError:
        return 0


def own_time() -> float:
    """Seconds on a monotonic clock that stands still while this thread queues for a core."""
    return (time.monotonic_ns() - queued()) / 1e9


def note(path: str | os.PathLike[str], text: str) -> None:
    """Add a line to a file that many processes write: one O_APPEND write, so that none is torn or lost."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, text.encode() + b"\n")
    finally:
        os.close(fd)


def notes(path: str | os.PathLike[str]) -> list[str]:
    """The lines of such a file."""
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


# -- children --------------------------------------------------------------------------------------------------


class Child:
    """A forked process that runs one function and exits: 0, or 1 with a traceback on stderr."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _live(act)

    def kill(self, how: int = signal.SIGKILL) -> None:
        os.kill(self.pid, how)

    def poll(self) -> int | None:
        """What waitpid() said, or None as long as it lives."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code; a signal's number is negative."""
        wait_until(lambda: self.poll() is not None, f"end of pid {self.pid}", seconds)
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

    def end(self) -> None:
        """Whatever state it is in."""
        if self.poll() is None:
            self.kill(signal.SIGKILL)
            self.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped, and for certain: the signal alone may still be on its way."""
        self.kill(signal.SIGSTOP)
        try:
            wait_until(lambda: state_of(self.pid) == "T", f"stop of pid {self.pid}")
            yield
        finally:
            if self.poll() is None:
                self.kill(signal.SIGCONT)


def _live(act: Callable[[], object]) -> None:
    code = 1
    try:
        act()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def state_of(pid: int) -> str:
    """R, S, D, T, Z ... as proc(5) has it; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def environment(package: Path = PACKAGE, **more: str) -> dict[str, str]:
    """That of a process which imports this package, these tests, and nothing of them from elsewhere."""
    return os.environ | {"PYTHONPATH": f"{package.parent}:{ROOT}"} | more


def play(
    scene: str, *arguments: Any, folder: Path, package: Path = PACKAGE, seconds: float, **more: str
) -> dict[str, Any]:
    """Run ``tests.processes.<scene>`` as a program and return the JSON that it prints last.

    What it said on stderr, such as its children's tracebacks, is printed: pytest shows it when the test fails.
    A program of its own, since it forks by the hundred: pytest is too large for that, and too slow to measure in.
    """
    command = [sys.executable, "-m", f"tests.processes.{scene}", *map(str, arguments)]
    player = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(package, **more),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said, complaint = player.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{' '.join(command)} did not end within {seconds:g} s") from None
    finally:
        _end_session(player)
    assert player.returncode == 0, f"{' '.join(command)} ended with {player.returncode}:\n{said}\n{complaint}"
    print(complaint)
    report: dict[str, Any] = json.loads(said.splitlines()[-1])
    return report


def _end_session(leader: subprocess.Popen[str]) -> None:
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    leader.wait()


# -- builds that are slow where it hurts ------------------------------------------------------------------------


def build_with_delays(folder: Path, fault: str = "") -> Path:
    """A copy of the package whose engine pauses at its shared stores; and has a known fault, if one is named."""
    return engine(Build(fault, delays=True), folder) / "mpcache"


# -- a look inside ------------------------------------------------------------------------------------------------


class Anatomy:
    """A segment's file, mapped for reading, with as much of its layout as tells which process holds a shard.

    It takes part in nothing: no slot, no lock, no counter.
    """

    _HEADER = struct.Struct("<QI")  # magic, layout
    _GEOMETRY_AT, _GEOMETRY = 320, struct.Struct("<Q8I10Q")  # size, 8 counts, where things are
    _LAYOUT = 3
    SLOT, _ID, _PID = 512, 0, 16

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        header = self._HEADER.unpack_from(self._bytes)
        assert header[1] == self._LAYOUT, f"layout {header[1]}: this class must learn it from layout.h"
        geometry = self._GEOMETRY.unpack_from(self._bytes, self._GEOMETRY_AT)
        self.shards, self.slots = geometry[1], geometry[2]
        self.slots_at, self.shards_at, self._shard_bytes = geometry[10], geometry[17], geometry[18]
        self.lease_buckets, self.leases_at = geometry[4], geometry[16]

    def shard_holder(self, shard: int = 0) -> int | None:
        """The pid of the process that has the shard locked, dead or alive; None: none has."""
        (word,) = struct.unpack_from("<I", self._bytes, self.shards_at + shard * self._shard_bytes)
        which = (word & 0x7FF) - 1
        return None if which < 0 else self._word(which, self._PID)

    def pids(self) -> set[int]:
        """Return the pids of all processes that have a slot, also of dead ones whose slot no other has taken since."""
        return {self._word(i, self._PID) for i in range(self.slots) if self._word(i, self._ID)}

    def _word(self, slot: int, at: int) -> int:
        (word,) = struct.unpack_from("<Q", self._bytes, self.slots_at + slot * self.SLOT + at)
        return int(word)
