"""Leases at a server: they lapse when their holder dies, and are renewed while it lives.

Depends on two_level and on outage.  A lease is a right for some seconds, granted by the server, which keeps the time
(Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency", 1989).  One
thread of each process renews all of its leases; a process that is stopped for longer than a lease finds on waking that
it has lost the lease.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import queue
import threading
import time
from typing import Any

from mpcache._servers.outage import silent_servers
from mpcache._support.durations import plain
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.exception import NotHeld
from mpcache.mutexes.two_level import ProcessLock

log = logging.getLogger("mpcache.mutexes")

DEFAULT_LEASE = 10.0
"""Seconds for which the death of a holder may keep the others waiting."""

_TIMES = 3
"""Renewals in the time of a lease: two of them may fail."""


class LeasedLock(ProcessLock):
    """A process lock that is a lease.  A primitive adds four methods, each of which asks the server once.

    A process that holds many keys of a server that does not answer waits once, not once for each key: a lease
    that is not released lapses, and a lease that may be lost counts as lost.

    :param lease: seconds.
    :param name: for messages: which mutex of which key.
    :param server: which server grants it, hashable: while one server does not answer, the leases of others are renewed.
    """

    def __init__(self, lease: float, name: str, server: Any = None) -> None:
        super().__init__()
        self.lease, self.name, self.server = lease, name, server
        self.next_renewal = self.ends = 0.0
        self._taken = False

    def _acquire_at_server(self) -> bool:
        """Take the key for the seconds of a lease, unless a process holds it."""
        raise NotImplementedError

    def _extend(self) -> bool:
        """Have a whole lease from now on; False: this lock does not hold the key any more."""
        raise NotImplementedError

    def _release_at_server(self, stored: bool) -> bool:
        """Release the key; False: this lock does not hold it any more."""
        raise NotImplementedError

    def _is_mine(self) -> bool:
        """Return whether the server says that this lock holds the key."""
        raise NotImplementedError

    def fence(self) -> int | None:
        """Return a number greater than that of every hold of the key before this one; None: the primitive has none."""
        return None

    def note_held(self) -> None:
        """Note that this process counts as the holder; for primitives whose stores ask for that."""

    def forget_held(self) -> None:
        """Forget the lock in this process, whatever the server knows of it: it is not renewed any more."""
        _renewer.forget(self)

    def acquire(self) -> bool:
        asked = time.monotonic()
        self._taken = True  # also if no answer comes: then release() releases what may have been taken
        self._taken = self._acquire_at_server()
        silent_servers.answered(self.server)
        if self._taken:
            self._date(asked)
            _renewer.keep(self)
        return self._taken

    def release(self, stored: bool) -> None:
        self.forget_held()
        if not self._taken:
            return
        mine = silent_servers.ask(self.server, self.name, functools.partial(self._release_at_server, stored))
        self._taken = False
        if not mine:
            raise NotHeld(
                f"{self.name}: pid {os.getpid()} has lost it; its lease of {plain(self.lease)} s lapsed while the"
                " process was stopped, or out of reach of the server, and another may hold it now",
                pid=os.getpid(),
                lease=self.lease,
            )

    def owned(self) -> bool:
        return self._taken and silent_servers.ask(self.server, self.name, self._is_mine)

    def renew(self) -> bool:
        """Renew the lease, which is due.  A server that does not answer is asked again, until the lease has lapsed.

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
        elif _renewer.forget(self):  # else it was released while the server was asked
            log.warning("%s: its lease has lapsed; another may hold it now", self.name)
        return answered

    def _date(self, asked: float) -> None:
        self.ends = asked + self.lease
        self.next_renewal = asked + self.lease / _TIMES

    def _left(self) -> float:
        return max(0.0, self.ends - time.monotonic())


class _Renewer:
    """The thread that renews; it begins with the first lease, and lives as long as the process.

    No lock guards the leases: one may be forgotten by the garbage collector in the midst of anything.
    """

    def __init__(self) -> None:
        self._leases: dict[int, LeasedLock] = {}
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleeps_until = math.inf  # and is woken for what is due before; inf, too, while it looks
        self._thread: threading.Thread | None = None
        self._beginning = threading.RLock()  # a signal's handler, too, may take a lease in the midst of it

    def keep(self, lease: LeasedLock) -> None:
        self._leases[id(lease)] = lease
        if not self._lives():
            with self._beginning:
                self._begin(lease)
        if lease.next_renewal < self._sleeps_until:  # else it would be woken, and want the GIL, at every acquire
            self._news.put(None)

    def forget(self, lease: LeasedLock) -> bool:
        """Return whether it was one of those that are renewed."""
        return self._leases.pop(id(lease), None) is not None

    def _lives(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, lease: LeasedLock) -> None:
        if self._lives():  # another thread was quicker
            return
        thread = threading.Thread(target=self._run, name="mpcache-leases", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is shutting down, or there is no room for a thread
            log.warning("%s: nothing renews its lease of %s s: %s", lease.name, plain(lease.lease), error)
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


def _renew_those_due(leases: list[LeasedLock]) -> None:
    """Try once each server that does not answer: what else is due there would wait as long, and comes next."""
    silent: set[Any] = set()
    for lease in leases:
        due = lease.next_renewal <= time.monotonic() and lease.server not in silent
        if due and not lease.renew():
            silent.add(lease.server)


_renewer = _Renewer()


def _begin_in_child() -> None:
    global _renewer
    _renewer = _Renewer()


os.register_at_fork(after_in_child=_begin_in_child)
