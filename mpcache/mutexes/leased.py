"""Leases at a server: they lapse when their holder dies, and are renewed while it lives.

Leans on fronted.  A lease is a right for some seconds, given by who keeps the time (Gray and Cheriton, "Leases: an
efficient fault-tolerant mechanism for distributed file cache consistency", 1989).  One thread of each process renews
all of its leases; who is stopped for longer than a lease finds on waking that it has lost it.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.exception import NotHeld
from mpcache.mutexes.fronted import Bid, FrontedMutex

log = logging.getLogger("mpcache.mutexes")

R = TypeVar("R")

DEFAULT_LEASE = 10.0
"""Seconds for which the death of a holder may keep the others waiting."""

SLOW = 0.25
"""Seconds after which an error is that of a server which does not answer, whatever the driver calls it."""

REST = 1.0
"""Seconds for which such a server is not asked again where one can do without its answer."""

_TIMES = 3
"""Renewals in the time of a lease: two of them may fail."""


def plain(key: Any) -> bytes:
    """A key as servers know it.  Numbers go by their digits, as the clients of those servers have it.

    :raises TypeError: it is neither text nor a number, and need not read the same in each process.
    """
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key)
    if isinstance(key, (int, float)):
        return str(key).encode()
    raise TypeError(f"key {key!r} is of type {type(key).__name__}; a mutex at a server takes str, bytes or a number")


def spaced(namespace: str, key: Any) -> bytes:
    """A key in a namespace, as :func:`plain` has it, behind a netstring, so that no other pair reads the same.

    Without a namespace it is the key alone, as dogpile.cache has it.
    """
    space = namespace.encode("utf-8", "surrogatepass")
    return (b"%d:%b," % (len(space), space) if space else b"") + plain(key)


class LeasedBid(Bid):
    """A bid whose hold is a lease.  A primitive adds four verbs: to ask, to extend, to return, to see whose it is.

    Who holds many keys of a server that does not answer waits for it once, not once for each: a lease that is not
    returned lapses, and one that may be lost counts as lost.

    :param lease: seconds.
    :param name: for messages: which mutex of which key.
    :param server: who gives it, hashable: while one server does not answer, the leases of others are renewed.
    """

    def __init__(self, lease: float, name: str, server: Any = None) -> None:
        super().__init__()
        self.lease, self.name, self.server = lease, name, server
        self.next_renewal = self.ends = 0.0
        self._taken = False

    def _ask(self) -> bool:
        """Take the key for the seconds of a lease, unless somebody has it."""
        raise NotImplementedError

    def _extend(self) -> bool:
        """Have a whole lease from now on; False: it is not mine any more."""
        raise NotImplementedError

    def _return(self, stored: bool) -> bool:
        """Give it back; False: it is not mine any more."""
        raise NotImplementedError

    def _mine(self) -> bool:
        """Whether it is mine, by the server's word."""
        raise NotImplementedError

    def take(self) -> bool:
        asked = time.monotonic()
        self._taken = True  # also if no answer comes: then free() returns what may be ours
        self._taken = self._ask()
        _silent.pop(self.server, None)
        if self._taken:
            self._date(asked)
            _renewer.keep(self)
        return self._taken

    def free(self, stored: bool) -> None:
        _renewer.forget(self)
        if not self._taken:
            return
        mine = _answer(self.server, self.name, functools.partial(self._return, stored))
        self._taken = False
        if not mine:
            raise NotHeld(
                f"{self.name}: pid {os.getpid()} has lost it; its lease of {self.lease:g} s lapsed while the process"
                " was stopped, or out of reach of the server, and another may hold it now",
                pid=os.getpid(),
                lease=self.lease,
            )

    def owned(self) -> bool:
        return self._taken and _answer(self.server, self.name, self._mine)

    def renew(self) -> bool:
        """Called when it is due.  A server that does not answer is asked again, until the lease has lapsed.

        :return: whether it has answered.
        """
        asked, answered = time.monotonic(), True
        try:
            mine = self._extend()
        except Exception as error:  # whatever the driver raises; the next attempt is due soon
            self.next_renewal = time.monotonic() + self.lease / (2 * _TIMES)
            if raised_by_signal_handler(error):
                raise
            if asked < self.ends:
                log.warning("%s: its lease could not be renewed and ends in %.1f s: %s", self.name, self._left(), error)
                return False
            mine = answered = False
        if mine:
            self._date(asked)
        elif _renewer.forget(self):  # else it was given back while the server was asked
            log.warning("%s: its lease has lapsed; another may hold it now", self.name)
        return answered

    def _date(self, asked: float) -> None:
        self.ends = asked + self.lease
        self.next_renewal = asked + self.lease / _TIMES

    def _left(self) -> float:
        return max(0.0, self.ends - time.monotonic())


