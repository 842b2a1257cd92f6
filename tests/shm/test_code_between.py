"""Code that runs in the midst of the engine's calls: it finds nothing half built, and what it changes breaks nothing.

Clocks, manglers, picklers, iterators and other threads run while a list is being filled, or between a size and its use.
"""

from __future__ import annotations

import gc
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mpcache
from mpcache._wire import _wire, codec
from mpcache.api import BYTES, NO_VALUE

pytestmark = pytest.mark.engine

MANY = 37
KEYS = [f"key {number}" for number in range(MANY)]
LARGE = b"x" * 150_000
"""The GIL is released while this is copied."""


@pytest.fixture(autouse=True)
def few_objects() -> Iterator[None]:
    """Keep what the other tests have left out of gc.get_objects(): to look at it a thousand times takes minutes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def region() -> Any:
    return mpcache.make_region().configure("mpcache.shm", arguments={"name": None, "size": "32MB", "shards": 1})


@pytest.fixture
def space(region: Any) -> Any:
    return region.actual_backend.segment.engine.namespace("")


def half_filled() -> list[int]:
    """The lengths of the lists and tuples, as long as ours are, that have items which are not there yet."""
    ours = [one for one in gc.get_objects() if type(one) in (list, tuple) and len(one) in (MANY, 6)]
    return [len(one) for one in ours if len(gc.get_referents(one)) != len(one)]


Call = Callable[[], object]


@pytest.fixture
def calls(region: Any, space: Any) -> dict[str, Call]:
    """All that fill a list or a tuple."""
    region.set_multi(dict.fromkeys(KEYS, LARGE))
    rows = [(key, LARGE, 0.0, -1, 0.0, BYTES) for key in KEYS]
    wires = [codec.join(pickle.dumps(1), 1e9)] * MANY
    return {
        "get": lambda: space.get(KEYS[0]),
        "get_multi": lambda: space.get_multi(KEYS),
        "set_multi": lambda: space.set_multi(rows),
        "peek_multi": lambda: region.get_multi(KEYS),
        "poke_multi": lambda: region.set_multi(dict.fromkeys(KEYS, LARGE)),
        "keys": space.keys,
        "unwire": lambda: _wire.unwire(wires, 1e9, 60.0, pickle.loads, NO_VALUE),
    }


def test_another_thread_finds_nothing_half_filled(calls: dict[str, Call]) -> None:
    found, over = set[int](), threading.Event()

    def watch() -> None:
        while not over.is_set():
            found.update(half_filled())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        for call in calls.values():
            call()
    over.set()
    watcher.join()
    assert found == set()


def test_nor_does_a_collection(calls: dict[str, Call]) -> None:
    """Up to Python 3.11 any allocation may start one, in the midst of a call."""
    found = set[int]()

    def look(phase: str, info: Any) -> None:
        found.update(half_filled())

    before = gc.get_threshold()
    gc.callbacks.append(look)
    gc.set_threshold(1)
    try:
        for call in calls.values():
            call()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(look)
    assert found == set()


def test_nor_does_what_yields_the_keys_or_the_rows(space: Any) -> None:
    found = set[int]()

    class Looking:
        """Says how many there will be, and has a look at each ninth."""

        def __init__(self, items: list[Any]) -> None:
            self.items = list(reversed(items))

        def __length_hint__(self) -> int:
            return len(self.items)

        def __iter__(self) -> Looking:
            return self

        def __next__(self) -> Any:
            if len(self.items) % 9 == 0:
                found.update(half_filled())
            if not self.items:
                raise StopIteration
            return self.items.pop()

    assert space.set_multi(Looking([(key, b"v") for key in KEYS])) == [True] * MANY
    assert [value[0] for value in space.get_multi(Looking(KEYS))] == [b"v"] * MANY
    assert space.delete_multi(Looking(KEYS)) == [True] * MANY
    assert found == set()


@pytest.fixture
def put_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """``put_clock(act)``: time.time() does this first."""
    real = time.time

    def put(act: Callable[[], object]) -> None:
        def clock() -> float:
            act()
            return real()

        monkeypatch.setattr(time, "time", clock)

    return put


def test_what_is_stored_is_what_the_dict_had_at_the_call(region: Any, put_clock: Any) -> None:
    for name, change in (
        ("grown", lambda values: values.update({f"new {number}": b"w" for number in range(5_000)})),
        ("emptied", lambda values: values.clear()),
        ("other", lambda values: values.update(dict.fromkeys(values, b"other"))),
    ):
        values = {f"{name} {number}": b"v" for number in range(8)}
        wanted = list(values)
        put_clock(lambda change=change, values=values: change(values))
        region.set_multi(values)
        assert region.get_multi(wanted) == [b"v"] * 8, name
    assert region.get("new 0") is NO_VALUE


def test_a_mangler_and_a_pickler_may_change_the_dict(region: Any) -> None:
    values: dict[str, Any] = {}

    class Emptying:
        def __reduce__(self) -> Any:
            values.clear()
            values.update({f"more {number}": number for number in range(5_000)})
            return (str, ("emptied",))

    def mangler(key: str) -> str:
        values.pop("c", None)
        return key

    region.key_mangler = mangler
    values.update({"a": Emptying(), "b": 2, "c": 3})
    region.set_multi(values)
    assert [region.get(key) for key in "abc"] == ["emptied", 2, 3]


def test_a_clock_may_put_another_in_its_place_while_it_runs(region: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time

    class Once:
        """Nothing refers to it any more when it returns."""

        def __call__(self) -> float:
            time.time = real
            self.seen = [real()]
            return self.seen[0]

    for act in (lambda: region.set("k", b"v"), lambda: region.get("k", 0.5), lambda: region.set_multi({"k": b"v"})):
        monkeypatch.setattr(time, "time", Once())
        act()
    assert region.get("k") == b"v"


def test_a_dict_that_cannot_be_stored_leaves_nothing_behind(region: Any, put_clock: Any) -> None:
    def broken() -> None:
        raise RuntimeError("no time")

    held = b"h" * 10_000
    values = {"a": held, "b": NO_VALUE}
    region.set_multi(values)  # by the reference path, because of the second value
    assert region.get("a") == held
    put_clock(broken)
    with pytest.raises(RuntimeError, match="no time"):
        region.set_multi({"a": b"other"})
    assert region.get("a", ignore_expiration=True) == held
