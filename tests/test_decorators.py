"""cache_on_arguments: calls, their keys, and the attributes of a decorated function."""

from __future__ import annotations

import functools
import inspect
import math
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest

import mpcache
from mpcache._region.decorators import CachedFunction
from mpcache.api import NO_VALUE
from mpcache.util import kwarg_function_key_generator
from tests.conftest import PATIENCE, Clock, Gate, Store

dogpile_cache = pytest.importorskip("dogpile.cache")

region = mpcache.make_region().configure("mpcache.memory")


@region.cache_on_arguments()
def at_module_level(a: int, b: int = 2) -> list[int]:
    """Its doc."""
    return [a, b]


class Thing:
    """Methods of every kind."""

    calls = 0

    @region.cache_on_arguments()
    def method(self, a: Any, b: Any = 2) -> list[Any]:
        self.calls += 1
        return [a, b]

    @classmethod
    @region.cache_on_arguments(namespace="class")
    def of_class(cls, a: Any) -> list[Any]:
        return [cls.__name__, a]

    @region.cache_on_arguments(namespace="static")
    @staticmethod
    def static(a: Any) -> list[Any]:
        return [a]

    @region.cache_on_arguments(namespace="class, inside")
    @classmethod
    def of_class_inside(cls, a: Any) -> list[Any]:
        return [cls.__name__, a]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def empty() -> None:
    region.actual_backend._cache.clear()


@pytest.fixture
def cached() -> Any:
    """Return a decorated function that counts its calls."""

    @region.cache_on_arguments()
    def f(a: Any, b: Any = 2, *rest: Any) -> Any:
        f.calls += 1
        return [a, b, *rest]

    f.calls = 0
    return f


def keys() -> list[str]:
    return [key.partition("|")[2] for key in region.actual_backend._cache]


class TestCalls:
    def test_E1_keywords_and_defaults_make_no_difference(self, cached: Any) -> None:
        for result in [cached(1), cached(1, 2), cached(a=1), cached(b=2, a=1), cached(1, b=2)]:
            assert result == [1, 2]
        assert cached.calls == 1
        assert keys() == ["1 2"]
        assert cached(1, 3, 4) == [1, 3, 4]
        assert keys()[-1] == "1 3 4"

    @pytest.mark.parametrize("call", [{"args": ()}, {"args": (1,), "x": 1}, {"args": (1,), "a": 1}])
    def test_1_6_a_wrong_call_is_a_TypeError(self, cached: Any, call: dict[str, Any]) -> None:
        args = call.pop("args")
        for use in [cached, cached.get, cached.invalidate, cached.refresh, functools.partial(cached.set, 0)]:
            with pytest.raises(TypeError):
                use(*args, **call)
        assert cached.calls == 0

    def test_1_6_keys_and_calls_are_those_of_dogpile(self) -> None:
        mine: dict[str, Any] = {}
        theirs: dict[str, Any] = {}

        def body(a: Any, b: Any = 2, *rest: Any) -> Any:
            return [a, b, *rest]

        for module, memory in [(mpcache, mine), (dogpile_cache, theirs)]:
            region = module.make_region().configure("dogpile.cache.memory", arguments={"cache_dict": memory})
            for options in [{}, {"namespace": "n"}, {"to_str": repr}, {"namespace": "", "to_str": repr}]:
                f = region.cache_on_arguments(**options)(body)
                results = [f(1), f("1", b="x"), f(None, 2, 3), f(b=1, a=0)]
                assert results == [[1, 2], ["1", "x"], [None, 2, 3], [0, 1]]
        assert list(mine) == list(theirs)
        assert [value.payload for value in mine.values()] == [value.payload for value in theirs.values()]

    def test_1_6_it_looks_like_the_function(self) -> None:
        assert at_module_level.__name__ == "at_module_level"
        assert at_module_level.__doc__ == "Its doc."
        assert at_module_level.__wrapped__ is at_module_level.original
        assert list(inspect.signature(at_module_level).parameters) == ["a", "b"]
        assert list(inspect.signature(Thing().method).parameters) == ["a", "b"]
        assert "at_module_level" in repr(at_module_level)
        assert "Thing object" in repr(Thing().method)

    def test_1_6_a_decorator_on_top_passes_the_attributes_on(self, cached: Any) -> None:
        @functools.wraps(cached)
        def outer(*args: Any) -> Any:
            return cached(*args)

        assert outer(1) == [1, 2]
        assert outer.get(1) == [1, 2]
        outer.invalidate(1)
        assert outer.get(1) is NO_VALUE
        assert outer.original is cached.original

    def test_1_4_an_override_of_get_or_create_gets_five_positionals(self) -> None:
        class Region(mpcache.CacheRegion):
            def get_or_create(self, *args: Any) -> Any:  # type: ignore[override]
                return args

        def accept(value: Any) -> bool:
            return True

        f = Region().configure("mpcache.memory").cache_on_arguments("n", 7, accept)(at_module_level.original)  # type: ignore[attr-defined]
        assert f(1) == (f"{__name__}:at_module_level|n|1 2", f.original, 7, accept, ((1, 2), {}))

    def test_a_stampede_has_one_creator(
        self, store: Store, spawn: Callable[..., Future[Any]], gate: Callable[..., Gate]
    ) -> None:
        creator = gate()

        @store.region().cache_on_arguments()
        def f(a: int) -> Any:
            return creator(a)

        results = [spawn(f, 1) for _ in range(8)]
        creator.wait_for_entry()
        creator.open()
        assert [result.result(PATIENCE) for result in results] == ["made"] * 8
        assert creator.calls == 1
        assert f.get(1) == "made"


