"""A value whose key is changed during its creation is returned and not stored: each way to create, on each store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import DeadlockError, LockTimeout, ValueTooLarge
from mpcache.invalidation import DefaultInvalidationStrategy
from tests.conftest import PATIENCE, Clock, Store

Region = mpcache.CacheRegion
Create = Callable[[], Any]

# Each makes the value of "k" by the creator, and returns what its caller gets.


def by_get_or_create(region: Region, create: Create) -> Any:
    return region.get_or_create("k", create)


def by_many(region: Region, create: Create) -> Any:
    return region.get_or_create_multi(["k", "other"], lambda *keys: [create() if key == "k" else key for key in keys])[
        0
    ]


def awaited(region: Region, create: Create) -> Any:
    async def creator() -> Any:
        return create()

    return asyncio.run(region.aget_or_create("k", creator))


def decorated(region: Region, create: Create) -> Any:
    return region.cache_on_arguments(function_key_generator=a_key)(lambda: create())()


def refreshed(region: Region, create: Create) -> Any:
    return region.cache_on_arguments(function_key_generator=a_key)(lambda: create()).refresh()


def refreshed_with_others(region: Region, create: Create) -> Any:
    @region.cache_multi_on_arguments(function_multi_key_generator=their_keys)
    def load(*keys: str) -> list[Any]:
        return [create() if key == "k" else key for key in keys]

    return load.refresh("other", "k")[1]


def refreshed_in_a_dict(region: Region, create: Create) -> Any:
    @region.cache_multi_on_arguments(asdict=True, function_multi_key_generator=their_keys)
    def load(*keys: str) -> dict[str, Any]:
        return {key: create() if key == "k" else key for key in keys}

    return load.refresh("k", "other")["k"]


def refreshed_and_awaited(region: Region, create: Create) -> Any:
    async def make() -> Any:
        return create()

    return asyncio.run(region.cache_on_arguments(function_key_generator=a_key)(make).refresh())


def a_key(namespace: str | None, fn: Any) -> Any:
    return lambda *args: "k"


def their_keys(namespace: str | None, fn: Any, to_str: Any) -> Any:
    return lambda *args: list(args)


CREATIONS = [by_get_or_create, by_many, awaited, decorated]
REFRESHES = [refreshed, refreshed_with_others, refreshed_in_a_dict, refreshed_and_awaited]

CHANGES: dict[str, tuple[Callable[[Region], Any], Any]] = {
    "set": (lambda region: region.set("k", "newer"), "newer"),
    "set_multi": (lambda region: region.set_multi({"x": 1, "k": "newer"}), "newer"),
    "delete": (lambda region: region.delete("k"), NO_VALUE),
    "delete_multi": (lambda region: region.delete_multi(["x", "k"]), NO_VALUE),
    "invalidate": (lambda region: region.invalidate(), NO_VALUE),
    "soft": (lambda region: region.invalidate(hard=False), NO_VALUE),
    "another key": (lambda region: region.set("x", 1), "made"),
    "nothing": (lambda region: None, "made"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", [*CREATIONS, *REFRESHES])
def test_a_change_refuses_the_fill(store: Store, way: Any, change: str) -> None:
    region, (act, then) = store.region(expiration_time=100), CHANGES[change]
    assert way(region, lambda: [act(region), "made"][1]) == "made"
    assert region.get("k") == then
    assert not region.key_is_locked("k")
    assert region.get_or_create("k", lambda: "made again") in (then, "made again")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", [by_get_or_create, by_many, awaited, *REFRESHES])
def test_so_it_is_where_a_stale_value_is_there(store: Store, way: Any, change: str) -> None:
    region, (act, then) = store.region(expiration_time=-0.5), CHANGES[change]
    region.set("k", "stale")
    assert way(region, lambda: [act(region), "made"][1]) == "made"
    assert region.get("k", -1) == then


@pytest.mark.parametrize("change", CHANGES)
def test_so_it_is_in_the_background(store: Store, change: str) -> None:
    def run(region: Region, key: str, creator: Create, mutex: Any) -> None:
        region.set(key, creator())
        mutex.release()

    region, (act, then) = store.region({"async_creation_runner": run}, expiration_time=-0.5), CHANGES[change]
    region.set("k", "stale")
    assert region.get_or_create("k", lambda: [act(region), "made"][1]) == "stale"
    assert region.get("k", -1) == then
    region.set("k", "set afterwards")  # the runner's thread is not filling any more
    assert region.get("k", -1) == "set afterwards"


def other_store(region: Region) -> None:
    """Give the region a store whose keys have other names, and change the key there."""
    region.key_mangler = "other:{}".format
    region.configure("mpcache.memory", expiration_time=100, replace_existing_backend=True)
    region.set("k", "newer")
    region.delete("k")


@pytest.mark.parametrize("way", [*CREATIONS, *REFRESHES])
def test_what_began_before_configure_is_not_stored_in_the_next_store(store: Store, way: Any) -> None:
    region = store.region(expiration_time=100)
    assert way(region, lambda: [other_store(region), "made"][1]) == "made"
    assert region.get("k") is NO_VALUE
    region.set("k", "set afterwards")
    assert region.get("k") == "set afterwards"


def test_so_it_is_in_the_background_too(store: Store) -> None:
    region = store.region(expiration_time=-0.5)
    beside = mpcache.make_region().configure("mpcache.memory")

    def run(region: Region, key: str, creator: Create, mutex: Any) -> None:
        value = creator()
        region.set_multi({key: value, "x": 1})
        beside.set(key, value)  # of another region: it is an ordinary set
        mutex.release()

    region.async_creation_runner = run
    region.set("k", "stale")
    assert region.get_or_create("k", lambda: [other_store(region), "made"][1]) == "stale"
    assert [region.get("k"), region.get("x"), beside.get("k")] == [NO_VALUE, 1, "made"]
    region.set("k", "set afterwards")
    assert region.get("k") == "set afterwards"


def test_another_region_on_the_same_store_changes_it(store: Store) -> None:
    here, elsewhere = store.region(expiration_time=100), store.region(expiration_time=100)
    for way in (by_get_or_create, by_many, refreshed):
        assert way(here, lambda: [elsewhere.set("k", "newer"), "made"][1]) == "made"
        assert here.get("k") == "newer"
        elsewhere.delete("k")


@pytest.mark.parametrize("kind", ["memory", "memory_pickle"])
def test_of_a_bounded_dict(kind: str) -> None:
    arguments = {"max_entries": 100} if kind == "memory" else {"max_bytes": 1000, "max_entries": 100}
    for change, (act, then) in CHANGES.items():
        region = mpcache.make_region().configure(f"mpcache.{kind}", expiration_time=100, arguments=arguments)
        assert region.get_or_create("k", lambda: [act(region), "made"][1]) == "made"  # noqa: B023
        assert region.get("k") == then, change


def test_a_value_over_the_bound_ends_its_creation() -> None:
    region = mpcache.make_region().configure("mpcache.memory_pickle", arguments={"max_bytes": 100})
    assert region.get_or_create("k", lambda: "x" * 200) == "x" * 200
    assert region.mishaps.counts["too_large"] == 1
    assert region.get_or_create("k", lambda: "small") == region.get("k") == "small"
    with pytest.raises(ValueTooLarge):
        region.cache_on_arguments(function_key_generator=a_key)(lambda: "x" * 200).refresh()
    assert not region.key_is_locked("k")


def test_many_threads_leave_the_newest(store: Store) -> None:
    """Change the row and then the key in each round, while other threads create and refresh from the row."""
    region, row = store.region(expiration_time=100), [0]
    price = region.cache_on_arguments(function_key_generator=a_key)(lambda: row[0])

    def ask(call: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            call()

    for number in range(1, 6):
        readers = [threading.Thread(target=ask, args=(call, 10)) for call in (price, price.refresh, price)]
        for reader in readers:
            reader.start()
        row[0] = number
        price.set(number) if number % 2 else price.invalidate()
        for reader in readers:
            reader.join(PATIENCE)
        assert price.get() in (number, NO_VALUE)


# -- invalidation by the clock -----------------------------------------------------------------------------------------


def test_a_clock_that_stands_still_hides_no_invalidation(clock: Clock) -> None:
    region = mpcache.make_region().configure("mpcache.memory", expiration_time=100)
    assert region.get_or_create("k", lambda: [region.invalidate(), "made"][1]) == "made"
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: "after it") == region.get("k") == "after it"


class Shared(DefaultInvalidationStrategy):
    """A user's own strategy, which keeps its time elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def invalidate(self, hard: bool = True) -> None:
        raise AssertionError("mpcache must not call it")

    def is_hard_invalidated(self, timestamp: float) -> bool:
        return timestamp < self.at

    def is_invalidated(self, timestamp: float) -> bool:
        return self.is_hard_invalidated(timestamp)


