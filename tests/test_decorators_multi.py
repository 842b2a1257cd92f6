"""cache_multi_on_arguments: functions and methods of many things."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import mpcache
from mpcache._region.decorators_multi import CachedManyFunction
from mpcache.api import NO_VALUE
from mpcache.keys import qualname_function_multi_key_generator
from tests.conftest import Clock, Store

dogpile_cache = pytest.importorskip("dogpile.cache")

region = mpcache.make_region().configure("mpcache.memory")


@region.cache_multi_on_arguments()
def at_module_level(*ids: int) -> list[str]:
    """Its doc."""
    return [str(one) for one in ids]


class Thing:
    """Methods of every kind."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    @region.cache_multi_on_arguments()
    def method(self, *ids: int) -> list[str]:
        self.calls.append(ids)
        return [str(one) for one in ids]

    @region.cache_multi_on_arguments("dict", asdict=True)
    def some(self, *ids: int) -> dict[int, str]:
        self.calls.append(ids)
        return {one: str(one) for one in ids if one % 2}

    @region.cache_multi_on_arguments("this")
    def called_otherwise(this, *ids: int) -> list[str]:
        this.calls.append(ids)
        return [str(one) for one in ids]

    @classmethod
    @region.cache_multi_on_arguments("class")
    def of_class(cls, *ids: int) -> list[str]:
        return [f"{cls.__name__} {one}" for one in ids]

    @region.cache_multi_on_arguments("static")
    @staticmethod
    def static(*ids: int) -> list[str]:
        return [str(one) for one in ids]


@pytest.fixture(autouse=True)
def empty() -> None:
    region.actual_backend._cache.clear()


@pytest.fixture
def load() -> Any:
    """Return a decorated function that records its calls."""

    @region.cache_multi_on_arguments()
    def load(*ids: Any) -> list[str]:
        load.calls.append(ids)
        return [f"made of {one}" for one in ids]

    load.calls = []
    return load


def keys() -> list[str]:
    return [key.partition("|")[2] for key in region.actual_backend._cache]


