"""A mutex of many processes in two levels: among the threads of each process, then among the processes.

Depends on local.  A primitive that knows processes but not threads, and tries but does not wait, adds a
:class:`ProcessLock`; the redis, memcached, file and semaphore mutexes do.
"""

from __future__ import annotations

import logging
import random
import time
from typing import ClassVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Outcome
from mpcache.exception import NotHeld
from mpcache.mutexes.base import Hold, Mutex
from mpcache.mutexes.local import LocalHold, Scope

log = logging.getLogger("mpcache.mutexes")

_threads = Scope()

POLL_FIRST, POLL_LAST = 0.001, 0.020
"""Seconds between two tries of a waiter that nothing wakes: the first and the longest pause."""


class ProcessLock:
    """One attempt of one process to hold one key, and the hold itself.  Used by one thread at a time."""

    pause_first: ClassVar[float] = POLL_FIRST
    pause_last: ClassVar[float] = POLL_LAST

    def __init__(self) -> None:
        self._pause = self.pause_first

    def acquire(self) -> bool:
        """Try once.  When it raises an exception, the mutex calls :meth:`release`, which undoes what was done."""
        raise NotImplementedError

    def release(self, stored: bool) -> None:
        """Release what :meth:`acquire` took, if it took it, and wake the waiters.  May be called again.

        :param stored: whether there is a value now, for those that wait for a value.
        :raises NotHeld: it was acquired and is not held any more.
        """
        raise NotImplementedError

    def wait(self, most: float | None) -> Outcome | None:
        """After a failed try: wait until something may have changed, ``most`` seconds at most.

        :return: RELEASED or UNSTORED, if the holder is known to have released the key since; None: try again.
        """
        pause = random.uniform(self._pause / 2, self._pause)
        self._pause = min(self._pause * 1.5, self.pause_last)
        time.sleep(pause if most is None else min(pause, most))
        return None

    def stop_waiting(self) -> None:
        """Close what :meth:`wait` keeps open between two calls.  Called after the last try, whatever its result."""

    def owned(self) -> bool:
        """Return whether it is still held; for locks that can be lost."""
        return True


class TwoLevelHold:
    """The token of a hold: a local hold, and a process lock."""

    __slots__ = ("local", "lock")

    def __init__(self, local: LocalHold, lock: ProcessLock) -> None:
        self.local, self.lock = local, lock

    def release(self, stored: bool) -> None:
        """Release the process lock, then the local hold, whatever the former raises."""
        try:
            self.lock.release(stored)
        except NotHeld:
            stored = True  # another process may be creating the value: the local waiters look again, and contend
            raise
        finally:
            self.local.release(stored)


class TwoLevelMutex(Mutex):
    """The base of mutexes that add a :class:`ProcessLock`; they also define ``_locked`` and ``_subject``."""

    cooperates = True

    def _process_lock(self) -> ProcessLock:
        """Return a new process lock, for one acquisition."""
        raise NotImplementedError

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        hold.token.release(stored)

    def _owned(self, hold: Hold) -> bool:
        return bool(hold.token.lock.owned())

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        return self._acquire_both(hold, timeout, False) is Outcome.ACQUIRED

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        return self._acquire_both(hold, timeout, True)

    def _acquire_both(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        """Acquire the key among the threads, then among the processes.

        :param early: return as soon as another holder has released the key, as ``contend()`` does.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        hold.token = both = TwoLevelHold(LocalHold(_threads, self._subject()), self._process_lock())
        try:
            outcome = _acquire_local(both.local, deadline, early)
            if outcome is Outcome.ACQUIRED:
                outcome = _acquire_process(both.lock, deadline, early)
        except BaseException:
            _release_interrupted(both)
            hold.token = None  # not before: if an exception comes on the way, the hold releases what is left
            raise
        if outcome is not Outcome.ACQUIRED:
            # The local waiters get the outcome that this thread got from the other processes.
            both.local.release(outcome is not Outcome.UNSTORED)
            hold.token = None
        return outcome


def _acquire_local(local: LocalHold, deadline: float | None, early: bool) -> Outcome:
    while (other := local.acquire()) is not None:
        outcome = other.wait(_left(deadline))
        if early or outcome is Outcome.TIMEOUT:
            return outcome
    return Outcome.ACQUIRED


def _acquire_process(lock: ProcessLock, deadline: float | None, early: bool) -> Outcome:
    try:
        while not lock.acquire():
            left = _left(deadline)
            if left is not None and left <= 0:
                return Outcome.TIMEOUT
            heard = lock.wait(left)
            if early and heard is not None:
                return heard
        return Outcome.ACQUIRED
    finally:
        lock.stop_waiting()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _release_interrupted(both: TwoLevelHold) -> None:
    """Release what an interrupted acquire may have taken; the exception that interrupted it is raised afterwards."""
    try:
        both.release(True)  # no creator said that it stored nothing: the local waiters must contend, not all create
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        log.debug("%s while what an interrupted acquire may have taken was released", error)
