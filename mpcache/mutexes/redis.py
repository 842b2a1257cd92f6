"""The redis mutex, and that of valkey: a lease at a server, whose release wakes those who wait.

Leans on leased and on clients.  What the server keeps of a held key::

    _lock + key     "mpcache 0 <token, 32 digits> <fence> <pid> <host>", expires after a lease; other text: dogpile's
    mpcache:fence   the last fence, of all keys

``0`` becomes ``1`` when the key's value was set or deleted since: then what the holder makes is not to be stored.
In a cluster a tag in both names puts them on the node of the value.  Each step is one script, and each may come twice,
since a driver repeats what a broken connection left without an answer.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import importlib
import itertools
import math
import random
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Guarantees, Outcome
from mpcache.mutexes.base import Hold, Incarnation, incarnation
from mpcache.mutexes.clients import client_of
from mpcache.mutexes.leased import DEFAULT_LEASE, LeasedBid, LeasedMutex, plain, spaced

POLL = 0.1
"""Seconds after which a waiter asks again though nobody woke him: the holder has died, or is dogpile.cache's."""

SLOTS = 16384
"""Of a cluster."""


class Script:
    """A text in Lua, of which the server is told the digest, and the whole only if it does not know it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

    def __call__(self, client: Any, keys: list[Any], *arguments: Any) -> Any:
        try:
            return client.evalsha(self.digest, len(keys), *keys, *arguments)
        except Exception as error:
            if not unknown(error):
                raise
        return client.eval(self.text, len(keys), *keys, *arguments)


def unknown(error: BaseException) -> bool:
    """Whether the server says that it does not know a script; each driver has its own class for that."""
    return type(error).__name__ == "NoScriptError"


# A fence grows even if the server's clock was set back, as long as the last one is known: for a day.
_ASK = Script("""
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

# A user who may not publish may still lock: those who wait then poll.
_RETURN = Script("""
if string.sub(redis.call('GET', KEYS[1]) or '', 11, 42) ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', KEYS[1], ARGV[1] .. ARGV[2])
return 1
""")

_LOOK = Script("return redis.call('GET', KEYS[1])")  # not a bare GET: that might ask a replica


def _bytes(said: Any) -> bytes:
    """A reply, whatever the client makes of bytes."""
    return said.encode() if isinstance(said, str) else bytes(said)


# -- names ---------------------------------------------------------------------------------------------


def slot_of(key: bytes) -> int:
    """The hash slot of a key, by the cluster specification: of its tag, if there is something between braces."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    tag = key[start + 1 : end] if end > start + 1 else key
    return binascii.crc_hqx(tag, 0) % SLOTS


@functools.lru_cache(maxsize=1)
def tags() -> dict[int, bytes]:
    """For each slot a text that lies in it, in all processes the same: the first such number."""
    found: dict[int, bytes] = {}
    for number in itertools.count():  # to 150,000 or so, in some hundredths of a second
        found.setdefault(binascii.crc_hqx(b"%d" % number, 0) % SLOTS, b"%d" % number)
        if len(found) == SLOTS:
            break
    return found


def is_cluster(client: Any) -> bool:
    """Whether a client speaks to a cluster."""
    return hasattr(client, "keyslot")


def names_of(key: str | bytes, prefix: str, namespace: str, clustered: bool) -> tuple[bytes, bytes]:
    """The names of a key's lock and of its fence."""
    full = spaced(namespace, key)
    if not clustered:
        return prefix.encode() + full, b"mpcache:fence"
    tag = b"{" + tags()[slot_of(plain(key))] + b"}"
    return prefix.encode() + tag + full, b"mpcache:fence" + tag


