"""Who creates, who waits, who takes the stale value.

Leans on api and exception.  Knows no storage and no primitive: both are handed in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from mpcache.api import Freshness, Outcome
from mpcache.exception import LockTimeout, NotHeld
from mpcache.signal_handlers import raised_by_signal_handler

log = logging.getLogger("mpcache.lock")

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT

Seen = tuple[Any, Freshness]


class NeedRegenerationException(Exception):
    """Raised by the look-up that is given to :class:`Lock`: there is no value, or none that may be served."""


NOT_REGENERATED = object()
"""Stands for the value that a failed look-up has not got."""


class Work(Protocol):
    """What is to be done for one key, if one must."""

    def look(self) -> Seen:
        """The value, and what it is worth."""

    def begin(self) -> None:
        """The mutex is held; what is stored under it from now on must not undo a later change."""

    def create(self) -> Any:
        """Make the value.  The user's code."""

    def keep(self, value: Any) -> bool:
        """Store it; False: it was not stored."""

    def end(self) -> None:
        """Whatever came of it, it is over."""

    def alone(self) -> Any:
        """Make the value for oneself, without the mutex and without storing it."""

    @property
    def background(self) -> Callable[[Any], Any] | None:
        """What takes the mutex and makes the value in some thread of its own; None: nobody does."""


def elect(work: Work, mutex: Any, wait: float | None, seen: Seen | None = None) -> Any:
    """The value of a key: found, made here, made by another who is waited for, or stale.

    ::

        fresh     it is returned
        stale     whoever gets the mutex at once makes a new one; the others take the stale one
        absent    whoever gets the mutex makes one; the rest wait for the value, not for the mutex

    One look for whoever finds a value, one more for whoever gets the mutex: another may have been quicker.

    :param mutex: see :func:`adapt`.
    :param wait: seconds to wait for another's value at most; None is no limit.
    :param seen: the first look, if it was already taken.
    :raises LockTimeout: no value came in time.
    """
    try:
        return _elect(work, mutex, wait, seen or work.look())
    except BaseException:
        abandon(mutex)
        raise


def _elect(work: Work, mutex: Any, wait: float | None, seen: Seen) -> Any:
    value, freshness = seen
    deadline = None if wait is None or freshness is FRESH else time.monotonic() + wait
    while freshness is not FRESH:
        if freshness is STALE:
            if not mutex.acquire(False):
                return value
            return _make(work, mutex)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        outcome = mutex.contend(left)
        if outcome is Outcome.ACQUIRED:
            return _make(work, mutex)
        value, freshness = work.look()
        if outcome is Outcome.TIMEOUT or (left == 0 and outcome is Outcome.RELEASED):
            return _what_there_is(value, freshness, mutex, wait)
        if outcome is Outcome.UNSTORED and freshness is ABSENT:
            return _make(work, mutex) if mutex.acquire(False) else work.alone()
    return value


def _make(work: Work, mutex: Any) -> Any:
    """Hold the mutex, look again, make the value, store it, let go."""
    mine, stored = True, True
    try:
        work.begin()
        value, freshness = work.look()
        if freshness is FRESH:
            return value
        if freshness is STALE and work.background is not None:
            mine = False  # also if it fails: from here on the other side sees to the release
            work.background(mutex)
            return value
        value = work.create()  # raises: those who wait contend anew, one of them creates
        stored = False  # raises: they go on at once, since queueing would get them nothing
        stored = owned(mutex) and work.keep(value)
        return value
    finally:
        if mine:
            try:
                work.end()
            finally:
                let_go(mutex, stored)


def let_go(mutex: Any, stored: bool = True) -> None:
    """Release; that the hold was lost meanwhile is no reason to withhold the value from the caller.

    Nor is a server that does not answer any more: a lease that cannot be given back lapses.
    """
    try:
        mutex.release(stored)
    except NotHeld as lost:
        log.warning("The mutex was lost before its release; the value may have been created twice: %s", lost)
    except Exception as error:
        if not _may_lapse(mutex) or raised_by_signal_handler(error):
            raise
        log.warning("%r could not be released, and lapses by itself: %s", mutex, error)


def abandon(mutex: Any) -> None:
    """Release what an exception has left held, which may arrive between any two steps: a signal's, a time limit's.

    What was released already, or handed over to a background runner, is left alone; so is a mutex of another make,
    which cannot be asked whether it is held here.
    """
    give_back = getattr(mutex, "abandon", None)
    if give_back is not None:
        give_back()


def owned(mutex: Any) -> bool:
    """Whether what was created may be stored: not if the mutex was lost meanwhile, and another may create, too."""
    if not _may_lapse(mutex):
        return True
    try:
        mine = bool(mutex.owned())
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        log.warning("%r may be lost, since it cannot be asked: %s; the value is returned and not stored", mutex, error)
        return False
    if not mine:
        # In an outage there may be many of them, and the store has logged the outage.
        level = logging.DEBUG if getattr(mutex, "unconfirmed", False) else logging.WARNING
        log.log(level, "%r was lost while its value was created; the value is returned and not stored", mutex)
    return mine


def _may_lapse(mutex: Any) -> bool:
    guarantees = getattr(mutex, "guarantees", None)
    return guarantees is not None and bool(guarantees.leased)


def _what_there_is(value: Any, freshness: Freshness, mutex: Any, wait: float | None) -> Any:
    if freshness is ABSENT:
        raise too_late(mutex, wait)
    return value


