"""One value's way from nothing to the store, once the mutex has elected its creator.

Leans on lock, whose Work it is; and sees the inner parts of the region, whose hand it is.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mpcache import keys
from mpcache._region.value_io import packed
from mpcache.api import NO_VALUE, FillGuard, KeyType, current_fill
from mpcache.exception import DogpileCacheException, ValueTooLarge
from mpcache.invalidation import Begin
from mpcache.lock import Seen, run_in_background

if TYPE_CHECKING:
    from mpcache.region import CacheRegion

log = logging.getLogger("mpcache.region")

T = TypeVar("T")


class Creation:
    """The Work (see lock) of one get_or_create that did not find a fresh value."""

    def __init__(
        self,
        region: CacheRegion,
        key: KeyType,
        mangled: KeyType,
        lifetime: float | None,
        creator: Callable[..., Any],
        make: Callable[[], Any],
        should_cache_fn: Callable[[Any], bool] | None,
    ) -> None:
        self._region, self._key, self._mangled, self._lifetime = region, key, mangled, lifetime
        self._creator, self._make, self._should_cache = creator, make, should_cache_fn
        self._guard: FillGuard | None = None
        self._begun: Begin | None = None

    @property
    def background(self) -> Callable[[Any], None] | None:
        return self._in_background if self._region.async_creation_runner else None

    def look(self) -> Seen:
        return self._region._look(self._mangled, self._key, self._lifetime)

    def begin(self) -> None:
        self._begun = Begin(self._region.region_invalidator)
        self._guard = begin_fill(self._region, self._mangled)

    def create(self) -> Any:
        return made(self._region, self._key, self._lifetime, self._make)

    def alone(self) -> Any:
        self._region.mishaps.created_alone()
        return self.create()

    def keep(self, value: Any) -> bool:
        if value is NO_VALUE or (self._should_cache and not self._should_cache(value)):
            return False
        storage, fills = self._region._storage, self._fills
        ready = packed(storage, self._key, value, fills.begun.created)
        try:
            with filling(self._region, fills):
                storage.write(self._mangled, ready)
        except ValueTooLarge as error:
            self._region.mishaps.too_large(self._key, error)
            return False
        return was_stored(self._guard)

    @property
    def _fills(self) -> Fills:
        assert self._begun is not None  # begin() comes before all that asks
        return Fills({self._mangled: self._guard}, self._begun)

    def end(self) -> None:
        if self._guard is not None:
            self._guard.close()

    def _in_background(self, mutex: Any) -> None:
        creator = self._announcing()
        run = self._region.async_creation_runner
        assert run is not None  # else `background` is None, and nobody comes here
        run_in_background(lambda held: run(self._region, self._key, creator, held), mutex, self._end_there)

    def _announcing(self) -> Callable[[], Any]:
        """The creator for a runner: the set that follows it, in the same thread, is the fill."""

        @functools.wraps(self._creator)
        def create_and_announce() -> Any:
            value = self._make()
            current_fill.set((self._region.actual_backend, self._fills))
            return value

        return create_and_announce

    def _end_there(self) -> bool:
        fill = current_fill.get()
        if fill is not None and getattr(fill[1], "begun", None) is self._begun:
            current_fill.set(None)  # a thread of a pool lives on, and must not keep the guard
        self.end()
        return self._guard is None or bool(self._guard.outcome)


class Fills(dict[KeyType, FillGuard]):
    """The guards of what was created, by the mangled keys, and when its creation began.

    :ivar keys_begun: all the keys; a store without guards has none for them.
    """

    def __init__(self, guards: Mapping[KeyType, FillGuard | None], begun: Begin) -> None:
        super().__init__((key, guard) for key, guard in guards.items() if guard is not None)
        self.begun, self.keys_begun = begun, frozenset(guards)


def created_now(region: CacheRegion, keys: Iterable[KeyType]) -> float:
    """Return the time that a value gets which is stored now; that of a fill may be the time of its begin.

    :param keys: the mangled keys.
    """
    fill = current_fill.get()
    if fill is None or not isinstance(fill[1], Fills) or fill[0] is not region.actual_backend:
        return time.time()
    return time.time() if fill[1].keys_begun.isdisjoint(keys) else fill[1].begun.created


def was_stored(guard: FillGuard | None) -> bool:
    """Return whether a write under a guard has stored the value; one that the store was not shown counts as done."""
    return guard is None or guard.outcome is not False


def begin_fill(region: CacheRegion, mangled: KeyType) -> FillGuard | None:
    """The store's guard for what is about to be created; None: it has no guards."""
    begin = getattr(region.actual_backend, "begin_fill", None)
    guard: FillGuard | None = begin(mangled) if begin else None
    return guard


@contextmanager
def filling(region: CacheRegion, fills: Fills) -> Iterator[None]:
    """Let the store know that a write of one of these keys is now the fill, and not just a set."""
    before = current_fill.get()
    try:
        current_fill.set((region.actual_backend, fills))
        yield
    finally:
        current_fill.set(before)


def made(region: CacheRegion, subject: Any, lifetime: float | None, make: Callable[[], T]) -> T:
    """What a creator makes, with a word in the log on how long it took.

    :param subject: the key, or the keys.
    """
    refuse_without_lifetime(region, lifetime)
    began = time.monotonic()
    value = make()
    tell_how_long(began, subject)
    return value


def refuse_without_lifetime(region: CacheRegion, lifetime: float | None) -> None:
    """Raise if a soft invalidation is in force and nothing says how long what it made stale may be served."""
    if lifetime is None and region.region_invalidator.was_soft_invalidated():
        raise no_expiration_time()


def tell_how_long(began: float, subject: Any) -> None:
    """Log what a creation took.

    :param began: on the monotonic clock.
    """
    took = {"seconds": time.monotonic() - began, "keys": keys.repr_obj(subject)}
    log.debug("Cache value generated in %(seconds).3f seconds for key(s): %(keys)r", took)


def no_expiration_time() -> DogpileCacheException:
    """Stale until when?  A soft invalidation needs to know."""
    return DogpileCacheException("Non-None expiration time required for soft invalidation")
