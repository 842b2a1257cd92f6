"""The redis mutex, and the valkey mutex: a lease at a server, whose release wakes the waiters.

Depends on leased_mutex and on _servers.redis.  What the server keeps of a held key::

    _lock + key     "mpcache 0 <token, 32 digits> <fence> <pid> <host>", expires after a lease; other text: dogpile's
    mpcache:fence   the last fence, of all keys

``0`` becomes ``1`` when the key's value is set or deleted: then the value that the holder creates is not to be stored.
In a cluster a tag in both names puts them on the node of the value.  Each step is one script, and each script may come
twice, since a driver repeats a command that a broken connection left without an answer.
"""

from __future__ import annotations

import functools
import importlib
import math
import random
import socket
import time
import uuid
from typing import Any, ClassVar

from mpcache._servers.outage import OutagePolicy
from mpcache._servers.redis import holds
from mpcache._servers.redis.client import client_of
from mpcache._servers.redis.names import is_cluster, names_of, place_of
from mpcache._servers.redis.script import Script, reply_bytes
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Guarantees, Outcome
from mpcache.mutexes.base import Hold, Incarnation, incarnation
from mpcache.mutexes.leased import DEFAULT_LEASE, LeasedLock
from mpcache.mutexes.leased_mutex import LeasedMutex

POLL = 0.1
"""Seconds after which a waiter asks again though nothing woke it: the holder has died, or is dogpile.cache's."""


# A fence grows even if the server's clock was set back, as long as the last one is known: for a day.
_ACQUIRE = Script("""
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 11, 42) ~= ARGV[1] then
    return {0, there}
end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or 0) or 0
local fence = string.format('%.0f', math.max(last + 1, now[1] * 1000000 + now[2]))
redis.call('SET', KEYS[1], 'mpcache 0 ' .. ARGV[1] .. ' ' .. fence .. ' ' .. ARGV[3], 'PX', ARGV[2])
redis.call('SET', KEYS[2], fence, 'PX', 86400000)
return {1, fence}
""")

