"""Whose turn it is with a key, among the threads of this process.

Leans on base for the incarnation.  The thread mutex is this and nothing more; before a mutex of many processes it
stands as a front, so that one thread of each process competes outside.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from mpcache.api import Outcome
from mpcache.mutexes.base import incarnation

_SLICE = 0.05
"""Seconds after which a waiter looks for himself: whoever was interrupted on his way to wake him does not."""


class Turn:
    """One holder's time with one key; whoever waits waits for its end.

    ``over`` is a bare lock, held until the end: an Event has a lock inside that a signal's exception can leave taken.
    """

    __slots__ = ("_over", "_place", "_scope", "stored")

    def __init__(self, scope: Scope, key: Any) -> None:
        self._scope = scope
        self._place = (incarnation(), key)
        self._over = threading.Lock()
        self._over.acquire()
        self.stored = True

    def claim(self) -> Turn | None:
        """Begin it; or return the turn of the one who has the key."""
        holder = self._scope.turns.setdefault(self._place, self)
        return None if holder is self else holder

    def wait(self, timeout: float | None) -> Outcome:
        """For another: until it is over, and what came of it; or TIMEOUT after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._scope.turns.get(self._place) is self:
            left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
            if left <= 0:
                return Outcome.TIMEOUT
            if self._over.acquire(timeout=left):
                self._over.release()  # for the next one who waits
        return Outcome.RELEASED if self.stored else Outcome.UNSTORED

    def end(self, stored: bool) -> None:
        """It is over, if it ever began.  May be called again."""
        if self._scope.turns.get(self._place) is self:  # else an exception came before it began, or it is over
            self.stored = stored
            del self._scope.turns[self._place]
            self._over.release()


class Scope:
    """Keys that have nothing to do with equal keys of another scope.

    ::

        (incarnation, key) ---> the turn of the holder        no entry: the key is free

    Nothing guards the dict: ``setdefault`` decides in one step who comes first, and none but the holder
    removes an entry.  So a hold may be given back by the garbage collector in the midst of anything, and a
    fork finds no lock taken.  The incarnation hides the parent's entries from a forked child.
    """

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns: dict[tuple[Any, Any], Turn] = {}

    def busy(self, key: Any) -> bool:
        """Whether a thread of this process has the key."""
        return (incarnation(), key) in self.turns
