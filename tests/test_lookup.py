"""What a region tells besides values: whether a key has one, whether it was deleted, how a look-up was answered."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import CantSerializeException, ValueTooLarge
from tests.conftest import Clock, Store

KNOWS = {"memory": True, "memory_pickle": True, "shm": True, "dbm": True, "redis": True, "pymemcache": False}


@pytest.fixture(params=["alone", "behind a proxy"])
def make(store: Store, request: pytest.FixtureRequest) -> Any:
    """Return ``make(**configure)``, which makes a region with or without a proxy."""
    wrap = [mpcache.ProxyBackend] if request.param == "behind a proxy" else []
    return lambda **configure: store.region(wrap=wrap, **configure)


# -- has ------------------------------------------------------------------------------------------------------------


class Unreadable:
    """An object that counts how often it is unpickled."""

    loaded = 0

    def __setstate__(self, state: object) -> None:
        type(self).loaded += 1


def test_has_agrees_with_get(make: Any, clock: Clock) -> None:
    region = make(expiration_time=10)
    assert not region.has("a")
    for value in (1, "text", b"bytes", None, [1]):
        region.set("a", value)
        assert region.has("a")
        assert "a" in region
    clock.forward(11)
    assert not region.has("a")
    assert region.has("a", 20)
    assert region.has("a", "1m")
    region.invalidate()
    assert not region.has("a", 20)
    clock.forward(1)
    region.set("a", 1, ttl=5)
    assert region.has("a")
    clock.forward(5)
    assert "a" not in region
    region.set("a", 1)
    region.delete("a")
    assert "a" not in region


def test_has_reads_no_value(store: Store) -> None:
    region = store.region()
    region.set("a", Unreadable())
    Unreadable.loaded = 0
    assert region.has("a")
    assert Unreadable.loaded == 0


def test_a_key_of_a_wrong_type_has_an_error_with_its_name(store: Store) -> None:
    if store.name not in ("shm", "dbm"):
        pytest.skip("takes numbers as keys")
    with pytest.raises(TypeError, match="key 5 of a region without a name"):
        store.region().has(5)


# -- delete ---------------------------------------------------------------------------------------------------------


def test_delete_tells_whether_there_was_a_value(make: Any, store: Store, clock: Clock) -> None:
    region, knows = make(), KNOWS[store.name]
    region.set_multi({"a": 1, "b": None})
    assert [region.delete(key) for key in ("a", "a", "b", "c")] == ([True, False, True, False] if knows else [None] * 4)
    region.set_multi({"a": 1, "b": 2, "c": 3})
    assert region.delete_multi(["b", "x", "a"]) == (["b", "a"] if knows else None)
    assert region.delete_multi([]) == ([] if knows else None)
    assert region.get_multi(["a", "b", "c"]) == [NO_VALUE, NO_VALUE, 3]
    region.set("a", 1, ttl=5)
    clock.forward(6)
    if store.name != "redis":  # it has a clock of its own
        assert region.delete("a") == (False if knows else None)


def test_delete_multi_tells_the_keys_as_they_were_given(store: Store) -> None:
    region = store.region({"key_mangler": lambda key: f"mangled_{key}"})
    region.set_multi({"a": 1, "b": 2})
    assert region.delete_multi(["b", "c"]) in (["b"], None)


@pytest.mark.parametrize("name", ["shm", "dbm"])
def test_what_was_invalidated_does_not_count(name: str, tmp_path: Any) -> None:
    arguments = {"name": None, "size": "4MB"} if name == "shm" else {"filename": str(tmp_path / "file")}
    region = mpcache.make_region().configure(f"mpcache.{name}", arguments=arguments)
    region.set_multi({"a": 1, "b": 1})
    region.invalidate(hard=False)
    assert region.delete("a")
    region.invalidate()
    assert not region.delete("b")


# -- lookup ---------------------------------------------------------------------------------------------------------


def test_lookup_tells_what_is_stored(make: Any, clock: Clock) -> None:
    region = make(expiration_time=10)
    assert region.lookup("a") == (NO_VALUE, "miss")
    region.set("a", 1)
    assert region.lookup("a") == (1, "hit")
    clock.forward(11)
    assert region.lookup("a") == (1, "stale")
    assert region.lookup("a", expiration_time=20) == (1, "hit")
    region.invalidate()
    assert region.lookup("a") == (NO_VALUE, "miss")


def test_lookup_tells_how_a_creation_went(make: Any, clock: Clock) -> None:
    region = make(expiration_time=10)
    found = region.lookup("a", lambda: 1, ttl=30)
    assert (found.value, found.outcome) == (1, "created")
    assert region.lookup("a", lambda: 2) == (1, "hit")
    clock.forward(11)
    with region._mutex("a"):
        assert region.lookup("a", lambda: 2) == (1, "stale")
    assert region.lookup("a", lambda number: number, creator_args=((3,), {})) == (3, "created")
    clock.forward(11)
    assert region.lookup("a", lambda: 4, should_cache_fn=lambda value: False) == (4, "created")
    with pytest.raises(ZeroDivisionError):
        region.lookup("b", lambda: 1 // 0)


def test_lookup_tells_that_another_task_created_it(store: Store) -> None:
    region = store.region()
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def creator() -> str:
        begun.set()
        assert go_on.wait(20)
        return "theirs"

    first = threading.Thread(target=lambda: seen.append(region.lookup("a", creator)))
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=lambda: seen.append(region.lookup("a", lambda: "ours")))
    second.start()
    go_on.set()
    first.join(20)
    second.join(20)
    assert sorted(seen) in (
        [("theirs", "created"), ("theirs", "waited")],
        [("theirs", "created"), ("theirs", "hit")],  # the second began late
    )


# -- what cannot be stored ------------------------------------------------------------------------------------------


@pytest.fixture(params=["shm", "memory_pickle", "pymemcache"])
def bounded(request: pytest.FixtureRequest) -> Any:
    """Return a region whose store refuses a megabyte and a half."""
    arguments: dict[str, Any] = {"name": None, "size": "4MB", "shards": 1}
    if request.param == "memory_pickle":
        arguments = {"max_bytes": "1MB"}
    elif request.param == "pymemcache":
        server = request.getfixturevalue("memcached_server")
        arguments = {"url": server.url}
    return mpcache.make_region().configure(f"mpcache.{request.param}", 10, arguments=arguments)


LARGE = b"x" * (3 << 19)


def test_a_value_that_is_too_large_leaves_no_older_one(bounded: Any) -> None:
    bounded.set("a", "old")
    with pytest.raises(ValueTooLarge) as caught:
        bounded.set("a", LARGE)
    assert caught.value.key == "a"
    assert bounded.get("a") is NO_VALUE
    bounded.set_multi({"a": "old", "b": "old"})
    with pytest.raises(ValueTooLarge) as caught:
        bounded.set_multi({"a": LARGE, "b": "new", "c": LARGE})
    assert set(caught.value.refused) == {"a", "c"}
    assert bounded.get_multi(["a", "b", "c"]) == [NO_VALUE, "new", NO_VALUE]


def test_nor_does_a_created_one(bounded: Any, clock: Clock) -> None:
    bounded.set_multi({"a": "old", "b": "old"})
    clock.forward(11)
    assert bounded.get_or_create("a", lambda: LARGE) == LARGE
    assert bounded.get_or_create_multi(["b"], lambda *keys: [LARGE for _ in keys]) == [LARGE]
    assert bounded.get_multi(["a", "b"], -1) == [NO_VALUE, NO_VALUE]


def test_errors_of_serializers_are_of_one_kind_and_name_the_key(make: Any) -> None:
    region = make()
    region.set("a", "before")
    if region.get_value_metadata("a") is None or not region.serializer:
        pytest.skip("stores objects")
    with pytest.raises(CantSerializeException) as caught:
        region.set("a", threading.Lock())
    assert caught.value.key == "a"
    assert isinstance(caught.value.__cause__, TypeError)
    assert region.get("a") == "before"