_EXTEND = Script("""
if string.sub(redis.call('GET', KEYS[1]) or '', 11, 42) ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

# A user without the right to publish may still lock: then the waiters poll.
_RELEASE = Script("""
if string.sub(redis.call('GET', KEYS[1]) or '', 11, 42) ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', KEYS[1], ARGV[1] .. ARGV[2])
return 1
""")

_HOLDER = Script("return redis.call('GET', KEYS[1])")  # not a bare GET: that might ask a replica


# -- the mutex -----------------------------------------------------------------------------------------


class RedisLock(LeasedLock):
    """The lease of one key at one server.

    :param names: of the lock and of the fence.
    :param place: of the server, as :func:`place_of` says it.
    """

    def __init__(
        self, client: Any, names: tuple[bytes, bytes], place: Any, lease: float, poll: float, name: str
    ) -> None:
        super().__init__(lease, name, place)
        self._client, self._names, self._place, self._poll = client, names, place, poll
        self.token = uuid.uuid4().hex.encode()
        self._fence: int | None = None
        self._seen = b""
        self._bell: Any = None

    def _acquire_at_server(self) -> bool:
        lease = max(1, round(self.lease * 1000))
        acquired, found = _ACQUIRE(self._client, list(self._names), self.token, lease, _whoami(incarnation()))
        if not acquired:
            self._seen = reply_bytes(found)[10:42]
            return False
        self._fence = int(found)
        self.note_held()
        return True

    def fence(self) -> int | None:
        return self._fence

    def note_held(self) -> None:
        holds.note(self._place, self._names[0], self)

    def forget_held(self) -> None:
        super().forget_held()
        holds.forget(self._place, self._names[0], self)

    def _extend(self) -> bool:
        return bool(_EXTEND(self._client, [self._names[0]], self.token, max(1, round(self.lease * 1000))))

    def _release_at_server(self, stored: bool) -> bool:
        return bool(_RELEASE(self._client, [self._names[0]], self.token, b"1" if stored else b"0"))

    def _is_mine(self) -> bool:
        holder = _HOLDER(self._client, [self._names[0]])
        return holder is not None and reply_bytes(holder)[10:42] == self.token

    # -- waiting ---------------------------------------------------------------------------------------

    def wait(self, most: float | None) -> Outcome | None:
        if self._bell is None:
            self._bell = self._listen(1.0 if most is None else min(1.0, most)) or False
            return None  # a release before this subscription was not heard: try again first
        pause = random.uniform(self._poll / 2, self._poll)
        pause = pause if most is None else min(pause, most)
        if self._bell:
            return self._hear(pause)
        time.sleep(pause)
        return None

    def stop_waiting(self) -> None:
        bell, self._bell = self._bell, None
        if bell:
            bell.close()

    def _listen(self, most: float) -> Any:
        """Return a connection that hears of the key's release; None: the server gives none."""
        try:
            bell = _bell(self._client)
            bell.subscribe(self._names[0])
            if bell.get_message(timeout=most) is not None:
                return bell
            bell.close()
        except Exception as error:  # any of the driver's; if the server is down, the next try raises
            if raised_by_signal_handler(error):
                raise
        return None

    def _hear(self, most: float) -> Outcome | None:
        try:
            message = self._bell.get_message(ignore_subscribe_messages=True, timeout=most)
        except Exception as error:  # as in _listen
            self.stop_waiting()
            if raised_by_signal_handler(error):
                raise
            return None
        said = reply_bytes(message["data"]) if message else b""
        if not said or said[:32] != self._seen:
            return None
        return Outcome.RELEASED if said[32:] == b"1" else Outcome.UNSTORED


@functools.lru_cache(maxsize=1)
def _whoami(living: Incarnation) -> str:
    return f"{living.pid} {socket.gethostname()}"


def _bell(client: Any) -> Any:
    """Return a subscriber with a connection of its own: waiters must take none from the threads that work."""
    bell, pool = client.pubsub(), getattr(client, "connection_pool", None)
    if pool is not None:
        new_pool = importlib.import_module(type(bell).__module__.partition(".")[0]).ConnectionPool
        bell.connection_pool = new_pool(pool.connection_class, **pool.connection_kwargs)
    return bell


class RedisMutex(LeasedMutex):
    """A mutex among all processes that use one redis server, or cluster.

    When its holder dies, in whichever way, another process has it a lease later.  While the holder lives, the lease is
    renewed.  Errors of the server are raised as the driver's exceptions; but a release, or ``owned()``, that would ask
    a server that has just timed out raises Python's TimeoutError at once.

    :param key: str, bytes, or a number, which is the same as its digits.
    :param url: of the server; see the driver's ``from_url``.
    :param client: to be used instead of the url, also of a cluster; its time-outs are those that it was made with.
    :param lease: seconds for which the death of a holder keeps the others waiting.
    :param prefix: before the key in the lock's name.  The default is that of dogpile.cache: the two exclude each other.
    :param namespace: keeps equal keys of different programs apart.
    :param poll: seconds after which a waiter asks again, at the latest, if nothing woke it.
    :param blocking_timeout: seconds that no wait exceeds; None: what the caller says.
    :param outage: of a store; if it tolerates errors, creators run while the server is down.  None: errors are raised.
    """

    guarantees = Guarantees(
        processes=True, hosts=True, survives_death=True, fair=False, takeover=DEFAULT_LEASE + 1, leased=True
    )

    driver: ClassVar[str] = "redis"

    def __init__(
        self,
        key: str | bytes,
        *,
        url: str = "redis://127.0.0.1:6379",
        client: Any = None,
        lease: float = DEFAULT_LEASE,
        prefix: str = "_lock",
        namespace: str = "",
        poll: float = POLL,
        blocking_timeout: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> None:
        super().__init__(key, outage)
        if not (0 < lease < math.inf and 0 < poll < math.inf):
            raise ValueError(f"lease={lease!r} and poll={poll!r} are seconds, and must be more than 0, and finite")
        self._client = client_of(self.driver, url) if client is None else client
        self._place = place_of(self._client)
        self._names = names_of(key, prefix, namespace, is_cluster(self._client))
        self._lease, self._pause, self._longest = lease, poll, blocking_timeout

    @property
    def server(self) -> Any:
        return self._place

    def _leased_lock(self) -> RedisLock:
        name = f"{type(self).__name__} of key {self.key!r}"
        return RedisLock(self._client, self._names, self._place, self._lease, self._pause, name)

    def _acquire_both(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        if self._longest is not None:
            timeout = self._longest if timeout is None else min(timeout, self._longest)
        return super()._acquire_both(hold, timeout, early)

    def _subject(self) -> Any:
        return (RedisMutex, self._place, self._names[0])

    def _holder(self) -> bytes | None:
        holder = _HOLDER(self._client, [self._names[0]])
        return None if holder is None else reply_bytes(holder)

    @staticmethod
    def _pid_and_host(words: list[str]) -> tuple[str, str] | None:
        return (words[4], words[5]) if len(words) == 6 and words[0] == "mpcache" else None


class ValkeyMutex(RedisMutex):
    """A :class:`RedisMutex` with the driver ``valkey``."""

    driver = "valkey"