def test_a_strategy_of_the_users_is_asked_for_the_begin(clock: Clock) -> None:
    strategy = Shared()
    region = mpcache.make_region().configure("mpcache.memory", region_invalidator=strategy)

    def create() -> str:
        clock.forward(1)
        strategy.at = clock.now
        clock.forward(1)
        return "made"

    assert region.get_or_create("k", create) == "made"
    assert region.get("k") is NO_VALUE
    clock.forward(1)
    assert region.get_or_create("k", lambda: "after it") == region.get("k") == "after it"


# -- refresh waits for a running creation ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", REFRESHES)
def test_a_refresh_comes_after_the_creation_that_is_under_way(store: Store, way: Any) -> None:
    region, began, go = store.region(), threading.Event(), threading.Event()

    def old() -> str:
        began.set()
        assert go.wait(PATIENCE)
        return "old"

    results: list[Any] = []
    first = threading.Thread(target=lambda: results.append(region.get_or_create("k", old)))
    first.start()
    assert began.wait(PATIENCE)
    second = threading.Thread(target=lambda: results.append(way(region, lambda: "new")))
    second.start()
    assert results == []
    go.set()
    for thread in (first, second):
        thread.join(PATIENCE)
    assert results == ["old", "new"]
    assert region.get("k") == "new"


