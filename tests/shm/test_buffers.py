"""Values with large parts: each part is copied once, into the segment, and never before."""

from __future__ import annotations

import pickle
import tracemalloc
import weakref
from array import array
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import mpcache
from mpcache._wire import pickling
from mpcache.api import NO_VALUE, PAYLOAD, current_fill
from mpcache.exception import CantSerializeException, ValueTooLarge
from tests.shm.test_fast_path import by_reference_path

pytestmark = pytest.mark.engine

LARGE = 200_000


@pytest.fixture
def region() -> Any:
    return mpcache.make_region().configure("mpcache.shm", arguments={"size": "32MB", "shards": 1})


@pytest.fixture
def pair(region: Any) -> tuple[Any, Any]:
    """Two regions over one segment: one uses the fast path, the other the reference path."""
    assert region.access.try_get is not None
    other = mpcache.make_region().configure("mpcache.shm", arguments={"segment": region.actual_backend.segment})
    return region, by_reference_path(other)


def read_only() -> Any:
    array = numpy.arange(LARGE // 8, dtype=float)
    array.flags.writeable = False
    return array


VALUES: dict[str, Callable[[], Any]] = {
    "bytes in a dict": lambda: {"a": b"x" * LARGE, "b": 1},
    "bytearray": lambda: bytearray(LARGE),
    "text": lambda: ["t" * LARGE, "\u00e9" * LARGE, "half a pair \ud800" * 20_000],
    "the same twice": lambda: [b"x" * LARGE] * 2,
    "an array": lambda: numpy.arange(LARGE // 8, dtype=float),
    "an array by columns": lambda: numpy.asfortranarray(numpy.arange(LARGE // 4).reshape(100, -1)),
    "every other row": lambda: numpy.arange(LARGE).reshape(1000, -1)[::2],
    "read-only": read_only,
    "nested": lambda: [{"n": numpy.ones(LARGE)}, (b"y" * LARGE, [bytearray(b"z" * LARGE), None])],
    "much that is small": lambda: [str(number) for number in range(40_000)],
    "a small array": lambda: numpy.arange(3),
}


def same(a: Any, b: Any) -> bool:
    """To the last flag."""
    if isinstance(b, numpy.ndarray):
        alike = a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
        return alike and a.flags.writeable == b.flags.writeable and a.flags.f_contiguous == b.flags.f_contiguous
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("name", VALUES)
def test_the_pieces_are_the_pickle(name: str) -> None:
    pieces = pickling.pickled(VALUES[name]())
    assert b"".join(pieces if isinstance(pieces, tuple) else [pieces]) == pickle.dumps(VALUES[name](), 5)


@pytest.mark.parametrize("name", VALUES)
def test_what_either_way_stores_both_read_as_pickle_would_have_it(pair: tuple[Any, Any], name: str) -> None:
    wanted = pickle.loads(pickle.dumps(VALUES[name](), 5))
    for writer in pair:
        writer.set("k", VALUES[name]())
        assert [same(reader.get("k"), wanted) for reader in pair] == [True, True]
        writer.delete("k")


@pytest.fixture
def many_ways(pair: tuple[Any, Any]) -> dict[str, Callable[[str, Any], object]]:
    """All that stores a value."""
    short, long = pair
    store = short.actual_backend
    return {
        "poke": short.set,
        "set": long.set,
        "poke_multi": lambda key, value: short.set_multi({key: value}),
        "set_multi": lambda key, value: long.set_multi({key: value}),
        "with a time to live": lambda key, value: short.set(key, value, ttl=1000),
        "fill": lambda key, value: short.get_or_create(key, lambda: value),
        "add": store.add,
        "compare_and_set": lambda key, value: [long.set(key, 1), store.compare_and_set(key, store.version(key), value)],
    }


def test_in_every_way_they_come_back(pair: tuple[Any, Any], many_ways: dict[str, Any]) -> None:
    value = VALUES["nested"]()
    for name, store in many_ways.items():
        store(name, value[1])
        assert [same(reader.get(name), value[1]) for reader in pair] == [True, True], name
        pair[0].delete(name)


@pytest.mark.parametrize("make", [lambda: numpy.zeros(50_000), lambda: {"b": b"b" * 400_000}], ids=["array", "bytes"])
def test_on_its_way_in_nothing_large_is_copied_but_into_the_segment(
    many_ways: dict[str, Callable[[str, Any], object]], make: Callable[[], Any]
) -> None:
    """400 kB, and of memory of Python's own a tenth at most."""
    value = make()
    for name, store in many_ways.items():
        store("warm", b"")
        tracemalloc.start()
        try:
            store(name, value)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 40_000, name


def test_one_that_is_over_the_largest_is_refused_by_the_sum_of_its_pieces(pair: tuple[Any, Any]) -> None:
    half = pair[0].actual_backend.stats()["largest_value"] * 3 // 5
    for writer in pair:
        writer.set("k", [b"a" * half])
        assert len(writer.get("k")[0]) == half
        with pytest.raises(ValueTooLarge) as error:
            writer.set("k", [b"a" * half, bytearray(half)])
        assert f"value is {len(pickle.dumps([b'a' * half, bytearray(half)], 5))} bytes" in str(error.value)


def test_what_was_pickled_in_one_is_still_read(pair: tuple[Any, Any]) -> None:
    value = VALUES["nested"]()
    space = pair[0].actual_backend.segment.engine.namespace("")
    for protocol in range(2, 6):
        space.set("k", pickle.dumps(value, protocol), 1e9, -1, 0.0, PAYLOAD)
        assert [same(reader.get("k"), pickle.loads(pickle.dumps(value, protocol))) for reader in pair] == [True, True]


def test_the_engine_takes_buffers_of_any_kind_and_gives_them_back(region: Any) -> None:
    space = region.actual_backend.segment.engine.namespace("")
    growing, columns = bytearray(b"growing "), numpy.asfortranarray(numpy.ones((2, 2)))
    assert space.set("k", (b"bytes ", growing, memoryview(b"a view"), b""))
    assert space.get("k")[0] == b"bytes growing a view"
    assert space.set("k", ())
    assert space.get("k")[0] == b""
    for wrong in (growing, "text"), (growing, memoryview(b"abcd")[::2]), (growing, columns), ((growing,),):
        with pytest.raises((TypeError, BufferError, ValueError)):
            space.set("k", wrong)
        assert space.get("k")[0] == b""
    growing += b"again"  # which a buffer that is still held forbids


class Bad:
    def __reduce__(self) -> Any:
        raise ValueError("not this one")


class Nesting:
    """To pickle it stores something else."""

    def __init__(self, region: Any) -> None:
        self.region = region

    def __reduce__(self) -> Any:
        self.region.set("inner", {"within": [b"i" * LARGE]})
        return (dict, ())


class Weak:
    """An object that can be asked whether it is still referenced."""


def test_a_pickler_that_failed_or_is_in_use_is_not_used_again(region: Any) -> None:
    large = b"l" * LARGE
    for value in ([1, large, Bad()], {"small": Bad()}):
        with pytest.raises(CantSerializeException):
            region.set("bad", value)
        region.set("good", {"n": [1]})
        assert region.get("good") == {"n": [1]}
    region.set("outer", [large, Nesting(region), large])
    assert region.get("outer") == [large, {}, large]
    assert region.get("inner") == {"within": [b"i" * LARGE]}


def test_it_remembers_nothing_of_the_value_before(region: Any) -> None:
    shared, weak = ["in both"], Weak()
    for key in "ab":
        region.set(key, {key: shared, "weak": weak})
        assert region.get(key)[key] == shared
    gone = weakref.ref(weak)
    del weak
    assert gone() is None


def test_whoever_makes_no_pickling_is_told(region: Any) -> None:
    from mpcache.shm._engine import FastPath

    backend = region.actual_backend
    for wrong in (lambda: 1, lambda: (print, print), lambda: (print, print, ())):
        short = FastPath(backend._place, NO_VALUE, current_fill, pickle.loads, wrong, None, None, array("Q", bytes(24)))
        assert short.fast_set("k", {}, None) is NotImplemented
