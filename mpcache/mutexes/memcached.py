"""The memcached mutex: a lease at a server, whose waiters look again every 5 to 100 ms.

Leans on leased and on memcaching, which speaks to the server.  What is kept there of a key::

    _lock + key              token of the holder: host, pid, a random number    expires a second after the lease
    _lock + key + ~ + token  the holder let go and stored nothing               expires after some seconds
"""

from __future__ import annotations

import functools
import math
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any, ClassVar

from mpcache.api import Guarantees, Outcome
from mpcache.exception import ValidationError
from mpcache.memcaching import OVER, TIMEOUT, Lock, plain_name, server_list
from mpcache.memcaching.pool import Servers
from mpcache.mutexes.base import incarnation
from mpcache.mutexes.leased import DEFAULT_LEASE, LeasedBid, LeasedMutex, spaced

Forgive = Callable[[Callable[[], Any], Any], Any]

_NOTE = 5
"""Seconds for which a waiter can learn that nothing was stored."""


def _token() -> bytes:
    return f"{socket.gethostname()} {incarnation().pid} {os.urandom(8).hex()}".encode()


class MemcachedBid(LeasedBid):
    """One process's way to one key."""

    pause_first, pause_last = 0.005, 0.1

    def __init__(self, server: Lock, name: str, lease: float, who: str) -> None:
        super().__init__(lease, who, server)
        self._server, self._name = server, name
        self._token = _token()
        # memcached's clock ticks once a second: what is to live for n seconds may die after n - 1.
        self._seconds = math.ceil(lease) + 1
        self._seen: bytes | None = None
        self._fence: int | None = None

    def _ask(self) -> bool:
        return self._server.add(self._name, self._token, self._seconds)

    def _extend(self) -> bool:
        found = self._server.gets(self._name)
        if found is None or found[0] != self._token:
            return False
        return self._server.cas(self._name, self._token, self._seconds, found[1])

    def _return(self, stored: bool) -> bool:
        told = stored
        while (found := self._server.gets(self._name)) is not None and found[0] == self._token:
            if not told:  # before the key is free, so that whoever sees that it is finds the note; not if it was lost
                self._server.set(_note(self._name, self._token), b"unstored", _NOTE)
                told = True
            if self._server.cas(self._name, b"", OVER, found[1]):
                return True  # else it was renewed in between, or it has lapsed
        return False

    def _mine(self) -> bool:
        return self._server.get_many([self._name]).get(self._name) == self._token

    def fence(self) -> int | None:
        if self._fence is None:
            found = self._server.gets(self._name)
            self._fence = int(found[1]) if found is not None and found[0] == self._token else None
        return self._fence

    def wait(self, most: float | None) -> Outcome | None:
        """Look until the holder that was seen first is gone; whether another has come since is no matter."""
        deadline = None if most is None else time.monotonic() + most
        if self._seen is None:
            self._seen = self._server.get_many([self._name]).get(self._name)
        while self._seen is not None:
            left = self._pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, random.uniform(self.pause_first, self._pause)))
            self._pause = min(self._pause * 1.5, self.pause_last)
            note = _note(self._name, self._seen)
            found = self._server.get_many([self._name, note])  # in this order, see _return
            if found.get(self._name) != self._seen:
                self._forget()
                return Outcome.UNSTORED if note in found else Outcome.RELEASED
        self._forget()
        return Outcome.RELEASED

    def _forget(self) -> None:
        self._seen, self._pause = None, self.pause_first


def _note(name: str, token: bytes) -> str:
    return plain_name(name.encode() + b"~" + token.replace(b" ", b":"))


class _LenientBid(MemcachedBid):
    """Where the server cannot be reached each process goes on by itself, and stores nothing under this hold."""

    def __init__(self, server: Lock, name: str, lease: float, who: str, forgive: Forgive) -> None:
        super().__init__(server, name, lease, who)
        self._forgive = forgive

    def take(self) -> bool:
        taken: bool | None = self._forgive(super().take, None)
        self._taken = bool(taken)
        return taken is not False

    def _return(self, stored: bool) -> bool:
        return bool(self._forgive(functools.partial(super()._return, stored), True))

    def owned(self) -> bool:
        return bool(self._forgive(super().owned, False))

    def wait(self, most: float | None) -> Outcome | None:
        outcome: Outcome | None = self._forgive(functools.partial(super().wait, most), None)
        return outcome


