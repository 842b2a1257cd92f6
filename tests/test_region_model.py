"""The region against a simple model: a dict with the same rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcache.api import NO_VALUE
from mpcache.exception import DogpileCacheException
from tests.conftest import STORES, Clock, Store

keys = st.sampled_from(["a", "b"])
lifetimes = st.sampled_from([None, -1, 0, 3, 10])
steps = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1, 5]),
        st.one_of(
            st.tuples(st.just("get"), keys, lifetimes, st.booleans()),
            st.tuples(st.just("get_or_create"), keys, lifetimes, st.booleans()),
            st.tuples(st.just("set"), keys),
            st.tuples(st.just("delete"), keys),
            st.tuples(st.just("invalidate"), st.booleans()),
        ),
    ),
    max_size=25,
)


class Model:
    """The model.  ``made``: key -> (value, time); an invalidation only records its time."""

    def __init__(self, store: str, clock: Clock, lifetime: Any) -> None:
        self.store, self.clock, self.lifetime = store, clock, lifetime
        self.made: dict[str, tuple[int, float]] = {}
        self.hard_at = self.soft_at = 0.0

    def worth(self, key: str, lifetime: Any) -> str:
        value, time = self.made.get(key, (None, 0.0))
        if value is None or time < self.hard_at:
            return "absent"
        never = lifetime in (None, -1)
        return "stale" if time < self.soft_at or (not never and self.clock.now - time > lifetime) else "fresh"

    def get(self, key: str, lifetime: Any, ignore: bool, _: int) -> Any:
        worth = self.worth(key, self.lifetime if lifetime is None else lifetime)
        return self.made.get(key, (NO_VALUE,))[0] if ignore or worth == "fresh" else NO_VALUE

    def get_or_create(self, key: str, lifetime: Any, store: bool, new: int) -> Any:
        lifetime = self.lifetime if lifetime is None else lifetime
        if self.worth(key, lifetime) == "fresh":
            return self.made[key][0]
        if lifetime in (None, -1) and self.soft_at > self.hard_at:
            return DogpileCacheException
        if store:
            self.set(key, new)
        return new

    def set(self, key: str, new: int) -> None:
        self.made[key] = new, self.clock.now

    def delete(self, key: str, _: int) -> bool | None:
        """Return whether the store had a value; those that count epochs know which were invalidated."""
        had = key in self.made and (self.store not in ("shm", "dbm") or self.made[key][1] >= self.hard_at)
        self.made.pop(key, None)
        return None if self.store == "pymemcache" else had

    def invalidate(self, hard: bool, _: int) -> None:
        if hard:
            self.hard_at = self.clock.now
        else:
            self.soft_at = self.clock.now


def do(region: Any, operation: str, args: Any, new: int) -> Any:
    if operation == "get":
        return region.get(*args)
    if operation == "get_or_create":
        key, lifetime, store = args
        try:
            return region.get_or_create(key, lambda: new, lifetime, lambda value: store)
        except DogpileCacheException as error:
            return type(error)
    return getattr(region, operation)(*args, *([new] if operation == "set" else []))


@pytest.mark.parametrize("name", STORES)
@settings(max_examples=60, deadline=None)
@given(lifetime=lifetimes, steps=steps)
def test_the_region_is_a_dict_with_times(
    request: pytest.FixtureRequest, name: str, lifetime: Any, steps: list[Any]
) -> None:
    store, clock = Store(name, request), Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", clock)
        region, model = store.region(expiration_time=lifetime), Model(name, clock, lifetime)
        try:
            for new, (forward, (operation, *args)) in enumerate(steps):
                clock.forward(forward)
                expected = getattr(model, operation)(*args, new)
                assert do(region, operation, args, new) == expected, (operation, args)
        finally:
            store.close()
