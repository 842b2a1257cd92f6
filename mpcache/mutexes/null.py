"""A mutex that excludes nothing.

Depends on base.
"""

from __future__ import annotations

from typing import Any

from mpcache.api import Guarantees
from mpcache.mutexes.base import Hold, Mutex


class NullMutex(Mutex):
    """For caches that are switched off, and where creating a value twice costs less than waiting for it."""

    guarantees = Guarantees(processes=False, hosts=False, survives_death=True, fair=True, takeover=0.0, threads=False)

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        hold.token = True  # anything but None, and not self: that would be a cycle
        return True

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        pass

    def _locked(self) -> bool:
        return False

    def _subject(self) -> Any:
        return object()  # equal to no other: a mutex that excludes nothing cannot wait for itself