class MemcachedMutex(LeasedMutex):
    """A mutex among all who name the same memcached servers in the same order, through whichever library.

    When its holder dies, in whichever way, another has it after the lease, rounded up to a second, and at most one
    more; while the holder lives, the lease is renewed.  A key's lock lives on one server, chosen by the key, and there
    is no second one for it: if that server cannot be reached, nobody gets it, and the library's error is raised; where
    a release, or ``owned()``, would ask a server that has just been waited for in vain, TimeoutError at once.  A server
    that restarts, or evicts, forgets who held what: the holder learns it from its ``owned()`` or its release.  Where an
    acquire is cut short by a signal's exception, the key may stay taken until the lease lapses: the server may read
    the connection that was cut after the one by which the key is given back.

    :param key: str, bytes, or a number, which is the same as its digits; whatever memcached does not take as a key goes
        by its digest.
    :param url: ``host:port``, ``[address]:port`` or the path of a unix socket; or a list of them.
    :param client: what speaks to the servers: a ``mpcache.memcaching.pool.Servers``; instead of the url.
    :param library: ``"pymemcache"``, ``"pylibmc"``, ``"memcached"`` (python-memcached) or ``"bmemcached"``.
    :param timeout: seconds until a server that does not answer counts as one that will not.
    :param lease: seconds for which the death of a holder keeps the others waiting; at least 1.
    :param prefix: before the key in the lock's name.
    :param namespace: keeps equal keys of different programs apart.
    :param forgive: ``(act, otherwise)``, what ``act()`` returns, or the other if the server is in trouble: then each
        process goes on by itself.  None: the trouble is raised.
    """

    guarantees = Guarantees(
        processes=True, hosts=True, survives_death=True, fair=False, takeover=DEFAULT_LEASE + 1.5, leased=True
    )

    _bare: ClassVar[dict[Any, Servers]] = {}

    def __init__(
        self,
        key: str | bytes,
        *,
        url: Any = "127.0.0.1:11211",
        client: Servers | None = None,
        library: str = "pymemcache",
        timeout: float = TIMEOUT,
        lease: float = DEFAULT_LEASE,
        prefix: str = "_lock",
        namespace: str = "",
        forgive: Forgive | None = None,
    ) -> None:
        super().__init__(key)
        if not 1 <= lease < math.inf:
            raise ValidationError(f"lease={lease!r} must be finite, and at least 1 second, which is memcached's grain")
        self._servers = client or self._connected(tuple(server_list(url)), library, timeout)
        self._lease, self._forgive = lease, forgive
        self._name = plain_name(prefix.encode() + spaced(namespace, key))

    @classmethod
    def _connected(cls, urls: tuple[Any, ...], library: str, timeout: float) -> Servers:
        wanted = (urls, library, timeout)
        if wanted not in cls._bare:
            cls._bare[wanted] = Servers(urls, library, {"socket_timeout": timeout})
        return cls._bare[wanted]

    @property
    def fence(self) -> int | None:
        """A number greater than any that a holder before this one could have; None: not held, or lost.

        It is the server's count of changes.  It begins anew when the server is restarted.
        """
        hold = self._hold
        return hold.token.bid.fence() if hold is not None and hold.live and not hold.foreign else None

    @property
    def server(self) -> Lock:
        return self._servers.home(self._name)

    def _bid(self) -> MemcachedBid:
        who = f"MemcachedMutex of key {self.key!r}"
        if self._forgive is None:
            return MemcachedBid(self.server, self._name, self._lease, who)
        return _LenientBid(self.server, self._name, self._lease, who, self._forgive)

    def _subject(self) -> Any:
        return (MemcachedMutex, self._servers.identity, self._name)

    def _holder(self) -> bytes | None:
        return self.server.get_many([self._name]).get(self._name)

    @staticmethod
    def _pid_and_host(words: list[str]) -> tuple[str, str] | None:
        return (words[1], words[0]) if len(words) == 3 else None

    def _locked(self) -> bool:
        return super()._locked() if self._forgive is None else bool(self._forgive(super()._locked, False))