@pytest.mark.parametrize("way", REFRESHES)
def test_a_refresh_waits_for_no_longer_than_creation_wait(store: Store, way: Any) -> None:
    region = store.region(creation_wait=0.05)
    holder = region._mutex("k")
    in_another = threading.Thread(target=holder.acquire)
    in_another.start()
    in_another.join()
    with pytest.raises(LockTimeout, match="creation_wait"):
        way(region, lambda: "made")
    holder.release()
    assert way(region, lambda: "made") == region.get("k") == "made"


@pytest.mark.parametrize("way", [refreshed, refreshed_with_others, refreshed_in_a_dict])
def test_a_refresh_within_the_creation_is_a_part_of_it(store: Store, way: Any) -> None:
    region = store.region(creation_wait=5)
    assert region.get_or_create("k", lambda: way(region, lambda: "made")) == "made"
    assert region.get("k") == "made"
    assert not region.key_is_locked("k")


@pytest.mark.parametrize("store", ["shm"], indirect=True)  # its mutexes detect circles of waiters
def test_a_circle_of_refreshes_raises(store: Store) -> None:
    region, ready = store.region(creation_wait=PATIENCE), threading.Barrier(2)
    errors: list[Exception] = []

    def cross(mine: str, other: str) -> None:
        def create() -> str:
            ready.wait(PATIENCE)
            made: str = region.cache_on_arguments(function_key_generator=lambda *_: lambda: other)(
                lambda: "x"
            ).refresh()
            return made

        try:
            region.get_or_create(mine, create)
        except DeadlockError as error:
            errors.append(error)

    threads = [threading.Thread(target=cross, args=keys) for keys in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(errors) == 1
    assert not region.key_is_locked("a")
    assert not region.key_is_locked("b")


def test_a_refresh_of_more_keys_than_are_held_at_once(store: Store) -> None:
    region, calls = store.region(), []

    @region.cache_multi_on_arguments(function_multi_key_generator=their_keys)
    def load(*keys: str) -> list[str]:
        calls.append(len(keys))
        return [key.upper() for key in keys]

    keys = [f"key {number}" for number in range(300)]
    assert load.refresh(*keys) == load.get(*keys) == [key.upper() for key in keys]
    assert calls == [256, 44]
    assert load.refresh() == []
