"""The fast path against the reference path: both give the same results, and the fast path declines some calls."""

from __future__ import annotations

import datetime
import decimal
import itertools
import os
import pickle
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mpcache
from mpcache._region.fast_path import Access
from mpcache.api import BYTES, NO_VALUE
from mpcache.backends.shm import ShmBackend
from mpcache.exception import CantSerializeException, DogpileCacheException, ValueTooLarge
from mpcache.region import CacheRegion
from mpcache.shm._engine import FunctionCounts
from tests.conftest import Clock

pytestmark = pytest.mark.engine

VALUES = [
    b"",
    b"bytes \x00\xff",
    "",
    "text",
    "text \u00e9 \U0001f40d",
    "half a pair \ud800",
    None,
    0,
    {"a": [1, (2.5, None)]},
    bytearray(b"mutable"),
    b"x" * 100_000,
    "y" * 100_000,
]


class Words(str):
    """Text that is not exactly str."""


class Octets(bytes):
    """Bytes that are not exactly bytes."""


def by_reference_path(region: Any) -> Any:
    region.access = Access(region.access.binding, None)
    return region


def make(**kw: Any) -> Any:
    return mpcache.make_region(**kw).configure("mpcache.shm", arguments={"size": "4MB"})


@pytest.fixture
def region() -> Any:
    region = make()
    assert region.access.try_get is not None
    return region


@pytest.fixture
def pair(region: Any) -> tuple[Any, Any]:
    """Two regions over one segment: one uses the fast path, the other the reference path."""
    other = mpcache.make_region().configure("mpcache.shm", arguments={"segment": region.actual_backend.segment})
    return region, by_reference_path(other)


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("value", [*VALUES, Words("w"), Octets(b"o")], ids=lambda v: repr(v)[:20])
def test_what_either_stores_both_read(pair: tuple[Any, Any], value: Any) -> None:
    for writer, reader in itertools.product(pair, pair):
        writer.set("k", value)
        assert same(reader.get("k"), value)
        assert same(reader.get_or_create("k", lambda: pytest.fail("it is there")), value)
        writer.set_multi({"k": value, "l": value})
        assert all(same(found, value) for found in reader.get_multi(["k", "l"]))
        assert same(pickle.loads(reader.backend.get_serialized("k").partition(b"|")[2]), value)
        assert same(reader.get_value_metadata("k").payload, value)


LIFETIMES = [None, -1, 0, 5, 5.0, 100, float("inf"), datetime.timedelta(seconds=5), decimal.Decimal(5), True, 1 << 2000]


@pytest.mark.parametrize("of_region", [None, 7, datetime.timedelta(seconds=7)])
@pytest.mark.parametrize("lifetime", LIFETIMES, ids=lambda v: repr(v)[:30])
def test_ages_are_judged_alike(pair: tuple[Any, Any], clock: Clock, of_region: Any, lifetime: Any) -> None:
    pair[0].set("k", b"v")
    for region in pair:
        region.expiration_time = of_region
        by_reference_path(region) if region is pair[1] else None
    for _ in range(4):
        answers = [(r.get("k", lifetime), r.get_multi(["k"], lifetime), r.get("k", lifetime, True)) for r in pair]
        assert answers[0] == answers[1], clock.now
        clock.forward(2.5)


@pytest.mark.parametrize("lifetime", [1e-6, 0.5, 1, 1.001, 60, 3600.0, 1e300, float("inf")])
def test_no_value_is_served_past_its_lifetime_by_the_machines_own_clock(region: Any, lifetime: float) -> None:
    """There the coarse clock may decide, which lags: not in the last second, where that would tell."""
    for over in (1e-6, 1e-3, 0.02, 0.9, 1.1, 1e6):
        created = max(time.time() - lifetime - over, 1)
        region.backend.store("k", b"v", created, None, BYTES)
        fresh = b"v" if lifetime == float("inf") or lifetime > 1e10 else NO_VALUE
        assert [region.get("k", lifetime), *region.get_multi(["k"], lifetime)] == [fresh, fresh]


@pytest.mark.parametrize("lifetime", [30.0, 31, 3600, 9e9, 1e300])
@pytest.mark.parametrize("left", [29.0, 29.99])
def test_every_value_is_served_until_then(region: Any, lifetime: float, left: float) -> None:
    region.backend.store("k", b"v", time.time() - min(lifetime - left, 1e9), None, BYTES)
    assert [region.get("k", lifetime), *region.get_multi(["k"], lifetime)] == [b"v", b"v"]


