"""Create and store one missing value: the Work (see :mod:`mpcache.lock`) of a get_or_create that found none.

Depends on lock, fills and binding.  It serves threads and coroutines alike: the step that calls the creator is carried
out by the driver.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mpcache import keys
from mpcache._region.binding import Binding, no_expiration_time
from mpcache._region.fills import Fills, begin_fill, filling, was_stored
from mpcache._region.holding import run_in_background
from mpcache._region.ttl import end_for, is_to_be_stored
from mpcache._region.value_io import packed
from mpcache.api import NO_VALUE, FillGuard, KeyType, current_fill
from mpcache.exception import ValueTooLarge
from mpcache.invalidation import Begin
from mpcache.lock import Create, Seen, Steps

log = logging.getLogger("mpcache.region")

T = TypeVar("T")

Runner = Callable[[Callable[[], Any], Any], Any]
"""(creator, held mutex): what the region's async_creation_runner does for one key."""


class Creation:
    """The creation of one value.

    :param key: the user's key; ``mangled``: the store's.
    :param lifetime: seconds after which a value is stale; None: never.
    :param creator: as the user gave it; ``make``: the same with its arguments.
    :param should_cache_fn: ``value -> bool``: whether to store it.
    :param runner: creates in the background while a stale value is served; None: there is none.
    :param ttl: the time to live of what is created, see :mod:`.ttl`.
    """

    def __init__(
        self,
        binding: Binding,
        key: KeyType,
        mangled: KeyType,
        lifetime: float | None,
        creator: Callable[..., Any],
        make: Callable[[], Any],
        should_cache_fn: Callable[[Any], bool] | None,
        runner: Runner | None = None,
        ttl: Any = None,
    ) -> None:
        self._binding, self._key, self._mangled, self._lifetime = binding, key, mangled, lifetime
        self._creator, self._make, self._should_cache, self._runner = creator, make, should_cache_fn, runner
        self._ttl = ttl
        self._guard: FillGuard | None = None
        self._begun: Begin | None = None

    @property
    def background(self) -> Callable[[Any], None] | None:
        return self._in_background if self._runner else None

    def look(self) -> Seen:
        return self._binding.look(self._mangled, self._key, self._lifetime)

    def begin(self) -> None:
        self._begun = Begin(self._binding.invalidator)
        self._guard = begin_fill(self._binding, self._mangled)

    def create(self) -> Steps:
        refuse_without_lifetime(self._binding, self._lifetime)
        began = time.monotonic()
        value = yield Create(self._make)
        log_duration(began, self._key)
        return value

    def create_unlocked(self) -> Steps:
        self._binding.counters.created_unlocked()
        return (yield from self.create())

    def store(self, value: Any) -> bool:
        if value is NO_VALUE or (self._should_cache and not self._should_cache(value)):
            return False
        expires = end_for(self._ttl, value)
        if not is_to_be_stored(expires):
            return False
        value_io, fills = self._binding.value_io, self._fills
        ready = packed(value_io, self._key, value, fills.begun.created, expires)
        try:
            with filling(self._binding, fills):
                value_io.write(self._mangled, ready)
        except ValueTooLarge as error:
            self._binding.counters.too_large(self._key, error)
            self._binding.backend.delete(self._mangled)  # an older value would be served as the newest
            return False
        return was_stored(self._guard)

    @property
    def _fills(self) -> Fills:
        assert self._begun is not None  # the protocol calls begin() before it calls anything that reads these
        return Fills(self._binding, {self._mangled: self._guard}, self._begun, self._ttl)

    def end(self) -> None:
        if self._guard is not None:
            self._guard.close()

    def _in_background(self, mutex: Any) -> None:
        creator, run = self._announcing(), self._runner
        assert run is not None  # else `background` is None, and the protocol does not come here
        run_in_background(lambda held: run(creator, held), mutex, self._end_there)

    def _announcing(self) -> Callable[[], Any]:
        """Return the creator for a runner: the set that follows it, in the same thread, is the fill."""

        @functools.wraps(self._creator)
        def create_and_announce() -> Any:
            value = self._make()
            current_fill.set((self._binding.store, self._fills))
            return value

        return create_and_announce

    def _end_there(self) -> bool:
        fill = current_fill.get()
        if fill is not None and getattr(fill[1], "begun", None) is self._begun:
            current_fill.set(None)  # the thread may belong to a pool and live on; it must not keep the guard
        self.end()
        return self._guard is None or bool(self._guard.outcome)


def made(binding: Binding, subject: Any, lifetime: float | None, make: Callable[[], T]) -> T:
    """Return the value that a creator makes, and log how long it took.

    :param subject: the key, or the keys.
    """
    refuse_without_lifetime(binding, lifetime)
    began = time.monotonic()
    value = make()
    log_duration(began, subject)
    return value


def refuse_without_lifetime(binding: Binding, lifetime: float | None) -> None:
    """Raise if a soft invalidation is in force and no expiration time limits how long stale values may be served."""
    if lifetime is None and binding.invalidator.was_soft_invalidated():
        raise no_expiration_time()


def log_duration(began: float, subject: Any) -> None:
    """Log how long a creation took.

    :param began: on the monotonic clock.
    """
    took = {"seconds": time.monotonic() - began, "keys": keys.repr_obj(subject)}
    log.debug("Cache value generated in %(seconds).3f seconds for key(s): %(keys)r", took)
