"""What all mutexes have in common: deadlines, ownership, re-entrance, repr and errors.

Depends on api, exception and greenlets.  A primitive adds two methods, ``_acquire`` and ``_release``, and knows nothing
of these.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from threading import get_ident
from typing import Any, ClassVar
from weakref import ref

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import CacheMutex, Guarantees, Outcome
from mpcache.exception import DeadlockError, NotHeld
from mpcache.mutexes.greenlets import sleep_of_hub

log = logging.getLogger("mpcache.mutexes")

ACQUIRED, TIMEOUT = Outcome.ACQUIRED, Outcome.TIMEOUT

_POLL_FIRST, _POLL_LAST = 0.001, 0.020

_loaded = sys.modules.get


class Incarnation:
    """One life of one process.  A pid does not identify it: pids are reused, and a fork keeps every Python object."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()


_now_living = Incarnation()


def _begin_incarnation() -> None:
    global _now_living
    _now_living = Incarnation()


os.register_at_fork(after_in_child=_begin_incarnation)


def incarnation() -> Incarnation:
    """Return the present one: another object after a fork."""
    return _now_living


class Owner:
    """The task, greenlet or thread that holds mutexes.  One object from its first acquisition on.

    :ivar holds: its holds, weakly, for a hold that is referenced nowhere must end.  Other threads remove items at any
        moment: a thread that releases, the garbage collector.
    """

    __slots__ = ("greenlet", "holds", "incarnation", "task", "thread")

    def __init__(self, task: Any, greenlet: Any) -> None:
        self.incarnation = _now_living
        self.thread = get_ident()
        self.task = None if task is None else ref(task)
        self.greenlet = None if greenlet is None else ref(greenlet)
        self.holds: set[ref[Hold]] = set()


_owner: ContextVar[Owner | None] = ContextVar("mpcache_owner", default=None)
"""Tasks inherit a context and threads get copies of it, so its owner need not be the task or thread that runs."""


def current_owner() -> Owner:
    """Return the owner for the task, greenlet or thread that runs."""
    # _asyncio, the part in C, is complete once it is loaded; another thread may be in the middle of importing asyncio.
    loops, greenlets, owner = _loaded("_asyncio"), _loaded("greenlet"), _owner.get()
    task = None if loops is None or loops._get_running_loop() is None else sys.modules["asyncio"].current_task()
    greenlet = None if greenlets is None else greenlets.getcurrent()
    if (
        owner is None
        or owner.thread != get_ident()
        or owner.incarnation is not _now_living
        or (owner.task and owner.task()) is not task
        or (owner.greenlet and owner.greenlet()) is not greenlet
    ):
        owner = Owner(task, greenlet)
        _owner.set(owner)
    return owner


class Hold:
    """One acquisition of one key.

    It exists before the key is taken, and the primitive fills it, so that an exception that arrives in between (from a
    signal handler, or by a greenlet's death) finds an object that releases the key.
    """

    __slots__ = ("__weakref__", "_release", "key", "owner", "subject", "token", "weak")

    def __init__(self, mutex: Mutex) -> None:
        self.token: Any = None
        self.key = mutex.key
        self.subject = mutex._subject()
        self._release = mutex._release
        self.owner = current_owner()
        self.weak = ref(self)

    @property
    def live(self) -> bool:
        """Return whether there is something to release."""
        return self.token is not None

    @property
    def pid(self) -> int:
        """Return the process that the hold belongs to."""
        return self.owner.incarnation.pid

    @property
    def foreign(self) -> bool:
        """Return whether this hold belongs to the process that this process was forked from."""
        return self.owner.incarnation is not _now_living

    def leave(self) -> None:
        """Let the owner wait for this key from now on: another thread will release it."""
        self.owner.holds.discard(self.weak)

    def release(self, stored: bool) -> None:
        """Release the key, also if a signal handler raises meanwhile: the primitive's release may be called again."""
        try:
            self._release(self, stored)
        except NotHeld:
            raise
        except BaseException:
            try:
                self._release(self, stored)
            except NotHeld:
                pass  # the first call had released it; the exception that came after that is raised
            raise
        finally:
            self.token = None
            self.owner.holds.discard(self.weak)

    def __del__(self) -> None:
        if getattr(self, "token", None) is not None and not self.foreign:  # no token: interrupted in __init__
            self.release(True)  # the waiters contend, as after a creator that raised; otherwise all would create
            text = f"the mutex of key {self.key!r} was dropped while held; it has been released"
            warnings.warn(text, ResourceWarning, 2)


