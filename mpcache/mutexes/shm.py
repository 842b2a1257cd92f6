"""The shared-memory mutex: a lease in a segment, taken over within milliseconds after its holder's death.

Depends on base and on shm; the protocol is the engine's (core/lease.c).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mpcache.api import Guarantees, Outcome
from mpcache.exception import DeadlockError, NotHeld, SegmentError, SegmentRetired
from mpcache.mutexes.base import ACQUIRED, Hold, Mutex, current_holds
from mpcache.shm._engine import Lease
from mpcache.shm.handle import NamespaceHandle
from mpcache.shm.names import stored_name
from mpcache.shm.segment import find

DEFAULT_SIZE = "4MB"

_TAKEN, _DEADLOCK = 0, 4
_OUTCOMES = {1: Outcome.RELEASED, 2: Outcome.UNSTORED, 3: Outcome.TIMEOUT}

_places: dict[tuple[Any, ...], NamespaceHandle] = {}


def _place(segment: str, namespace: str, size: int | str | None) -> NamespaceHandle:
    wanted = (os.geteuid(), segment, namespace)
    if wanted not in _places:
        there = None if size is not None else find(segment, replace=True, for_mutexes=True)
        made = DEFAULT_SIZE if size is None else size
        _places[wanted] = NamespaceHandle(namespace, there, name=segment, size=made, for_mutexes=True)
    return _places[wanted]


def _leases() -> tuple[Lease, ...]:
    """Return what the running task holds, as the engine knows it."""
    return tuple(hold.token for hold in current_holds() if isinstance(hold.token, Lease))


class _NoLease:
    """The token of a hold that excludes no other: the segment is out of reach, and each process goes on alone."""

    fence, took_over = 0, False

    @staticmethod
    def release(stored: bool) -> bool:
        return True


def _acquire(lease: Any, hold: Hold, timeout: float | None, early: bool, held: Any) -> Any:
    """Acquire a lease for a hold; return the engine's outcome.

    A signal handler may raise when the lease is taken and the hold does not have it yet.  The traceback refers to the
    lease, and may be kept, so that it has to be released here.
    """
    try:
        outcome = lease.acquire(timeout, early, held)
        if outcome == _TAKEN:
            hold.token = lease
        return outcome
    except BaseException:
        hold.token = None
        lease.release(True)
        raise


class ShmMutex(Mutex):
    """A mutex among all processes of this user on this machine.

    When its holder dies, in whichever way, a waiter has it some 20 ms later.

    :param key: str or bytes; over 65,535 bytes a digest stands for it.
    :param segment: the segment that it is in; all mutexes of this segment and key exclude each other.
    :param namespace: keeps equal keys of different programs apart.
    :param size: of the segment; None: use the existing segment as it is, or make one of 4 MiB.
    :param place: for stores: the namespace whose keys are meant.
    :param tolerate: for stores: called with a SegmentError, after which the mutex is acquired without excluding others;
        None: the error is raised.
    """

    guarantees = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=0.1)

    def __init__(
        self,
        key: str | bytes,
        *,
        segment: str = "mutexes",
        namespace: str = "",
        size: int | str | None = None,
        place: NamespaceHandle | None = None,
        tolerate: Callable[[SegmentError], None] | None = None,
    ) -> None:
        super().__init__(key)
        self._record, self._tolerate = place is not None, tolerate
        self._place = place or _place(segment, namespace, size)
        self._what = (ShmMutex, self._place.identity, self._record, key)

    @property
    def fence(self) -> int | None:
        """Return the number of this hold, greater than that of every hold of the segment before it; None: not held."""
        hold = self._hold
        return hold.token.fence if hold is not None and hold.live else None

    @property
    def took_over(self) -> bool:
        """Return whether it was taken from a holder that had died."""
        hold = self._hold
        return bool(hold is not None and hold.live and hold.token.took_over)

    def _subject(self) -> Any:
        return self._what

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        return self._acquire_lease(hold, timeout, False) is ACQUIRED

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        return self._acquire_lease(hold, timeout, True)

    def _acquire_lease(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        try:
            return self._acquire_in_segment(hold, timeout, early)
        except SegmentError as error:
            if self._tolerate is None:
                raise
            self._tolerate(error)
            hold.token = _NoLease()
            return ACQUIRED

    def _acquire_in_segment(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        held = _leases() if hold.owner.holds and timeout != 0 else ()
        while True:
            try:
                lease = self._place.namespace.lease(stored_name(self.key), self._record)
                outcome = _acquire(lease, hold, timeout, early, held)
            except SegmentRetired:
                self._place.move()
                continue
            if outcome == _DEADLOCK:
                raise self._deadlock()
            return ACQUIRED if outcome == _TAKEN else _OUTCOMES[outcome]

    def _deadlock(self) -> DeadlockError:
        mine = tuple(hold.key for hold in current_holds())
        return DeadlockError(
            f"ShmMutex of key {self.key!r}: its holder, pid {self._holder()}, waits in turn for what this task holds:"
            f" {', '.join(map(repr, mine))}; take keys in one order, or outside of each other's creators",
            key=self.key,
            pid=os.getpid(),
            holder=self._holder(),
            cycle=mine,
        )

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        if not hold.token.release(stored):
            raise NotHeld(
                f"ShmMutex of key {hold.key!r}: pid {os.getpid()} has lost it; this process has left the segment"
                " meanwhile, or was taken for dead, and another may hold it now",
                key=hold.key,
                pid=os.getpid(),
            )

    def _holder(self) -> int | None:
        """Return the holder's pid, for messages; None also if the segment was removed."""
        try:
            return self._place.namespace.holder(stored_name(self.key), self._record)
        except SegmentRetired:
            return None

    def _locked(self) -> bool:
        try:
            return self._is_held()
        except SegmentError as error:
            if self._tolerate is None:
                raise
            self._tolerate(error)
            return False  # nothing holds a key in a segment that is out of reach

    def _is_held(self) -> bool:
        while True:
            try:
                return self._place.namespace.holder(stored_name(self.key), self._record) is not None
            except SegmentRetired:
                self._place.move()

    def _state(self) -> str:
        pid = self._holder()
        return "free" if pid is None else f"held by pid {pid}"
