"""The shm store's own operations on objects: get, set, has, delete, items."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import CantSerializeException, SegmentError, ValueTooLarge
from tests.conftest import Clock
from tests.processes.support import wait_until

pytestmark = pytest.mark.engine

VALUES: list[Any] = [1, 1 << 80, "text", "\u00e4", b"bytes", None, True, {"a": [1]}, 2.5]


@pytest.fixture
def region() -> Any:
    return mpcache.make_region().configure("mpcache.shm", arguments={"name": None, "size": "4MB", "shards": 1})


@pytest.mark.parametrize("value", VALUES)
def test_a_region_reads_what_the_store_sets_and_the_reverse(region: Any, value: Any) -> None:
    store = region.actual_backend
    assert store.get("a") is NO_VALUE
    assert store.set("a", value) is True
    assert region.get("a") == store.get("a") == value
    region.set("b", value)
    assert store.get("b") == value
    assert store.set("a", value, ttl="1m")
    assert 59 < region.get_value_metadata("a").metadata["x"] - time.time() <= 60


def test_what_was_invalidated_is_not_there(region: Any) -> None:
    store = region.actual_backend
    store.set("a", 1)
    region.invalidate(hard=False)
    assert (store.get("a"), store.has("a")) == (1, True)
    region.invalidate()
    assert (store.get("a"), store.has("a"), store.describe("a")) == (NO_VALUE, False, None)
    assert store.delete("a") is False


def test_its_time_to_live_ends_by_either_clock(region: Any, clock: Clock) -> None:
    store = region.actual_backend
    store.set("a", 1, ttl=10)
    assert (store.get("a"), store.has("a")) == (1, True)
    clock.forward(10)
    assert (store.get("a"), store.has("a"), store.describe("a")) == (NO_VALUE, False, None)
    assert store.delete("a") is False


def test_what_cannot_be_stored(region: Any) -> None:
    store = region.actual_backend
    store.set("a", "before")
    for act in (store.set, store.add, lambda key, value: store.compare_and_set(key, 1, value)):
        with pytest.raises(CantSerializeException, match="the value of key 'a', a lock, cannot be stored") as caught:
            act("a", threading.Lock())
        assert caught.value.key == "a"
    assert store.get("a") == "before"
    with pytest.raises(ValueTooLarge):
        store.set("a", bytes(3 << 20))
    assert store.get("a") is NO_VALUE


def test_a_set_that_was_dropped_is_told(region: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = region.actual_backend
    assert store.set("a", 1)

    class Away:
        segment = store.segment

        @property
        def namespace(self) -> Any:
            raise SegmentError("out of reach")

        def move(self) -> None:
            pass

    monkeypatch.setattr(store, "_place", Away())
    assert store.set("a", 2) is False
    assert (store.get("a"), store.has("a")) == (NO_VALUE, False)
    with pytest.raises(SegmentError):
        store.delete("a")


def test_items_tell_what_is_known_without_reading(region: Any) -> None:
    store = region.actual_backend
    region.set("pickle", [1, 2, 3])
    region.set("bytes", b"12345", ttl=60)
    region.set("text", "\u00e4\u00f6")
    region.set("int", 7)
    store.set_serialized(b"wire", b'{"ct": 5.0, "v": 2, "by": "me"}|payload')
    for _ in range(3):
        region.get("int")
    items = {item.key: item for item in store.items()}
    assert {key: (item.size, item.kind) for key, item in items.items() if key != "pickle"} == {
        "bytes": (5, "bytes"),
        "text": (4, "text"),
        "int": (8, "int"),
        b"wire": (len(b'{"ct": 5.0, "v": 2, "by": "me"}|payload'), "wire"),
    }
    assert items["pickle"].kind == "pickle"
    assert 0 <= items["int"].age < 60
    assert items[b"wire"].age > 1e9
    assert 59 < items["bytes"].ttl <= 60
    assert [items[key].ttl for key in ("text", "int")] == [None, None]
    assert [items[key].reads for key in ("text", "int")] == [0, 3]
    assert {item.ring for item in items.values()} == {"small"}


def test_items_are_those_of_keys(region: Any) -> None:
    store = region.actual_backend
    for number in range(500):
        region.set(f"key {number}", number, ttl=0.05 if number % 2 else None)
    region.get_multi([f"key {number}" for number in range(0, 500, 2)])
    wait_until(lambda: len(store.keys()) == 250, "end of what was to end")
    assert sorted(item.key for item in store.items()) == sorted(store.keys())
    region.invalidate()
    assert store.items() == store.keys() == []
    region.set("key", 1)
    assert [item.key for item in store.items()] == ["key"]


def test_a_value_that_is_read_goes_on_to_main(region: Any) -> None:
    store = region.actual_backend
    region.set("hot", b"x" * 1000)
    for number in range(2000):
        region.get("hot")
        region.set(f"cold {number}", b"x" * 1000)
    rings = {item.key: item.ring for item in store.items()}
    assert rings["hot"] == "main"


def test_they_go_on_in_the_successor(name: str) -> None:
    store: Any = mpcache.shared(name, "4MB").actual_backend
    for act in (
        lambda: store.get("k") is NO_VALUE,
        lambda: store.set("k", 1) is True,
        lambda: store.has("k") is False,
        lambda: store.describe("k") is None,
        lambda: store.delete("k") is False,
        lambda: store.items() == [],
    ):
        store.add("k", 0)
        store.unlink()
        assert act()
