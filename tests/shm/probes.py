"""Programs that end with status 0 where the engine keeps a rule, and with 1 where it does not.

    python -m tests.shm.probes NAME

test_seeded.py plays each twice: on this engine, and on one that has the bug which the probe is to find.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
import uuid

import mpcache
from mpcache.exception import SegmentRetired
from mpcache.shm import _engine, segment
from tests.processes.support import Anatomy, Child, own_time

TIMEOUT = 3
"""Of a lease: another process holds the key."""

ROUNDS = 11
"""Of a probe whose single round may end either way: chance decides fewer than one in 10,000 of them."""


def a_name() -> str:
    return f"probe-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def unlock_foreign() -> bool:
    """A context whose descriptor was closed leaves; another segment's descriptor has the number by now."""
    one, two = (segment.attach(a_name(), "4MB") for _ in range(2))
    left = one.name
    try:
        one.engine.namespace("").set("k", b"v")
        lease = two.engine.namespace("").lease("job", False)
        assert lease.acquire(0, False, ()) == 0
        os.dup2(two.engine.fd, one.engine.fd)
        one.engine = two.engine  # the segment's object is kept by its name; its engine is what leaves
        space = two.engine.namespace("")
        return Child(lambda: os._exit(space.lease("job", False).acquire(0.2, False, ()))).wait() == TIMEOUT
    finally:
        for name in (left, two.name):
            assert name is not None
            segment.unlink(name)


def _set_large(space: _engine.Namespace, enough: mmap.mmap) -> None:
    while not enough[0]:
        space.set("large", bytes(1 << 20))


def _outlives_a_drop(name: str) -> bool:
    """Whether a set outlives that another key's set gives up while the process is stopped in the middle."""
    space = segment.attach(name, "32MB", shards=1).engine.namespace("")
    anatomy = Anatomy(segment.path_of(name))
    enough = mmap.mmap(-1, mmap.PAGESIZE)
    child = Child(lambda: _set_large(space, enough))
    try:
        while True:
            with child.frozen():
                if anatomy.shard_holder() == child.pid:
                    assert not space.set(uuid.uuid4().hex, b"v"), "a stopped owner was waited for"
                    enough[0] = 1
                    break
        assert child.wait() == 0
        return space.get("large") is not None
    finally:
        child.end()


def drops_by_shard() -> bool:
    """Decide by the majority of the rounds.

    Without the fault a round is lost if both keys have one class, which is one in sixteen.  With it a round is won if
    the process was stopped after its last look at the count, which is about one in a hundred.
    """
    name = a_name()
    try:
        return sum(_outlives_a_drop(name) for _ in range(ROUNDS)) > ROUNDS // 2
    finally:
        segment.unlink(name)


def hits_never_look() -> bool:
    """A process that only hits notices that the segment's file was removed, after many hits as well as after few."""
    space = segment.attach(name := a_name(), "4MB").engine.namespace("")
    space.set("k", b"v")
    for _ in range(10_000):
        space.get("k")
    os.unlink(segment.path_of(name))
    until = own_time() + 2
    while own_time() < until:
        try:
            space.get("k")
        except SegmentRetired:
            return True
        time.sleep(0.01)  # a process that reads a hundred times a second
    return False


def child_flushes_parent() -> bool:
    """Calls of a function that wait in a process to be added are added by that process, not by its child, too."""
    region = mpcache.shared(None, size="4MB")
    load = region.cache_on_arguments()(lambda: 1)
    for _ in range(100):
        load()

    def call() -> None:
        load()
        load.flush_counts()

    assert Child(call).wait() == 0
    return load.stats()["calls"] == 101  # type: ignore[no-any-return]


def plain_count() -> bool:
    """Processes that count the same at the same time lose none of it."""
    engine = segment.attach(None, "4MB").engine
    number = 200_000

    def count() -> None:
        space, counts = engine.namespace(""), _engine.FunctionCounts("f")
        for _ in range(number):
            counts.add(space, 0, 1)

    for _ in range(ROUNDS):
        children = [Child(count) for _ in range(4)]
        assert [child.wait() for child in children] == [0] * 4
    return engine.functions()[0][2][0] == ROUNDS * 4 * number


def dead_counted_twice() -> bool:
    """What a process has counted before it died counts once, also when another process has its slot."""
    region = mpcache.shared(None, size="4MB")
    region.set("k", 1)

    def ask() -> None:
        for _ in range(100):
            region.get("k")
            region.get("none")
        os.kill(os.getpid(), signal.SIGKILL)

    assert [Child(ask).wait() for _ in range(3)] == [-signal.SIGKILL] * 3
    found = region.stats()
    return (found["hits"], found["misses"]) == (300, 300)


COUNTING = child_flushes_parent, plain_count, dead_counted_twice
PROBES = {probe.__name__: probe for probe in (unlock_foreign, drops_by_shard, hits_never_look, *COUNTING)}

if __name__ == "__main__":
    signal.alarm(60)
    sys.exit(not PROBES[sys.argv[1]]())
