"""What every mutex owes its user: deadlines, ownership, re-entrance, repr and errors.

Leans on api and exception only; a primitive adds two verbs, ``_take`` and ``_give``, and knows nothing else.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar

from mpcache.api import CacheMutex, Guarantees, Outcome
from mpcache.exception import DeadlockError, NotHeld

_POLL_FIRST, _POLL_LAST = 0.001, 0.020


class Incarnation:
    """One life of one process.  A pid is no identity: it is reused, and a fork keeps every Python object."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()


_now_living = Incarnation()


def _born_again() -> None:
    global _now_living
    _now_living = Incarnation()


os.register_at_fork(after_in_child=_born_again)


def incarnation() -> Incarnation:
    """The present one: another object after a fork."""
    return _now_living


class Hold:
    """One acquisition of one key.

    It exists before the take and is filled by it, so that an exception that arrives in between (a signal
    handler's, a greenlet's death) finds an owner that gives the key back.
    """

    __slots__ = ("__weakref__", "asker", "give", "incarnation", "key", "live", "subject", "token")

    def __init__(self, mutex: Mutex) -> None:
        self.key = mutex.key
        self.subject = mutex._subject()
        self.give = type(mutex)._give
        self.incarnation = _now_living
        self.asker: Asker | None = Asker()
        self.token: Any = None
        self.live = False

    @property
    def foreign(self) -> bool:
        """Whether this hold belongs to the process that this one was forked from."""
        return self.incarnation is not _now_living or self.incarnation.pid != os.getpid()

    def end(self, stored: bool) -> None:
        """Give the key back, whatever signal's exception arrives meanwhile: ``give`` may be called again."""
        try:
            self.give(self, stored)
        except NotHeld:
            raise
        except BaseException:
            self.give(self, stored)
            raise
        finally:
            self.live, self.token = False, None

    def __del__(self) -> None:
        if self.token is not None and not self.foreign:
            self.end(False)
            text = f"the mutex of key {self.key!r} was dropped while held; it has been released"
            warnings.warn(text, ResourceWarning, 2)