def too_late(mutex: Any, wait: float | None) -> LockTimeout:
    """The holder of a mutex did not let go in time, and there is nothing else to serve."""
    key = getattr(mutex, "key", None)
    limit = "in its own time limit" if wait is None else f"within {wait:g} s (creation_wait)"
    return LockTimeout(
        f"{mutex!r} was not released {limit}, and no older value may be served;"
        " if creators may take longer, configure a larger creation_wait",
        key=key,
        waited=wait,
    )


def adapt(mutex: Any) -> Any:
    """A mutex with ``acquire``, ``contend`` and ``release(stored)``, from one with the dogpile verbs."""
    return mutex if hasattr(mutex, "contend") else _Adapted(mutex)


class _Adapted:
    """One that was written for dogpile.cache: who waits for it queues for the mutex."""

    def __init__(self, mutex: Any) -> None:
        self.mutex = mutex

    def acquire(self, wait: bool = True) -> bool:
        return bool(self.mutex.acquire(wait))

    def contend(self, timeout: float | None) -> Outcome:
        # Some return nothing from an acquire that waits; False alone means that its own limit has passed.
        acquire = self.mutex.acquire
        got = acquire(True, timeout=timeout) if timeout is not None and _takes_timeout(acquire) else acquire(True)
        return Outcome.TIMEOUT if got is False else Outcome.ACQUIRED

    def release(self, stored: bool = True) -> None:
        self.mutex.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mutex, name)

    def __repr__(self) -> str:
        return repr(self.mutex)


def _takes_timeout(acquire: Callable[..., Any]) -> bool:
    import inspect  # a tenth of what importing mpcache takes, and most never come here

    try:
        return "timeout" in inspect.signature(acquire).parameters
    except (TypeError, ValueError):  # it is written in C and does not say
        return False


class HandedOver:
    """A held mutex as a background runner gets it: any thread may release it, which ends the work."""

    def __init__(self, mutex: Any, end: Callable[[], bool]) -> None:
        self._mutex, self._end = mutex, end
        self.released = False
        if hasattr(mutex, "hand_over"):
            mutex.hand_over()

    def acquire(self, wait: bool = True) -> bool:
        """As the mutex itself."""
        return bool(self._mutex.acquire(wait))

    def release(self) -> None:
        """Once: a second time raises what the mutex raises."""
        if self.released:
            return self._mutex.release()  # type: ignore[no-any-return]
        self.released = True
        stored = False
        try:
            try:
                stored = self._end()
            finally:
                let_go(self._mutex, stored)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Release it, if it is held still; to be called by its holder only."""
        give_back = getattr(self._mutex, "abandon", None)
        if give_back is not None:
            give_back(handed_over=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mutex, name)

    def __repr__(self) -> str:
        return repr(self._mutex)


class Lock:
    """The dogpile lock by itself, over look-ups and creators of your own.

    ::

        with Lock(mutex, creator, value_and_created_fn, expiretime) as value:
            ...                                           # the mutex is not held here

    :param mutex: one for this value.
    :param creator: makes and stores it: ``() -> (value, created)``, created in seconds since the Unix epoch.
    :param value_and_created_fn: looks it up: ``() -> (value, created)``; a ``created`` of 0 or less, or a
        NeedRegenerationException, says that there is none.
    :param expiretime: seconds after which it is stale; None: never.
    :param async_creator: gets the held mutex when a stale value is there, makes a new one and releases it.
    """

    def __init__(
        self,
        mutex: Any,
        creator: Callable[[], tuple[Any, float]],
        value_and_created_fn: Callable[[], tuple[Any, float]],
        expiretime: float | None,
        async_creator: Callable[[Any], Any] | None = None,
    ) -> None:
        self.mutex = mutex
        self.creator = creator
        self.value_and_created_fn = value_and_created_fn
        self.expiretime = expiretime
        self.async_creator = async_creator

    def __enter__(self) -> Any:
        return elect(_LockWork(self), adapt(self.mutex), None)

    def __exit__(self, *exc_info: object) -> None:
        pass


class _LockWork:
    """The Work of a :class:`Lock`, whose creator stores by itself."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    @property
    def background(self) -> Callable[[Any], None] | None:
        return self._in_background if self._lock.async_creator else None

    def look(self) -> Seen:
        try:
            value, created = self._lock.value_and_created_fn()
        except NeedRegenerationException:
            return NOT_REGENERATED, ABSENT
        if created <= 0:
            return NOT_REGENERATED, ABSENT
        lifetime = self._lock.expiretime
        return value, STALE if lifetime is not None and time.time() - created > lifetime else FRESH

    def create(self) -> Any:
        value, _ = self._lock.creator()
        return value

    alone = create

    def keep(self, value: Any) -> bool:
        return True

    def begin(self) -> None:
        pass

    end = begin

    def _in_background(self, mutex: Any) -> None:
        run_in_background(self._lock.async_creator, mutex, lambda: True)  # type: ignore[arg-type]


def run_in_background(runner: Callable[[Any], Any], mutex: Any, end: Callable[[], bool]) -> None:
    """Hand a held mutex to a runner, which must release it; if it fails before that, it is released here.

    :param end: is called at the release, and says whether a value was stored.
    """
    handed = HandedOver(mutex, end)
    try:
        runner(handed)
    except BaseException:
        if not handed.released:
            handed.release()
        raise
