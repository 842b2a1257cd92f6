"""How requests are answered and how creations end is counted: once each, in this process, and over all of a segment."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache import NO_VALUE, CacheRegion
from mpcache._region.requests import FUNCTION_COUNTS, TALLIES
from mpcache._region.statistics import OF_STORE
from mpcache.exception import LockTimeout

STORES = {
    "mpcache.memory": {},
    "mpcache.memory_pickle": {},
    "mpcache.shm": {"name": None, "size": "4MB"},
}


@pytest.fixture(params=STORES)
def region(request: pytest.FixtureRequest) -> CacheRegion:
    return mpcache.make_region().configure(request.param, 60, STORES[request.param])


def counted(region: CacheRegion) -> dict[str, int]:
    """Return all counts that are not 0, which must be the same over all processes, of which there is one."""
    here, everywhere = region.stats(here=True), region.stats()
    assert {name: everywhere[name] for name in here} == here
    return {name: here[name] for name in TALLIES if here[name]}


def test_a_hundred_calls_of_ten_keys(region: CacheRegion) -> None:
    for i in range(100):
        assert region.get_or_create(f"k{i % 10}", lambda: 1) == 1
    told = region.stats()
    assert (told["requests"], told["hits"], told["created"], told["hit_ratio"]) == (100, 90, 10, 0.9)
    assert counted(region) == {"hits": 90, "misses": 10, "created": 10}


def test_each_read_counts_each_key_once(region: CacheRegion) -> None:
    region.set_multi({"a": 1, "b": "text"})
    assert region.get("a") == 1
    assert region.get("none") is NO_VALUE
    assert region.get_multi(["a", "none", "b", "a"]) == [1, NO_VALUE, "text", 1]
    assert region.get_value_metadata("a") is not None
    assert region.get_value_metadata("none") is None
    assert region.get("a", ignore_expiration=True) == 1
    assert region.lookup("a").outcome == "hit"
    assert region.lookup("none").outcome == "miss"
    assert "a" in region
    region.delete("a")
    assert counted(region) == {"hits": 7, "misses": 4}


def test_many_keys_and_async_keys(region: CacheRegion) -> None:
    async def make() -> int:
        return 7

    for _ in range(3):
        assert region.get_or_create_multi(["a", "b", "c"], lambda *keys: [1] * len(keys)) == [1, 1, 1]
        assert asyncio.run(region.aget_or_create("d", make)) == 7
    assert counted(region) == {"hits": 8, "misses": 4, "created": 4}


def test_how_creations_end(region: CacheRegion) -> None:
    def fail() -> Any:
        raise LookupError("no such row")

    def change() -> int:
        region.delete("changed")
        return 1

    with pytest.raises(LookupError):
        region.get_or_create("failing", fail)
    with pytest.raises(mpcache.exception.CantSerializeException):
        region.get_or_create("generator", lambda: (i for i in ()))
    assert region.get_or_create("unwanted", lambda: 1, should_cache_fn=lambda value: False) == 1
    assert region.get_or_create("nothing", lambda: NO_VALUE) is NO_VALUE
    assert region.get_or_create("over", lambda: 1, ttl=0) == 1
    assert region.get_or_create("changed", change) == 1
    assert counted(region) == {"misses": 6, "failed": 2, "unstored": 3, "refused": 1}


def test_a_value_that_is_too_large() -> None:
    region = mpcache.make_region().configure("mpcache.shm", 60, STORES["mpcache.shm"])
    large = os.urandom(2 << 20)
    assert region.get_or_create("k", lambda: large) == large
    assert region.get_or_create_multi(["k", "l"], lambda *keys: [large, b"small"]) == [large, b"small"]
    assert counted(region) == {"misses": 3, "too_large": 2, "created": 1}


def test_who_is_served_the_stale_value_and_who_waits(region: CacheRegion) -> None:
    region.set("k", "old")
    region.invalidate(hard=False)
    creating, go_on = threading.Event(), threading.Event()

    def make() -> str:
        creating.set()
        assert go_on.wait(30)
        return "new"

    def create(key: str) -> None:
        assert region.get_or_create(key, make) == "new"

    creator = threading.Thread(target=create, args=("k",))
    creator.start()
    assert creating.wait(30)
    assert region.get_or_create("k", fail_if_called) == "old"
    assert region.get_or_create_multi(["k"], fail_if_called) == ["old"]
    go_on.set()
    creator.join()
    assert counted(region) == {"stale": 2, "misses": 1, "created": 1}
    creating.clear()
    go_on.clear()
    creator, waiter = (threading.Thread(target=create, args=("another",)) for _ in range(2))
    creator.start()
    assert creating.wait(30)
    waiter.start()
    go_on.set()
    creator.join()
    waiter.join()
    told = counted(region)
    assert (told["misses"], told["created"], told.get("waited", 0) + told.get("hits", 0)) == (2, 2, 1)


def fail_if_called(*args: Any) -> Any:
    raise AssertionError("another thread creates this value")


def test_a_call_that_waits_too_long_is_a_miss() -> None:
    region = mpcache.make_region().configure("mpcache.memory", 60, creation_wait=0)
    creating, go_on = threading.Event(), threading.Event()

    def make() -> int:
        creating.set()
        assert go_on.wait(30)
        return 1

    creator = threading.Thread(target=region.get_or_create, args=("k", make))
    creator.start()
    assert creating.wait(30)
    with pytest.raises(LockTimeout):
        region.get_or_create("k", make)
    with pytest.raises(LockTimeout):
        region.get_or_create_multi(["k"], fail_if_called)
    go_on.set()
    creator.join()
    assert counted(region) == {"misses": 3, "created": 1}


def test_a_background_runner(region: CacheRegion) -> None:
    jobs: list[Callable[[], None]] = []

    def run(region: CacheRegion, key: str, creator: Callable[[], Any], mutex: Any) -> None:
        def job() -> None:
            try:
                region.set(key, creator())
            finally:
                mutex.release()

        jobs.append(job)

    region.async_creation_runner = run
    region.set("k", "old")
    region.invalidate(hard=False)
    assert region.get_or_create("k", lambda: "new") == "old"
    jobs.pop()()
    assert region.get_or_create("k", fail_if_called) == "new"
    assert counted(region) == {"stale": 1, "hits": 1, "created": 1}


def test_decorated_functions(region: CacheRegion) -> None:
    @region.cache_on_arguments()
    def inner(number: int) -> int:
        return number

    @region.cache_on_arguments()
    def outer(number: int) -> int:
        return inner(number) + inner(0)

    @region.cache_multi_on_arguments()
    def many(*numbers: int) -> list[int]:
        return [number * 2 for number in numbers]

    @region.cache_on_arguments()
    async def later(number: int) -> int:
        return number

    for number in (1, 2, 1, 1):
        assert outer(number) == number
        assert many(number, 5) == [number * 2, 10]
        assert asyncio.run(later(number)) == number
    for function, calls, misses in ((outer, 4, 2), (inner, 4, 3), (many, 8, 3), (later, 4, 2)):
        told = function.stats()
        assert (told["calls"], told["misses"], told["created"], told["failed"]) == (calls, misses, misses, 0)
        assert told["hit_ratio"] == (calls - misses) / calls
        assert function.stats(here=True) == told
        assert function.cache_info() == (calls - misses, misses, None, None)
        assert told["time_saved"] == pytest.approx(told["mean_creating_seconds"] * (calls - misses))
    assert counted(region) == {"hits": 10, "misses": 10, "created": 10}


def test_a_function_that_fails_and_one_that_is_not_called() -> None:
    region = mpcache.make_region().configure("mpcache.memory")

    @region.cache_on_arguments()
    def fail(number: int) -> int:
        raise LookupError(number)

    assert fail.stats()["hit_ratio"] is None
    assert fail.stats()["mean_creating_seconds"] is None
    with pytest.raises(LookupError):
        fail(1)
    told = fail.stats()
    assert (told["calls"], told["misses"], told["failed"], told["created"]) == (1, 1, 1, 0)


def test_a_subclass_with_a_get_or_create_of_its_own() -> None:
    class Telling(CacheRegion):
        def get_or_create(self, key: Any, creator: Any, *args: Any, **kw: Any) -> Any:  # type: ignore[override]
            self.get("another key")
            return super().get_or_create(key, creator, *args, **kw)

    region = Telling().configure("mpcache.memory")

    @region.cache_on_arguments()
    def double(number: int) -> int:
        return 2 * number

    assert [double(1), double(1)] == [2, 2]
    assert (double.stats()["calls"], double.stats()["hits"]) == (2, 1)


def test_refresh_is_a_creation_and_no_request(region: CacheRegion) -> None:
    @region.cache_on_arguments()
    def double(number: int) -> int:
        return 2 * number

    @region.cache_multi_on_arguments()
    def many(*numbers: int) -> list[int]:
        return list(numbers)

    assert double.refresh(1) == 2
    assert many.refresh(1, 2) == [1, 2]
    assert counted(region) == {"created": 3}


def test_threads_lose_no_count(region: CacheRegion) -> None:
    region.set("k", 1)

    def read() -> None:
        for _ in range(2000):
            region.get("k")
            region.get("none")
            region.get_value_metadata("k")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(region) == {"hits": 16_000, "misses": 8_000}


def test_a_new_configuration_goes_on_counting() -> None:
    region = mpcache.make_region().configure("mpcache.shm", 60, STORES["mpcache.shm"])
    region.get("k")
    region.expiration_time = 30
    region.get("k")
    region.configure("mpcache.memory", replace_existing_backend=True)
    region.get("k")
    assert region.stats(here=True)["misses"] == 3


def test_a_forked_child_begins_at_0(region: CacheRegion) -> None:
    region.get("k")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        region.get("k")
        region.get("k")
        os.write(write, str(region.stats(here=True)["misses"]).encode())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.read(read, 10) == b"2"
    assert region.stats(here=True)["misses"] == 1
    os.close(read)
    os.close(write)


def test_what_a_server_cannot_know_is_left_out() -> None:
    region = mpcache.make_region().configure("mpcache.null", 60)
    region.get("k")
    assert region.stats()["misses"] == 1
    region.actual_backend.shared = True

    @region.cache_on_arguments()
    def double(number: int) -> int:
        return 2 * number

    double(1)
    assert (region.stats(), double.stats()) == ({}, {})
    assert region.stats(here=True)["misses"] == 2
    assert double.cache_info().misses == 1


def test_the_names_are_those_of_the_engine_and_of_the_docs() -> None:
    from mpcache.shm import _engine

    assert (TALLIES, FUNCTION_COUNTS) == (_engine.TALLIES, _engine.FUNCTION_COUNTS)
    page = (Path(__file__).parents[1] / "docs" / "metrics.rst").read_text()
    region = mpcache.make_region().configure("mpcache.shm", 60, STORES["mpcache.shm"])
    told = region.stats()
    assert set(OF_STORE) <= set(told)
    assert [name for name in told if f"``{name}``" not in page] == []


def test_each_creation_and_each_wait_is_in_its_histogram() -> None:
    region = mpcache.make_region().configure("mpcache.shm", 60, STORES["mpcache.shm"])
    for i in range(5):
        region.get_or_create(f"k{i}", lambda: b"x" * 1000)
    told = region.stats()
    assert sum(told["creating_histogram"]) == 5
    assert told["value_bytes_histogram"][10] == 5, "1000 is less than 2**10 and not less than 2**9"
