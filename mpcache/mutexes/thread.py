"""A mutex among the threads of one process.

Leans on turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mpcache.api import Guarantees, Outcome
from mpcache.mutexes.base import Hold, Mutex
from mpcache.mutexes.turns import Scope, Turn

_everywhere = Scope()


class ThreadMutex(Mutex):
    """Excludes threads and greenlets of this process, and nobody else.

    :param key: anything hashable.
    :param scope: the keys that it belongs to; by default all bare mutexes of this process share one scope.
    """

    guarantees = Guarantees(processes=False, hosts=False, survives_death=True, fair=False, takeover=0.0)

    cooperates = True

    def __init__(self, key: Any, scope: Scope = _everywhere) -> None:
        super().__init__(key)
        self._scope = scope

    @classmethod
    def for_region(cls, namespace: str, /, **arguments: Any) -> Callable[[Any], ThreadMutex]:
        """A factory whose keys meet no other region's, whatever the store's name is."""
        scope = Scope()
        return lambda key: cls(key, scope, **arguments)

    def _take(self, hold: Hold, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (outcome := self._contend(hold, timeout)) is not Outcome.ACQUIRED:
            if outcome is Outcome.TIMEOUT:
                return False
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        return True

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        other = self._try(hold)
        return Outcome.ACQUIRED if other is None else other.wait(timeout)

    def _try(self, hold: Hold) -> Turn | None:
        """Take the key; or return the turn of the one who has it."""
        hold.token = turn = Turn(self._scope, self.key)
        other = turn.claim()
        if other is not None:
            hold.token = None
        return other

    @staticmethod
    def _give(hold: Hold, stored: bool) -> None:
        hold.token.end(stored)

    def _locked(self) -> bool:
        return self._scope.busy(self.key)

    def _subject(self) -> Any:
        return (ThreadMutex, self._scope, self.key)
