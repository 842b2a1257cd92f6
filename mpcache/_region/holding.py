"""The operations of the dogpile protocol on a mutex: release it, clean it up, ask whether it is held, hand it over.

Depends on api and exception.  The mutex may be one that was written for dogpile.cache, see :func:`adapt`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mpcache._support.durations import plain
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Outcome
from mpcache.exception import LockTimeout, NotHeld

log = logging.getLogger("mpcache.lock")


def release_quietly(mutex: Any, stored: bool = True) -> None:
    """Release a mutex; log, and do not raise, errors that should not cost the caller its value.

    If the mutex was lost meanwhile, the caller still gets its value; also if the server does not answer any more: a
    lease that cannot be released lapses.

    :param stored: whether a value was stored, for the tasks that wait.
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
    """Release a mutex that an exception left held; a signal or a time limit may raise it between any two steps.

    Do nothing if the mutex was released already, or handed over to a background runner; nor if it was not written for
    mpcache, since such a mutex cannot tell whether this task holds it.
    """
    give_back = getattr(mutex, "abandon", None)
    if give_back is not None:
        give_back()


def owned(mutex: Any) -> bool:
    """Return whether the created value may be stored: not if the mutex was lost, since another task may create, too."""
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
        # In an outage there may be many such errors, and the store has logged the outage.
        level = logging.DEBUG if getattr(mutex, "unconfirmed", False) else logging.WARNING
        log.log(level, "%r was lost while its value was created; the value is returned and not stored", mutex)
    return mine


def _may_lapse(mutex: Any) -> bool:
    guarantees = getattr(mutex, "guarantees", None)
    return guarantees is not None and bool(guarantees.leased)


def too_late(mutex: Any, wait: float | None) -> LockTimeout:
    """Return the error of a task whose wait timed out: the mutex was not released, and no older value may be served."""
    key = getattr(mutex, "key", None)
    limit = "in its own time limit" if wait is None else f"within {plain(wait)} s (creation_wait)"
    return LockTimeout(
        f"{mutex!r} was not released {limit}, and no older value may be served;"
        " if creators may take longer, configure a larger creation_wait",
        key=key,
        waited=wait,
    )


def adapt(mutex: Any) -> Any:
    """Return a mutex with ``acquire``, ``contend`` and ``release(stored)``; the argument may have dogpile's methods."""
    return mutex if hasattr(mutex, "contend") else _Adapted(mutex)


class _Adapted:
    """Adapts a mutex that was written for dogpile.cache: waiting tasks queue for the mutex."""

    def __init__(self, mutex: Any) -> None:
        self.mutex = mutex

    def acquire(self, wait: bool = True) -> bool:
        return bool(self.mutex.acquire(wait))

    def contend(self, timeout: float | None) -> Outcome:
        # Some return None from an acquire that waits.  Only False means that their own time limit has passed.
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
    import inspect  # a tenth of the import time of mpcache, and most programs never need it

    try:
        return "timeout" in inspect.signature(acquire).parameters
    except (TypeError, ValueError):  # it is written in C and has no signature
        return False


class HandedOver:
    """The held mutex that a background runner gets: any thread may release it, which ends the creation."""

    def __init__(self, mutex: Any, end: Callable[[], bool]) -> None:
        self._mutex, self._end = mutex, end
        self.released = False
        if hasattr(mutex, "hand_over"):
            mutex.hand_over()

    def acquire(self, wait: bool = True) -> bool:
        """Acquire the mutex itself."""
        return bool(self._mutex.acquire(wait))

    def release(self) -> None:
        """End the creation and release the mutex.  A second call raises what the mutex raises."""
        if self.released:
            return self._mutex.release()  # type: ignore[no-any-return]
        self.released = True
        stored = False
        try:
            try:
                stored = self._end()
            finally:
                release_quietly(self._mutex, stored)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Release the mutex, if it is still held.  Only its holder may call this."""
        give_back = getattr(self._mutex, "abandon", None)
        if give_back is not None:
            give_back(handed_over=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mutex, name)

    def __repr__(self) -> str:
        return repr(self._mutex)


def run_in_background(runner: Callable[[Any], Any], mutex: Any, end: Callable[[], bool]) -> None:
    """Hand a held mutex to a runner, which must release it; if the runner fails before that, release it here.

    :param end: called at the release; returns whether a value was stored.
    """
    handed = HandedOver(mutex, end)
    try:
        runner(handed)
    except BaseException:
        if not handed.released:
            handed.release()
        raise
