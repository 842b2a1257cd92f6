"""A value's own time to live, on every store."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import mpcache
from mpcache._wire import codec
from mpcache.api import NO_VALUE, Freshness
from mpcache.exception import ValidationError
from tests.conftest import Clock, Store

dogpile_cache = pytest.importorskip("dogpile.cache")


@pytest.fixture(params=["alone", "behind a proxy"])
def make(store: Store, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return ``make(**configure)``, which makes a region with or without a proxy."""
    wrap = [mpcache.ProxyBackend] if request.param == "behind a proxy" else []
    return lambda **configure: store.region(wrap=wrap, **configure)


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10)])
def test_when_it_has_passed_there_is_no_value_for_anybody(make: Any, clock: Clock, ttl: Any) -> None:
    region = make(expiration_time=100)
    region.set("a", 1, ttl=ttl)
    region.set_multi({"b": 2}, ttl=ttl)
    region.set("c", 3)
    clock.forward(9.5)
    assert region.get_multi("abc") == [1, 2, 3]
    clock.forward(0.5)
    assert region.get("a") is NO_VALUE
    assert region.get_multi("abc", ignore_expiration=True) == [NO_VALUE, NO_VALUE, 3]
    assert region.get_value_metadata("a", ignore_expiration=True) is None
    assert region.binding.look("a", "a", 100)[1] is Freshness.ABSENT
    assert region.get_or_create("a", lambda: "new") == "new"
    assert region.get_or_create_multi("ba", lambda *keys: [f"new {key}" for key in keys]) == ["new b", "new"]


def test_until_then_expiration_times_say_when_it_is_stale(make: Any, clock: Clock) -> None:
    region = make(expiration_time=5)
    region.set("a", 1, ttl=10)
    clock.forward(6)
    assert region.get("a") is NO_VALUE
    assert region.get("a", 8) == region.get("a", ignore_expiration=True) == 1
    with region._mutex("a"):
        assert region.get_or_create("a", lambda: "never") == 1


@pytest.mark.parametrize("ttl", [None, -1, timedelta(seconds=-1)])
def test_without_end(make: Any, clock: Clock, ttl: Any) -> None:
    region = make()
    region.set("a", 1, ttl=ttl)
    region.set_multi({"b": 2}, ttl=ttl)
    clock.forward(1e8)
    assert region.get_multi("ab") == [1, 2]
    assert "x" not in region.get_value_metadata("a").metadata


def test_none_at_all(make: Any, clock: Clock) -> None:
    region = make()
    region.set("a", 1)
    region.set("a", 1, ttl=0)
    assert region.get("a") is NO_VALUE


def test_a_time_it_must_be(make: Any) -> None:
    for ttl in ("soon", float("nan")):
        for act in (lambda: make().set("a", 1, ttl=ttl), lambda: make().set_multi({"a": 1}, ttl=ttl)):  # noqa: B023
            with pytest.raises(ValidationError, match="ttl is not a number or timedelta"):
                act()


def test_the_next_set_begins_anew(make: Any, clock: Clock) -> None:
    region = make()
    region.set("a", 1, ttl=10)
    clock.forward(5)
    region.set("a", 2, ttl=10)
    clock.forward(9)
    assert region.get("a") == 2
    region.set("a", 3)
    clock.forward(9)
    assert region.get("a") == 3


def test_it_is_told_with_the_metadata(make: Any, clock: Clock) -> None:
    region = make()
    region.set("a", 1, ttl=2.5)
    metadata = dict(region.get_value_metadata("a").metadata)
    metadata.pop("e", None)  # of stores that count epochs
    assert metadata == {"ct": clock.now, "v": 2, "x": clock.now + 2.5}


def test_invalidation_reaches_it(make: Any, clock: Clock) -> None:
    region = make(expiration_time=100)
    region.set("a", 1, ttl=50)
    clock.forward(1)
    region.invalidate(hard=False)
    assert region.get("a") is NO_VALUE
    assert region.binding.look("a", "a", 100) == (1, Freshness.STALE)
    clock.forward(1)
    region.invalidate()
    assert region.binding.look("a", "a", 100)[1] is Freshness.ABSENT
    clock.forward(1)
    region.set("a", 2, ttl=50)
    assert region.get("a") == 2


def test_the_set_of_a_background_runner_may_have_one(make: Any, clock: Clock) -> None:
    def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
        region.set(key, creator(), ttl=30)
        mutex.release()

    region = make(expiration_time=10)
    region.async_creation_runner = runner
    region.set("a", "old")
    clock.forward(11)
    assert region.get_or_create("a", lambda: "new") == "old"
    clock.forward(29)
    assert region.get("a", -1) == "new"
    clock.forward(1)
    assert region.get("a", -1) is NO_VALUE


