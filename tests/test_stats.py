"""What is counted: each request has one result, each creation one outcome, whatever the store and the way of asking."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache._region import function_counts, stat_names
from mpcache._region.requests import HISTOGRAMS, TALLIES
from mpcache.api import NO_VALUE
from mpcache.exception import CantSerializeException, DogpileCacheException, SegmentError, ValueTooLarge
from mpcache.shm import _engine, capacity, segment
from tests.conftest import PATIENCE, Clock, Gate, Store, Waiters

KEYS = [f"key {number}" for number in range(10)]
COUNTS_ALL = ("memory", "memory_pickle", "shm")
"""The stores whose stats() has requests: of all processes that use them."""


def counted(region: Any, **more: Any) -> dict[str, int]:
    """Return what was counted and is not 0, in this process; all processes must have counted the same."""
    found = {name: number for name, number in region.stats(here=True).items() if name in TALLIES and number}
    if hasattr(region.actual_backend, "tallies"):
        everywhere = region.stats()
        assert {name: everywhere[name] for name in TALLIES if everywhere[name]} == found
    return found


def test_the_names_are_the_engines() -> None:
    assert TALLIES == _engine.TALLIES
    assert HISTOGRAMS == _engine.HISTOGRAMS
    assert function_counts.FUNCTION_COUNTS == _engine.FUNCTION_COUNTS


def test_the_page_has_every_name() -> None:
    """The page is made from the names; each name that stats() returns is one of them, which the other tests see."""
    page = (Path(__file__).parent.parent / "docs" / "counts.rst").read_text()
    groups = re.findall(r"^.. count-names:: (\w+)$", page, re.MULTILINE)
    assert groups == ["REQUESTS", "CREATIONS", "HELD", "FUNCTION"]
    assert set(TALLIES) | set(HISTOGRAMS) < stat_names.REGION.keys()
    region = mpcache.shared(None, size="4MB")
    region.get_or_create("k", int)
    assert region.stats().keys() == stat_names.REGION.keys() - {"mean_waiting"}


# -- ways of asking --------------------------------------------------------------------------------------------------


def by_get_or_create(region: Any) -> Callable[[str], Any]:
    return lambda key: region.get_or_create(key, lambda: key)


def by_lookup(region: Any) -> Callable[[str], Any]:
    return lambda key: region.lookup(key, lambda: key).value


def by_decorated(region: Any) -> Callable[[str], Any]:
    @region.cache_on_arguments()
    def load(key: str) -> str:
        return key

    return load  # type: ignore[no-any-return]


def by_method(region: Any) -> Callable[[str], Any]:
    class Loader:
        @region.cache_on_arguments()
        def load(self, key: str) -> str:
            return key

    return Loader().load


def by_many_keys(region: Any) -> Callable[[str], Any]:
    return lambda key: region.get_or_create_multi([key], lambda *keys: keys)[0]


def by_decorated_many(region: Any) -> Callable[[str], Any]:
    @region.cache_multi_on_arguments()
    def load(*keys: str) -> list[str]:
        return list(keys)

    return lambda key: load(key)[0]


def by_async(region: Any) -> Callable[[str], Any]:
    async def create(key: str) -> str:
        return key

    return lambda key: asyncio.run(region.aget_or_create(key, create, creator_args=((key,), {})))


def by_decorated_async(region: Any) -> Callable[[str], Any]:
    @region.cache_on_arguments()
    async def load(key: str) -> str:
        return key

    return lambda key: asyncio.run(load(key))


WAYS = [
    *(by_get_or_create, by_lookup, by_decorated, by_method),
    *(by_many_keys, by_decorated_many, by_async, by_decorated_async),
]


@pytest.mark.parametrize("way", WAYS)
def test_100_calls_of_10_keys(store: Store, way: Any) -> None:
    region = store.region()
    ask = way(region)
    for number in range(100):
        assert ask(KEYS[number % 10]) == KEYS[number % 10]
    assert counted(region) == {"hits": 90, "misses": 10, "created": 10}
    here, everywhere = region.stats(here=True), region.stats()
    assert (here["requests"], here["ratio"]) == (100, 0.9)
    assert ("requests" in everywhere) is (store.name in COUNTS_ALL)
    assert everywhere.get("ratio", 0.9) == 0.9
    assert sum(here["creating"]) == 10
    assert 0 < here["mean_creating"] < PATIENCE
    assert here["waiting"] == (0,) * 32
    assert "mean_waiting" not in here
    assert here.keys() | everywhere.keys() <= stat_names.REGION.keys()
    assert sum(here["value_bytes"]) == (0 if store.name == "memory" else 10)


@pytest.mark.parametrize("wrap", [[], [mpcache.ProxyBackend]])
def test_the_plain_calls(store: Store, wrap: Any, clock: Clock) -> None:
    region = store.region(expiration_time=10, wrap=wrap)
    region.get("a")
    region.set("a", 1)
    region.get("a")
    region.get("a", ignore_expiration=True)
    region.get_multi(["a", "b", "a"])
    region.get_multi([])
    region.get_value_metadata("a")
    region.get_value_metadata("b")
    region.lookup("a")
    assert counted(region) == {"hits": 6, "misses": 3}
    assert region.has("a")
    assert "b" not in region
    region.delete("b")
    clock.forward(11)
    region.get("a")
    assert region.lookup("a").outcome == "stale"
    assert region.lookup("b").outcome == "miss"
    assert counted(region) == {"hits": 6, "misses": 5, "stale": 1}


def test_there_is_no_ratio_without_a_request() -> None:
    found = mpcache.make_region().configure("mpcache.memory").stats()
    assert found["requests"] == found["items"] == 0
    assert "ratio" not in found
    assert found.keys() <= stat_names.REGION.keys()


def test_what_raises_before_the_store_answers_is_no_request(store: Store) -> None:
    region = store.region()
    for ask in (region.get, lambda key: region.get_or_create(key, int)):
        with pytest.raises(DogpileCacheException):
            ask("k", "no time") if ask == region.get else region.get_or_create("k", int, "no time")
    assert counted(region) == {}


# -- results ---------------------------------------------------------------------------------------------------------


def waiting(region: Any, gate: Gate, spawn: Callable[..., Future[Any]], waiters: Waiters, ask: Any) -> list[Any]:
    """Let a second thread ask while the creator of the first is inside the gate; return both values."""
    first = spawn(ask)
    gate.wait_for_entry()
    second = spawn(ask)
    waiters.wait_for(1)
    gate.open()
    return [first.result(PATIENCE), second.result(PATIENCE)]


@pytest.mark.parametrize("many", [False, True])
def test_waited(store: Store, many: bool, gate: Any, spawn: Any, waiters: Waiters) -> None:
    region, create = store.region(mutex=waiters), gate()
    ask = (lambda: region.get_or_create_multi(["k"], lambda *_: [create()])[0]) if many else None
    assert waiting(region, create, spawn, waiters, ask or (lambda: region.get_or_create("k", create))) == ["made"] * 2
    assert counted(region) == {"misses": 1, "waited": 1, "created": 1}
    here = region.stats(here=True)
    assert here["ratio"] == 0.5
    assert sum(here["waiting"]) == 1
    assert here["mean_waiting"] > 0


@pytest.mark.parametrize("many", [False, True])
def test_stale(store: Store, many: bool, gate: Any, spawn: Any, clock: Clock, waiters: Waiters) -> None:
    region, create = store.region(expiration_time=10, mutex=waiters), gate()
    region.set("k", "old")
    clock.forward(11)

    def ask() -> Any:
        if many:
            return region.get_or_create_multi(["k"], lambda *_: [create()])[0]
        return region.get_or_create("k", create)

    first = spawn(ask)
    create.wait_for_entry()
    assert ask() == "old"
    create.open()
    assert first.result(PATIENCE) == "made"
    assert counted(region) == {"misses": 1, "stale": 1, "created": 1}


@pytest.mark.parametrize("way", [by_get_or_create, by_many_keys, by_decorated, by_async])
def test_an_error_is_a_miss_and_a_failed_creation(store: Store, way: Any) -> None:
    region = store.region()

    def fail(*args: Any) -> Any:
        raise ZeroDivisionError

    async def fail_later(*args: Any) -> Any:
        raise ZeroDivisionError

    asks: dict[Any, Callable[[], Any]] = {
        by_get_or_create: lambda: region.get_or_create("k", fail),
        by_many_keys: lambda: region.get_or_create_multi(["k", "l"], fail),
        by_decorated: lambda: region.cache_on_arguments()(fail)(1),
        by_async: lambda: asyncio.run(region.aget_or_create("k", fail_later)),
    }
    with pytest.raises(ZeroDivisionError):
        asks[way]()
    number = 2 if way is by_many_keys else 1
    assert counted(region) == {"misses": number, "failed": number}
    assert "mean_creating" not in region.stats(here=True)


# -- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
def test_refused(store: Store, many: bool) -> None:
    region = store.region()

    def create(*_: Any) -> Any:
        region.delete("k")
        return [1] if many else 1

    if many:
        region.get_or_create_multi(["k"], create)
    else:
        region.get_or_create("k", create)
    assert counted(region) == {"misses": 1, "refused": 1}


@pytest.mark.parametrize("many", [False, True])
def test_what_cannot_be_serialized_has_failed(bytes_store: Store, many: bool) -> None:
    region, odd = bytes_store.region(), threading.Lock()
    with pytest.raises(CantSerializeException):
        region.get_or_create_multi(["k"], lambda *_: [odd]) if many else region.get_or_create("k", lambda: odd)
    assert counted(region) == {"misses": 1, "failed": 1}


@pytest.mark.parametrize("many", [False, True])
def test_unstored(store: Store, many: bool) -> None:
    region = store.region()
    for how in ({"should_cache_fn": lambda value: False}, {"ttl": 0}, {}):
        value: Any = 1 if how else NO_VALUE
        if many:
            region.get_or_create_multi(["k"], lambda *_, value=value: [value], **how)
        else:
            region.get_or_create("k", lambda value=value: value, **how)
    assert counted(region) == {"misses": 3, "unstored": 3}


def test_too_large() -> None:
    region = mpcache.shared(None, size="4MB")
    huge = bytes(8 << 20)
    assert region.get_or_create("k", lambda: huge) == huge
    assert region.get_or_create_multi(["a", "b"], lambda *_: [huge, 1]) == [huge, 1]
    assert counted(region) == {"misses": 3, "too_large": 2, "created": 1}
    load = region.cache_on_arguments()(lambda: huge)
    with pytest.raises(ValueTooLarge):
        load.refresh()
    assert counted(region)["too_large"] == 3


def test_unlocked(gate: Any, spawn: Any, waiters: Waiters) -> None:
    region, create = mpcache.shared(None, size="4MB"), gate()
    region.configure("mpcache.memory", replace_existing_backend=True, mutex=waiters)
    asks = [lambda: region.get_or_create("k", create, should_cache_fn=lambda value: False)] * 3
    first = spawn(asks[0])
    create.wait_for_entry()
    others = [spawn(ask) for ask in asks[1:]]
    waiters.wait_for(2)
    create.open()
    assert [one.result(PATIENCE) for one in [first, *others]] == ["made"] * 3
    found = counted(region)
    assert found["misses"] == 3
    assert found["unstored"] + found.get("unlocked", 0) == 3


def test_dropped_in_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    region = mpcache.shared(f"test-stats-{os.getpid()}", size="4MB")
    region.actual_backend.unlink()
    monkeypatch.setattr(capacity, "_in_cgroup", lambda: 1 << 20)  # no room for a successor
    region.set("k", 1)
    region.set_multi({"k": 1, "l": 2})
    assert region.get_or_create("k", lambda: 2) == 2
    assert region.stats(here=True)["dropped"] == 4
    assert region.stats(here=True)["misses"] == 1


# -- refresh, background ---------------------------------------------------------------------------------------------


def test_refresh_is_a_creation_and_no_request(store: Store) -> None:
    region = store.region()
    load = region.cache_on_arguments()(lambda number: number)
    aload = region.cache_on_arguments()(_double)
    many = region.cache_multi_on_arguments()(_doubles)
    load.refresh(1)
    asyncio.run(aload.refresh(1))
    many.refresh(1, 2)
    assert counted(region) == {"created": 4}
    assert [one.stats(here=True)["created"] for one in (load, aload, many)] == [1, 1, 2]


async def _double(number: int) -> int:
    return 2 * number


def _doubles(*numbers: int) -> list[int]:
    return [2 * number for number in numbers]


def test_a_background_runner_counts_its_creations(store: Store, clock: Clock) -> None:
    done: list[str] = []

    def runner(region: Any, key: Any, creator: Any, mutex: Any) -> None:
        try:
            region.set(key, creator())
        except ZeroDivisionError:
            done.append("failed")
        finally:
            mutex.release()

    region = store.region({"async_creation_runner": runner}, expiration_time=10)
    region.set("k", "old")
    clock.forward(11)
    assert region.get_or_create("k", lambda: "new") == "old"
    assert counted(region) == {"stale": 1, "created": 1}
    clock.forward(11)
    assert region.get_or_create("k", lambda: 1 // 0) == "new"
    assert done == ["failed"]
    assert counted(region) == {"stale": 2, "created": 1, "failed": 1}


# -- exact -----------------------------------------------------------------------------------------------------------


def test_threads_count_exactly(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    region = store.region()
    region.set("k", 1)

    def ask() -> None:
        for _ in range(50):
            region.get("k")
            region.get("none")
            region.get_or_create("k", int)
            region.get_multi(["k", "none"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert counted(region) == {"hits": 8 * 150, "misses": 8 * 100}


def test_a_forked_child_begins_at_0(store: Store) -> None:
    region = store.region()
    load = region.cache_on_arguments()(lambda number: number)
    for number in (1, 1, 2):
        load(number)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            load(1)
            found = counted_here(region), load.stats(here=True)["calls"]
            os.write(writing, pickle.dumps(found))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found, calls = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    assert (found, calls) == ({"hits": 1}, 1)
    assert counted_here(region) == {"hits": 1, "misses": 2, "created": 2}
    if store.name == "shm":
        assert region.stats()["hits"] == 2


def counted_here(region: Any) -> dict[str, int]:
    return {name: number for name, number in region.stats(here=True).items() if name in TALLIES and number}


def test_counts_stay_when_a_setting_changes_and_begin_again_where_it_is_unpickled(store: Store) -> None:
    region = store.region()
    region.get("k")
    region.expiration_time = 10
    region.get("k")
    region.configure("mpcache.memory", replace_existing_backend=True)
    region.get("k")
    assert region.stats(here=True)["misses"] == 3
    assert pickle.loads(pickle.dumps(mpcache.make_region())).requests.tallies()["misses"] == 0


def test_counting_never_fails_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    region = mpcache.shared(f"test-stats-{os.getpid()}", size="4MB")
    load = region.cache_on_arguments()(lambda: 1)
    assert load() == 1
    region.actual_backend.unlink()
    monkeypatch.setattr(capacity, "_in_cgroup", lambda: 1 << 20)  # no room for a successor
    assert load() == 1
    assert load.stats(here=True)["calls"] == load.stats()["calls"] == 2
    with pytest.raises(SegmentError):
        region.stats()


# -- functions -------------------------------------------------------------------------------------------------------


def test_functions(store: Store) -> None:
    region = store.region()
    load = by_decorated(region)
    for number in range(100):
        load(KEYS[number % 10])
    here = load.stats(here=True)  # type: ignore[attr-defined]
    everywhere = load.stats()  # type: ignore[attr-defined]
    assert {name: here[name] for name in ("calls", "hits", "misses", "created", "ratio", "failed")} == {
        **{"calls": 100, "hits": 90, "misses": 10, "created": 10, "ratio": 0.9, "failed": 0}
    }
    assert here["time_saved"] == pytest.approx(90 * here["mean_creating"])
    assert here["mean_creating"] == pytest.approx(here["creating"] / 10)
    assert here.keys() == stat_names.FUNCTION.keys()
    assert everywhere == (here if store.name in COUNTS_ALL else {})
    assert load.cache_info() == (90, 10, None, 0)  # type: ignore[attr-defined]
    assert load.cache_info()._fields == lru_cache(int).cache_info()._fields  # type: ignore[attr-defined]
    assert (here["bytes_stored"] > 0) is (store.name != "memory")


def test_calls_inside_a_creator_are_not_its_functions(store: Store) -> None:
    region = store.region()

    @region.cache_on_arguments()
    def inner(number: int) -> int:
        return number

    @region.cache_on_arguments()
    def outer(number: int) -> int:
        region.get_or_create(f"other {number}", lambda: number)
        region.get_or_create_multi([f"more {number}"], lambda *_: [number])
        return inner(number) + inner(number)

    for _ in range(3):
        assert outer(4) == 8
    assert [outer.stats(here=True)[name] for name in ("calls", "hits", "created")] == [3, 2, 1]
    assert [inner.stats(here=True)[name] for name in ("calls", "hits", "created")] == [2, 1, 1]
    assert counted(region) == {"hits": 3, "misses": 4, "created": 4}


def test_methods_many_things_and_coroutines(store: Store) -> None:
    region = store.region()

    class Loader:
        @region.cache_on_arguments()
        def one(self, number: int) -> int:
            return number

        @region.cache_multi_on_arguments()
        def many(self, *numbers: int) -> list[int]:
            return list(numbers)

        @region.cache_on_arguments()
        async def later(self, number: int) -> int:
            return number

        @region.cache_on_arguments()
        @classmethod
        def of_class(cls, number: int) -> int:
            return number

    loader = Loader()
    for _ in range(2):
        loader.one(1)
        loader.many(1, 2)
        asyncio.run(loader.later(1))
        loader.of_class(1)
    assert [fn.cache_info()[:2] for fn in (loader.one, loader.many, loader.later, loader.of_class)] == [
        *((1, 1), (2, 2), (1, 1), (1, 1))
    ]
    assert Loader.one.stats(here=True) == loader.one.stats(here=True)
    assert loader.one.stats(here=True)["calls"] == 2


def test_stale_waited_and_failed_calls_of_functions(
    store: Store, gate: Any, spawn: Any, clock: Clock, waiters: Waiters
) -> None:
    region, create = store.region(expiration_time=10, mutex=waiters), gate()
    load = region.cache_on_arguments()(lambda number: create() if number else 1 // 0)
    waiting(region, create, spawn, waiters, lambda: load(1))
    with pytest.raises(ZeroDivisionError):
        load(0)
    found = load.stats(here=True)
    assert [found[name] for name in ("calls", "hits", "waited", "created", "failed", "misses")] == [3, 0, 1, 1, 1, 2]


def test_a_subclass_with_its_own_get_or_create(store: Store) -> None:
    class Own(mpcache.CacheRegion):
        def get_or_create(  # type: ignore[override]
            self,
            key: Any,
            creator: Any,
            expiration_time: Any = None,
            should_cache_fn: Any = None,
            creator_args: Any = None,
        ) -> Any:
            return super().get_or_create(key, creator, expiration_time, should_cache_fn, creator_args)

    region = Own().configure(f"mpcache.{store.name}", arguments=store.arguments)
    load = region.cache_on_arguments()(lambda number: number)
    for _ in range(3):
        load(1)
    found = load.stats(here=True)
    assert [found[name] for name in ("calls", "hits", "misses", "created")] == [3, 2, 1, 1]


def test_a_call_without_a_key_is_not_counted() -> None:
    region = mpcache.make_region().configure("mpcache.shm", arguments={"name": None, "size": "4MB"})
    load = region.cache_on_arguments()(lambda thing: 1)
    with pytest.warns(UserWarning, match="not cached"):
        load(object())
    assert load.stats(here=True)["calls"] == 0
    assert counted(region) == {}


def test_a_decorator_on_top_passes_the_counts_on() -> None:
    import functools

    region = mpcache.make_region().configure("mpcache.memory")
    load = region.cache_on_arguments()(lambda: 1)
    wrapped: Any = functools.wraps(load)(lambda: load())
    wrapped()
    assert wrapped.stats()["calls"] == wrapped.cache_info().misses == 1


# -- when a process ends ---------------------------------------------------------------------------------------------

PENDING = """
import multiprocessing.util, os, sys
import mpcache

