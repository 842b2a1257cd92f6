"""Objects that cannot be cached, and wrong results of creators of many, are refused on each store with the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import CantSerializeException, ValidationError
from tests.conftest import Store


async def coroutine() -> int:
    return 1


async def agenerator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: (one for one in [1]), "is a generator: it can be read once only; return a list"),
        (coroutine, "is a coroutine: it can be awaited once only; await aget_or_create"),
        (agenerator, "is a async generator: .*aget_or_create"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_what_only_its_first_reader_could_use(store: Store, make: Any, told: str) -> None:
    region = store.region()
    f = region.cache_on_arguments()(lambda n: make())
    for call in (
        lambda: region.set("k", make()),
        lambda: region.set_multi({"k": make()}),
        lambda: region.get_or_create("k", make),
        lambda: region.get_or_create_multi(["k"], lambda *keys: [make() for _ in keys]),
        lambda: f(1),
        lambda: f.refresh(1),
        lambda: asyncio.run(region.aget_or_create("k", wrapped(make))),
    ):
        with pytest.raises(TypeError, match=told) as error:
            call()
        assert isinstance(error.value, CantSerializeException)
    assert region.get("k") is NO_VALUE
    assert not region.key_is_locked("k")
    assert region.get_or_create("k", make, should_cache_fn=lambda value: False) is not NO_VALUE


def wrapped(make: Any) -> Any:
    async def create() -> Any:
        return make()

    return create


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"a": 1, "b": 2}, r"returned a mapping \(dict\).*asdict=True"),
        ({1, 2}, r"returned a set, which has no order \(set\).*a list has one"),
        (frozenset({1, 2}), "a set"),
        ({"a": 1, "b": 2}.keys(), "a set"),
        ("AB", r"returned one text \(str\)"),
        (b"AB", r"returned one text \(bytes\)"),
        (5, r"returned a single object \(int\)"),
        (None, r"returned a single object \(NoneType\)"),
    ],
)
def test_what_has_no_order_to_pair_keys_with(store: Store, made: Any, told: str) -> None:
    region = store.region()
    load = region.cache_multi_on_arguments()(lambda *ids: made)
    for call in (
        lambda: region.get_or_create_multi(["b", "a"], lambda *_: made),
        lambda: load(2, 1),
        lambda: load.refresh(1),
    ):
        with pytest.raises(TypeError, match=told):
            call()
    assert region.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
    assert not region.key_is_locked("a")


@pytest.mark.parametrize("made", [list, tuple, iter, lambda text: dict(enumerate(text)).values()])
def test_what_has_one(store: Store, made: Any) -> None:
    assert store.region().get_or_create_multi(["b", "a"], lambda *_: made("AB")) == ["B", "A"]


def test_a_dict_that_is_none(store: Store) -> None:
    load = store.region().cache_multi_on_arguments(asdict=True)(lambda *ids: [1 for _ in ids])  # type: ignore[arg-type]
    for call in (load, load.refresh):
        with pytest.raises(TypeError, match=r"returned a list; with asdict=True it must return a mapping"):
            call(1, 2)


def test_a_decorator_without_its_parentheses(store: Store) -> None:
    region = store.region()
    with pytest.raises(TypeError, match=r"write @region.cache_on_arguments\(\), with parentheses"):
        region.cache_on_arguments(abs)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"write @region.cache_multi_on_arguments\(\), with parentheses"):
        region.cache_multi_on_arguments(abs)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", ["bogus", "10", [1], 1j, object()])
def test_a_time_that_is_none_is_refused_where_it_is_given(store: Store, wrong: Any) -> None:
    region = store.region(expiration_time=60)
    later = region.cache_on_arguments(expiration_time=lambda: wrong)(lambda n: n)
    region.set("there", 1)
    for call in (
        lambda: region.cache_on_arguments(expiration_time=wrong)(abs),
        lambda: region.cache_multi_on_arguments(expiration_time=wrong)(abs),
        lambda: region.get("there", wrong),
        lambda: region.get("not there", wrong),
        lambda: region.get_multi(["there"], wrong),
        lambda: region.get_value_metadata("there", wrong),
        lambda: region.get_value_metadata("not there", wrong),
        lambda: region.get_or_create("there", int, wrong),
        lambda: region.get_or_create("not there", int, wrong),
        lambda: region.get_or_create_multi(["there"], lambda *keys: [1], wrong),
        lambda: asyncio.run(region.aget_or_create("there", coroutine, wrong)),
        lambda: later(1),
        lambda: later.get(1),
        lambda: region.set("there", 1, ttl=wrong),
        lambda: region.set_multi({"there": 1}, ttl=wrong),
        lambda: mpcache.make_region().configure("mpcache.memory", wrong),
        lambda: mpcache.make_region().configure("mpcache.memory", creation_wait=wrong),
    ):
        with pytest.raises(ValidationError, match="is not a number or timedelta"):
            call()  # type: ignore[no-untyped-call]
    assert region.get("there") == 1


def test_a_default_is_told_apart_from_a_time(store: Store) -> None:
    with pytest.raises(ValidationError, match=r"expiration_time is .* 'default'.*the second argument of get\(\)"):
        store.region().get("k", "default")


def test_durations_as_text(store: Store) -> None:
    region = store.region(expiration_time="1h30m", creation_wait="5s")
    assert (region.expiration_time, region.creation_wait) == (5400, 5)
    f = region.cache_on_arguments(expiration_time="5m")(lambda n: [n])
    g = region.cache_on_arguments("g", expiration_time=lambda: "5m")(lambda n: [n])
    assert f(1) == f(1) == f.get(1) == g(1) == g(1) == [1]
    assert region.get_or_create("k", lambda: 1, "5m") == region.get_or_create("k", lambda: 2, "5m") == 1
    region.set("ttl", 1, ttl="5m")
    assert region.get("ttl", "5m") == 1
    assert region.get("ttl", -0.5) is NO_VALUE  # as in dogpile.cache, a negative time is over at once
    region.expiration_time = "10m"
    assert region.get("k") == 1
