"""A process that is stopped in the middle of a set: readers notice nothing, writers of its shard give up in time.

Depends on support, which reads in the segment whether the stopped process has the shard locked.
"""

from __future__ import annotations

import mmap
import os
import random
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import ShardBusy
from mpcache.shm import segment
from tests.processes.support import PATIENCE, Anatomy, Child, Sign, own_time, prove, proven, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.engine]

SIZE = "32MB"
GIVES_UP, TAKE_OVER = 0.100, 0.020
SLACK = 0.050
"""Seconds that a loaded machine may add to a limit, beside those in the queue for a core, which do not count."""


class Scene:
    """A segment of one shard, a child that sets large values in it, and a parent that can stop it in there."""

    def __init__(self, name: str, fork: Callable[[Callable[[], object]], Child]) -> None:
        self.region = mpcache.shared(name, SIZE, shards=1, serializer=bytes, deserializer=bytes)
        self.space = segment.attach(name, SIZE).engine.namespace("")
        self.anatomy = Anatomy(segment.path_of(name))
        self.seed = os.environ.get("MPCACHE_TEST_SEED") or secrets.token_hex(4)
        self.random = random.Random(self.seed)
        self._enough = mmap.mmap(-1, mmap.PAGESIZE)
        self.child = fork(self._set_again_and_again)

    def _set_again_and_again(self) -> None:
        value = prove("large", Sign(1, 1), 1 << 20)
        while not self._enough[0]:
            self.region.set("large", value)

    def let_it_end(self) -> None:
        """The set that the child is in is its last."""
        self._enough[0] = 1

    @contextmanager
    def stopped(self, inside: bool = True, having: str = "") -> Iterator[None]:
        """Stop the child while it has the shard locked, or while it has not.

        :param having: a key that has a value at that moment; the child's values drive others out within moments.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if having:
                self.write(having)
            time.sleep(self.random.uniform(0, 0.002))  # the moment is what is random here
            with ExitStack() as stack:
                stack.enter_context(self.child.frozen())
                locked = self.anatomy.shard_holder() == self.child.pid
                if locked is inside and (not having or self.region.get(having) is not NO_VALUE):
                    yield
                    return
        raise AssertionError(f"within {PATIENCE:g} s no stop hit the child {inside=}; seed {self.seed}")

    def dropped(self) -> int:
        return self.region.actual_backend.stats()["dropped"]

    def write(self, key: str) -> float:
        """Seconds that a set took."""
        began = own_time()
        self.region.set(key, prove(key, Sign(0, 1), 100))
        return own_time() - began


@pytest.fixture
def scene(name: str, fork: Callable[[Callable[[], object]], Child]) -> Scene:
    return Scene(name, fork)


def read_often(region: mpcache.CacheRegion, key: str) -> float:
    """Seconds that a get takes: the least median of many short rows of them."""

    def one() -> float:
        began = time.perf_counter()
        assert region.get(key) is not NO_VALUE
        return time.perf_counter() - began

    return min(median(one() for _ in range(100)) for _ in range(20))


def test_gets_are_as_fast_as_otherwise(scene: Scene) -> None:
    seconds: dict[bool, float] = {True: 1.0, False: 1.0}
    for inside in (True, False) * 4:
        with scene.stopped(inside, having="key"):
            seconds[inside] = min(seconds[inside], read_often(scene.region, "key"))
            proven("key", scene.region.get("key"))
    print(f"a get takes {seconds[True] * 1e9:.0f} ns with the shard locked, {seconds[False] * 1e9:.0f} ns otherwise")
    assert seconds[True] < 1.5 * seconds[False] + 1e-6


def test_a_set_gives_up_returns_is_counted_and_leaves_nothing_older(scene: Scene) -> None:
    with scene.stopped(having="key"):
        before = scene.dropped()
        took = scene.write("key")
        assert TAKE_OVER < took < GIVES_UP + SLACK
        assert scene.dropped() == before + 1
        assert scene.region.get("key") is NO_VALUE
        scene.let_it_end()
    assert scene.child.wait() == 0
    assert scene.space.set("key", prove("key", Sign(0, 2), 100))
    assert proven("key", scene.region.get("key")) == Sign(0, 2)
    scene.region.actual_backend.check()


def test_nor_does_the_stopped_one_bring_back_what_is_older(scene: Scene) -> None:
    """Its set began before the one that was dropped, and ends after it."""
    with scene.stopped():
        scene.write("large")
        assert scene.region.get("large") is NO_VALUE
        scene.let_it_end()
    assert scene.child.wait() == 0
    assert scene.region.get("large") is NO_VALUE


def test_a_delete_waits_for_nobody(scene: Scene) -> None:
    with scene.stopped(having="key"):
        began = own_time()
        scene.region.delete("key")
        assert own_time() - began < SLACK
        assert scene.region.get("key") is NO_VALUE


def test_an_invalidation_waits_for_nobody(scene: Scene) -> None:
    with scene.stopped(having="key"):
        began = own_time()
        scene.region.invalidate()
        assert own_time() - began < SLACK
        assert scene.region.get("key") is NO_VALUE


def test_an_add_changes_nothing_and_says_so(scene: Scene) -> None:
    with scene.stopped():
        began = own_time()
        with pytest.raises(ShardBusy):
            scene.space.add("another", b"value")
        assert own_time() - began < GIVES_UP + SLACK
        assert "another" not in scene.space
        scene.let_it_end()
    assert scene.child.wait() == 0
    assert scene.space.add("another", b"value")


def test_what_depends_on_a_value_changes_nothing_and_says_so(scene: Scene) -> None:
    space = scene.space
    changes: list[Callable[[], object]] = [
        lambda: space.incr("n", 1),
        lambda: space.touch("n", time.time() + 1000),
        lambda: space.compare_and_set("n", space.version("n") or 0, b"other"),
    ]
    with scene.stopped(having="n"):
        guard = space.guard("n")
        before = space.get("n")
        for change in changes:
            began = own_time()
            with pytest.raises(ShardBusy):
                change()
            assert own_time() - began < GIVES_UP + SLACK
        assert space.get("n") == before
        assert guard.live
        scene.let_it_end()
    assert scene.child.wait() == 0


def test_a_creator_has_his_value_though_it_is_not_kept(scene: Scene) -> None:
    with scene.stopped():
        before = scene.dropped()
        began = own_time()
        assert scene.region.get_or_create("made", lambda: b"value") == b"value"
        assert own_time() - began < GIVES_UP + SLACK
        assert scene.dropped() == before + 1
        assert scene.region.get("made") is NO_VALUE
        assert not scene.region.key_is_locked("made")
        scene.let_it_end()
    assert scene.child.wait() == 0
    assert scene.region.get_or_create("made", lambda: b"again") == b"again"
    assert scene.region.get("made") == b"again"


def test_the_stopped_one_goes_on_and_its_value_is_whole(scene: Scene) -> None:
    with scene.stopped():
        scene.write("key")
    sets = scene.region.actual_backend.stats()["sets"]
    wait_until(lambda: scene.region.actual_backend.stats()["sets"] > sets + 10, "further set")
    with scene.stopped(inside=False):
        assert scene.child.poll() is None
        assert proven("large", scene.region.get("large")) == Sign(1, 1)
        scene.region.actual_backend.check()


def test_one_that_is_killed_where_it_stands_holds_up_nobody(scene: Scene) -> None:
    with scene.stopped():
        before = scene.dropped()
        scene.child.kill(signal.SIGKILL)
        scene.child.wait()
        assert scene.write("key") < TAKE_OVER + SLACK
    assert scene.dropped() == before
    stats = scene.region.actual_backend.stats()
    assert (stats["owner_deaths"], stats["processes"]) == (1, 1)
    scene.region.actual_backend.check()
