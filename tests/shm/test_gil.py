"""What may wait, or takes long, lets the other threads of its process run meanwhile."""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mpcache.shm import _engine, segment
from tests.processes.support import Anatomy

pytestmark = pytest.mark.engine

Fork = Callable[..., Any]

_BUCKET_BYTES = 17 * 64


class Ticker:
    """A thread that counts whenever it gets the GIL."""

    def __init__(self) -> None:
        self.ticks = 0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def _count(self) -> None:
        while not self._enough.wait(0.0005):
            self.ticks += 1

    def __enter__(self) -> Ticker:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(100)  # nothing but what it calls takes the GIL from this thread
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setswitchinterval(self._interval)
        self._enough.set()
        self._thread.join()

    def during(self, act: Callable[[], object]) -> int:
        before = self.ticks
        act()
        return self.ticks - before


@pytest.fixture
def owner(found: segment.Segment, fork: Fork) -> int:
    """The id of a process that lives and waits."""

    def live(send: Any) -> None:
        found.engine.namespace("").set("k", b"v")
        send(found.engine.owner)
        threading.Event().wait()

    number: int = fork(live).next()
    return number


@contextmanager
def every_bucket_locked(engine: _engine.Engine, owner: int) -> Iterator[None]:
    """By a process that does nothing: as if it were stopped there."""
    word = (owner >> 16 & 0xFFFFF) << 11 | (owner & 0xFFFF) + 1
    anatomy = Anatomy(f"/proc/self/fd/{engine.fd}")
    buckets, leases_at = anatomy.lease_buckets, anatomy.leases_at
    for bucket in range(buckets):
        os.pwrite(engine.fd, struct.pack("<I", word), leases_at + bucket * _BUCKET_BYTES)
    yield
    for bucket in range(buckets):
        os.pwrite(engine.fd, struct.pack("<I", 0), leases_at + bucket * _BUCKET_BYTES)


@pytest.mark.parametrize("how", ["release", "dropped lease", "close", "dropped guard", "delete"])
def test_others_run_while_a_bucket_is_waited_for(found: segment.Segment, owner: int, how: str) -> None:
    space = found.engine.namespace("")
    lease, guard = space.lease("key", True), space.guard("key of a guard")
    assert lease.acquire(0, False, ()) == 0
    held: list[object] = [lease] if how == "dropped lease" else [guard] if how == "dropped guard" else []
    acts: dict[str, Callable[[], object]] = {
        "release": lambda: lease.release(True),
        "close": guard.close,
        "delete": lambda: space.delete("key"),
    }
    act = acts.get(how, held.clear)
    if how == "dropped lease":
        del lease, acts
    elif how == "dropped guard":
        del guard, acts
    with every_bucket_locked(found.engine, owner), Ticker() as ticker:
        assert ticker.during(act) > 0


def test_others_run_while_keys_are_listed(name: str) -> None:
    """Many slots, of which few have a key."""
    space = segment.attach(name, "64MB", shards=1).engine.namespace("")
    for number in range(100):
        space.set(f"key {number}", b"v")
    with Ticker() as ticker:
        assert ticker.during(lambda: [space.keys() for _ in range(20)]) > 0
    assert sorted(space.keys()) == sorted(f"key {number}" for number in range(100))


def test_more_keys_than_are_listed_at_once(name: str) -> None:
    space = segment.attach(name, "64MB", shards=1).engine.namespace("")
    names = [f"{number:05}" * (1 + number % 3 * 200) for number in range(20_000)]
    for key in names:
        space.set(key, b"v")
    assert sorted(space.keys()) == sorted(names)
