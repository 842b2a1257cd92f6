"""What the shm store can do besides what a region asks of it, and that regions read what it stored."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

import mpcache
from mpcache._region.fast_path import Access
from mpcache.api import NO_VALUE
from mpcache.exception import ValidationError, ValueTooLarge
from tests.conftest import Clock

pytestmark = pytest.mark.engine

VALUES = [b"bytes", "text", "t\u00e9xt", 0, -(2**63), 2**63, True, None, {"a": [1]}]


class Proxy(mpcache.ProxyBackend):
    """Sends a region the way of the wire format."""


@pytest.fixture(params=["short", "long", "wire"])
def region(request: pytest.FixtureRequest) -> Any:
    """By each way to the store."""
    wrap = {"wrap": [Proxy]} if request.param == "wire" else {}
    region: Any = mpcache.make_region().configure("mpcache.shm", arguments={"size": "4MB"}, **wrap)
    if request.param == "long":
        region.access = Access(region.access.binding, None)
    return region


@pytest.fixture
def store(region: Any) -> Any:
    return region.actual_backend


@pytest.mark.parametrize("ttl", [None, 1000])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_regions_read_what_the_store_was_given(region: Any, store: Any, value: Any, ttl: Any) -> None:
    assert store.add("k", value, ttl) is True
    assert store.add("k", "another", ttl) is False
    assert (type(region.get("k")), region.get("k")) == (type(value), value)
    version = store.version("k")
    assert store.compare_and_set("k", version, [value], ttl) is True
    assert store.compare_and_set("k", version, "another", ttl) is False
    assert region.get_multi(["k", "none"]) == [[value], NO_VALUE]
    assert store.version("none") is None


def test_a_count(region: Any, store: Any) -> None:
    assert store.incr("n") is None
    assert store.incr("n", initial=11) == 11
    assert [store.incr("n", -3), region.get("n"), region.get_or_create("n", lambda: 0)] == [8, 8, 8]
    assert region.get_multi(["n"]) == [8]
    assert region.get_value_metadata("n").payload == 8
    region.delete("n")
    assert store.incr("n", 5, 0) == 0
    assert store.incr("n", 5, 0) == 5


def test_regions_keep_integers_so_that_they_count(region: Any, store: Any) -> None:
    region.set("n", 5)
    region.set_multi({"m": 7})
    if type(region.backend) is Proxy:
        with pytest.raises(TypeError, match="'n' is no integer"):
            store.incr("n")
    else:
        assert [store.incr("n"), store.incr("m")] == [6, 8]
        assert region.get_multi(["n", "m"]) == [6, 8]
    for value in (True, 2**63, "1", b"12345678"):
        region.set("n", value)
        with pytest.raises(TypeError, match="'n' is no integer"):
            store.incr("n")


def test_a_count_ends_when_it_was_to_end(store: Any) -> None:
    assert store.incr("n", 1, 1, ttl=timedelta(seconds=1000)) == 1
    end = store._place.namespace.get("n")[4]
    assert abs(end - time.time() - 1000) < 100
    assert store.incr("n", 1, 0, ttl=5) == 2
    assert store._place.namespace.get("n")[4] == end
    assert store.compare_and_set("n", store.version("n"), 3, ttl=50) is True
    assert store.incr("n") == 4
    assert store._place.namespace.get("n")[4] < end


def test_touch_gives_more_time_and_less(region: Any, store: Any, clock: Clock) -> None:
    for key, value in {"dict": {"a": 1}, "text": "t", "int": 1}.items():
        assert store.touch(key, 5) is False
        region.set(key, value, ttl=10)
        version = store.version(key)
        assert store.touch(key, 100) is True
        clock.forward(50)
        assert region.get(key) == value
        assert store.touch(key, timedelta(seconds=5)) is True
        clock.forward(6)
        assert region.get(key) is NO_VALUE
        assert region.get(key, ignore_expiration=True) is NO_VALUE
        region.set(key, value, ttl=10)
        assert store.touch(key, None) is True
        clock.forward(1000)
        assert region.get(key) == value
        assert store.version(key) != version


def test_touch_ends_what_had_no_end(region: Any, store: Any) -> None:
    region.set("k", "v")
    assert store.touch("k", -5) is True
    assert region.get("k") is NO_VALUE
    with pytest.raises(ValidationError, match="ttl"):
        store.touch("k", "soon")


def test_an_older_creation_is_not_stored_over_a_count(region: Any, store: Any) -> None:
    def creator() -> int:
        store.incr("n", 1, 101)
        return 1

    assert region.get_or_create("n", creator) == 1
    assert region.get("n") == 101


def test_bytes_of_others_are_touched_as_they_are(store: Any) -> None:
    store.set_serialized("k", b"neither JSON nor a bar")
    assert store.touch("k", 1000) is True
    assert store.get_serialized("k") == b"neither JSON nor a bar"
    assert store.touch("k", -1000) is True
    assert store.get_serialized("k") is NO_VALUE


def test_too_large_says_so(store: Any) -> None:
    store.add("k", 1)
    for call in (lambda: store.add("l", bytes(4 << 20)), lambda: store.compare_and_set("k", 2, bytes(4 << 20))):
        with pytest.raises(ValueTooLarge, match="configure a larger size"):
            call()


def test_many_serialized_values_at_once(store: Any) -> None:
    wire = b'{"ct": 5.0, "v": 2}|payload'
    with pytest.raises(ValueTooLarge) as caught:
        store.set_serialized_multi({"a": wire, "b": bytes(4 << 20), "c": b"raw", "d": bytes(5 << 20)})
    assert sorted(caught.value.refused) == ["b", "d"]
    assert store.get_serialized_multi(["a", "b", "c"]) == [b'{"ct": 5.0, "v": 2, "e": 0}|payload', NO_VALUE, b"raw"]
    assert store.fetch_multi(["a", "b"]) == [(b"payload", 5.0, 0), None]
    store.delete_multi(["a", "b", "c"])
    assert store.keys() == []


def test_they_go_on_in_the_successor(name: str) -> None:
    store: Any = mpcache.shared(name, "4MB").actual_backend
    for act in (
        lambda: store.incr("n", 1, 1) == 1,
        lambda: store.add("k", 1) is True,
        lambda: store.touch("k", 5) is False,
        lambda: store.version("k") is None,
        lambda: store.compare_and_set("k", 2, 1) is False,
        lambda: store.get_serialized_multi(["k"]) == [NO_VALUE],
        lambda: store.delete_multi(["k"]) == [],
    ):
        store.add("k", 0)
        store.unlink()
        assert act()