class LeasedMutex(FrontedMutex):
    """The base of those whose bids are leases.  A primitive adds who holds the key, and how that reads.

    :ivar server: as in :class:`LeasedBid`.
    """

    @property
    def server(self) -> Any:
        raise NotImplementedError

    def _holder(self) -> bytes | None:
        """What the server keeps of the holder; None: there is none."""
        raise NotImplementedError

    @staticmethod
    def _pid_and_host(words: list[str]) -> tuple[str, str] | None:
        """The holder's, of the words that the server keeps; None: another program has written them."""
        raise NotImplementedError

    def _locked(self) -> bool:
        return self._holder() is not None

    def _state(self) -> str:
        try:
            holder = _answer(self.server, type(self).__name__, self._holder)
        except Exception as error:  # it stands in messages about just that
            if raised_by_signal_handler(error):
                raise
            return f"unknown, since the server does not answer: {type(error).__name__}"
        if holder is None:
            return "free"
        known = self._pid_and_host(holder.decode(errors="replace").split())
        return "held by another program" if known is None else "held by pid {} on {}".format(*known)


_silent: dict[Any, float] = {}
"""Servers, and until when they are not asked."""


def _answer(server: Any, name: str, ask: Callable[[], R]) -> R:
    """The server's; raises TimeoutError, if it has just left another question without one."""
    if time.monotonic() < _silent.get(server, 0.0):
        raise TimeoutError(f"{name}: its server did not answer a moment ago, and is not asked now")
    asked = time.monotonic()
    try:
        return ask()
    except BaseException:  # be it the driver's or a signal's
        if time.monotonic() - asked > SLOW:
            _silent[server] = time.monotonic() + REST
        raise


class _Renewer:
    """The thread that renews; it begins with the first lease, and lives as long as the process.

    No lock guards the leases: one may be forgotten by the garbage collector in the midst of anything.
    """

    def __init__(self) -> None:
        self._leases: dict[int, LeasedBid] = {}
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleeps_until = math.inf  # and is woken for what is due before; inf, too, while it looks
        self._thread: threading.Thread | None = None
        self._beginning = threading.RLock()  # a signal's handler, too, may take a lease in the midst of it

    def keep(self, lease: LeasedBid) -> None:
        self._leases[id(lease)] = lease
        if not self._lives():
            with self._beginning:
                self._begin(lease)
        if lease.next_renewal < self._sleeps_until:  # else it would be woken, and want the GIL, at every acquire
            self._news.put(None)

    def forget(self, lease: LeasedBid) -> bool:
        """Whether it was one of those that are renewed."""
        return self._leases.pop(id(lease), None) is not None

    def _lives(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, lease: LeasedBid) -> None:
        if self._lives():  # another thread was quicker
            return
        thread = threading.Thread(target=self._run, name="mpcache-leases", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is shutting down, or there is no room for a thread
            log.warning("%s: nothing renews its lease of %g s: %s", lease.name, lease.lease, error)
        else:
            self._thread = thread

    def _run(self) -> None:
        while self is _renewer:
            self._sleeps_until = math.inf
            leases = list(self._leases.values())
            _renew_those_due(leases)
            self._sleeps_until = min((lease.next_renewal for lease in leases), default=math.inf)
            del leases  # or a lease that was dropped would live, and be renewed, until the next one comes
            self._sleep(self._sleeps_until)

    def _sleep(self, until: float) -> None:
        try:
            self._news.get(timeout=None if until == math.inf else max(0.0, until - time.monotonic()))
        except queue.Empty:
            pass


def _renew_those_due(leases: list[LeasedBid]) -> None:
    """One try for each server that does not answer: what else is due there would only wait as long, and comes next."""
    silent: set[Any] = set()
    for lease in leases:
        due = lease.next_renewal <= time.monotonic() and lease.server not in silent
        if due and not lease.renew():
            silent.add(lease.server)


_renewer = _Renewer()


def _born_again() -> None:
    global _renewer
    _renewer = _Renewer()


os.register_at_fork(after_in_child=_born_again)
