"""The dogpile lock for coroutines: whoever waits lets the loop go on, and occupies no thread.

Leans on creation, and on asyncio, so that it is imported by those only who need it.  The protocol is that of
:func:`mpcache.lock.elect`; who waits asks again after 1 to 20 ms.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from mpcache._region.creation import Creation, refuse_without_lifetime, tell_how_long
from mpcache._region.refresh import Refresh, is_of_several
from mpcache.api import Freshness, KeyType, Outcome
from mpcache.exception import DeadlockError
from mpcache.lock import Seen, abandon, adapt, let_go, owned, too_late

if TYPE_CHECKING:
    from mpcache.region import CacheRegion

_POLL_FIRST, _POLL_LAST = 0.001, 0.020


async def get_or_create(
    region: CacheRegion,
    key: KeyType,
    creator: Callable[..., Awaitable[Any]],
    expiration_time: Any = None,
    should_cache_fn: Callable[[Any], bool] | None = None,
    creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
) -> Any:
    """What :meth:`.CacheRegion.aget_or_create` awaits."""
    mangled, lifetime = region._mangled(key), region._lifetime(expiration_time)
    seen = region._look(mangled, key, lifetime)
    if seen[1] is Freshness.FRESH:
        return seen[0]
    args, kw = creator_args or ((), {})
    make = functools.partial(creator, *args, **kw)
    work = _AsyncCreation(region, key, mangled, lifetime, creator, make, should_cache_fn)
    mutex = region._mutex(mangled)
    try:
        return await _elect(work, mutex, region.creation_wait, seen)
    except BaseException:
        abandon(mutex)
        raise


async def refresh(region: CacheRegion, key: KeyType, create: Callable[[], Awaitable[Any]]) -> Any:
    """As :func:`mpcache._region.refresh.refresh`, with a creator that is awaited."""
    work = Refresh(region, key)
    try:
        work.held = await _hold(work.mutex, region.creation_wait)
        work.begin()
        value = await create()
        work.store(value)
        return value
    finally:
        try:
            work.end()
        finally:
            abandon(work.mutex)


async def _hold(mutex: Any, wait: float | None) -> bool:
    """Wait for the mutex; False: this task holds it."""
    deadline = None if wait is None else time.monotonic() + wait
    while True:
        try:
            outcome = await _contend(mutex, deadline)
        except DeadlockError as error:
            if is_of_several(error):
                raise
            return False
        if outcome is Outcome.ACQUIRED:
            return True
        if outcome is Outcome.TIMEOUT:
            raise too_late(mutex, wait)


class _AsyncCreation(Creation):
    """The Work of one whose creator is awaited."""

    async def create(self) -> Any:
        refuse_without_lifetime(self._region, self._lifetime)
        began = time.monotonic()
        value = await self._make()
        tell_how_long(began, self._key)
        return value


async def _elect(work: _AsyncCreation, mutex: Any, wait: float | None, seen: Seen) -> Any:
    value, worth = seen
    deadline = None if wait is None else time.monotonic() + wait
    lock = adapt(mutex)
    while worth is Freshness.ABSENT:
        outcome = await _contend(mutex, deadline)
        if outcome is Outcome.ACQUIRED:
            return await _make(work, lock)
        value, worth = work.look()
        if worth is Freshness.ABSENT and outcome is Outcome.TIMEOUT:
            raise too_late(mutex, wait)
        if worth is Freshness.ABSENT and outcome is Outcome.UNSTORED:
            return await (_make(work, lock) if lock.acquire(False) else work.alone())
    if worth is Freshness.STALE and lock.acquire(False):
        return await _make(work, lock)
    return value


class _Turn:
    """One creation in this process; whoever waits for it learns here that nothing was stored."""

    __slots__ = ("__weakref__", "unstored")

    def __init__(self) -> None:
        self.unstored = False


_turns: WeakValueDictionary[Any, _Turn] = WeakValueDictionary()


async def _contend(mutex: Any, deadline: float | None) -> Outcome:
    pause, turn = _POLL_FIRST, None
    while (outcome := _attempt(mutex)) is Outcome.TIMEOUT:
        left = _POLL_LAST if deadline is None else deadline - time.monotonic()
        if left <= 0:
            break
        turn = turn or _turns.get(_subject(mutex))
        await asyncio.sleep(min(pause, left))
        if turn is not None and turn.unstored:
            return Outcome.UNSTORED
        pause = min(pause * 1.5, _POLL_LAST)
    return outcome


def _subject(mutex: Any) -> Any:
    subject = getattr(mutex, "_subject", None)
    return object() if subject is None else subject()


def _attempt(mutex: Any) -> Outcome:
    """One try; a mutex of ours says so if this very task has the key, and would wait for itself."""
    if hasattr(mutex, "contend"):
        outcome: Outcome = mutex.contend(0.0)
        return outcome
    return Outcome.ACQUIRED if mutex.acquire(False) else Outcome.TIMEOUT


async def _make(work: _AsyncCreation, mutex: Any) -> Any:
    """Hold the mutex, look again, make the value, store it, let go: also if this task is cancelled meanwhile."""
    stored, turn = True, _Turn()
    try:
        work.begin()
        value, worth = work.look()
        if worth is Freshness.FRESH:
            return value
        _turns[_subject(mutex)] = turn
        value = await work.create()
        stored = False
        stored = owned(mutex) and work.keep(value)
        return value
    finally:
        turn.unstored = not stored
        try:
            work.end()
        finally:
            let_go(mutex, stored)