class TestOptions:
    def test_1_6_expiration(self, store: Store, clock: Clock) -> None:
        made = iter(range(9))
        lifetimes = [5, None, -1, timedelta(seconds=5)]

        @store.region(expiration_time=100).cache_on_arguments(expiration_time=lambda: lifetimes[0])
        def f() -> int:
            return next(made)

        assert f() == 0
        clock.forward(6)
        assert f() == 1
        clock.forward(6)
        lifetimes.pop(0)  # None: the region's
        assert f() == 1
        clock.forward(100)
        lifetimes.pop(0)
        assert f() == 1
        lifetimes.pop(0)
        assert f() == 2

    def test_C8_get_honours_the_decorators_expiration(self, store: Store, clock: Clock) -> None:
        plain = store.region(expiration_time=100)
        f = plain.cache_on_arguments(expiration_time=5)(lambda: 1)
        g = plain.cache_on_arguments("g", expiration_time=lambda: 500)(lambda: 1)
        f()
        g()
        clock.forward(6)
        assert [f.get(), g.get()] == [NO_VALUE, 1]
        clock.forward(100)
        assert g.get() == 1

    def test_1_6_should_cache_fn(self, cached: Any) -> None:
        f = region.cache_on_arguments("odd", should_cache_fn=lambda value: value % 2)(abs)
        assert [f(-1), f(-2)] == [1, 2]
        assert [f.get(-1), f.get(-2)] == [1, NO_VALUE]

    def test_E7_the_decorators_own_generator_comes_before_the_regions(self) -> None:
        def generator(namespace: str | None, fn: Any) -> Callable[..., str]:
            return lambda *args: f"{fn.__name__}/{namespace}/{args}"

        mine = mpcache.make_region(function_key_generator=generator).configure("mpcache.memory")
        mine.cache_on_arguments("n")(at_module_level.original)(1)
        by_name = mine.cache_on_arguments(function_key_generator=kwarg_function_key_generator)
        by_name(lambda b, *, a=1: 0)(2)
        assert list(mine.actual_backend._cache) == ["at_module_level/n/(1, 2)", f"{__name__}:<lambda>|1 2"]

    def test_1_6_the_generator_is_asked_once_with_to_str_only_if_it_is_another(self) -> None:
        asked: list[Any] = []

        def generator(*args: Any) -> Callable[..., str]:
            asked.append(args)
            return lambda *args: "k"

        f = at_module_level.original
        mine = mpcache.make_region(function_key_generator=generator).configure("mpcache.memory")
        first, second = mine.cache_on_arguments()(f), mine.cache_on_arguments("n", to_str=repr)(f)
        assert [first(1), first(1), second(1)] == [[1, 2]] * 3
        assert asked == [(None, f), ("n", f, repr)]

    def test_decorating_comes_before_configuring(self) -> None:
        mine = mpcache.make_region()
        f = mine.cache_on_arguments()(abs)
        with pytest.raises(mpcache.exception.RegionNotConfigured):  # type: ignore[attr-defined]
            f(1)
        mine.configure("mpcache.memory")
        assert f(-1) == 1


FORMS = [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((), {"b": 2, "a": 1})]


