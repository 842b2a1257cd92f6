"""Memcached servers as a store, by four client libraries: python-memcached, pylibmc, bmemcached, pymemcache.

Depends on _servers.memcached for the connections, and on the memcached mutex.  What the servers keep under a key::

    {"ct": ..., "v": 2}|<payload>              bytes, whichever library writes them: they read each other's
    {"ct": ..., "v": 2, "e": ...}|<payload>    with a namespace: the generation in which the creation began
    mpcache:pending <random>                   a process is creating the value: a change of the key refuses its fill

The last is the lease of R. Nishtala and others, "Scaling Memcache at Facebook", 2013, kept in the item itself.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mpcache._servers.generation import judged
from mpcache._servers.memcached import MONTH, OVER, TIMEOUT, expiry, plain_name, server_list
from mpcache._servers.memcached.generation import MemcachedGeneration
from mpcache._servers.memcached.pool import Pool, Servers
from mpcache._servers.outage import OutagePolicy
from mpcache._support.hints import warn
from mpcache._wire import codec
from mpcache.api import (
    NO_VALUE,
    BytesBackend,
    CacheMutex,
    Keeping,
    KeyType,
    SerializedReturnType,
    guard_of,
)
from mpcache.backends import warn_of_unknown
from mpcache.backends._fill_guard import BaseFillGuard
from mpcache.backends._generation_strategy import GenerationStrategy
from mpcache.backends.own_client import OwnClient
from mpcache.exception import ValidationError, ValueTooLarge
from mpcache.invalidation import kept_for, limit
from mpcache.mutexes.base import incarnation
from mpcache.mutexes.leased import DEFAULT_LEASE
from mpcache.mutexes.memcached import MemcachedMutex

_PENDING = b"mpcache:pending"

_COMMON = ("url", "distributed_lock", "lock_timeout", "memcached_expire_time")
_OURS = ("socket_timeout", "namespace", "on_error")


class GenericMemcachedBackend(OwnClient, BytesBackend):
    """The base of the four memcached stores.

    :param arguments: ``url``, ``host:port`` or the path of a unix socket, or a list of them; ``memcached_expire_time``,
        seconds after which the server forgets a value; ``lock_timeout``, the mutex's lease, 0 for the default;
        ``distributed_lock``, False for a mutex of threads; ``socket_timeout``, seconds; ``namespace``, whose values
        ``invalidate()`` reaches in all processes; ``on_error``, ``"raise"`` or ``"miss"``.
    :raises ImportError: the library is not installed.
    """

    shared = True
    keeping = Keeping("hosts", "its users", "the server's ``-m``", "a round trip, unpickling", "memcached")

    library: ClassVar[str]
    takes: ClassVar[tuple[str, ...]] = ()
    """The arguments that only this store takes."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._prepare_client(arguments)
        if not self.brings_client:  # otherwise further arguments may be for that client
            warn_of_unknown(self, arguments, (*_COMMON, *_OURS, *self.takes))
        if arguments.get("url") is None:
            raise ValidationError(f"{type(self).__name__} needs the argument url, such as '127.0.0.1:11211'")
        self.url = server_list(arguments["url"])
        self._lifetime = kept_for(arguments.get("memcached_expire_time"), "memcached_expire_time")
        if self.brings_client:
            self.set_arguments = self._set_arguments(arguments)
            return
        options = {name: arguments[name] for name in self.takes if arguments.get(name) is not None}
        options["socket_timeout"] = limit(arguments.get("socket_timeout"), "socket_timeout") or TIMEOUT
        self._pool = Pool(self.url, self.library, options, patient=True)
        self._servers = Servers(self.url, self.library, options)
        self._distributed = arguments.get("distributed_lock", True)
        self._lease = max(1.0, limit(arguments.get("lock_timeout") or DEFAULT_LEASE, "lock_timeout") or 0.0)
        namespace = arguments.get("namespace")
        self._outage = OutagePolicy(self, arguments.get("on_error", "raise"), self._pool.errors, (OSError,))
        self._generation: MemcachedGeneration | None = None
        if namespace is not None:
            self._generation = MemcachedGeneration(namespace, self._outage, self._pool)

    def _set_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return what dogpile.cache passes to the client with each value."""
        given = {"time": expiry(self._lifetime) or None, "min_compress_len": arguments.get("min_compress_len")}
        return {name: value for name, value in given.items() if value is not None}

    # -- reading ---------------------------------------------------------------------------------------

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        if self.brings_client:
            return self.get(key)  # type: ignore[return-value]
        if self._generation is not None or self._outage.tolerates:
            return self.get_serialized_multi((key,))[0]
        wire = self._pool.get(plain_name(key))
        return NO_VALUE if wire is None or wire.startswith(_PENDING) else wire

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        if not keys:
            return []
        if self.brings_client:
            return self.get_multi(keys)  # type: ignore[return-value]
        names = [plain_name(key) for key in keys]
        nothing: dict[str, bytes] = {}
        found = self._outage.or_default(lambda: self._found(names), nothing)
        wires = [found.get(name) for name in names]
        return [NO_VALUE if wire is None or wire.startswith(_PENDING) else wire for wire in wires]

    def _found(self, names: list[str]) -> dict[str, bytes]:
        if self._generation is None:
            return self._pool.get_many(names)
        found = self._pool.get_many([*names, self._generation.key])
        now = self._generation.note(found.pop(self._generation.key, None))
        return {name: judged(wire, now) for name, wire in found.items()}

    # -- writing ---------------------------------------------------------------------------------------

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        if self.brings_client:
            return self.set(key, value)
        if guard_of(self, key) is not None:
            self.set_serialized_multi({key: value})
            return
        epoch = None if self._generation is None else self._generation.now()
        try:
            self._pool.set(plain_name(key), _stamped(value, epoch), self._seconds(value))
        except ValueTooLarge as error:
            raise ValueTooLarge(str(error), key=key, refused={key: error}) from None

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        if self.brings_client:
            return self.set_multi(mapping)
        refused: dict[KeyType, ValueTooLarge] = {}
        plain: dict[KeyType, bytes] = {}
        for key, wire in mapping.items():
            guard = guard_of(self, key)
            if isinstance(guard, Guard):
                try:
                    guard.fill(wire, self._seconds(wire))
                except ValueTooLarge as error:
                    refused[key] = error
            else:
                plain[key] = wire
        if plain:
            self._set(plain, refused)
        for key, first in refused.items():  # all values that fit are stored; the first error carries the others
            raise ValueTooLarge(str(first), key=key, refused=refused)

    def _set(self, mapping: Mapping[KeyType, bytes], refused: dict[KeyType, ValueTooLarge]) -> None:
        epoch = None if self._generation is None else self._generation.now()
        batches: dict[int, dict[str, bytes]] = {}
        keys = {plain_name(key): key for key in mapping}
        for name, key in keys.items():
            batches.setdefault(self._seconds(mapping[key]), {})[name] = _stamped(mapping[key], epoch)
        for lifetime, batch in batches.items():
            # Storing the refused values of a batch one by one raises the reason of each.
            for name in self._pool.set_many(batch, lifetime) if len(batch) > 1 else batch:
                try:
                    self._pool.set(name, batch[name], lifetime)
                except ValueTooLarge as error:
                    refused[keys[name]] = error

    def _seconds(self, wire: bytes) -> int:
        """Return for how long the server keeps a value: until its time to live ends, at most as long as configured."""
        longest = expiry(self._lifetime)
        expires = codec.expires_at(wire)
        if expires is None or expires == math.inf:
            return longest
        left = math.ceil(expires - time.time()) + 1
        now = int(time.time())
        bound = longest - now if longest > MONTH else longest or left
        return expiry(max(1, min(left, bound)))

    def delete(self, key: KeyType) -> None:
        if self.brings_client:
            return super().delete(key)
        self._pool.delete_many([plain_name(key)])

    def delete_multi(self, keys: Sequence[KeyType]) -> None:
        if self.brings_client:
            return super().delete_multi(keys)
        if keys:
            self._pool.delete_many([plain_name(key) for key in keys])

    # -- what is shared --------------------------------------------------------------------------------

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        """Return a mutex for all processes; None, with ``distributed_lock=False``: then threads are enough."""
        if self.brings_client:
            return super().get_mutex(key)
        if not self._distributed:
            return None
        return MemcachedMutex(key, client=self._servers, lease=self._lease, outage=self._outage)

    def begin_fill(self, key: KeyType) -> Guard | None:
        if self.brings_client:
            return None
        guard = Guard(self._pool, plain_name(key), self._outage)
        self._outage.or_default(lambda: guard.begin(self._generation), None)
        return guard

    def invalidation(self) -> GenerationStrategy | None:
        return None if self.brings_client or self._generation is None else GenerationStrategy(self._generation)

    @property
    def errors(self) -> Mapping[str, int]:
        """Return how often which error counted as a miss (``on_error="miss"``), in this process."""
        return self._outage.counts

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(map(str, self.url))}>"


class MemcachedBackend(GenericMemcachedBackend):
    """``mpcache.memcached``, through python-memcached.

    :param arguments: besides, ``dead_retry``, seconds for which a server that failed is not asked (30), and
        ``min_compress_len``, bytes from which on values are compressed (0: never).
    """

    library = "memcached"
    takes = ("dead_retry", "min_compress_len")


class PylibmcBackend(GenericMemcachedBackend):
    """``mpcache.pylibmc``, through pylibmc.

    :param arguments: besides, ``binary``, the protocol; ``behaviors``, a dict for libmemcached; ``min_compress_len``.
    """

    library = "pylibmc"
    takes = ("behaviors", "binary", "min_compress_len")


class BMemcachedBackend(GenericMemcachedBackend):
    """``mpcache.bmemcached``, through python-binary-memcached.

    :param arguments: besides, ``username``, ``password`` and ``tls_context``.
    """

    library = "bmemcached"
    takes = ("password", "tls_context", "username")


_RETRYING = ("do_not_retry_for", "retry_attempts", "retry_delay", "retry_for")


class PyMemcacheBackend(GenericMemcachedBackend):
    """``mpcache.pymemcache``, through pymemcache.

    :param arguments: besides, ``serde``, which gets bytes; ``default_noreply``; ``tls_context``;
        ``socket_keepalive``; ``enable_retry_client``, with ``retry_attempts``, ``retry_delay``, ``retry_for`` and
        ``do_not_retry_for``; ``hashclient_retry_attempts`` (2), ``hashclient_retry_timeout`` (1) and
        ``hashclient_dead_timeout`` (60), seconds.
    """

    library = "pymemcache"
    takes = (
        *("default_noreply", "enable_retry_client", "serde", "socket_keepalive", "tls_context"),
        *("hashclient_dead_timeout", "hashclient_retry_attempts", "hashclient_retry_timeout"),
        *_RETRYING,
    )

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        without_effect = [name for name in _RETRYING if arguments.get(name) is not None]
        if without_effect and not arguments.get("enable_retry_client"):
            warn(f"without enable_retry_client=True these have no effect: {', '.join(without_effect)}")
        super().__init__(arguments)

    def _set_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {} if self._lifetime is None else {"expire": expiry(self._lifetime)}


# -- fills -----------------------------------------------------------------------------------------------------


class Guard(BaseFillGuard):
    """The item itself, as it was when the creation began: the fill replaces that item, or nothing."""

    def __init__(self, pool: Pool, name: str, outage: OutagePolicy) -> None:
        super().__init__()
        self._pool, self._name, self._outage = pool, name, outage
        self._epoch: int | None = None
        self._seen: tuple[bytes, Any] | None = None
        self._mark = _PENDING + b" " + secrets.token_hex(8).encode()
        self._pending = False
        self._living = incarnation()

    def begin(self, generation: MemcachedGeneration | None) -> None:
        """Note the item, and in the place of none a mark.  Raises the library's errors."""
        self._epoch = None if generation is None else generation.recent()
        if self._pool.guards:
            self._pending = self._pool.add(self._name, self._mark, MONTH)
            self._seen = self._pool.gets(self._name)

    def fill(self, wire: bytes, seconds: int) -> None:
        """Store it, unless the key was set or deleted meanwhile.  Raises ValueTooLarge."""
        self.finish(False)  # also if it is too large
        wire = _stamped(wire, self._epoch)
        self.finish(self._outage.or_default(lambda: self._replace(wire, seconds), False))

    def _replace(self, wire: bytes, seconds: int) -> bool:
        if not self._pool.guards:
            self._pool.set(self._name, wire, seconds)
            return True
        # A server that was restarted counts again from 1, and may have reached the same number with another value.
        if self._seen is None or self._pool.gets(self._name) != self._seen:
            return False
        return self._pool.cas(self._name, wire, seconds, self._seen[1])

    def close(self) -> None:
        if self._pending and not self.outcome and self._living is incarnation():  # nothing was stored
            self._pending = False
            self._outage.best_effort(self._unmark)  # if the mark stays, the next creation takes it over
        super().close()

    def _unmark(self) -> None:
        """Remove the mark, if it is still this guard's, by its text: see _replace."""
        found = self._pool.gets(self._name)
        if found is not None and found[0] == self._mark:
            self._pool.cas(self._name, b"", OVER, found[1])


def _stamped(wire: bytes, epoch: int | None) -> bytes:
    return wire if epoch is None else codec.with_epoch(wire, epoch)
