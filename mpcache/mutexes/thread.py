"""A mutex among the threads of one process.

Depends on local.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mpcache.api import Guarantees, Outcome
from mpcache.mutexes.base import Hold, Mutex
from mpcache.mutexes.local import LocalHold, Scope

_everywhere = Scope()


class ThreadMutex(Mutex):
    """Excludes threads and greenlets of this process, and no other process.

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
        """Return a factory whose keys exclude those of no other region, whatever the store's name is."""
        scope = Scope()
        return lambda key: cls(key, scope, **arguments)

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (outcome := self._contend(hold, timeout)) is not Outcome.ACQUIRED:
            if outcome is Outcome.TIMEOUT:
                return False
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        return True

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        other = self._try(hold)
        return Outcome.ACQUIRED if other is None else other.wait(timeout)

    def _try(self, hold: Hold) -> LocalHold | None:
        """Take the key and return None; or return the hold of the thread that has the key."""
        hold.token = local = LocalHold(self._scope, self.key)
        other = local.acquire()
        if other is not None:
            hold.token = None
        return other

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        hold.token.release(stored)

    def _locked(self) -> bool:
        return self._scope.is_held(self.key)

    def _subject(self) -> Any:
        return (ThreadMutex, self._scope, self.key)
