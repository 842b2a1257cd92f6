"""The memcached mutex: a lease at a server, whose waiters look again every 5 to 100 ms.

Depends on leased_mutex and on _servers.memcached.  What the server keeps of a key::

    _lock + key              token of the holder: host, pid, a random number    expires a second after the lease
    _lock + key + ~ + token  the holder released the key and stored nothing     expires after some seconds
"""

from __future__ import annotations

import math
import os
import random
import socket
import time
from typing import Any, ClassVar

from mpcache._servers.memcached import OVER, TIMEOUT, LockServer, plain_name, server_list
from mpcache._servers.memcached.pool import Servers
from mpcache._servers.names import namespaced
from mpcache._servers.outage import OutagePolicy
from mpcache.api import Guarantees, Outcome
from mpcache.exception import ValidationError
from mpcache.mutexes.base import incarnation
from mpcache.mutexes.leased import DEFAULT_LEASE, LeasedLock
from mpcache.mutexes.leased_mutex import LeasedMutex

_NOTE = 5
"""Seconds for which a waiter can learn that nothing was stored."""


def _token() -> bytes:
    return f"{socket.gethostname()} {incarnation().pid} {os.urandom(8).hex()}".encode()


class MemcachedLock(LeasedLock):
    """The lease of one key at one server."""

    pause_first, pause_last = 0.005, 0.1

    def __init__(self, server: LockServer, key: str, lease: float, name: str) -> None:
        super().__init__(lease, name, server)
        self._server, self._key = server, key
        self._token = _token()
        # memcached's clock ticks once a second: an item that is to live for n seconds may expire after n - 1.
        self._seconds = math.ceil(lease) + 1
        self._seen: bytes | None = None
        self._fence: int | None = None

    def _acquire_at_server(self) -> bool:
        return self._server.add(self._key, self._token, self._seconds)

    def _extend(self) -> bool:
        found = self._server.gets(self._key)
        if found is None or found[0] != self._token:
            return False
        return self._server.cas(self._key, self._token, self._seconds, found[1])

    def _release_at_server(self, stored: bool) -> bool:
        noted = stored
        while (found := self._server.gets(self._key)) is not None and found[0] == self._token:
            # Before the key is free, so that each process that sees it free finds the note; not if it was lost.
            if not noted:
                self._server.set(_note(self._key, self._token), b"unstored", _NOTE)
                noted = True
            if self._server.cas(self._key, b"", OVER, found[1]):
                return True  # otherwise it was renewed in between, or it has lapsed
        return False

    def _is_mine(self) -> bool:
        return self._server.get_many([self._key]).get(self._key) == self._token

    def fence(self) -> int | None:
        """Return the server's count of changes, which begins again at 1 when the server is restarted."""
        if self._fence is None:
            found = self._server.gets(self._key)
            self._fence = int(found[1]) if found is not None and found[0] == self._token else None
        return self._fence

    def wait(self, most: float | None) -> Outcome | None:
        """Look until the holder that was seen first is gone; another may have come since."""
        deadline = None if most is None else time.monotonic() + most
        if self._seen is None:
            self._seen = self._server.get_many([self._key]).get(self._key)
        while self._seen is not None:
            left = self._pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, random.uniform(self.pause_first, self._pause)))
            self._pause = min(self._pause * 1.5, self.pause_last)
            note = _note(self._key, self._seen)
            found = self._server.get_many([self._key, note])  # in this order, see _release_at_server
            if found.get(self._key) != self._seen:
                self._look_afresh()
                return Outcome.UNSTORED if note in found else Outcome.RELEASED
        self._look_afresh()
        return Outcome.RELEASED

    def _look_afresh(self) -> None:
        self._seen, self._pause = None, self.pause_first


def _note(name: str, token: bytes) -> str:
    return plain_name(name.encode() + b"~" + token.replace(b" ", b":"))


class MemcachedMutex(LeasedMutex):
    """A mutex among all processes that name the same memcached servers in the same order, through whichever library.

    When its holder dies, in whichever way, another process has it after the lease, rounded up to a second, and at most
    one second more; while the holder lives, the lease is renewed.  A key's lock is on one server, chosen by the key,
    and has no copy: if that server cannot be reached, no process gets the lock, and the library's error is raised; a
    release, or ``owned()``, that would ask a server that has just timed out raises
    TimeoutError at once.  A server that restarts, or evicts, forgets which process held what: the holder learns it from
    ``owned()`` or the release.  If a signal handler's exception interrupts an acquire, the key may stay taken until the
    lease lapses: the server may read the interrupted connection after the connection that releases the key.

    :param key: str, bytes, or a number, which is the same as its digits; a digest stands for whatever memcached does
        not take as a key.
    :param url: ``host:port``, ``[address]:port`` or the path of a unix socket; or a list of them.
    :param client: the connections to the servers, of a store; instead of the url.
    :param library: ``"pymemcache"``, ``"pylibmc"``, ``"memcached"`` (python-memcached) or ``"bmemcached"``.
    :param timeout: seconds until a server that does not answer counts as one that will not.
    :param lease: seconds for which the death of a holder keeps the others waiting; at least 1.
    :param prefix: before the key in the lock's name.
    :param namespace: keeps equal keys of different programs apart.
    :param outage: of a store; if it tolerates errors, creators run while the server is down.  None: errors are raised.
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
        outage: OutagePolicy | None = None,
    ) -> None:
        super().__init__(key, outage)
        if not 1 <= lease < math.inf:
            raise ValidationError(f"lease={lease!r} must be finite, and at least 1 second, which is memcached's grain")
        self._servers = client or self._connected(tuple(server_list(url)), library, timeout)
        self._lease = lease
        self._name = plain_name(prefix.encode() + namespaced(namespace, key))

    @classmethod
    def _connected(cls, urls: tuple[Any, ...], library: str, timeout: float) -> Servers:
        wanted = (urls, library, timeout)
        if wanted not in cls._bare:
            cls._bare[wanted] = Servers(urls, library, {"socket_timeout": timeout})
        return cls._bare[wanted]

    @property
    def server(self) -> LockServer:
        return self._servers.home(self._name)

    def _leased_lock(self) -> MemcachedLock:
        return MemcachedLock(self.server, self._name, self._lease, f"MemcachedMutex of key {self.key!r}")

    def _subject(self) -> Any:
        return (MemcachedMutex, self._servers.identity, self._name)

    def _holder(self) -> bytes | None:
        return self.server.get_many([self._name]).get(self._name)

    @staticmethod
    def _pid_and_host(words: list[str]) -> tuple[str, str] | None:
        return (words[1], words[0]) if len(words) == 3 else None
