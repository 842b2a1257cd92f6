"""A mutex among the threads of one process.

Leans on base.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from mpcache.api import Guarantees, Outcome
from mpcache.mutexes.base import Hold, Mutex, incarnation

_SLICE = 0.05
"""Seconds after which a waiter looks for himself: whoever was interrupted on his way to wake him does not."""


class _Turn:
    """One holder's time with one key; whoever waits waits for its end.

    ``over`` is a bare lock, held until the end: an Event has a lock inside that a signal's exception can leave taken.
    """

    __slots__ = ("over", "stored")

    def __init__(self) -> None:
        self.over = threading.Lock()
        self.over.acquire()
        self.stored = True


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
        self.turns: dict[tuple[Any, Any], _Turn] = {}


_everywhere = Scope()


class ThreadMutex(Mutex):
    """Excludes threads and greenlets of this process, and nobody else.

    :param key: anything hashable.
    :param scope: the keys that it belongs to; by default all bare mutexes of this process share one scope.
    """

    guarantees = Guarantees(processes=False, hosts=False, survives_death=True, fair=False)

    def __init__(self, key: Any, scope: Scope = _everywhere) -> None:
        super().__init__(key)
        self._scope = scope

    @classmethod
    def for_region(cls) -> Callable[[Any], ThreadMutex]:
        """A factory whose keys meet no other region's."""
        scope = Scope()
        return lambda key: cls(key, scope)

    def _take(self, hold: Hold, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (other := self._try(hold)) is not None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._wait_for(other, left):
                return False
        return True

    def _wait_for(self, other: _Turn, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._scope.turns.get(self._place()) is other:
            left = _SLICE if deadline is None else min(_SLICE, deadline - time.monotonic())
            if left <= 0:
                return False
            if other.over.acquire(timeout=left):
                other.over.release()  # for the next one who waits
        return True

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        other = self._try(hold)
        if other is None:
            return Outcome.ACQUIRED
        if not self._wait_for(other, timeout):
            return Outcome.TIMEOUT
        return Outcome.RELEASED if other.stored else Outcome.UNSTORED

    def _try(self, hold: Hold) -> _Turn | None:
        """Take the key; or return the turn of the one who has it."""
        mine = _Turn()
        place = self._place()
        hold.token = (self._scope.turns, place, mine)
        holder = self._scope.turns.setdefault(place, mine)
        if holder is mine:
            return None
        hold.token = None
        return holder

    @staticmethod
    def _give(hold: Hold, stored: bool) -> None:
        turns, place, mine = hold.token
        mine.stored = stored
        if turns.get(place) is mine:  # else it was given back, or an exception came before it was taken
            del turns[place]
        if mine.over.locked():
            mine.over.release()

    def _locked(self) -> bool:
        return self._place() in self._scope.turns

    def _place(self) -> tuple[Any, Any]:
        return (incarnation(), self.key)

    def _subject(self) -> Any:
        return (ThreadMutex, self._scope, self.key)