class TestMethods:
    @pytest.mark.parametrize(("args", "kw"), FORMS)
    def test_E2_set_get_invalidate_refresh_bind_as_the_call_does(self, cached: Any, args: Any, kw: Any) -> None:
        cached.set("set", *args, **kw)
        assert cached(1) == cached.get(*args, **kw) == "set"
        assert cached.calls == 0
        cached.invalidate(*args, **kw)
        assert cached.get(1) is NO_VALUE
        assert cached.refresh(*args, **kw) == cached.get(1) == cached(1) == [1, 2]
        assert cached.calls == 1

    def test_E9_refresh_asks_neither_the_mutex_nor_should_cache_fn(self) -> None:
        f = region.cache_on_arguments("f", should_cache_fn=lambda value: False)(abs)
        with region._mutex(f._key(-1)):
            assert f.refresh(-1) == f.get(-1) == 1

    def test_1_6_original(self, cached: Any) -> None:
        assert cached.original(5) == cached.original(5) == [5, 2]
        assert keys() == []

    @pytest.mark.parametrize(("args", "kw"), FORMS)
    def test_E3_bound(self, args: Any, kw: Any) -> None:
        thing = Thing()
        assert thing.method(*args, **kw) == [1, 2]
        assert keys() == ["1 2"]
        assert thing.method.get(*args, **kw) == [1, 2]
        thing.method.set("set", *args, **kw)
        assert thing.method(1) == "set"
        thing.method.invalidate(*args, **kw)
        assert thing.method.get(1) is NO_VALUE
        assert thing.method.refresh(*args, **kw) == [1, 2]
        assert thing.calls == 2

    @pytest.mark.parametrize("receiver", [None, "anything"])
    def test_E3_by_the_class(self, receiver: Any) -> None:
        thing = Thing()
        thing.method(1)
        assert Thing.method.get(receiver, 1) == [1, 2]
        Thing.method.set("set", receiver, a=1)
        assert thing.method(1) == "set"
        Thing.method.invalidate(receiver, 1)
        assert keys() == []
        assert Thing.method(thing, 1) == Thing.method.refresh(thing, 1) == [1, 2]
        assert Thing.method.original(thing, 1) == [1, 2]

    def test_E3_programs_that_pass_the_object_themselves(self) -> None:
        thing = Thing()
        thing.method(1)
        thing.method(1, 3)
        assert thing.method.get(thing, 1) == [1, 2]
        thing.method.invalidate(thing, 1)
        assert keys() == ["1 3"]
        thing.method.invalidate(None, 1, 3)
        assert keys() == []

    def test_E3_an_object_or_none_may_be_the_argument_itself(self) -> None:
        thing = Thing()
        thing.method(None)
        thing.method.invalidate(None)
        assert keys() == []
        thing.method(thing)
        thing.method.invalidate(thing)
        assert keys() == []

    def test_E3_class_methods_and_static_methods(self) -> None:
        assert Thing.of_class(1) == Thing().of_class(1) == ["Thing", 1]
        Thing.of_class.invalidate(None, 1)
        assert Thing.of_class.get(None, 1) is NO_VALUE
        assert Thing.of_class_inside(1) == Thing().of_class_inside(1) == ["Thing", 1]
        Thing.of_class_inside.invalidate(None, 1)
        assert keys() == []
        assert Thing.static(1) == Thing().static(1) == [1]
        Thing.static.invalidate(1)
        assert keys() == []

    def test_bound_ones_are_equal_as_methods_are(self) -> None:
        one, two = Thing(), Thing()
        assert one.method == one.method
        assert hash(one.method) == hash(one.method)
        assert one.method != two.method
        assert one.method != 3
        assert one.method.__name__ == "method"
        assert one.method.__self__ is one


class TestWhatCanBeDecorated:
    def test_E6_partials_share_their_values_with_the_function(self, cached: Any) -> None:
        half = region.cache_on_arguments()(functools.partial(cached.original, 1))
        assert half(3) == [1, 3]
        assert keys() == ["1 3"]
        assert cached(1, 3) == [1, 3]
        assert cached.calls == 1
        named = region.cache_on_arguments()(functools.partial(functools.partial(cached.original, b=3), a=1))
        assert named() == [1, 3]
        assert cached.calls == 1
        half.invalidate(b=3)
        assert keys() == []
        assert half.original(3) == [1, 3]

    def test_E6_bound_methods(self) -> None:
        thing = Thing()
        uncached = functools.partial(Thing.method.original, thing)
        bound = region.cache_on_arguments()(Thing.method.original.__get__(thing))
        assert bound(1) == bound(a=1) == [1, 2] == uncached(1)
        assert keys() == ["1 2"]
        assert thing.calls == 2
        bound.invalidate(1)
        assert keys() == []

    def test_E6_builtins(self) -> None:
        assert region.cache_on_arguments()(math.sqrt)(4.0) == 2.0
        assert region.cache_on_arguments()(max)(1, 3) == 3
        assert keys() == ["4.0", "1 3"]

    def test_E6_keyword_only_arguments_need_the_other_generator(self) -> None:
        def f(a: int, *, b: int = 2) -> list[int]:
            return [a, b]

        with pytest.raises(ValueError, match="kwarg_function_key_generator"):
            region.cache_on_arguments()(f)(1)
        g = region.cache_on_arguments(function_key_generator=kwarg_function_key_generator)(f)
        assert g(1) == g(1, b=2) == [1, 2]
        assert keys() == ["1 2"]

    def test_what_has_no_name_is_refused(self) -> None:
        class Callable:
            def __call__(self) -> None: ...

        with pytest.raises(TypeError, match="has no name to make keys of"):
            region.cache_on_arguments()(Callable())


class TestPickling:
    def test_C13_by_name(self) -> None:
        assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
        assert pickle.loads(pickle.dumps(Thing.method)) is Thing.method

    def test_C13_bound(self) -> None:
        method = pickle.loads(pickle.dumps(Thing().method))
        assert method(1) == [1, 2]
        assert isinstance(method.__func__, CachedFunction)


def test_a_decorator_takes_attributes() -> None:
    """Set attributes on the decorator, as oslo.cache does."""
    for memoize in (region.cache_on_arguments(), region.cache_multi_on_arguments()):
        memoize.should_cache = len  # type: ignore[attr-defined, union-attr]
        assert memoize.should_cache is len  # type: ignore[attr-defined, union-attr]
