"""Exclusion among the threads of one process: which thread holds a key.

Depends on base for the incarnation.  The thread mutex is this alone.  In a mutex of many processes it is the first of
two levels, so that at most one thread of each process competes with the other processes.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from mpcache.api import Outcome
from mpcache.mutexes.base import incarnation

_SLICE = 0.05
"""Seconds after which a waiter looks at the scope again: an interrupted holder may have ended without waking it."""


class LocalHold:
    """One thread's hold of one key; other threads wait for its end.

    ``_ended`` is a bare lock, held until the end: an Event has an inner lock, which an exception that a signal handler
    raises can leave taken.
    """

    __slots__ = ("_ended", "_place", "_scope", "stored")

    def __init__(self, scope: Scope, key: Any) -> None:
        self._scope = scope
        self._place = (incarnation(), key)
        self._ended = threading.Lock()
        self._ended.acquire()
        self.stored = True

    def acquire(self) -> LocalHold | None:
        """Take the key and return None; or return the hold of the thread that has the key."""
        holder = self._scope.holds.setdefault(self._place, self)
        return None if holder is self else holder

    def wait(self, timeout: float | None) -> Outcome:
        """Wait, in another thread, until this hold ends.

        :param timeout: seconds, after which the outcome is TIMEOUT; None: no limit.
        :return: RELEASED or UNSTORED, as its holder said.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._scope.holds.get(self._place) is self:
            left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
            if left <= 0:
                return Outcome.TIMEOUT
            if self._ended.acquire(timeout=left):
                self._ended.release()  # for the next waiter
        return Outcome.RELEASED if self.stored else Outcome.UNSTORED

    def release(self, stored: bool) -> None:
        """End the hold, if it ever began.  May be called again."""
        if self._scope.holds.get(self._place) is self:  # else an exception came before it began, or it has ended
            self.stored = stored
            del self._scope.holds[self._place]
            self._ended.release()


class Scope:
    """A set of keys.  Equal keys of two scopes do not exclude each other.

    ::

        (incarnation, key) ---> the hold of the thread that has the key        no entry: the key is free

    The dict needs no lock: ``setdefault`` decides in one step which thread comes first, and only the holder removes an
    entry.  So the garbage collector may release a hold in the middle of any operation, and a fork finds no lock taken.
    The incarnation hides the parent's entries from a forked child.
    """

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds: dict[tuple[Any, Any], LocalHold] = {}

    def is_held(self, key: Any) -> bool:
        """Return whether a thread of this process holds the key."""
        return (incarnation(), key) in self.holds
