"""The stores of one process: memory, memory_pickle, null; and the table of names."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE, CachedValue
from mpcache.backends import load_backend
from mpcache.backends.memory import MemoryBackend, MemoryPickleBackend
from mpcache.backends.null import NullBackend, NullLock
from mpcache.exception import PluginNotFound, ValidationError, ValueTooLarge


@pytest.mark.parametrize("kind", [MemoryBackend, MemoryPickleBackend])
def test_memory_keeps_and_forgets(kind: type[MemoryBackend]) -> None:
    backend = kind({})
    assert backend.get("a") is NO_VALUE
    backend.set("a", CachedValue(1, {}))
    backend.set_multi({"b": CachedValue(2, {}), "c": CachedValue(3, {})})
    assert [value and value.payload for value in backend.get_multi(["c", "x", "a"])] == [3, NO_VALUE, 1]
    backend.delete("a")
    backend.delete("a")
    backend.delete_multi(["b", "x"])
    backend.delete_multi([])
    assert list(backend._cache) == ["c"]
    backend.set_serialized("d", b"bytes")
    backend.set_serialized_multi({"e": b"more"})
    assert [backend.get_serialized("d"), *backend.get_serialized_multi(["e", "x"])] == [
        b"bytes",
        b"more",
        NO_VALUE,
    ]


def test_memory_keeps_in_the_dict_that_it_is_given() -> None:
    mine: dict[str, Any] = {}
    region = mpcache.make_region().configure("mpcache.memory", arguments={"cache_dict": mine})
    region.set("a", [1])
    assert mine["a"].payload is region.get("a")
    assert region.actual_backend._cache is mine


def test_memory_pickle_gives_every_reader_its_own() -> None:
    region = mpcache.make_region().configure("mpcache.memory_pickle")
    region.set("a", [1])
    region.get("a").append(2)
    assert region.get("a") == [1]


def test_null_keeps_nothing() -> None:
    backend = NullBackend({"anything": 1})
    backend.set("a", CachedValue(1, {}))
    backend.set_multi({"a": CachedValue(1, {})})
    backend.delete("a")
    backend.delete_multi(["a"])
    assert backend.get("a") is NO_VALUE
    assert backend.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
    mutex = backend.get_mutex("a")
    assert [mutex.acquire(), mutex.acquire(False), mutex.locked()] == [True, True, False]
    mutex.release()


def test_null_creates_at_every_call_also_inside_of_a_creator() -> None:
    region = mpcache.make_region().configure("mpcache.null")
    made = iter(range(9))
    assert [region.get_or_create("a", lambda: next(made)) for _ in range(2)] == [0, 1]
    assert region.get_or_create("a", lambda: region.get_or_create("a", lambda: next(made))) == 2


def test_C10_arguments_are_left_alone_and_unknown_ones_are_named() -> None:
    arguments = {"cache_dict": {}, "url": "x"}
    before = copy.copy(arguments)
    known = "cache_dict, max_bytes, max_entries"
    with pytest.warns(UserWarning, match=f"MemoryBackend ignores the argument 'url'; it knows {known}"):
        mpcache.make_region().configure("mpcache.memory", arguments=arguments)
    assert arguments == before


@pytest.mark.parametrize("name", ["memory", "memory_pickle", "null"])
def test_dogpiles_names_are_names(name: str) -> None:
    assert load_backend(f"dogpile.cache.{name}") is load_backend(f"mpcache.{name}")


@pytest.mark.parametrize("name", ["no.such", "dogpile.cache.no_such", "memory"])
def test_an_unknown_name_is_told(name: str) -> None:
    with pytest.raises(PluginNotFound, match=f"Couldn't find cache plugin to load: (mpcache.no_such|{name})"):
        load_backend(name)


def test_register_backend_is_late_and_overrides() -> None:
    mpcache.register_backend("test.late", "no_such_module", "Nothing")
    mpcache.register_backend("test.late", "mpcache.backends.null", "NullBackend")
    assert load_backend("test.late") is NullBackend
    mpcache.register_backend("test.late", "mpcache.backends.memory", "MemoryBackend")
    assert load_backend("test.late") is MemoryBackend


def test_from_config_dict_cuts_the_prefix() -> None:
    backend = MemoryBackend.from_config_dict({"a.cache_dict": {"k": 1}, "b.cache_dict": {}}, "a.")
    assert backend._cache == {"k": 1}


@pytest.mark.parametrize("kind", ["memory", "memory_pickle"])
def test_memory_with_max_entries(kind: str) -> None:
    region = mpcache.make_region().configure(f"mpcache.{kind}", arguments={"max_entries": 10})
    for number in range(100):
        assert region.get_or_create(str(number), lambda: [number]) == [number]  # noqa: B023
        assert region.get(str(number)) == [number]
        assert len(region.actual_backend._cache) <= 10
    region.delete("99")
    assert region.get("99") is NO_VALUE


@pytest.mark.parametrize("bound", [1000, "1000", "1000 B"])
def test_memory_pickle_with_max_bytes(bound: Any) -> None:
    region = mpcache.make_region().configure("mpcache.memory_pickle", arguments={"max_bytes": bound})
    for number in range(100):
        region.set(str(number), b"x" * 50)
    kept = region.actual_backend._cache
    assert kept.bytes == sum(map(len, kept.values())) <= 1000
    assert len(kept) > 5


def test_a_value_over_max_bytes_is_returned_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    region = mpcache.make_region().configure("mpcache.memory_pickle", arguments={"max_bytes": 200})
    assert region.get_or_create("a", lambda: "x" * 300) == "x" * 300
    assert region.get("a") is NO_VALUE
    assert "max_bytes is 200" in caplog.text
    with pytest.raises(ValueTooLarge):
        region.set("a", "x" * 300)


def test_memory_with_max_bytes_takes_bytes_and_what_a_serializer_makes_of_others() -> None:
    region = mpcache.make_region().configure("mpcache.memory", arguments={"max_bytes": 100})
    region.set("a", b"bytes")
    assert [region.get("a"), region.actual_backend._cache.bytes] == [b"bytes", 5]
    with pytest.raises(ValidationError, match="max_bytes counts bytes, and this region stores objects, such as a list"):
        region.set("b", [1])
    region = mpcache.make_region(serializer=pickle.dumps, deserializer=pickle.loads)
    region.configure("mpcache.memory", arguments={"max_bytes": 100})
    region.set("b", [1])
    assert region.get("b") == [1]


def test_a_dict_that_is_given_cannot_be_bounded() -> None:
    with pytest.raises(ValidationError, match="max_entries, max_bytes cannot bound a cache_dict"):
        MemoryBackend({"cache_dict": {}, "max_entries": 1, "max_bytes": 1})
    with pytest.raises(ValidationError, match="max_entries is 0"):
        MemoryBackend({"max_entries": 0})
    assert type(MemoryBackend({"max_entries": None, "max_bytes": None})._cache) is dict


def test_1_10_the_null_lock_by_its_name() -> None:
    lock = NullLock()
    assert [lock.acquire(), lock.acquire(False), lock.locked()] == [True, True, False]
    lock.release()
