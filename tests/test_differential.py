"""Random programs give the same results on dogpile.cache and on mpcache, except for known differences.

Each difference is a method of :class:`Theirs` that is named after its id: it translates what mpcache was called with
into calls of dogpile.cache with which the two agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import mpcache
from mpcache import proxy
from tests.conftest import STORES, Clock, Store

dogpile = pytest.importorskip("dogpile.cache")

KEYS = ["a", "b", "c"]
FOR_EVER = 1e15

lifetimes = st.sampled_from([None, -1, 0, 3, 10, 2.5, timedelta(seconds=3), timedelta(milliseconds=2500)])
values = st.one_of(st.none(), st.just(0), st.just(""), st.integers(1, 1000))
keys = st.sampled_from(KEYS)
key_lists = st.lists(keys, max_size=5)
refused = st.one_of(st.none(), values)
"""The values for which should_cache_fn is false; None stands for no should_cache_fn."""

STEPS = st.one_of(
    st.tuples(st.just("get"), keys, lifetimes, st.booleans()),
    st.tuples(st.just("get_value_metadata"), keys, lifetimes, st.booleans()),
    st.tuples(st.just("get_multi"), key_lists, lifetimes, st.booleans()),
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("set_multi"), st.dictionaries(keys, values)),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("delete_multi"), key_lists),
    st.tuples(st.just("get_or_create"), keys, values, lifetimes, refused),
    st.tuples(st.just("get_or_create_multi"), key_lists, st.lists(values, min_size=5, max_size=5), lifetimes, refused),
    st.tuples(st.just("get_or_create_multi"), key_lists, st.lists(values, max_size=2), lifetimes, refused),
    st.tuples(st.just("failing_creator"), keys, key_lists),
    st.tuples(st.just("invalidate"), st.booleans()),
    st.tuples(st.just("call"), st.sampled_from([0, 1]), st.sampled_from([0, 1]), st.sampled_from("pkd"), values),
    st.tuples(st.just("attribute"), st.sampled_from(["get", "set", "invalidate", "refresh"]), values),
    st.tuples(st.just("call_many"), st.lists(st.integers(0, 3), max_size=4), st.booleans(), values),
    st.tuples(
        st.just("attribute_of_many"),
        st.sampled_from(["get", "set", "invalidate", "refresh"]),
        st.lists(st.integers(0, 3), max_size=4),
        st.booleans(),
        values,
    ),
)
PROGRAMS = st.lists(st.tuples(st.sampled_from([0.5, 1, 5]), STEPS), max_size=20)


class Mine:
    """Runs the steps of a program on a region of mpcache."""

    library: Any = mpcache

    def __init__(self, region: Any, lifetime: Any, of_functions: Any) -> None:
        self.region, self.default, self.of_functions = region, lifetime, of_functions
        self.calls: list[Any] = []
        self.making: Any = None
        options = {"expiration_time": of_functions}

        def f(a: int, b: int = 1) -> Any:
            return self.made(a, b)

        def load(*ids: int) -> Any:
            return [(one, self.made(one)) for one in ids]

        def some(*ids: int) -> Any:
            return {one: self.made(one) for one in ids if one != 2}

        self.f = region.cache_on_arguments("f", **options)(f)
        self.load = region.cache_multi_on_arguments("load", **options)(load)
        self.some = region.cache_multi_on_arguments("some", asdict=True, **options)(some)

    def made(self, *args: Any) -> Any:
        self.calls.append(args)
        return self.making

    def play(self, operation: str, *args: Any) -> Any:
        """Return a step's outcome: a result, or the name of an exception; and the keys whose creators were called."""
        self.calls.clear()
        try:
            return getattr(self, operation)(*args), list(self.calls)
        except Exception as error:
            return type(error).__name__, str(error)

    def lifetime(self, given: Any) -> Any:
        return given

    def seen(self, value: Any) -> Any:
        """Return a result in which NO_VALUE of either library is the same."""
        if isinstance(value, (list, tuple)):
            return [self.seen(one) for one in value]
        return repr(value)

    # -- one key

    def get(self, key: str, lifetime: Any, ignore: bool) -> Any:
        return self.seen(self.region.get(key, self.A4(lifetime), ignore))

    def get_value_metadata(self, key: str, lifetime: Any, ignore: bool) -> Any:
        found = self.region.get_value_metadata(key, self.A4(lifetime), ignore)
        return found and (found.payload, found.metadata["ct"], found.metadata["v"], found.age)

    def set(self, key: str, value: Any) -> Any:
        return self.region.set(key, value)

    def delete(self, key: str) -> None:
        self.region.delete(key)  # ours tells whether there was a value

    def invalidate(self, hard: bool) -> Any:
        return self.region.invalidate(hard)

    def get_or_create(self, key: str, value: Any, lifetime: Any, refused: Any) -> Any:
        self.making = value
        return self.seen(self.region.get_or_create(key, self.made, self.A6(lifetime), self.accept(refused), ((), {})))

    def accept(self, refused: Any) -> Callable[[Any], bool] | None:
        return None if refused is None else lambda value: value != refused

    # -- many keys

    def get_multi(self, keys: list[str], lifetime: Any, ignore: bool) -> Any:
        return self.seen(self.region.get_multi(keys, self.A4(lifetime), ignore))

    def set_multi(self, mapping: dict[str, Any]) -> Any:
        return self.region.set_multi(mapping), mapping

    def delete_multi(self, keys: list[str]) -> None:
        self.region.delete_multi(keys)

    def get_or_create_multi(self, keys: list[str], made: list[Any], lifetime: Any, refused: Any) -> Any:
        def creator(*wanted: str) -> list[Any]:
            self.calls.append(wanted)
            return made

        found = self.region.get_or_create_multi(keys, creator, self.A6(lifetime), self.accept(refused))
        return self.seen(self.C1_short(keys, found, made))

    def failing_creator(self, key: str, keys: list[str]) -> Any:
        def creator(*wanted: str) -> Any:
            self.C1_asked_first()
            raise LookupError(*wanted)

        outcomes = []
        for ask in (
            lambda: self.region.get_or_create(key, creator),
            lambda: self.region.get_or_create_multi(keys, creator),
        ):
            try:
                outcomes.append(self.seen(ask()))
            except LookupError as error:
                outcomes.append(repr(error))
        return outcomes

    # -- decorated functions

    def call(self, a: int, b: int, form: str, value: Any) -> Any:
        self.making = value
        return self.seen({"p": lambda: self.f(a, b), "k": lambda: self.f(b=b, a=a), "d": lambda: self.f(a)}[form]())

    def attribute(self, name: str, value: Any) -> Any:
        self.making = value
        if name == "get":
            return self.seen(self.C8_get())
        return getattr(self.f, name)(*([value] if name == "set" else []), *self.E2(0))

    def call_many(self, ids: list[int], asdict: bool, value: Any) -> Any:
        self.making = value
        return (self.some if asdict else self.load)(*ids)

    def attribute_of_many(self, name: str, ids: list[int], asdict: bool, value: Any) -> Any:
        self.making = value
        function = self.some if asdict else self.load
        if name == "get":
            return self.seen(self.C8_get_many(function, ids))
        return getattr(function, name)(*([dict.fromkeys(ids, value)] if name == "set" else ids))

    # -- where the two differ, by id

    def C1_asked_first(self) -> None:
        pass

    def C1_short(self, keys: list[str], found: list[Any], made: list[Any]) -> list[Any]:
        return found

    def A4(self, lifetime: Any) -> Any:
        return lifetime

    def A6(self, lifetime: Any) -> Any:
        return lifetime

    def C8_get(self) -> Any:
        return self.f.get(0)

    def C8_get_many(self, function: Any, ids: list[int]) -> Any:
        return function.get(*ids)

    def E2(self, a: int) -> tuple[Any, ...]:
        return (a,)


