"""A mutex that is a lease at a server, also while its store counts errors of the server as misses.

Depends on leased and on outage; the redis and memcached mutexes are such mutexes.
"""

from __future__ import annotations

from typing import Any

from mpcache._servers.outage import OutagePolicy, silent_servers
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Outcome
from mpcache.exception import NotHeld
from mpcache.mutexes.leased import LeasedLock
from mpcache.mutexes.two_level import ProcessLock, TwoLevelMutex


class OutageTolerantLock(ProcessLock):
    """A lease, or, while its server is out of reach, a hold that excludes the threads of this process only.

    ::

        the server       acquire()     owned()       release()
        answers          as it says    as it says    at the server
        does not         True          False         in this process; at the server a lease lapses

    ``owned()`` is False whenever the server cannot say True.  Another process may hold the key by then, and a value
    that is stored by two holders may be the older one; a value that is not stored is only created again.
    """

    def __init__(self, lock: LeasedLock, outage: OutagePolicy) -> None:
        super().__init__()
        self._lock, self._outage = lock, outage
        self.confirmed = False
        """Whether the server has said that this process holds the key."""

    def acquire(self) -> bool:
        acquired = self._outage.or_default(self._lock.acquire, None)
        self.confirmed = acquired is True
        if acquired is None:
            self._lock.note_held()  # so that the store fills under this hold, which the server will refuse
        return acquired is not False

    def release(self, stored: bool) -> None:
        self._lock.forget_held()
        try:
            self._outage.or_default(lambda: self._lock.release(stored), None)
        except NotHeld:
            if self.confirmed:
                raise

    def wait(self, most: float | None) -> Outcome | None:
        return self._outage.or_default(lambda: self._lock.wait(most), None)

    def stop_waiting(self) -> None:
        self._lock.stop_waiting()

    def owned(self) -> bool:
        return self.confirmed and self._outage.or_default(self._lock.owned, False)

    def fence(self) -> int | None:
        """Return the lease's; None also while the server cannot be asked for it."""
        return self._outage.or_default(self._lock.fence, None) if self.confirmed else None


class LeasedMutex(TwoLevelMutex):
    """The base of mutexes whose process locks are leases.  A primitive adds which process holds the key.

    :param outage: of the store; None: errors of the server are raised.
    :ivar server: as in :class:`LeasedLock`.
    """

    def __init__(self, key: Any, outage: OutagePolicy | None = None) -> None:
        super().__init__(key)
        self._outage = outage if outage is not None and outage.tolerates else None

    @property
    def server(self) -> Any:
        raise NotImplementedError

    def _leased_lock(self) -> LeasedLock:
        """Return a new lock, for one acquisition."""
        raise NotImplementedError

    def _holder(self) -> bytes | None:
        """Return what the server keeps of the holder; None: no process holds the key."""
        raise NotImplementedError

    @staticmethod
    def _pid_and_host(words: list[str]) -> tuple[str, str] | None:
        """Return the holder's, of the words that the server keeps; None: another program has written them."""
        raise NotImplementedError

    @property
    def fence(self) -> int | None:
        """Return a number greater than that of every hold of the key before this one; None: not held, or lost."""
        hold = self._hold
        found: int | None = None
        if hold is not None and hold.live and not hold.foreign:
            found = hold.token.lock.fence()
        return found

    @property
    def unconfirmed(self) -> bool:
        """Return whether it was acquired while its server was out of reach, which the store has logged."""
        hold = self._hold
        return hold is not None and hold.live and not getattr(hold.token.lock, "confirmed", True)

    def _process_lock(self) -> ProcessLock:
        lock = self._leased_lock()
        return lock if self._outage is None else OutageTolerantLock(lock, self._outage)

    def _locked(self) -> bool:
        if self._outage is None:
            return self._holder() is not None
        return self._outage.or_default(lambda: self._holder() is not None, False)

    def _state(self) -> str:
        try:
            holder = silent_servers.ask(self.server, type(self).__name__, self._holder)
        except Exception as error:  # a message about this very error may contain the repr
            if raised_by_signal_handler(error):
                raise
            return f"unknown, since the server does not answer: {type(error).__name__}"
        if holder is None:
            return "free"
        known = self._pid_and_host(holder.decode(errors="replace").split())
        return "held by another program" if known is None else "held by pid {} on {}".format(*known)