class TestCalls:
    def test_D1_it_is_called_for_the_missing_ones_in_the_order_of_their_keys(self, load: Any) -> None:
        assert load(3, 1) == ["made of 3", "made of 1"]
        assert load(1, 2, 3, 2, 0) == [f"made of {one}" for one in (1, 2, 3, 2, 0)]
        assert load.calls == [(1, 3), (0, 2)]
        assert load() == []
        assert load.calls == [(1, 3), (0, 2)]
        assert sorted(keys()) == ["0", "1", "2", "3"]

    def test_1_6_keys_and_calls_are_those_of_dogpile(self) -> None:
        mine: dict[str, Any] = {}
        theirs: dict[str, Any] = {}
        calls: dict[Any, list[Any]] = {mpcache: [], dogpile_cache: []}
        for module, memory in [(mpcache, mine), (dogpile_cache, theirs)]:

            def body(*ids: Any) -> list[Any]:
                calls[module].append(ids)  # noqa: B023
                return [[one] for one in ids]

            other = module.make_region().configure("dogpile.cache.memory", arguments={"cache_dict": memory})
            for options in [{}, {"namespace": "n"}, {"to_str": repr}, {"namespace": "", "to_str": repr}]:
                f = other.cache_multi_on_arguments(**options)(body)
                assert f(2, "1", None) == [[2], ["1"], [None]]
                assert f("1", 2) == [["1"], [2]]
        assert sorted(mine) == sorted(theirs)
        assert calls[mpcache] == calls[dogpile_cache]

    def test_E5_things_of_one_key_are_one_thing(self, load: Any) -> None:
        assert len(set(load(1, "1"))) == 1
        assert len(load.calls) == 1

    def test_1_6_expiration(self, store: Store, clock: Clock) -> None:
        lifetimes: list[Any] = [5, None, -1]
        calls: list[Any] = []

        @store.region(expiration_time=100).cache_multi_on_arguments(expiration_time=lambda: lifetimes[0])
        def f(*ids: int) -> tuple[int, ...]:
            calls.append(ids)
            return ids

        f(1)
        clock.forward(6)
        assert f.get(1) == [NO_VALUE]  # C8: of the decorator, not of the region
        assert f(1, 2) == [1, 2]
        lifetimes.pop(0)
        clock.forward(99)
        assert f.get(1) == f(1) == [1]
        lifetimes.pop(0)
        clock.forward(99)
        assert f(2, 1) == [2, 1]
        assert calls == [(1,), (1, 2)]

    def test_1_6_should_cache_fn(self) -> None:
        f = region.cache_multi_on_arguments(should_cache_fn=lambda value: value > 1)(lambda *ids: ids)
        assert f(1, 2) == [1, 2]
        assert f.get(1, 2) == [NO_VALUE, 2]

    def test_D5_should_cache_fn_is_not_asked_about_what_there_is_not(self) -> None:
        asked: list[Any] = []
        f = region.cache_multi_on_arguments(asdict=True, should_cache_fn=asked.append)(lambda *ids: {2: "two"})
        assert f(1, 2) == {2: "two"}
        assert asked == ["two"]

    def test_1_6_the_generator_is_asked_once_and_always_with_to_str(self) -> None:
        asked: list[Any] = []

        def generator(*args: Any, **kw: Any) -> Callable[..., list[str]]:
            asked.append((args, kw))
            return lambda *args, **kw: [f"{arg}{kw}" for arg in args]

        mine = mpcache.make_region(function_multi_key_generator=generator).configure("mpcache.memory")

        def body(*ids: int, times: int = 1) -> list[int]:
            return [one * times for one in ids]

        f = mine.cache_multi_on_arguments("n")(body)
        assert [f(1, 2), f(1)] == [[1, 2], [1]]
        assert asked == [(("n", body), {"to_str": str})]
        assert f(1, times=5) == [5]  # a generator that takes keywords gets them
        by_name = region.cache_multi_on_arguments(function_multi_key_generator=qualname_function_multi_key_generator)
        by_name(at_module_level.original)(7)
        assert keys() == ["7"]

    def test_1_7_keywords_need_another_generator(self, load: Any) -> None:
        f = region.cache_multi_on_arguments()(lambda *ids, times=1: ids)
        with pytest.raises(ValueError, match="does not accept keyword arguments"):
            f(1, times=2)

    def test_1_6_it_looks_like_the_function(self) -> None:
        assert at_module_level.__name__ == "at_module_level"  # type: ignore[attr-defined]
        assert at_module_level.__doc__ == "Its doc."
        assert at_module_level.original(1, 2) == ["1", "2"]
        assert "at_module_level" in repr(at_module_level)
        assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
        assert isinstance(at_module_level, CachedManyFunction)

    def test_async_functions_are_refused(self) -> None:
        async def f(*ids: int) -> list[int]:
            return []

        with pytest.raises(TypeError, match="f is async"):
            region.cache_multi_on_arguments()(f)  # type: ignore[arg-type]

    def test_a_list_may_be_generated(self) -> None:
        f = region.cache_multi_on_arguments()(lambda *ids: (one for one in ids))
        assert f(1, 2) == [1, 2]
        assert f.refresh(3) == [3]
        assert f.get(1, 2, 3) == [1, 2, 3]


