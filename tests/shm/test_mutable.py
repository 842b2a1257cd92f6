"""Buffers that other threads write to: what is stored is one state of them, and those threads notice nothing."""

from __future__ import annotations

import array
import mmap
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest

import mpcache
from mpcache._wire import pickling
from mpcache.api import BYTES
from tests.processes.support import Anatomy

pytestmark = pytest.mark.engine

SIZE = 600_000
"""Of bytes, the GIL is released for a copy of so many."""


@pytest.fixture
def region() -> Any:
    return mpcache.make_region().configure("mpcache.shm", arguments={"size": "32MB", "shards": 1})


@pytest.fixture
def space(region: Any) -> Any:
    return region.actual_backend.segment.engine.namespace("")


@contextmanager
def another_thread(act: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Let it do that again and again; what it raises ends it, and is in the list."""
    errors, over = list[BaseException](), threading.Event()

    def play() -> None:
        try:
            while not over.is_set():
                act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield errors
    finally:
        over.set()
        thread.join()


def flipping(target: Any) -> Callable[[], None]:
    """Fill a buffer with one letter after the other, each time with the GIL held."""
    view, letters = memoryview(target).cast("B"), [bytes([letter]) * SIZE for letter in b"ab"]

    def flip() -> None:
        for letter in letters:
            view[:] = letter

    flip()
    return flip


def an_array() -> Any:
    return numpy.zeros(SIZE, dtype=numpy.uint8)


Store = Callable[[Any, Any, Any], object]

WAYS: dict[str, tuple[Callable[[], Any], Store]] = {
    "a bytearray": (lambda: bytearray(SIZE), lambda region, space, it: region.set("k", it)),
    "an array": (an_array, lambda region, space, it: region.set("k", it)),
    "arrays in a dict": (an_array, lambda region, space, it: region.set("k", {"a": it})),
    "an array for a time": (an_array, lambda region, space, it: region.set("k", it, ttl=1000)),
    "an array that is created": (
        an_array,
        lambda region, space, it: [region.delete("k"), region.get_or_create("k", lambda: it)],
    ),
    "many at once": (an_array, lambda region, space, it: region.set_multi({"k": it})),
    "a buffer": (lambda: bytearray(SIZE), lambda region, space, it: space.set("k", it, 0.0, -1, 0.0, BYTES)),
    "an array of the standard library": (
        lambda: array.array("B", bytes(SIZE)),
        lambda region, space, it: space.set("k", it, 0.0, -1, 0.0, BYTES),
    ),
    "a view that is read-only": (
        lambda: bytearray(SIZE),
        lambda region, space, it: space.set("k", memoryview(it).toreadonly(), 0.0, -1, 0.0, BYTES),
    ),
    "a piece": (
        lambda: bytearray(SIZE),
        lambda region, space, it: space.set("k", (b"", memoryview(it)), 0.0, -1, 0.0, BYTES),
    ),
    "added": (
        lambda: bytearray(SIZE),
        lambda region, space, it: [space.delete("k"), space.add("k", it, 0.0, -1, 0.0, BYTES)],
    ),
    "compared and set": (
        lambda: bytearray(SIZE),
        lambda region, space, it: space.compare_and_set("k", space.version("k") or 0, it, 0.0, -1, 0.0, BYTES),
    ),
    "in the wire format": (
        lambda: bytearray(SIZE),
        lambda region, space, it: region.actual_backend.set_serialized("k", it),
    ),
}


def letters_of(value: Any) -> set[int]:
    return set(value["a"] if isinstance(value, dict) else value)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_torn(region: Any, space: Any, way: str) -> None:
    make, store = WAYS[way]
    target = make()
    region.actual_backend.set_serialized("k", bytes(SIZE))
    with another_thread(flipping(target)) as errors:
        for _ in range(60):
            store(region, space, target)
            found = space.get("k")[0]
            a, b = (found.count(bytes([letter]) * (SIZE // 4)) for letter in b"ab")
            assert a == 0 or b == 0
            assert a + b >= 3
    assert errors == []


@pytest.mark.parametrize("way", [way for way, (make, _) in WAYS.items() if type(make()) in (bytearray, array.array)])
def test_whoever_resizes_it_notices_nothing(region: Any, space: Any, way: str) -> None:
    make, store = WAYS[way]
    target = make()
    more = target[:1000]
    region.actual_backend.set_serialized("k", bytes(SIZE))

    def grow() -> None:
        target.extend(more)
        del target[-1000:]

    with another_thread(grow) as errors:
        for _ in range(60):
            store(region, space, target)
            assert len(space.get("k")[0]) % 1000 < 400  # with a pickle's or a wire's head
    assert errors == []


@contextmanager
def busy_shard(space: Any) -> Iterator[Callable[[], bool]]:
    """A shard that this process, which lives, has locked; yields whether another waits for it."""
    path = f"/proc/self/fd/{space.engine.fd}"
    anatomy, owner = Anatomy(path), space.engine.owner
    mine = (owner >> 16 & 0xFFFFF) << 11 | (owner & 0xFFFF) + 1  # as wordlock.c has it
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as words:
        struct.pack_into("<I", words, anatomy.shards_at, mine)
        yield lambda: bool(struct.unpack_from("<I", words, anatomy.shards_at)[0] != mine)
        struct.pack_into("<I", words, anatomy.shards_at, 0)


@pytest.mark.parametrize("size", [100, SIZE])
@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("act", ["set", "add"])
def test_nor_while_the_shard_is_busy(space: Any, size: int, pieces: bool, act: str) -> None:
    """The value is copied before another thread runs; what it was at the call is stored."""
    target = bytearray(b"x" * size)
    outcomes = list[Any]()
    space.set("first", b"for a slot")
    value = (b"a piece and ", target) if pieces else target
    with busy_shard(space) as is_waited_for:
        setter = threading.Thread(target=lambda: outcomes.append(getattr(space, act)("k", value, 0.0, -1, 0.0, BYTES)))
        setter.start()
        while setter.is_alive() and not is_waited_for():
            pass
        target.extend(b"more")
        target[:size] = b"y" * size
    setter.join()
    assert outcomes == [True]
    assert space.get("k")[0] == b"a piece and " * pieces + b"x" * size


# -- what runs while a value is pickled ----------------------------------------------------------------------------


class Acting:
    """Does something when it is pickled."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        self.act()
        return (str, ("acted",))


class OfItsOwn:
    """Is pickled as a state that nothing else keeps alive."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __reduce__(self) -> Any:
        return (list, ([self.make(number) for number in range(5)],))


@pytest.fixture
def both_ways(region: Any) -> dict[str, Callable[[str, Any], object]]:
    return {
        "fast": region.set,
        "many": lambda key, value: region.set_multi({key: value}),
        "slow": lambda key, value: region.set(key, value, ttl=1000),
        "created": lambda key, value: region.get_or_create(key, lambda: value),
    }


def test_each_part_is_as_it_was_when_its_turn_came(region: Any, both_ways: dict[str, Any]) -> None:
    for way, store in both_ways.items():
        for name, change in (
            ("longer", lambda target: target.extend(b"more")),
            ("shorter", lambda target: target.clear()),
            ("other", flipping),
        ):
            target = bytearray(b"x" * SIZE)
            store(f"{way} {name}", [target, Acting(lambda change=change, target=target: change(target))])
            assert region.get(f"{way} {name}") == [b"x" * SIZE, "acted"], (way, name)
        target = numpy.full(SIZE, 1, dtype=numpy.uint8)
        store(way, [target, Acting(lambda target=target: target.fill(2))])
        assert set(region.get(way)[0]) == {1}, way


@pytest.mark.parametrize("make", [lambda n: numpy.full(SIZE, n, numpy.uint8), lambda n: bytearray([n]) * SIZE])
def test_what_only_the_pickler_has_is_whole(region: Any, both_ways: dict[str, Any], make: Any) -> None:
    for way, store in both_ways.items():
        store(way, OfItsOwn(make))
        assert [set(one) for one in region.get(way)] == [{0}, {1}, {2}, {3}, {4}], way


def test_an_array_is_kept_alive_by_its_pieces() -> None:
    value: Any = numpy.full(SIZE, 7, numpy.uint8)
    pieces = pickling.pickled(value)
    value = [numpy.full(SIZE, 8, numpy.uint8) for _ in range(5)]
    assert b"".join(pieces).count(7) >= SIZE


@pytest.mark.parametrize("of", [object, [("n", int), ("o", object)]])
def test_an_array_of_objects_is_no_memory(region: Any, both_ways: dict[str, Any], of: Any) -> None:
    target = bytearray(b"x" * SIZE)
    value = numpy.zeros(9_000, dtype=of)
    items = value if of is object else value["o"]
    items[0], items[1] = target, Acting(target.clear)
    for way, store in both_ways.items():
        target[:] = b"x" * SIZE
        store(way, value)
        found = region.get(way)
        assert (found if of is object else found["o"])[0] == b"x" * SIZE, way
