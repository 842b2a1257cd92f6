"""A segment that fills its file system is removed while others read, write, hold and stand still in it.

Depends on support.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Callable

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import NotHeld
from mpcache.shm import segment
from tests.conftest import needs_mount
from tests.processes.support import PATIENCE, Anatomy, Child, Sign, prove, proven, wait_until
from tests.processes.test_frozen_writer import Scene

pytestmark = [needs_mount, pytest.mark.slow, pytest.mark.engine]

Fork = Callable[[Callable[[], object]], Child]
Mount = Callable[[str], None]
LARGE = 4 << 20
SIZE, SHARDS = "60MB", 1


def region_of(name: str) -> mpcache.CacheRegion:
    return mpcache.shared(name, SIZE, shards=SHARDS, serializer=bytes, deserializer=bytes)


def free() -> int:
    there = os.statvfs(segment.directory())
    return there.f_bavail * there.f_frsize


class Crowd:
    """Three readers, a writer and a holder of a mutex, which count what they do, until they are told to end."""

    def __init__(self, name: str, fork: Fork) -> None:
        self.region = region_of(name)
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.children = [fork(self._again_and_again(i, act)) for i, act in enumerate(self._parts(), 1)]

    def _parts(self) -> list[Callable[[int], None]]:
        return [self._read, self._read, self._read, self._write, self._hold]

    def _again_and_again(self, place: int, act: Callable[[int], None]) -> Callable[[], None]:
        def be_there() -> None:
            number = 0
            while not self._shared[0]:
                number += 1
                act(number)
                self._shared[place] = number % 251 + 1

        return be_there

    def _read(self, number: int) -> None:
        value = self.region.get("large")
        if value is not NO_VALUE:
            proven("large", value)

    def _write(self, number: int) -> None:
        self.region.set("large", prove("large", Sign(1, number), LARGE // 16 if number % 2 else LARGE))

    def _hold(self, number: int) -> None:
        """A release tells of a loss; without one, what was held until then was not taken by another process."""
        mutex = self.region.actual_backend.get_mutex("held")
        mutex.acquire()
        try:
            mutex.release()
        except NotHeld as lost:
            raise AssertionError("a lock was lost in a removal that had not been announced") from lost

    def goes_on(self) -> None:
        """Wait until each has done some more."""
        for place, child in enumerate(self.children, 1):
            before = self._shared[place]

            def moved(place: int = place, before: int = before, child: Child = child) -> bool:
                assert child.poll() is None, f"child {place} ended with {child.status}"
                return self._shared[place] != before

            wait_until(moved, f"move of child {place}")

    def end(self) -> list[int]:
        self._shared[0] = 1
        return [child.wait() for child in self.children]


def test_a_crowd_goes_from_one_segment_to_the_next(small_tmpfs: Mount, name: str, fork: Fork) -> None:
    small_tmpfs("64m")
    crowd = Crowd(name, fork)
    crowd.goes_on()
    for _ in range(6):
        crowd.region.set("large", prove("large", Sign(2, 1), LARGE))
        crowd.goes_on()
        assert segment.unlink(name)
        crowd.goes_on()
        wait_until(lambda: name in segment.names(), "successor")
    assert crowd.end() == [0] * 5
    segment.attach(name, SIZE).engine.check()


def test_a_writer_that_is_stopped_inside_a_set_keeps_its_shard(small_tmpfs: Mount, name: str, fork: Fork) -> None:
    """The memory of its shard stays until it has left; what it had begun it ends, and nothing sees it."""
    small_tmpfs("100m")
    scene = Scene(name, fork)
    segment_of_it = scene.region.actual_backend.segment
    with scene.stopped():
        assert segment_of_it.unlink() == 1
        scene.let_it_end()
        assert scene.region.get("large") is NO_VALUE
        scene.region.set("after", prove("after", Sign(0, 1), 100))
    assert scene.child.wait() == 0
    proven("after", scene.region.get("after"))


def test_a_writer_that_is_stopped_elsewhere_finds_that_it_was_removed(
    small_tmpfs: Mount, name: str, fork: Fork
) -> None:
    small_tmpfs("100m")
    scene = Scene(name, fork)
    segment_of_it = scene.region.actual_backend.segment
    with scene.stopped(inside=False):
        assert segment_of_it.unlink() == 0
        scene.let_it_end()
    assert scene.child.wait() == 0


def test_a_remover_that_died_leaves_its_locks_to_nobody(small_tmpfs: Mount, name: str, fork: Fork) -> None:
    """A writer that takes a dead remover's lock over looks whether the segment is still there."""
    small_tmpfs("100m")
    region = region_of(name)
    region.set("large", prove("large", Sign(1, 1), 1000))
    anatomy = Anatomy(segment.path_of(name))
    remover = fork(lambda: segment.unlink(name))
    assert remover.wait() == 0
    assert anatomy.shard_holder() is not None
    region.set("large", prove("large", Sign(1, 2), 1000))
    assert proven("large", region.get("large")) == Sign(1, 2)


def test_a_reader_that_is_stopped_on_a_full_file_system_reads_nothing_wrong(
    small_tmpfs: Mount, name: str, fork: Fork
) -> None:
    """The crash that docs/hazards.rst tells of: stopped for longer than the grace, continued where no page is left."""
    small_tmpfs("64m")
    region = region_of(name)
    region.set("large", prove("large", Sign(1, 1), LARGE))
    enough = mmap.mmap(-1, mmap.PAGESIZE)

    def read() -> None:
        while not enough[0]:
            value = region.get("large")
            if value is not NO_VALUE:
                proven("large", value)

    ends = []
    for _ in range(5):
        region.set("large", prove("large", Sign(1, 1), LARGE))
        reader = fork(read)
        time.sleep(0.02)  # a random place in its loop
        with reader.frozen():
            assert segment.unlink(name)
            taken = os.open(segment.directory(), os.O_TMPFILE | os.O_RDWR, 0o600)
            os.posix_fallocate(taken, 0, free())
            enough[0] = 1
        ends.append(reader.wait(PATIENCE))
        os.close(taken)
        enough[0] = 0
        wait_until(lambda: region.set("there", b"x") or region.get("there") == b"x", "successor")
    print("ends of the readers:", ends)
    assert set(ends) <= {0, -signal.SIGBUS}