def place_of(client: Any) -> Any:
    """What says whether two clients speak to the same database: comparable."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return client
    how = pool.connection_kwargs
    if hasattr(pool, "service_name"):
        return (pool.service_name, how.get("db") or 0, client)
    return (how.get("path") or (how.get("host", "localhost"), how.get("port", 6379)), how.get("db") or 0)


# -- the mutex -----------------------------------------------------------------------------------------


class RedisBid(LeasedBid):
    """One process's way to one key of one server.

    :param names: of the lock and of the fence.
    :param place: of the server, as :func:`place_of` says it.
    """

    def __init__(
        self, client: Any, names: tuple[bytes, bytes], place: Any, lease: float, poll: float, who: str
    ) -> None:
        super().__init__(lease, who, place)
        self._client, self._names, self._place, self._poll = client, names, place, poll
        self.token = uuid.uuid4().hex.encode()
        self.fence: int | None = None
        self._seen = b""
        self._bell: Any = None

    def _ask(self) -> bool:
        lease = max(1, round(self.lease * 1000))
        taken, what = _ASK(self._client, list(self._names), self.token, lease, _whoami(incarnation()))
        if not taken:
            self._seen = _bytes(what)[10:42]
            return False
        self.fence = int(what)
        self.hold_here()
        return True

    def hold_here(self) -> None:
        """Let the stores of this process know."""
        _holds[incarnation(), self._place, self._names[0]] = self

    def _extend(self) -> bool:
        return bool(_EXTEND(self._client, [self._names[0]], self.token, max(1, round(self.lease * 1000))))

    def _return(self, stored: bool) -> bool:
        return bool(_RETURN(self._client, [self._names[0]], self.token, b"1" if stored else b"0"))

    def _mine(self) -> bool:
        there = _LOOK(self._client, [self._names[0]])
        return there is not None and _bytes(there)[10:42] == self.token

    def free(self, stored: bool) -> None:
        if _holds.get((incarnation(), self._place, self._names[0])) is self:
            del _holds[incarnation(), self._place, self._names[0]]
        super().free(stored)

    # -- waiting ---------------------------------------------------------------------------------------

    def wait(self, most: float | None) -> Outcome | None:
        if self._bell is None:
            self._bell = self._listen(1.0 if most is None else min(1.0, most)) or False
            return None  # what was released meanwhile was not heard: try again first
        pause = random.uniform(self._poll / 2, self._poll)
        pause = pause if most is None else min(pause, most)
        if self._bell:
            return self._hear(pause)
        time.sleep(pause)
        return None

    def rest(self) -> None:
        bell, self._bell = self._bell, None
        if bell:
            bell.close()

    def _listen(self, most: float) -> Any:
        """A connection that hears of the key's release; None: there is none to be had."""
        try:
            bell = _bell(self._client)
            bell.subscribe(self._names[0])
            if bell.get_message(timeout=most) is not None:
                return bell
            bell.close()
        except Exception as error:  # whatever the driver raises; if it is the server's end, the next try says so
            if raised_by_signal_handler(error):
                raise
        return None

    def _hear(self, most: float) -> Outcome | None:
        try:
            message = self._bell.get_message(ignore_subscribe_messages=True, timeout=most)
        except Exception as error:  # as in _listen
            self.rest()
            if raised_by_signal_handler(error):
                raise
            return None
        said = _bytes(message["data"]) if message else b""
        if not said or said[:32] != self._seen:
            return None
        return Outcome.RELEASED if said[32:] == b"1" else Outcome.UNSTORED


@functools.lru_cache(maxsize=1)
def _whoami(living: Incarnation) -> str:
    return f"{living.pid} {socket.gethostname()}"


def _bell(client: Any) -> Any:
    """A subscriber with a connection of its own: who waits must take none from those who work."""
    bell, pool = client.pubsub(), getattr(client, "connection_pool", None)
    if pool is not None:
        anew = importlib.import_module(type(bell).__module__.partition(".")[0]).ConnectionPool
        bell.connection_pool = anew(pool.connection_class, **pool.connection_kwargs)
    return bell


# What this process holds, for the stores: (incarnation, place, name of the lock) -> the bid.
_holds: dict[Any, RedisBid] = {}


def held_here(place: Any, name: bytes) -> RedisBid | None:
    """The hold that this process has of a lock; None: it has none."""
    return _holds.get((incarnation(), place, name))