def current_holds() -> tuple[Hold, ...]:
    """Return the live holds that the running task, greenlet or thread has acquired."""
    owner = current_owner()
    known = [(weak, weak()) for weak in owner.holds.copy()]  # copied in one step, while other threads remove items
    # An exception in the last step of a release leaves the reference of a dead hold behind.
    owner.holds.difference_update(weak for weak, hold in known if hold is None)
    return tuple(hold for _, hold in known if hold is not None and hold.live)


class Mutex(CacheMutex):
    """A mutex for one key.  Make a new object for each use; objects of equal keys exclude each other.

    The process owns it, not the thread: any thread may release it.  A forked child owns nothing.

    :param key: what is to be guarded: str, or bytes where the primitive says so.
    """

    guarantees: ClassVar[Guarantees]

    cooperates: ClassVar[bool] = False
    """Whether it waits in Python only, so that other greenlets run where ``threading`` is patched; otherwise, and where
    it is not patched, greenlets wait by polling."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self._hold: Hold | None = None

    @classmethod
    def for_region(cls, namespace: str, /, **arguments: Any) -> Callable[[Any], Mutex]:
        """Return a factory of mutexes for one region.

        :param namespace: names the region's store, in all processes alike.  A primitive that takes an argument of
            this name gets it, so that equal keys of different stores do not exclude each other.
        :param arguments: the user's; a namespace among them is preferred.
        """
        import inspect  # milliseconds of `import mpcache`; needed only where a mutex is configured by name

        if "namespace" in inspect.signature(cls).parameters:
            arguments.setdefault("namespace", namespace)
        return functools.partial(cls, **arguments)

    # -- what a primitive supplies -------------------------------------------------------------------

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        """Take the key for ``hold`` and set ``hold.token``.

        :param timeout: seconds to wait; 0: try once; None: no limit.
        """
        raise NotImplementedError

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        """Release what ``hold.token`` names.  May be called again for one hold, if a signal interrupted it.

        :raises NotHeld: the primitive says that it was lost.
        """
        raise NotImplementedError

    def _locked(self) -> bool:
        """Return whether any process holds the key."""
        raise NotImplementedError

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        """Do the same as ``_acquire``, but return as soon as another holder has released the key."""
        return ACQUIRED if self._acquire(hold, timeout) else TIMEOUT

    def _owned(self, hold: Hold) -> bool:
        """Return whether the primitive still has it; for primitives whose holds may lapse."""
        return True

    def _subject(self) -> Any:
        """Return what this mutex excludes others from, comparable: two objects of one subject exclude each other."""
        return (type(self), self.key)

    # -- what a user calls ---------------------------------------------------------------------------

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Take the key.

        :param wait: False returns at once.
        :param timeout: seconds to wait at most, on the monotonic clock; None is no limit.
        :return: whether it is held now.
        :raises DeadlockError: the same task holds this key already and would wait for itself.
        """
        return self._acquire_hold(wait, timeout, self._acquire_outcome) is ACQUIRED

    def contend(self, timeout: float | None = None) -> Outcome:
        """Take the key, or return when its holder has released it, so that the caller can look for the value.

        Waiters for a cached value want the value, not the key: all of them may go on at once.

        :param timeout: seconds, as in :meth:`acquire`.
        :raises DeadlockError: as in :meth:`acquire`.
        """
        return self._acquire_hold(True, timeout, self._contend)

    def release(self, stored: bool = True) -> None:
        """Release the key; any thread of the process may.

        :param stored: False says to the waiters that no value was stored, so that they need not queue.
        :raises NotHeld: this object does not hold the key in this process (any more).
        """
        hold = self._hold
        if hold is None or hold.token is None:
            raise NotHeld(f"{self!r} is not held by pid {os.getpid()}; acquire it before releasing it", key=self.key)
        if hold.owner.incarnation is not _now_living:
            raise NotHeld(
                f"{self!r}: pid {os.getpid()} cannot release it; pid {hold.pid} acquired it before fork()",
                key=self.key,
                holder=hold.pid,
            )
        hold.release(stored)
        self._hold = None  # not before: an exception that arrived on the way would leave nothing to release

    def abandon(self, handed_over: bool = False) -> None:
        """Release what an exception has left held; do nothing, if nothing is left.  Called while it is being raised.

        :param handed_over: whether the caller is the background runner that the hold was handed over to.
        """
        hold = self._hold
        if hold is None or not hold.live or hold.foreign or not (handed_over or hold.weak in hold.owner.holds):
            return
        try:
            hold.release(True)
        except Exception as error:  # the exception that led here is to be raised
            log.debug("%r could not be released: %s", self, error)
        self._hold = None

    def locked(self) -> bool:
        """Return whether any process holds the key.  Never takes it."""
        return self._locked()

    def owned(self) -> bool:
        """Return whether this object holds the key, in this process, and has not lost it."""
        hold = self._hold
        return hold is not None and hold.live and not hold.foreign and self._owned(hold)

    def hand_over(self) -> None:
        """Let the hold leave its task: a background thread will release it."""
        if self._hold is not None:
            self._hold.leave()

    def __enter__(self) -> Mutex:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        hold = self._hold
        if hold is not None and hold.live:
            state = f"held by pid {hold.pid}"
        else:
            state = self._state()
        return f"<{type(self).__name__} {self.key!r} {state}>"

    def _state(self) -> str:
        try:
            return "held elsewhere" if self._locked() else "free"
        except Exception as error:  # a message about this very error may contain the repr
            if raised_by_signal_handler(error):
                raise
            return f"in a state that cannot be told: {type(error).__name__}"

    # -- from the user to the primitive --------------------------------------------------------------

    def _acquire_outcome(self, hold: Hold, timeout: float | None) -> Outcome:
        return ACQUIRED if self._acquire(hold, timeout) else TIMEOUT

    def _acquire_hold(self, wait: bool, timeout: float | None, acquire: Attempt) -> Outcome:
        if timeout is not None and not timeout >= 0:  # nan, too
            raise ValueError(f"timeout is {timeout!r} seconds; it must be 0 or more, or None for no limit")
        hold = Hold(self)
        try:
            outcome = acquire(hold, 0) if not wait else self._wait(hold, timeout, acquire)
            if outcome is ACQUIRED:
                self._hold = hold
                hold.owner.holds.add(hold.weak)
        except BaseException:
            if hold.live:  # the exception arrived after the key was taken
                hold.release(True)
            raise
        return outcome

    def _wait(self, hold: Hold, timeout: float | None, acquire: Attempt) -> Outcome:
        owner = hold.owner
        if owner.holds:
            self._refuse_to_wait_for_myself(hold)
        sleep = None if owner.greenlet is None else sleep_of_hub(self.cooperates)
        return acquire(hold, timeout) if sleep is None else self._poll(hold, timeout, sleep)

    def _poll(self, hold: Hold, timeout: float | None, sleep: Callable[[float], Any]) -> Outcome:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _POLL_FIRST
        while not self._acquire(hold, 0):
            if deadline is not None and time.monotonic() >= deadline:
                return TIMEOUT
            sleep(pause)
            pause = min(pause * 1.5, _POLL_LAST)
        return ACQUIRED

    def _refuse_to_wait_for_myself(self, hold: Hold) -> None:
        if any(mine.subject == hold.subject for mine in current_holds()):
            raise DeadlockError(
                f"{type(self).__name__} of key {self.key!r}: this task holds it already and would wait for itself;"
                " a creator must not ask for its own key",
                key=self.key,
                pid=os.getpid(),
            )


Attempt = Callable[[Hold, "float | None"], Outcome]
"""``_acquire`` or ``_contend`` of a mutex, the former with an outcome."""
