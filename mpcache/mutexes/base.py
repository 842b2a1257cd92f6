"""What every mutex owes its user: deadlines, ownership, re-entrance, repr and errors.

Leans on api, exception and greenlets; a primitive adds two verbs, ``_take`` and ``_give``, and knows nothing else.
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


class Asker:
    """Who asks: a thread, and in it the task or the greenlet that runs.  One object, from its first question on.

    :ivar holds: what it holds, weakly, for a hold that nobody has any more must end.  Others take things out of it at
        any moment: the thread that releases, the garbage collector.
    """

    __slots__ = ("greenlet", "holds", "incarnation", "task", "thread")

    def __init__(self, task: Any, greenlet: Any) -> None:
        self.incarnation = _now_living
        self.thread = get_ident()
        self.task = None if task is None else ref(task)
        self.greenlet = None if greenlet is None else ref(greenlet)
        self.holds: set[ref[Hold]] = set()


_asker: ContextVar[Asker | None] = ContextVar("mpcache_asker", default=None)
"""A context is inherited by tasks and copied into threads, therefore its asker need not be the one who runs."""


def who_asks() -> Asker:
    """The task, thread or greenlet that runs."""
    # Asyncio's part in C is whole once it is there; asyncio itself may be half imported, by another thread.
    loops, greenlets, asker = _loaded("_asyncio"), _loaded("greenlet"), _asker.get()
    task = None if loops is None or loops._get_running_loop() is None else sys.modules["asyncio"].current_task()
    greenlet = None if greenlets is None else greenlets.getcurrent()
    if (
        asker is None
        or asker.thread != get_ident()
        or asker.incarnation is not _now_living
        or (asker.task and asker.task()) is not task
        or (asker.greenlet and asker.greenlet()) is not greenlet
    ):
        asker = Asker(task, greenlet)
        _asker.set(asker)
    return asker


class Hold:
    """One acquisition of one key.

    It exists before the take and is filled by it, so that an exception that arrives in between (a signal
    handler's, a greenlet's death) finds an owner that gives the key back.
    """

    __slots__ = ("__weakref__", "asker", "give", "key", "subject", "token", "weak")

    def __init__(self, mutex: Mutex) -> None:
        self.token: Any = None
        self.key = mutex.key
        self.subject = mutex._subject()
        self.give = mutex._give
        self.asker = who_asks()
        self.weak = ref(self)

    @property
    def live(self) -> bool:
        """Whether there is something to give back."""
        return self.token is not None

    @property
    def pid(self) -> int:
        """The process that it belongs to."""
        return self.asker.incarnation.pid

    @property
    def foreign(self) -> bool:
        """Whether this hold belongs to the process that this one was forked from."""
        return self.asker.incarnation is not _now_living

    def leave(self) -> None:
        """Its asker may wait for it from now on; another thread will end it."""
        self.asker.holds.discard(self.weak)

    def end(self, stored: bool) -> None:
        """Give the key back, whatever signal's exception arrives meanwhile: ``give`` may be called again."""
        try:
            self.give(self, stored)
        except NotHeld:
            raise
        except BaseException:
            try:
                self.give(self, stored)
            except NotHeld:
                pass  # for the first time had given it back; what came after that is to be told
            raise
        finally:
            self.token = None
            self.asker.holds.discard(self.weak)

    def __del__(self) -> None:
        if getattr(self, "token", None) is not None and not self.foreign:  # none, if it was interrupted while made
            self.end(True)  # who waits asks anew, as after a creator that raised; else all would create at once
            text = f"the mutex of key {self.key!r} was dropped while held; it has been released"
            warnings.warn(text, ResourceWarning, 2)


def held_by_me() -> tuple[Hold, ...]:
    """The live holds that were taken by the task, thread or greenlet that asks."""
    holds = who_asks().holds.copy()  # in one step, while others take things out
    return tuple(hold for known in holds if (hold := known()) is not None and hold.live)