class RedisMutex(LeasedMutex):
    """A mutex among all who use one redis server, or cluster.

    When its holder dies, in whichever way, another has it a lease later.  While the holder lives, the lease is renewed.
    Errors of the server are the driver's; but a TimeoutError of Python's comes at once where a release, or ``owned()``,
    would ask a server that has just been waited for in vain.

    :param key: str, bytes, or a number, which is the same as its digits.
    :param url: of the server; see the driver's ``from_url``.
    :param client: one to be used instead, also of a cluster; how long it may take is for its maker to say.
    :param lease: seconds for which the death of a holder keeps the others waiting.
    :param prefix: before the key in the lock's name.  This one is dogpile.cache's, so that the two exclude each other.
    :param namespace: keeps equal keys of different programs apart.
    :param poll: seconds after which a waiter asks again, at the latest, if nobody woke him.
    :param blocking_timeout: seconds that no wait exceeds; None: what the caller says.
    """

    guarantees = Guarantees(
        processes=True, hosts=True, survives_death=True, fair=False, takeover=DEFAULT_LEASE + 1, leased=True
    )

    driver: ClassVar[str] = "redis"
    bids: ClassVar[type[RedisBid]] = RedisBid

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
    ) -> None:
        super().__init__(key)
        if not (0 < lease < math.inf and 0 < poll < math.inf):
            raise ValueError(f"lease={lease!r} and poll={poll!r} are seconds, and must be more than 0, and finite")
        self._client = client_of(self.driver, url) if client is None else client
        self._place = place_of(self._client)
        self._names = names_of(key, prefix, namespace, is_cluster(self._client))
        self._lease, self._pause, self._longest = lease, poll, blocking_timeout

    @property
    def server(self) -> Any:
        return self._place

    @property
    def fence(self) -> int | None:
        """The number of this hold, greater than that of every hold of the key before it; None: not held."""
        hold = self._hold
        return hold.token.bid.fence if hold is not None and hold.live else None

    def _bid(self) -> RedisBid:
        who = f"{type(self).__name__} of key {self.key!r}"
        return self.bids(self._client, self._names, self._place, self._lease, self._pause, who)

    def _compete(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        if self._longest is not None:
            timeout = self._longest if timeout is None else min(timeout, self._longest)
        return super()._compete(hold, timeout, early)

    def _subject(self) -> Any:
        return (RedisMutex, self._place, self._names[0])

    def _holder(self) -> bytes | None:
        there = _LOOK(self._client, [self._names[0]])
        return None if there is None else _bytes(there)

    @staticmethod
    def _pid_and_host(words: list[str]) -> tuple[str, str] | None:
        return (words[4], words[5]) if len(words) == 6 and words[0] == "mpcache" else None


class ValkeyMutex(RedisMutex):
    """The same with the driver ``valkey``."""

    driver = "valkey"


Forgive = Callable[[Callable[[], "bool | None"], "bool | None"], "bool | None"]
"""What becomes of a server's errors: ``forgive(act, otherwise)`` is what ``act`` returns, or the other."""


class _ForgivingBid(RedisBid):
    """One that counts as taken while the server cannot be asked: then it keeps the threads of this process apart.

    What is created under it is not stored, since the server, when it is back, does not know of it.
    """

    forgive: Forgive
    alone = False

    def _ask(self) -> bool:
        taken = self.forgive(super()._ask, None)
        if taken is None:
            self.alone = True
            self.hold_here()
        return taken is not False

    def _extend(self) -> bool:
        return self.alone or super()._extend()

    def _return(self, stored: bool) -> bool:
        returned = self.forgive(functools.partial(super()._return, stored), True)
        return self.alone or bool(returned)

    def _mine(self) -> bool:
        return self.alone or bool(self.forgive(super()._mine, True))


class ForgivingMutex(RedisMutex):
    """For a store that takes its server's errors for misses, so that creators run while it is down."""

    bids = _ForgivingBid

    def __init__(self, key: str | bytes, *, forgive: Forgive, **arguments: Any) -> None:
        super().__init__(key, **arguments)
        self._forgive = forgive

    def _locked(self) -> bool:
        return bool(self._forgive(super()._locked, False))

    def _bid(self) -> RedisBid:
        bid = super()._bid()
        bid.forgive = self._forgive  # type: ignore[attr-defined]
        return bid
