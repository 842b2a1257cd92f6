"""One value's way from nothing to the store, once the mutex has elected its creator.

Leans on lock, whose Work it is; and sees the inner parts of the region, whose hand it is.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from mpcache import keys
from mpcache.api import NO_VALUE, FillGuard, KeyType, current_fill
from mpcache.exception import DogpileCacheException, ValueTooLarge
from mpcache.lock import Seen, run_in_background
from mpcache.storage import packed

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

    @property
    def background(self) -> Callable[[Any], None] | None:
        return self._in_background if self._region.async_creation_runner else None

    def look(self) -> Seen:
        return self._region._look(self._mangled, self._key, self._lifetime)

    def begin(self) -> None:
        self._guard = begin_fill(self._region, self._mangled)

    def create(self) -> Any:
        return made(self._region, self._key, self._lifetime, self._make)

    def alone(self) -> Any:
        self._region.mishaps.created_alone()
        return self.create()

    def keep(self, value: Any) -> bool:
        if value is NO_VALUE or (self._should_cache and not self._should_cache(value)):
            return False
        storage = self._region._storage
        ready = packed(storage, self._key, value, time.time())
        try:
            with filling(self._region, self._guards):
                storage.write(self._mangled, ready)
        except ValueTooLarge as error:
            self._region.mishaps.too_large(self._key, error)
            return False
        return self._guard is None or bool(self._guard.outcome)

    @property
    def _guards(self) -> dict[KeyType, FillGuard]:
        return {} if self._guard is None else {self._mangled: self._guard}

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
        if self._guard is None and self._make is self._creator:
            return self._creator

        @functools.wraps(self._creator)
        def create_and_announce() -> Any:
            value = self._make()
            if self._guard is not None:
                current_fill.set((self._region.actual_backend, self._guards))
            return value

        return create_and_announce

    def _end_there(self) -> bool:
        fill = current_fill.get()
        if fill is not None and fill[1].get(self._mangled) is self._guard:
            current_fill.set(None)  # a thread of a pool lives on, and must not keep the guard
        self.end()
        return self._guard is None or bool(self._guard.outcome)


def begin_fill(region: CacheRegion, mangled: KeyType) -> FillGuard | None:
    """The store's guard for what is about to be created; None: it has no guards."""
    begin = getattr(region.actual_backend, "begin_fill", None)
    guard: FillGuard | None = begin(mangled) if begin else None
    return guard


@contextmanager
def filling(region: CacheRegion, guards: Mapping[KeyType, FillGuard]) -> Iterator[None]:
    """Let the store know that a write of one of these keys is now the fill, and not just a set."""
    before = current_fill.get()
    try:
        if guards:
            current_fill.set((region.actual_backend, guards))
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