class Mutex(CacheMutex):
    """A mutex for one key; a new object for each use, excluding every other one of an equal key.

    Owned by the process, not by the thread: any thread may release.  A forked child owns nothing.

    :param key: what is to be guarded: str, or bytes where the primitive says so.
    """

    guarantees: ClassVar[Guarantees]

    cooperates: ClassVar[bool] = False
    """Whether its waiting is Python's all through, so that other greenlets run where ``threading`` is patched; else,
    and where it is not patched, greenlets wait by polling."""

    def __init__(self, key: Any) -> None:
        self.key = key
        self._hold: Hold | None = None

    @classmethod
    def for_region(cls, namespace: str, /, **arguments: Any) -> Callable[[Any], Mutex]:
        """A factory of mutexes for one region.

        :param namespace: names the region's store, in all processes alike.  A primitive that takes an argument of
            this name gets it, so that equal keys of different stores have nothing to do with each other.
        :param arguments: the user's; a namespace among them is preferred.
        """
        import inspect  # milliseconds of `import mpcache`; only who names a mutex comes here

        if "namespace" in inspect.signature(cls).parameters:
            arguments.setdefault("namespace", namespace)
        return functools.partial(cls, **arguments)

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
        return ACQUIRED if self._take(hold, timeout) else TIMEOUT

    def _compete(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        """``_take`` and ``_contend`` in one, for those to whom they are one."""
        if early:
            return self._contend(hold, timeout)
        return ACQUIRED if self._take(hold, timeout) else TIMEOUT

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
        return self._enter(wait, timeout, False) is ACQUIRED

    def contend(self, timeout: float | None = None) -> Outcome:
        """Take the key, or learn that its holder let go, so that what it made can be looked at.

        Waiters for a cached value want the value, not the key: all of them may go on at once.

        :param timeout: seconds, as in :meth:`acquire`.
        :raises DeadlockError: as in :meth:`acquire`.
        """
        return self._enter(True, timeout, True)

    def release(self, stored: bool = True) -> None:
        """Give the key back; any thread of the process may.

        :param stored: False tells those who wait that no value was stored, so that they need not queue.
        :raises NotHeld: this object does not hold the key in this process (any more).
        """
        hold = self._hold
        if hold is None or hold.token is None:
            raise NotHeld(f"{self!r} is not held by pid {os.getpid()}; acquire it before releasing it", key=self.key)
        if hold.asker.incarnation is not _now_living:
            raise NotHeld(
                f"{self!r}: pid {os.getpid()} cannot release it; pid {hold.pid} acquired it before fork()",
                key=self.key,
                holder=hold.pid,
            )
        hold.end(stored)
        self._hold = None  # not before: an exception that arrived on the way would leave nothing to release

    def abandon(self, handed_over: bool = False) -> None:
        """Release what an exception has left held, which is being raised now; nothing, if there is nothing left.

        :param handed_over: whether the caller is the one that the hold was handed over to.
        """
        hold = self._hold
        if hold is None or not hold.live or hold.foreign or not (handed_over or hold.weak in hold.asker.holds):
            return
        try:
            hold.end(True)
        except Exception as error:  # the one that led here is to be raised
            log.debug("%r could not be released: %s", self, error)
        self._hold = None

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
        except Exception as error:  # it stands in messages about just that
            if raised_by_signal_handler(error):
                raise
            return f"in a state that cannot be told: {type(error).__name__}"

    # -- the way in ----------------------------------------------------------------------------------

    def _enter(self, wait: bool, timeout: float | None, early: bool) -> Outcome:
        if timeout is not None and not timeout >= 0:  # nan, too
            raise ValueError(f"timeout is {timeout!r} seconds; it must be 0 or more, or None for no limit")
        hold = Hold(self)
        try:
            outcome = self._compete(hold, 0, early) if not wait else self._wait(hold, timeout, early)
            if outcome is ACQUIRED:
                self._hold = hold
                hold.asker.holds.add(hold.weak)
        except BaseException:
            if hold.live:  # the exception arrived after the take
                hold.end(True)
            raise
        return outcome

    def _wait(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        asker = hold.asker
        if asker.holds:
            self._refuse_to_wait_for_myself(hold)
        sleep = None if asker.greenlet is None else sleep_of_hub(self.cooperates)
        return self._compete(hold, timeout, early) if sleep is None else self._poll(hold, timeout, sleep)

    def _poll(self, hold: Hold, timeout: float | None, sleep: Callable[[float], Any]) -> Outcome:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _POLL_FIRST
        while self._compete(hold, 0, False) is not ACQUIRED:
            if deadline is not None and time.monotonic() >= deadline:
                return TIMEOUT
            sleep(pause)
            pause = min(pause * 1.5, _POLL_LAST)
        return ACQUIRED

    def _refuse_to_wait_for_myself(self, hold: Hold) -> None:
        if any(mine.subject == hold.subject for mine in held_by_me()):
            raise DeadlockError(
                f"{type(self).__name__} of key {self.key!r}: this task holds it already and would wait for itself;"
                " a creator must not ask for its own key",
                key=self.key,
                pid=os.getpid(),
            )
