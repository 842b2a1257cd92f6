"""The driver for coroutines: carries out the steps of :mod:`mpcache.lock` without blocking the event loop.

Depends on creation and refresh, and on asyncio, so that it is imported only where it is needed.  A coroutine that waits
tries again after 1 to 20 ms, and occupies no thread.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from mpcache._region.binding import FRESH, Binding
from mpcache._region.creation import Creation
from mpcache._region.holding import abandon, adapt
from mpcache._region.refresh import Renewal
from mpcache._region.requests import HITS, taken
from mpcache._region.ttl import checked
from mpcache.api import KeyType, Outcome
from mpcache.lock import Create, Steps, Wait, renew

_POLL_FIRST, _POLL_LAST = 0.001, 0.020


async def get_or_create(
    binding: Binding,
    key: KeyType,
    creator: Callable[..., Awaitable[Any]],
    expiration_time: Any = None,
    should_cache_fn: Callable[[Any], bool] | None = None,
    creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    ttl: Any = None,
) -> Any:
    """Do :meth:`.CacheRegion.aget_or_create` with a binding."""
    function, ttl = taken(), checked(ttl)
    mangled, lifetime = binding.mangled(key), binding.lifetime(expiration_time)
    seen = binding.look(mangled, key, lifetime)
    if seen[1] is FRESH:
        binding.requests.note(HITS, 1, function)
        return seen[0]
    args, kw = creator_args or ((), {})
    make = functools.partial(creator, *args, **kw)
    work = Creation(binding, key, mangled, lifetime, creator, make, should_cache_fn, ttl=ttl, function=function)
    mutex = _InLoop(binding.mutex(mangled))
    return await run(work.answered(mutex, binding.creation_wait, seen), mutex)


async def refresh(
    binding: Binding,
    key: KeyType,
    create: Callable[[], Awaitable[Any]],
    store: Callable[[KeyType, Any], None],
    function: Any = None,
) -> Any:
    """Do :func:`mpcache._region.refresh.refresh` with a creator that is awaited."""
    work = Renewal(binding, key, create, store, function)
    mutex = _InLoop(work.new_mutex())
    return await run(renew(work, mutex, binding.creation_wait), mutex)


async def run(steps: Steps, mutex: Any) -> Any:
    """Carry out the steps, and return the value; nothing stays held, even if this task is cancelled."""
    try:
        return await _carry_out(steps)
    except BaseException:
        try:
            steps.close()
        finally:
            abandon(mutex)
        raise


async def _carry_out(steps: Steps) -> Any:
    resume: Callable[[Any], Wait | Create] = steps.send
    answer: Any = None
    while True:
        try:
            step = resume(answer)
        except StopIteration as end:
            return end.value
        try:
            resume, answer = steps.send, await (step.make() if isinstance(step, Create) else step.mutex.wait(step.left))
        except BaseException as error:
            resume, answer = steps.throw, error


class _Turn:
    """One creation in this process.  It tells waiting coroutines that nothing was stored."""

    __slots__ = ("__weakref__", "unstored")

    def __init__(self) -> None:
        self.unstored = False


_turns: WeakValueDictionary[Any, _Turn] = WeakValueDictionary()
"""The creations of coroutines that are under way, by the subjects of their mutexes."""


class _InLoop:
    """A mutex for the protocol of a coroutine: its waits are awaited."""

    def __init__(self, mutex: Any) -> None:
        self._mutex, self._turn = adapt(mutex), _Turn()
        subject = getattr(mutex, "_subject", None)
        self._subject = object() if subject is None else subject()
        self._tries = hasattr(mutex, "contend")

    def acquire(self, wait: bool) -> bool:
        """Try to take the mutex."""
        taken = bool(self._mutex.acquire(False))
        if taken:
            _turns[self._subject] = self._turn
        return taken

    def release(self, stored: bool) -> None:
        """Release it; tell the coroutines that wait whether a value was stored."""
        self._turn.unstored = not stored
        self._mutex.release(stored)

    async def wait(self, left: float | None) -> Outcome:
        """Try until the mutex is taken, its holder has stored nothing, or the time is over."""
        deadline = None if left is None else time.monotonic() + left
        pause, turn = _POLL_FIRST, None
        while (outcome := self._attempt()) is Outcome.TIMEOUT:
            left = _POLL_LAST if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            turn = turn or _turns.get(self._subject)
            await asyncio.sleep(min(pause, left))
            if turn is not None and turn.unstored:
                return Outcome.UNSTORED
            pause = min(pause * 1.5, _POLL_LAST)
        return outcome

    def _attempt(self) -> Outcome:
        """Try once; a mutex of mpcache raises if this same task holds the key, and would wait for itself."""
        if not self._tries:
            return Outcome.ACQUIRED if self.acquire(False) else Outcome.TIMEOUT
        outcome: Outcome = self._mutex.contend(0.0)
        if outcome is Outcome.ACQUIRED:
            _turns[self._subject] = self._turn
        return outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mutex, name)

    def __repr__(self) -> str:
        return repr(self._mutex)