class Asker:
    """Who asks: a thread, and in it the task or the greenlet that runs."""

    __slots__ = ("greenlet", "task", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.task = _ref(_current_task())
        self.greenlet = _ref(_current_greenlet())

    def is_me(self) -> bool:
        """Whether the code that runs now is the one that this object was made by."""
        return (
            self.thread == threading.get_ident()
            and (self.task and self.task()) is _current_task()
            and (self.greenlet and self.greenlet()) is _current_greenlet()
        )


def _ref(thing: Any) -> weakref.ref[Any] | None:
    return None if thing is None else weakref.ref(thing)


def _current_task() -> Any:
    asyncio = sys.modules.get("asyncio")
    loop = asyncio.events._get_running_loop() if asyncio is not None else None
    return asyncio.current_task(loop) if asyncio is not None and loop is not None else None


def _current_greenlet() -> Any:
    greenlet = sys.modules.get("greenlet")
    return greenlet.getcurrent() if greenlet is not None else None


# What the running task holds.  A context is inherited by tasks and copied into threads, therefore each hold
# also names its asker, and counts for that one alone.  References are weak: a hold that nobody has any more must end.
_held: ContextVar[tuple[weakref.ref[Hold], ...]] = ContextVar("mpcache_held", default=())


def held_by_me() -> tuple[Hold, ...]:
    """The live holds that were taken by the task, thread or greenlet that asks."""
    return tuple(h for h in _live_ones() if not h.foreign and h.asker and h.asker.is_me())


def _live_ones() -> list[Hold]:
    return [hold for ref in _held.get() if (hold := ref()) is not None and hold.live]


def cooperative() -> bool:
    """Whether ``threading`` is monkey-patched, so that to wait in C would stop every greenlet of this thread."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


class Mutex(CacheMutex):
    """A mutex for one key; a new object for each use, excluding every other one of an equal key.

    Owned by the process, not by the thread: any thread may release.  A forked child owns nothing.

    :param key: what is to be guarded: str, or bytes where the primitive says so.
    """

    guarantees: ClassVar[Guarantees]

    cooperates: ClassVar[bool] = False
    """Whether its waiting is Python's all through, so that other greenlets run where ``threading`` is patched."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self._hold: Hold | None = None

    @classmethod
    def for_region(cls, namespace: str, **arguments: Any) -> Callable[[Any], Mutex]:
        """A factory of mutexes for one region.

        :param namespace: names the region's store, in all processes alike, so that equal keys of different stores
            have nothing to do with each other.
        :param arguments: the user's; a namespace among them is preferred.
        """
        return functools.partial(cls, **{"namespace": namespace, **arguments})

    # -- what a primitive supplies -------------------------------------------------------------------

    def _take(self, hold: Hold, timeout: float | None) -> bool:
        """Take the key for ``hold`` and fill ``hold.token``: 0 tries, None waits for ever, else seconds."""
        raise NotImplementedError

    @staticmethod
    def _give(hold: Hold, stored: bool) -> None:
        """Give back what ``hold.token`` names.  Raises NotHeld when the primitive says that it was lost.

        May be called again for one hold, if a signal interrupted it.
        """
        raise NotImplementedError

    def _locked(self) -> bool:
        """Whether anybody holds the key."""
        raise NotImplementedError

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        """Like ``_take``, but may return early, when the holder let go."""
        return Outcome.ACQUIRED if self._take(hold, timeout) else Outcome.TIMEOUT

    def _owned(self, hold: Hold) -> bool:
        """Whether the primitive has not lost it, for one whose hold may lapse."""
        return True

    def _subject(self) -> Any:
        """What this mutex excludes others from, comparable: two objects of one subject exclude each other."""
        return (type(self), self.key)

    # -- what a user calls ---------------------------------------------------------------------------

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Take the key.

        :param wait: False returns at once.
        :param timeout: seconds to wait at most, on the monotonic clock; None is no limit.
        :return: whether it is held now.
        :raises DeadlockError: the same task holds this key already and would wait for itself.
        """
        return self._enter(wait, timeout, early=False) is Outcome.ACQUIRED

    def contend(self, timeout: float | None = None) -> Outcome:
        """Take the key, or learn that its holder let go, so that what it made can be looked at.

        Waiters for a cached value want the value, not the key: all of them may go on at once.

        :param timeout: seconds, as in :meth:`acquire`.
        :raises DeadlockError: as in :meth:`acquire`.
        """
        return self._enter(True, timeout, early=True)

    def release(self, stored: bool = True) -> None:
        """Give the key back; any thread of the process may.

        :param stored: False tells those who wait that no value was stored, so that they need not queue.
        :raises NotHeld: this object does not hold the key in this process (any more).
        """
        hold = self._hold
        if hold is None or not hold.live:
            raise NotHeld(f"{self!r} is not held by pid {os.getpid()}; acquire it before releasing it", key=self.key)
        if hold.foreign:
            raise NotHeld(
                f"{self!r}: pid {os.getpid()} cannot release it; pid {hold.incarnation.pid} acquired it before fork()",
                key=self.key,
                holder=hold.incarnation.pid,
            )
        self._hold = None
        hold.end(stored)

    def locked(self) -> bool:
        """Whether anybody, in any process, holds the key.  Never takes it."""
        return self._locked()

    def owned(self) -> bool:
        """Whether this object holds the key, in this process, and has not lost it."""
        hold = self._hold
        return hold is not None and hold.live and not hold.foreign and self._owned(hold)

    def hand_over(self) -> None:
        """Let the hold leave its task: a background thread will release it."""
        if self._hold is not None:
            self._hold.asker = None

    def __enter__(self) -> Mutex:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        hold = self._hold
        if hold is not None and hold.live:
            state = f"held by pid {hold.incarnation.pid}"
        else:
            state = self._state()
        return f"<{type(self).__name__} {self.key!r} {state}>"

    def _state(self) -> str:
        return "held elsewhere" if self._locked() else "free"

    # -- the way in ----------------------------------------------------------------------------------

    def _enter(self, wait: bool, timeout: float | None, *, early: bool) -> Outcome:
        if timeout is not None and not timeout >= 0:  # nan, too
            raise ValueError(f"timeout is {timeout!r} seconds; it must be 0 or more, or None for no limit")
        hold = Hold(self)
        if not wait:
            outcome = Outcome.ACQUIRED if self._take(hold, 0) else Outcome.TIMEOUT
        else:
            self._refuse_to_wait_for_myself(hold)
            outcome = self._wait(hold, timeout, early)
        if outcome is Outcome.ACQUIRED:
            hold.live = True
            self._hold = hold
            _held.set((*map(weakref.ref, _live_ones()), weakref.ref(hold)))
        return outcome

    def _wait(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        if cooperative() and not self.cooperates:
            return self._poll(hold, timeout)
        if early:
            return self._contend(hold, timeout)
        return Outcome.ACQUIRED if self._take(hold, timeout) else Outcome.TIMEOUT

    def _poll(self, hold: Hold, timeout: float | None) -> Outcome:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _POLL_FIRST
        while not self._take(hold, 0):
            if deadline is not None and time.monotonic() >= deadline:
                return Outcome.TIMEOUT
            time.sleep(pause)
            pause = min(pause * 1.5, _POLL_LAST)
        return Outcome.ACQUIRED

    def _refuse_to_wait_for_myself(self, hold: Hold) -> None:
        if any(mine.subject == hold.subject for mine in held_by_me()):
            raise DeadlockError(
                f"{type(self).__name__} of key {self.key!r}: this task holds it already and would wait for itself;"
                " a creator must not ask for its own key",
                key=self.key,
                pid=os.getpid(),
            )
