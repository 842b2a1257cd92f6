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
from mpcache._region.binding import FRESH, Binding, no_expiration_time
from mpcache._region.fills import Fills, begin_fill, filling, outcome_of
from mpcache._region.holding import run_in_background
from mpcache._region.requests import (
    CREATED,
    FAILED,
    MISSES,
    REFUSED,
    STALE,
    TOO_LARGE,
    UNLOCKED,
    UNSTORED,
    WAITED,
    WAITING,
    RunningCreation,
)
from mpcache._region.ttl import end_for, is_to_be_stored
from mpcache._region.value_io import packed, stored_bytes
from mpcache.api import NO_VALUE, FillGuard, KeyType, current_fill
from mpcache.exception import ValueTooLarge
from mpcache.invalidation import Begin
from mpcache.lock import Create, Seen, Steps, elect

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
    :param function: the FunctionCounts of the decorated function whose call this is; None: it is not one.
    :ivar answer: how the request is counted: a miss, stale, or waited.
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
        function: Any = None,
    ) -> None:
        self._binding, self._key, self._mangled, self._lifetime = binding, key, mangled, lifetime
        self._creator, self._make, self._should_cache, self._runner = creator, make, should_cache_fn, runner
        self._ttl = ttl
        self._guard: FillGuard | None = None
        self._begun: Begin | None = None
        self._function, self._count = function, RunningCreation(binding.requests, function)
        self._seen_fresh = self._created = False
        self.answer = MISSES

    def answered(self, mutex: Any, wait: float | None, seen: Seen) -> Steps:
        """Return the steps of :func:`mpcache.lock.elect`, which also count how the request was answered."""
        requests, began = self._binding.requests, time.monotonic_ns()
        try:
            value = yield from elect(self, mutex, wait, seen)
            if not self._created:
                self.answer = WAITED if self._seen_fresh else STALE
            return value
        finally:
            requests.note(self.answer, 1, self._function)
            if self.answer == WAITED:
                requests.observe(WAITING, (time.monotonic_ns() - began) // 1000)

    @property
    def background(self) -> Callable[[Any], None] | None:
        return self._in_background if self._runner else None

    def look(self) -> Seen:
        seen = self._binding.look(self._mangled, self._key, self._lifetime)
        self._seen_fresh = seen[1] is FRESH
        return seen

    def begin(self) -> None:
        self._begun = Begin(self._binding.invalidator)
        self._guard = begin_fill(self._binding, self._mangled)

    def create(self) -> Steps:
        refuse_without_lifetime(self._binding, self._lifetime)
        began = time.monotonic()
        self._count.begin()
        value = yield Create(self._make)
        self._count.made()
        self._created = True
        log_duration(began, self._key)
        return value

    def create_unlocked(self) -> Steps:
        self._binding.counters.created_unlocked()
        try:
            value = yield from self.create()
            self._count.outcome = UNLOCKED
            return value
        finally:
            self._count.end()

    def store(self, value: Any) -> bool:
        self._count.outcome = FAILED  # if anything raises now
        self._count.outcome = outcome = self._stored(value)
        return outcome == CREATED

    def _stored(self, value: Any) -> int:
        """Store the value; return how its creation is counted."""
        if value is NO_VALUE or (self._should_cache and not self._should_cache(value)):
            return UNSTORED
        expires = end_for(self._ttl, value)
        if not is_to_be_stored(expires):
            return UNSTORED
        value_io, fills = self._binding.value_io, self._fills
        ready = packed(value_io, self._key, value, fills.begun.created, expires)
        self._count.size = stored_bytes(ready)
        try:
            with filling(self._binding, fills):
                value_io.write(self._mangled, ready)
        except ValueTooLarge as error:
            self._binding.counters.too_large(self._key, error)
            self._binding.backend.delete(self._mangled)  # an older value would be served as the newest
            return TOO_LARGE
        return outcome_of(self._guard)

    @functools.cached_property
    def _fills(self) -> Fills:
        assert self._begun is not None  # the protocol calls begin() before it calls anything that reads these
        return Fills(self._binding, {self._mangled: self._guard}, self._begun, self._ttl)

    def end(self) -> None:
        try:
            if self._guard is not None:
                self._guard.close()
        finally:
            self._count.end()

    def _in_background(self, mutex: Any) -> None:
        creator, run = self._announcing(), self._runner
        assert run is not None  # else `background` is None, and the protocol does not come here
        run_in_background(lambda held: run(creator, held), mutex, self._end_there)

    def _announcing(self) -> Callable[[], Any]:
        """Return the creator for a runner: the set that follows it, in the same thread, is the fill."""

        @functools.wraps(self._creator)
        def create_and_announce() -> Any:
            self._count.begin()
            value = self._make()
            self._count.made()
            current_fill.set((self._binding.store, self._fills))
            return value

        return create_and_announce

    def _end_there(self) -> bool:
        fill = current_fill.get()
        if fill is not None and getattr(fill[1], "begun", None) is self._begun:
            current_fill.set(None)  # the thread may belong to a pool and live on; it must not keep the guard
        if self._count.outcome == REFUSED:  # the creator has returned
            self._count.outcome = self._outcome_there()
        self.end()
        return self._guard is None or bool(self._guard.outcome)

    def _outcome_there(self) -> int:
        if self._guard is not None and self._guard.outcome is None:
            return TOO_LARGE if self._fills.too_large else UNSTORED
        return outcome_of(self._guard)


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