class TestAttributes:
    def test_1_6_set_get_invalidate_refresh(self, load: Any) -> None:
        load.set({1: "set", 2: None})
        assert load.get(2, 1, 3) == [None, "set", NO_VALUE]
        assert load(1, 2, 3) == ["set", None, "made of 3"]
        load.invalidate(1, 3, 9)
        assert load.get(1, 2, 3) == [NO_VALUE, None, NO_VALUE]
        assert load.refresh(2, 3) == ["made of 2", "made of 3"]
        assert load.get(1, 2, 3) == [NO_VALUE, "made of 2", "made of 3"]
        assert load.calls == [(3,), (2, 3)]
        load.set({})
        assert load.get() == []

    def test_D6_asdict_leaves_out_what_there_is_not(self) -> None:
        thing = Thing()
        for _ in range(2):
            assert thing.some(1, 2, 3) == {1: "1", 3: "3"}
        assert thing.calls == [(1, 2, 3), (2,)]
        assert thing.some.get(1, 2) == ["1", NO_VALUE]
        assert thing.some.refresh(1, 3) == {1: "1", 3: "3"}
        with pytest.raises(KeyError):
            thing.some.refresh(1, 2)
        thing.some.set({2: "two"})
        assert thing.some(1, 2) == {1: "1", 2: "two"}
        assert thing.some(2, 2) == {2: "two"}
        assert thing.some() == {}

    @pytest.mark.parametrize("name", ["method", "called_otherwise"])
    def test_D9_E3_methods(self, name: str) -> None:
        thing = Thing()
        method = getattr(thing, name)
        assert method(2, 1) == ["2", "1"]
        assert method(1, 3) == getattr(Thing, name)(thing, 1, 3) == ["1", "3"]
        assert thing.calls == [(1, 2), (3,)]
        assert method.get(3, 4) == ["3", NO_VALUE]
        method.set({3: "set", 4: "set"})
        assert method(3, 4, 1) == ["set", "set", "1"]
        method.invalidate(3)
        assert method.get(3, 4) == [NO_VALUE, "set"]
        assert method.refresh(4) == method.get(4) == ["4"]
        assert method.original(thing, 7) == ["7"]

    def test_E3_by_the_class(self) -> None:
        thing = Thing()
        Thing.method.set({1: "set"})
        assert Thing.method.get(None, 1) == ["set"]  # type: ignore[arg-type]
        assert Thing.method(thing, 1) == thing.method(1) == ["set"]
        Thing.method.invalidate(None, 1)  # type: ignore[arg-type]
        assert thing.method.get(1) == [NO_VALUE]
        assert Thing.method.refresh(thing, 1) == ["1"]
        assert thing.calls == [(1,)]

    def test_E3_class_methods_and_static_methods(self) -> None:
        assert Thing.of_class(1, 2) == Thing().of_class(1, 2) == ["Thing 1", "Thing 2"]
        assert Thing.static(1, 2) == Thing().static(1, 2) == ["1", "2"]
        assert sorted(keys()) == ["class|1", "class|2", "static|1", "static|2"]

    def test_E6_partials_and_bound_methods(self, load: Any) -> None:
        half = region.cache_multi_on_arguments()(functools.partial(load.original, 9))
        assert half(1) == ["made of 9", "made of 1"]
        thing = Thing()
        bound = region.cache_multi_on_arguments("bound")(Thing.method.original.__get__(thing))
        assert bound(2, 1) == ["2", "1"]
        assert thing.calls == [(1, 2)]

    def test_bound_ones_are_equal_as_methods_are(self) -> None:
        thing = Thing()
        assert thing.method == thing.method
        assert thing.method != Thing().method
        assert thing.method != thing.some
        assert "Thing object" in repr(thing.method)


def test_E4_by_qualified_name_two_classes_do_not_meet(store: Store) -> None:
    from mpcache.keys import qualname_function_key_generator

    cache = store.region(
        {
            "function_key_generator": qualname_function_key_generator,
            "function_multi_key_generator": qualname_function_multi_key_generator,
        }
    )

    class One:
        @cache.cache_on_arguments()
        def name(self, a: int) -> str:
            return "one"

        @cache.cache_multi_on_arguments()
        def names(self, *ids: int) -> list[str]:
            return ["one"] * len(ids)

    class Two:
        @cache.cache_on_arguments()
        def name(self, a: int) -> str:
            return One().name(a) + " and two"

        @cache.cache_multi_on_arguments()
        def names(self, *ids: int) -> list[str]:
            return ["two"] * len(ids)

    assert [One().name(1), Two().name(1)] == ["one", "one and two"]
    assert [One().names(1), Two().names(1)] == [["one"], ["two"]]
    start = f"{__name__}:{test_E4_by_qualified_name_two_classes_do_not_meet.__qualname__}.<locals>"
    assert cache.get(f"{start}.One.name|1") == "one"
    assert cache.get(f"{start}.Two.names|1") == "two"