def test_the_keys_of_many_may_be_lost_while_they_are_read(region: Any) -> None:
    """To unpickle runs code, here one that empties the caller's list."""
    keys = [f"key:{number}" for number in range(40)]
    region.set_multi({key: Clears(key) for key in keys})
    CLEARED.append(keys)
    assert region.get_multi(keys) == [f"key:{number}" for number in range(40)]
    assert keys == []


CLEARED: list[list[str]] = []


class Clears:
    """Is its key when it is unpickled, and clears a list then."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __reduce__(self) -> Any:
        return clear, (self.key,)


def clear(key: str) -> str:
    while CLEARED:
        CLEARED.pop().clear()
    return key


def test_the_regions_options_count_from_when_they_are_assigned(region: Any, clock: Clock) -> None:
    region.set("k", 1)
    clock.forward(10)
    assert region.get("k") == 1
    region.expiration_time = 5
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: 2) == 2
    region.key_mangler = str.upper
    assert region.get("k") is NO_VALUE
    region.set("k", 3)
    assert set(region.actual_backend.keys()) == {"k", "K"}


@pytest.mark.parametrize("hard", [True, False])
def test_invalidations_are_judged_alike(pair: tuple[Any, Any], hard: bool) -> None:
    for region in pair:
        region.set("k", "old")
        pair[0].invalidate(hard)
        assert [r.get("k") for r in pair] == [NO_VALUE, NO_VALUE]
        assert [r.get("k", ignore_expiration=True) for r in pair] == ["old", "old"]
        assert [r.get_or_create("k", lambda: "new", 10) for r in pair] == ["new", "new"]
        region.set("k", "after")
        assert [r.get("k") for r in pair] == ["after", "after"]


def test_a_soft_invalidation_without_a_lifetime_raises_as_ever(region: Any) -> None:
    region.set("k", 1)
    region.invalidate(hard=False)
    with pytest.raises(DogpileCacheException, match="Non-None expiration time"):
        region.get_or_create("k", lambda: 2)


def test_a_time_to_live_takes_the_reference_path_and_is_kept(pair: tuple[Any, Any], clock: Clock) -> None:
    pair[0].set("k", b"v", ttl=5)
    assert [r.get("k") for r in pair] == [b"v", b"v"]
    clock.forward(6)
    assert [r.get("k") for r in pair] == [NO_VALUE, NO_VALUE]


def test_to_set_no_value_is_to_delete(region: Any) -> None:
    region.set_multi({"a": 1, "b": 2})
    region.set("a", NO_VALUE)
    region.set_multi({"b": NO_VALUE, "c": 3})
    assert region.get_multi(["a", "b", "c"]) == [NO_VALUE, NO_VALUE, 3]


def test_errors_are_those_of_the_reference_path(region: Any) -> None:
    region.set("k", "before")
    with pytest.raises(CantSerializeException, match="'k'"):
        region.set("k", lambda: None)
    with pytest.raises(CantSerializeException, match="'l'"):
        region.set_multi({"k": 1, "l": lambda: None})
    assert region.get("k") == "before"
    with pytest.raises(ValueTooLarge):
        region.set("k", os.urandom(4_000_000))
    assert region.get("k") is NO_VALUE
    for call in (region.get, region.binding.value_io.read):
        with pytest.raises(TypeError, match="str or bytes, not int"):
            call(1)


def test_what_was_damaged_is_a_miss_counted_once(region: Any) -> None:
    region.actual_backend.store("k", b"no pickle", time.time())
    assert [region.get("k"), region.get_multi(["k"])] == [NO_VALUE, [NO_VALUE]]
    assert region.get_or_create("k", lambda: "new") == region.get("k") == "new"


class Swapping:
    """On its way out of a pickle it takes the segment away."""

    region: Any = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return swapped, ()


def swapped() -> str:
    Swapping.region.actual_backend.unlink()
    return "swapped"


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    name = f"fast-path-{os.getpid()}"
    region = mpcache.make_region().configure("mpcache.shm", arguments={"size": "4MB", "name": name})
    yield region
    region.actual_backend.unlink()


def test_a_segment_that_goes_while_a_value_is_unpickled(named: Any) -> None:
    named.set("k", Swapping())
    Swapping.region = named
    assert named.get("k") == "swapped"
    assert named.get("k") is NO_VALUE  # in the successor
    named.set("k", b"again")
    assert named.get("k") == b"again"


def test_a_removed_segment_is_left(named: Any) -> None:
    named.set("k", 1)
    named.actual_backend.unlink()
    assert [named.get("k"), named.get_multi(["k"])] == [NO_VALUE, [NO_VALUE]]
    named.actual_backend.unlink()
    named.set("k", 2)
    assert named.get("k") == 2


def test_a_region_with_something_in_between_has_none() -> None:
    class Proxy(mpcache.ProxyBackend):
        pass

    class Theirs(ShmBackend):
        pass

    plain = {"arguments": {"size": "4MB"}}
    wrapped = mpcache.make_region().configure("mpcache.shm", wrap=[Proxy], **plain)
    own = mpcache.make_region(serializer=lambda v: pickle.dumps(v, 2)).configure("mpcache.shm", **plain)
    judged = mpcache.make_region().configure("mpcache.shm", region_invalidator=Never(), **plain)
    for region in (wrapped, own, judged):
        assert region.access.try_get is region.access.call is None
    assert Theirs({"size": "4MB"}).fast_path(pickle.dumps, pickle.loads, None, None, array("Q", bytes(24))) is None
    region = make()
    region.wrap(Proxy)
    assert region.access.try_get is None


class Never(mpcache.region.DefaultInvalidationStrategy):
    """Of the users'."""