class Theirs(Mine):
    """Runs the same steps on dogpile.cache."""

    library = dogpile

    def __init__(self, region: Any, lifetime: Any, of_functions: Any) -> None:
        super().__init__(region, lifetime, self.A6(of_functions))

    def C1_asked_first(self) -> None:
        """Expect the error of a soft invalidation without expiration time after the creator has run in vain."""
        if self.default in (None, -1) and self.region.region_invalidator.was_soft_invalidated():
            raise dogpile.exception.DogpileCacheException("Non-None expiration time required for soft invalidation")

    def C1_short(self, keys: list[str], found: list[Any], made: list[Any]) -> list[Any]:
        """Expect values that a hard invalidation has forbidden, where a creator returns too few values."""
        left_out = self.calls[0][len(made) :] if self.calls else ()
        served = dict(zip(keys, found, strict=True))
        for key in left_out:
            cached = self.region.get_value_metadata(key, ignore_expiration=True)
            if cached and self.region.region_invalidator.is_hard_invalidated(cached.metadata["ct"]):
                served[key] = mpcache.NO_VALUE
        return [served[key] for key in keys]

    def A4(self, lifetime: Any) -> Any:
        """Translate -1, which means for ever to creators only: get() takes it for the past."""
        chosen = self.A6(self.default if lifetime is None else lifetime)
        return FOR_EVER if chosen == -1 else chosen

    def A6(self, lifetime: Any) -> Any:
        """Translate a timedelta, which only configure() takes, and truncates."""
        return lifetime.total_seconds() if isinstance(lifetime, timedelta) else lifetime

    def C8_get(self) -> Any:
        """Add the decorator's expiration time, which does not reach its get()."""
        key = self.library.util.function_key_generator("f", self.f.original)(*self.E2(0))
        return self.region.get(key, self.A4(self.of_functions))

    def C8_get_many(self, function: Any, ids: list[int]) -> Any:
        name = "some" if function is self.some else "load"
        generate = self.library.util.function_multi_key_generator(name, function.__wrapped__)
        return self.region.get_multi(generate(*ids), self.A4(self.of_functions))

    def E2(self, a: int) -> tuple[Any, ...]:
        """Fill in the defaults, which attributes do not."""
        return a, 1