def test_with_and_without_a_proxy_it_is_the_same_value(store: Store, clock: Clock) -> None:
    one, other = store.region(), store.region(wrap=[mpcache.ProxyBackend])
    for writer, reader in [(one, other), (other, one)]:
        writer.set("a", [1], ttl=10)
        clock.forward(9)
        assert reader.get("a") == [1]
        assert reader.get_value_metadata("a") == writer.get_value_metadata("a")
        clock.forward(1)
        assert reader.get("a") is NO_VALUE


@pytest.mark.parametrize("module", [mpcache, dogpile_cache])
def test_a_reader_that_knows_nothing_of_it(module: Any, clock: Clock) -> None:
    memory: dict[str, Any] = {}
    for name in ("memory", "memory_pickle"):
        arguments = {"cache_dict": memory}
        mpcache.make_region().configure(f"mpcache.{name}", arguments=arguments).set("a", "value", ttl=10)
        reader = module.make_region().configure(f"dogpile.cache.{name}", arguments=arguments)
        assert reader.get("a") == "value"


@pytest.mark.parametrize("wrap", [[], [mpcache.ProxyBackend]], ids=["direct", "behind a proxy"])
def test_bytes_with_more_in_them_live_and_end_like_any(bytes_store: Store, wrap: list[Any], clock: Clock) -> None:
    region = bytes_store.region(expiration_time=100, wrap=wrap)
    metadata = {"by": "me", "ct": clock.now, "v": 2, "x": clock.now + 10}
    wire = json.dumps(metadata).encode() + b"|" + pickle.dumps("value")
    clock.forward(1)
    region.backend.set_serialized("a", wire)
    assert region.get("a") == "value"
    assert dict(region.get_value_metadata("a").metadata) | metadata == dict(region.get_value_metadata("a").metadata)
    clock.forward(9)
    assert region.get("a") is NO_VALUE
    region.backend.set_serialized("a", wire.replace(b'"x"', b'"y"'))
    assert region.get("a") == "value"
    clock.forward(1)
    region.invalidate()
    assert region.get("a") is NO_VALUE
    region.backend.set_serialized("a", b'{"ct": 1}|')
    assert region.get("a", ignore_expiration=True) is NO_VALUE


def test_the_store_itself_forgets_it(store: Store) -> None:
    """Check expiry by the kernel's clock, whatever clock the test has set."""
    if store.name != "shm":
        pytest.skip("keeps it until the next look-up")
    region = store.region()
    region.set("gone", 1, ttl=-5)
    region.set("here", 1, ttl=500)
    assert [region.backend.get_serialized(key) is NO_VALUE for key in ("gone", "here")] == [True, False]
    assert region.actual_backend.keys() == ["here"]