def test_decorated_calls_find_what_the_reference_path_stored_and_the_reverse(region: Any) -> None:
    calls = itertools.count(1)

    @region.cache_on_arguments(namespace="50%")
    def f(a: Any, b: Any = 2, c: Any = "\u00e9") -> int:
        return next(calls)

    arguments = [(1,), (1, 2), (1, 2, 3), (-(2**63), 2**64, None), (1.5, True, b"x"), ("z" * 600,)]
    arguments += [((1, 2), [3], {4}), (Words("w"), 0, -1)]
    for args in arguments:
        value = f(*args)
        assert f(*args) == value == f.get(*args)
        fast, region.access = region.access, Access(region.access.binding, None)
        assert f(*args) == value, args
        region.access = fast
        f.invalidate(*args)
        assert f(*args) != value
    assert f(1) == f(1, 2) == f(1, b=2) == f(c="\u00e9", a=1) == f(b=2, a=1)
    for wrong in (lambda: f(), lambda: f(1, d=2), lambda: f(1, a=2), lambda: f(1, 2, 3, 4), lambda: f(b=1)):
        with pytest.raises(TypeError):
            wrong()


@pytest.mark.parametrize("skip", [-1, -2, -5, -1000, -(2**62), -(2**63), -(2**70), 2**70])
def test_a_number_of_arguments_that_cannot_be_is_refused_before_any_is_read(region: Any, skip: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        region.access.call("start|", skip, ("a", 1), None, FunctionCounts("f"))
    assert region.access.call("start|", 3, ("a", 1), None, FunctionCounts("f")) is NO_VALUE


def test_a_decorated_call_goes_through_get_or_create_where_a_subclass_has_its_own() -> None:
    class Telling(CacheRegion):
        asked = 0

        def get_or_create(self, *args: Any, **kw: Any) -> Any:
            self.asked += 1
            return super().get_or_create(*args, **kw)

    region = Telling().configure("mpcache.shm", arguments={"size": "4MB"})

    @region.cache_on_arguments()
    def f(a: int) -> int:
        return a

    assert [f(1), f(1), f(1)] == [1, 1, 1]
    assert region.asked == 3


def test_regions_travel_with_it(region: Any, named: Any) -> None:
    named.set("k", "v")
    copy = pickle.loads(pickle.dumps(named))
    assert copy.access.try_get is not None
    assert copy.get("k") == "v"


def test_no_memory_is_lost(region: Any) -> None:
    import tracemalloc

    def use() -> None:
        for value in (b"b" * 2000, "t" * 2000, {"n": 1}):
            region.set("k", value)
            region.set_multi({"k": value, "l": value})
            region.get("k")
            region.get_multi(["k", "l", "none"])
            region.get_or_create("k", lambda: 1)

    use()
    tracemalloc.start()
    try:
        for _ in range(300):
            use()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            use()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