class C2(dogpile.region.RegionInvalidationStrategy):  # type: ignore[name-defined, misc]
    """A strategy whose soft invalidation keeps the hard one before it, unlike that of dogpile.cache."""

    def __init__(self) -> None:
        self.hard_at = self.soft_at = 0.0

    def invalidate(self, hard: bool = True) -> None:
        if hard:
            self.hard_at, self.soft_at = time.time(), 0.0
        else:
            self.soft_at = time.time()

    def is_hard_invalidated(self, timestamp: float) -> bool:
        return timestamp < self.hard_at

    def is_soft_invalidated(self, timestamp: float) -> bool:
        return timestamp < self.soft_at

    def is_invalidated(self, timestamp: float) -> bool:
        return timestamp < max(self.hard_at, self.soft_at)

    def was_hard_invalidated(self) -> bool:
        return self.hard_at > 0

    def was_soft_invalidated(self) -> bool:
        return self.soft_at > 0


def is_softened(program: list[Any]) -> bool:
    """Return whether a soft invalidation comes after a hard one."""
    kinds = [args[0] for _, (operation, *args) in program if operation == "invalidate"]
    return True in kinds and False in kinds[kinds.index(True) :]


def layers(library: Any, names: list[str]) -> list[Any]:
    """Return proxies of a library: one that passes everything on, and one that drops what is stored under b."""

    def kept(key: str) -> bool:
        return not key.lower().startswith("b")

    class Forgetful(library.ProxyBackend):  # type: ignore[name-defined, misc]
        def set(self, key: str, value: Any) -> None:
            if kept(key):
                super().set(key, value)

        def set_multi(self, mapping: Any) -> None:
            super().set_multi({key: value for key, value in mapping.items() if kept(key)})

        def set_serialized(self, key: str, value: Any) -> None:
            if kept(key):
                super().set_serialized(key, value)

        def set_serialized_multi(self, mapping: Any) -> None:
            super().set_serialized_multi({key: value for key, value in mapping.items() if kept(key)})

    kinds = {"plain": library.ProxyBackend, "forgetful": Forgetful}
    return [kinds[name] for name in names]


@pytest.mark.parametrize("name", STORES)
@settings(max_examples=150, deadline=None)
@given(
    program=PROGRAMS,
    lifetime=lifetimes,
    of_functions=lifetimes,
    wrap=st.lists(st.sampled_from(["plain", "forgetful"]), max_size=2),
    mangler=st.sampled_from([None, str.upper]),
)
def test_programs_do_the_same(
    request: pytest.FixtureRequest,
    name: str,
    program: list[Any],
    lifetime: Any,
    of_functions: Any,
    wrap: list[str],
    mangler: Any,
) -> None:
    store, clock = Store(name, request), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", clock)
        their_region = dogpile.make_region(key_mangler=mangler).configure(
            "dogpile.cache.memory",
            Theirs.A6(None, lifetime),  # type: ignore[arg-type]
            wrap=layers(dogpile.proxy, wrap),
            region_invalidator=C2() if is_softened(program) else None,
        )
        try:
            my_region = store.region({"key_mangler": mangler}, expiration_time=lifetime, wrap=layers(proxy, wrap))
            mine, theirs = Mine(my_region, lifetime, of_functions), Theirs(their_region, lifetime, of_functions)
            for forward, (operation, *args) in program:
                clock.forward(forward)
                expected = theirs.play(operation, *args)
                event(f"{operation}: {expected[0] if isinstance(expected[1], str) else 'a result'}")
                assert mine.play(operation, *args) == expected, (operation, args)
        finally:
            store.close()
