"""Times to live on shared memory: the fast path, and clocks that a test has put in the place of time.time()."""

from __future__ import annotations

import time
from typing import Any

import freezegun
import pytest
import time_machine

import mpcache
from mpcache.api import NO_VALUE, WIRE
from mpcache.shm._engine import clock_is_genuine
from tests.conftest import Clock
from tests.processes.support import wait_until

pytestmark = pytest.mark.engine

VALUES: list[Any] = [7, "text", "\u00e4 text", b"bytes", {"a": [1, 2]}, 1 << 70, True, None]


@pytest.fixture
def region() -> Any:
    return mpcache.make_region().configure("mpcache.shm", arguments={"name": None, "size": "8MB", "shards": 1})


def stored(region: Any, key: str) -> tuple[int, float]:
    """Return how the engine stores a value, and when it ends."""
    record = region.actual_backend._place.namespace.get(key)
    assert record is not None
    return record[3], record[4]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_with_an_end_takes_the_fast_path(region: Any, value: Any) -> None:
    before = time.time()
    region.set("a", value, ttl=100)
    region.set_multi({"b": value, "c": value}, ttl=100.5)
    assert region.access.try_get("a", None, False) == value
    assert region.get_multi(["a", "b", "c"]) == [value] * 3
    for key, ttl in (("a", 100), ("b", 100.5), ("c", 100.5)):
        kept, end = stored(region, key)
        assert kept != WIRE
        assert before + ttl <= end <= time.time() + ttl


def test_the_kernels_clock_ends_it(region: Any) -> None:
    region.set("a", 1, ttl=0.05)
    region.set("b", 1, ttl=60)
    region.set_multi({"c": 1}, ttl=0.05)
    wait_until(lambda: region.get_multi("abc") == [NO_VALUE, 1, NO_VALUE], "end of two values")
    assert region.get_value_metadata("a") is None
    assert region.actual_backend.get_serialized("a") is NO_VALUE
    assert region.actual_backend.add("a", 2)


@pytest.mark.parametrize("ttl", [None, -1, -1.0, 1e300, float("inf")])
def test_no_end(region: Any, ttl: Any) -> None:
    region.set("a", 1, ttl=ttl)
    region.set_multi({"b": 1}, ttl=ttl)
    assert [stored(region, key)[1] for key in "ab"] == [0.0, 0.0]
    assert region.get_multi("ab") == [1, 1]


@pytest.mark.parametrize("ttl", [0, 0.0, -0.5, -7, 1e-12])
def test_an_end_that_has_passed(region: Any, ttl: Any) -> None:
    region.set("a", "before")
    region.set("a", "after", ttl=ttl)
    region.set_multi({"b": 1}, ttl=ttl)
    assert region.get_multi("ab") == [NO_VALUE, NO_VALUE]


def test_expiration_times_say_when_it_is_stale(region: Any) -> None:
    region.set("a", 1, ttl=60)
    wait_until(lambda: region.get("a", 0.02) is NO_VALUE, "stale value")
    assert region.get("a") == region.get("a", 60) == 1


def test_proxies_and_metadata_see_the_end(region: Any) -> None:
    region.set("a", 1, ttl=60)
    end = stored(region, "a")[1]
    metadata = region.get_value_metadata("a").metadata
    assert metadata["x"] == end
    assert end - 60 <= metadata["ct"] <= time.time()


# -- another clock --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["a fixture", "freezegun", "time-machine"])
def forward(request: pytest.FixtureRequest) -> Any:
    """Freeze time.time(), in one of three ways, and return a function that moves it by seconds."""
    if request.param == "a fixture":
        yield request.getfixturevalue("clock").forward
    elif request.param == "freezegun":
        with freezegun.freeze_time("2031-05-06 12:00:00", real_asyncio=True) as frozen:
            yield frozen.tick
    else:
        with time_machine.travel("2019-05-06 12:00:00Z", tick=False) as traveller:
            yield traveller.shift


def test_a_frozen_clock_is_noticed(forward: Any) -> None:
    assert not clock_is_genuine()


def test_the_genuine_clock_is_known() -> None:
    assert clock_is_genuine()
    with time_machine.travel(0):
        assert not clock_is_genuine()
    assert clock_is_genuine()


@pytest.mark.parametrize("value", VALUES)
def test_a_frozen_clock_ends_what_was_stored_under_it(region: Any, forward: Any, value: Any) -> None:
    region.set("a", value, ttl=10)
    region.set_multi({"b": value}, ttl=10)
    region.actual_backend.add("c", value, ttl=10)
    forward(9)
    assert region.get_multi("abc") == [region.get(key) for key in "abc"] == [value] * 3
    forward(1)
    assert region.get_multi("abc") == [region.get(key) for key in "abc"] == [NO_VALUE] * 3
    assert region.get_value_metadata("a") is None


@pytest.mark.parametrize("value", VALUES)
def test_a_frozen_clock_ends_what_was_stored_before(region: Any, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    region.set("a", value, ttl=60)
    clock = Clock()
    clock.now = time.time()
    monkeypatch.setattr(time, "time", clock)
    assert region.get("a") == value
    clock.forward(59)
    assert region.get("a") == value
    assert region.get_multi(["a"]) == [value]
    clock.forward(1.5)
    assert region.get("a") is NO_VALUE
    assert region.get_multi(["a"]) == [NO_VALUE]
    assert region.get("a", ignore_expiration=True) is NO_VALUE
    assert region.get_value_metadata("a") is None
    assert region.get_or_create("a", lambda: "new") == "new"


def test_counts_end_by_a_frozen_clock(region: Any, forward: Any) -> None:
    store = region.actual_backend
    assert store.incr("a", initial=1, ttl=60) == 1
    assert store.incr("a", initial=1, ttl=60) == 2
    forward(59)
    assert store.incr("a", 5, initial=1, ttl=60) == 7
    assert region.get("a") == 7
    forward(1)
    assert region.get("a") is NO_VALUE
    assert store.incr("a") is None
    assert store.incr("a", initial=3, ttl=60) == 3


def test_touch_moves_the_end_by_a_frozen_clock(region: Any, forward: Any) -> None:
    store = region.actual_backend
    region.set("a", 1, ttl=10)
    region.set("b", "for ever")
    assert store.touch("a", 30)
    assert store.touch("b", 30)
    forward(29)
    assert region.get_multi("ab") == [1, "for ever"]
    assert store.touch("b", None)
    forward(1)
    assert region.get_multi("ab") == [NO_VALUE, "for ever"]
    assert not store.touch("a", 30)
    assert store.version("a") is None
    assert store.add("a", 2)


def test_touch_of_what_was_stored_before_the_clock_was_frozen(region: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    region.set("a", {"a": 1})
    region.set("b", 1, ttl=1000)
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    assert region.actual_backend.touch("a", 10)
    assert region.actual_backend.touch("b", 10)
    assert region.get_multi("ab") == [{"a": 1}, 1]
    clock.forward(10)
    assert region.get_multi("ab") == [NO_VALUE, NO_VALUE]


def test_a_number_with_an_end_is_counted_in_the_engine(region: Any) -> None:
    region.set("a", 41, ttl=60)
    before = stored(region, "a")
    assert region.actual_backend.incr("a") == 42
    assert region.get("a") == 42
    assert stored(region, "a") == before
