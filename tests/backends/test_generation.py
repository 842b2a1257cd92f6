"""Generations: one rule for redis and memcached, and one place where a value is compared with the present one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import mpcache
from mpcache._servers.generation import OF_ANOTHER, OF_ANOTHER_SOFT, Generation, draw, judged
from mpcache._servers.outage import OutagePolicy
from mpcache._wire import codec
from mpcache.api import NO_VALUE, Freshness
from mpcache.testing.servers import Memcached, Redis


@pytest.fixture(params=["mpcache.redis", "mpcache.pymemcache"])
def region(request: pytest.FixtureRequest, redis_server: Redis, memcached_server: Memcached, key: str) -> Any:
    """``region()``: another one of the same namespace."""
    url = redis_server.url if request.param == "mpcache.redis" else memcached_server.url
    return lambda: mpcache.make_region().configure(request.param, arguments={"url": url, "namespace": key})


def in_another_thread(act: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("hard", [True, False])
def test_a_value_is_judged_by_the_answer_that_it_came_in(region: Any, key: str, hard: bool) -> None:
    """Not by what the thread that judges it saw last: another thread may have read the value since."""
    ours = region()
    ours.set(key, "old")
    assert ours.get(key) == "old"
    region().invalidate(hard=hard)
    wire = in_another_thread(lambda: ours.actual_backend.get_serialized(key))
    _, created, epoch, _, _ = codec.split(wire)
    assert ours.region_invalidator.judge(created, epoch) is (Freshness.ABSENT if hard else Freshness.STALE)


def test_a_present_value_comes_without_its_generation(region: Any, key: str) -> None:
    """So that the region reads it as fast as one without."""
    ours = region()
    ours.set(key, "value")
    wire = ours.actual_backend.get_serialized(key)
    assert codec.take_epoch(wire) == (None, wire)


def test_bytes_that_other_programs_stored_are_of_no_generation(region: Any, key: str) -> None:
    ours = region()
    ours.set(key, "value")
    ours.actual_backend.set_serialized(key, b"no header")
    assert ours.get(key) is NO_VALUE
    assert region().get(key) is NO_VALUE


def test_a_value_that_is_copied_with_its_generation_gets_the_present_one(region: Any, key: str) -> None:
    """As from another store, whose epochs are other numbers; redis kept them."""
    ours = region()
    ours.actual_backend.set_serialized(key, codec.with_epoch(codec.join(b"\x80\x05K\x07.", 1e9), 5))
    assert ours.get(key) == 7


class Counting(Generation):
    """A generation that counts how often its server is asked."""

    asked = 0

    def _read(self) -> int:
        self.asked += 1
        return 1 << 32

    def _number(self, found: Any) -> int:
        return int(found)

    def _draw(self, hard: bool) -> int:
        return 2 << 32 if hard else (1 << 32) + 5


def test_creations_of_one_call_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("mpcache._servers.generation.time.monotonic", lambda: clock[0])
    generation = Counting("n", OutagePolicy("a store", "raise", (OSError,), ()))
    assert [generation.recent() for _ in range(9)] == [1 << 32] * 9
    assert generation.asked == 1
    clock[0] += 0.011
    generation.recent()
    assert generation.asked == 2


def test_what_was_drawn_here_is_seen_here() -> None:
    generation = Counting("n", OutagePolicy("a store", "raise", (OSError,), ()))
    assert not generation.is_soft()
    generation.invalidate(hard=False)
    assert generation.is_soft()
    generation.invalidate(hard=True)
    assert not generation.is_soft()


def test_in_a_tolerated_outage_creations_begin_in_no_generation() -> None:
    class Silent(Counting):
        def _read(self) -> int:
            raise OSError

    generation = Silent("n", OutagePolicy("a store", "miss", (OSError,), ()))
    assert generation.recent() == 0
    assert judged(codec.with_epoch(codec.join(b"x", 1.5), 0), 1 << 32) == codec.join(b"x", 1.5, epoch=OF_ANOTHER)


def test_judged() -> None:
    bare, now = codec.join(b"x", 1.5), 7 << 32 | 3
    assert judged(codec.with_epoch(bare, now), now) == bare
    assert judged(codec.with_epoch(bare, 7 << 32), now) == codec.with_epoch(bare, OF_ANOTHER_SOFT)
    assert judged(codec.with_epoch(bare, 6 << 32 | 3), now) == codec.with_epoch(bare, OF_ANOTHER)
    assert judged(bare, now) == codec.with_epoch(bare, OF_ANOTHER)
    assert all(0 < draw() < 1 << 32 for _ in range(99))