cache = mpcache.shared(sys.argv[1], size="8MB")

@cache.cache_on_arguments()
def load():
    return 1

def call():
    for _ in range(10):
        load()

if __name__ == "__main__":
    how = sys.argv[2]
    if how == "fork":
        load()
        if os.fork() == 0:
            call()
            sys.exit()
        os.wait()
    elif how == "plain":
        call()
    else:
        child = multiprocessing.get_context(how[3:]).Process(target=call)
        child.start()
        child.join()
"""


@pytest.mark.parametrize(
    ("how", "calls"), [("plain", 10), ("fork", 11), ("mp-fork", 10), ("mp-spawn", 10), ("mp-forkserver", 10)]
)
def test_a_process_that_ends_adds_its_calls(tmp_path: Path, how: str, calls: int) -> None:
    name = f"test-stats-{os.getpid()}-{how}"
    script = tmp_path / "pending.py"
    script.write_text(PENDING)
    try:
        subprocess.run([sys.executable, script, name, how], check=True)
        region = mpcache.shared(name, size="8MB")
        rows = region.actual_backend.segment.engine.functions()
        assert sum(counts[0] for _, function, counts in rows if function) == calls
        assert {function for _, function, _ in rows if function} == {"__main__.load"}
        assert region.stats()["requests"] == calls
    finally:
        segment.unlink(name)