def test_a_frozen_clock_does_not_make_it_end_early(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    region = store.region()
    for now in (1_000_000_000.0, 4_000_000_000.0):
        monkeypatch.setattr(time, "time", lambda: now)  # noqa: B023
        region.set("a", now, ttl=60)
        assert region.get("a") == now


@pytest.mark.parametrize("expires", [1.5, 1e9, 1_700_000_000.123456])
def test_the_bytes(expires: float) -> None:
    wire = codec.join(b"|payload", 1.25, expires)
    assert wire == b'{"ct": 1.25, "v": 2, "x": %s}||payload' % repr(expires).encode()
    assert codec.split(wire) == (b"|payload", 1.25, None, 2, expires)
    assert codec.metadata_and_payload(wire) == ({"ct": 1.25, "v": 2, "x": expires}, b"|payload")
    more = wire.replace(b"}|", b', "e": 3, "by": "me"}|', 1)
    assert codec.split(more) == (b"|payload", 1.25, 3, 2, expires)
    assert codec.split(more.replace(repr(expires).encode(), b"null")) == (b"|payload", 1.25, 3, 2, None)
    with pytest.raises((ValueError, TypeError)):
        codec.split(b'{"ct": 1.25, "v": 2, "x": "soon"}|')


# -- of created values ----------------------------------------------------------------------------------------------

TTLS = pytest.mark.parametrize(
    "ttl",
    [10, 10.0, timedelta(seconds=10), "10s", lambda value: 10, lambda value: "10s"],
    ids=["int", "float", "timedelta", "text", "function", "function of text"],
)


def ends_after_10(region: Any, clock: Clock, *keys: str) -> None:
    """Assert that these keys have values which end after 10 seconds."""
    clock.forward(9)
    assert NO_VALUE not in region.get_multi(list(keys))
    clock.forward(1)
    assert region.get_multi(list(keys)) == [NO_VALUE] * len(keys)


@TTLS
def test_a_created_value_may_have_one(make: Any, clock: Clock, ttl: Any) -> None:
    region = make(expiration_time=100)
    assert region.get_or_create("a", lambda: "made", ttl=ttl) == "made"
    assert region.get_or_create("a", lambda: "never", ttl=1) == "made"
    assert region.get_or_create_multi(["b", "a"], lambda *keys: list(keys), ttl=ttl) == ["b", "made"]
    ends_after_10(region, clock, "a", "b")


@TTLS
def test_a_created_value_of_a_coroutine_may_have_one(make: Any, clock: Clock, ttl: Any) -> None:
    async def creator() -> str:
        return "made"

    region = make()
    assert asyncio.run(region.aget_or_create("a", creator, ttl=ttl)) == "made"
    ends_after_10(region, clock, "a")


@TTLS
def test_results_of_decorated_functions_may_have_one(make: Any, clock: Clock, ttl: Any) -> None:
    region = make(expiration_time=100)

    @region.cache_on_arguments(ttl=ttl)
    def one(number: int) -> str:
        return f"result {number}"

    @region.cache_on_arguments(ttl=ttl)
    async def awaited(number: int) -> str:
        return f"result {number}"

    @region.cache_multi_on_arguments(ttl=ttl)
    def many(*numbers: int) -> list[str]:
        return [f"result {number}" for number in numbers]

    def store_all() -> list[str]:
        asyncio.run(awaited(1))
        return [one.key(1), awaited.key(1), *many.key(1, 2)]

    assert (one(1), many(1, 2)) == ("result 1", ["result 1", "result 2"])
    ends_after_10(region, clock, *store_all()[:1], *many.key(1, 2))
    one.set("set", 1)
    many.set({1: "set", 2: "set"})
    ends_after_10(region, clock, *store_all())
    one.refresh(1)
    many.refresh(1, 2)
    asyncio.run(awaited.refresh(1))
    ends_after_10(region, clock, *store_all())


def test_a_function_gives_each_value_its_own(make: Any, clock: Clock) -> None:
    region = make()
    region.get_or_create_multi(["aaa", "b"], lambda *keys: [len(key) for key in keys], ttl=lambda size: size * 10)
    clock.forward(10)
    assert region.get_multi(["aaa", "b"]) == [3, NO_VALUE]

    @region.cache_on_arguments(ttl=lambda value: None if value == "keep" else 10)
    def say(text: str) -> str:
        return text

    for text in ("keep", "drop"):
        say(text)
    clock.forward(10)
    assert (say.get("keep"), say.get("drop")) == ("keep", NO_VALUE)


@pytest.mark.parametrize("ttl", [0, -5, timedelta(0), "0s", lambda value: 0], ids=["0", "-5", "0:00", "0s", "function"])
def test_a_created_value_without_a_time_to_live_is_returned_only(make: Any, clock: Clock, ttl: Any) -> None:
    region = make()
    made = iter(range(10))
    assert [region.get_or_create("a", lambda: next(made), ttl=ttl) for _ in range(2)] == [0, 1]
    assert region.get_or_create_multi(["b"], lambda *keys: [next(made)], ttl=ttl) == [2]
    assert region.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]


@pytest.mark.parametrize("ttl", ["soon", "10", float("nan"), [], object()], ids=["soon", "10", "nan", "list", "object"])
def test_it_must_be_a_time_before_anything_is_created(make: Any, ttl: Any) -> None:
    region, never = make(), pytest.fail

    async def awaited() -> None:
        never("created")

    calls: list[Callable[[], Any]] = [
        lambda: region.get_or_create("a", lambda: never("created"), ttl=ttl),
        lambda: region.get_or_create_multi(["a"], lambda *keys: never("created"), ttl=ttl),
        lambda: asyncio.run(region.aget_or_create("a", awaited, ttl=ttl)),
        lambda: region.cache_on_arguments(ttl=ttl),
        lambda: region.cache_multi_on_arguments(ttl=ttl),
    ]
    for call in calls:
        with pytest.raises(ValidationError, match="ttl is not a number or timedelta"):
            call()
    assert not region.key_is_locked("a")


def test_a_function_that_returns_no_time_is_an_error_of_the_call(make: Any) -> None:
    region = make()
    with pytest.raises(ValidationError, match="It is 'soon'"):
        region.get_or_create("a", lambda: 1, ttl=lambda value: "soon")
    assert region.get("a") is NO_VALUE
    assert not region.key_is_locked("a")
    assert region.get_or_create("a", lambda: 2) == 2


def test_a_runner_that_says_nothing_stores_with_the_creations_own(make: Any, clock: Clock) -> None:
    def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
        region.set(key, creator())
        region.set("another", 1)
        mutex.release()

    region = make(expiration_time=5)
    region.async_creation_runner = runner
    region.set("a", "old")
    clock.forward(6)
    assert region.get_or_create("a", lambda: "new", ttl=10) == "old"
    clock.forward(9)
    assert region.get_multi(["a", "another"], -1) == ["new", 1]
    clock.forward(1)
    assert region.get_multi(["a", "another"], -1) == [NO_VALUE, 1]


def test_a_region_that_knows_none_is_not_asked_for_one() -> None:
    class Theirs(mpcache.CacheRegion):
        def get_or_create(self, key: Any, creator: Any, *args: Any) -> Any:  # type: ignore[override]
            return "theirs"

    region = Theirs().configure("mpcache.memory")
    assert region.cache_on_arguments()(lambda: "ours")() == "theirs"
