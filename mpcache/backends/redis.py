"""The redis and valkey stores: one server, a server that sentinels watch, or a cluster.

Depends on _servers.redis for clients, names and scripts, and on the redis mutex.  What the server keeps under a key is
what dogpile.cache keeps there; with a ``namespace`` its header also has the generation.
"""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mpcache._servers.generation import judged
from mpcache._servers.names import key_bytes
from mpcache._servers.outage import OutagePolicy
from mpcache._servers.redis.client import MANY, TIMEOUT, careful, driver, retry_once
from mpcache._servers.redis.generation import RedisGeneration
from mpcache._servers.redis.holds import held_here
from mpcache._servers.redis.names import names_of, place_of
from mpcache._wire import codec
from mpcache.api import NO_VALUE, BytesBackend, Keeping, KeyType, SerializedReturnType, guard_of
from mpcache.backends import warn_of_unknown
from mpcache.backends._generation_strategy import GenerationStrategy
from mpcache.backends._redis_commands import DELETE, FILL, SET, Command, Guard, client_key, milliseconds, run_all
from mpcache.exception import ValidationError
from mpcache.invalidation import kept_for, limit, seconds
from mpcache.mutexes.base import Incarnation, incarnation
from mpcache.mutexes.leased import DEFAULT_LEASE
from mpcache.mutexes.redis import POLL, RedisMutex

log = logging.getLogger(__name__)

_PREFIX = re.compile(r"[\w\-.:]{2,10}")

_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")

_EVERYWHERE = (
    *("username", "password", "connection_kwargs", "namespace", "on_error"),
    *(*_TIMEOUTS, "socket_keepalive", "socket_keepalive_options"),
    *("distributed_lock", "thread_local_lock", "lock_prefix"),
    *("lock_timeout", "lock_sleep", "lock_blocking", "lock_blocking_timeout"),
)

# The drivers' own option, as for DUMP: the client decodes other replies or does not, these stay bytes.
# It also saves the drivers a call for each value.
_AS_BYTES = {"NEVER_DECODE": True}


class RedisBackend(BytesBackend):
    """``mpcache.redis``: one server.  docs/backends.rst lists the arguments; those of dogpile.cache mean the same.

    :raises ImportError: the driver is not installed.
    :raises ValueError, ValidationError: an argument is wrong.  A server that is down is no error here.
    """

    shared = True
    keeping = Keeping("hosts", "its users", "the server's ``maxmemory``", "a round trip, unpickling", "redis")

    driver: ClassVar[str] = "redis"
    brand: ClassVar[str] = "Redis"
    """The prefix of the driver's class names."""
    clustered: ClassVar[bool] = False
    more: ClassVar[tuple[str, ...]] = ("url", "host", "port", "db", "ssl", "connection_pool")
    """The arguments that only some of these stores take."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._module = driver(self.driver)
        self._given = dict(arguments)
        expiration = f"{self.driver}_expiration_time"
        warn_of_unknown(self, arguments, (expiration, *self.more, *_EVERYWHERE))
        self._given |= {name: limit(arguments[name], name) for name in _TIMEOUTS if name in arguments}
        expires = kept_for(arguments.get(expiration), expiration)
        self._milliseconds = 0 if expires is None else milliseconds(expires)
        self._distributed: bool = arguments.get("distributed_lock", True)
        self._lock = _lock_arguments(arguments)
        self._prefix: bytes = self._lock["prefix"].encode()
        namespace = arguments.get("namespace")
        self._outage = OutagePolicy(self, arguments.get("on_error", "raise"), *self._errors())
        self._generation: RedisGeneration | None = None
        if namespace is not None:
            self._generation = RedisGeneration(namespace, self._outage, lambda: self.writer_client)
        self._living: Incarnation | None = None
        self._clients: tuple[Any, Any] = (None, None)
        self._prepare_subclass(arguments)

    # -- connections -----------------------------------------------------------------------------------

    @property
    def writer_client(self) -> Any:
        """Return the driver's client for writing, of this process."""
        return self._connected()[0]

    @writer_client.setter
    def writer_client(self, client: Any) -> None:
        self._clients = client, self._clients[1]

    @property
    def reader_client(self) -> Any:
        """Return the driver's client for reading: the same, or that of a replica."""
        return self._connected()[1]

    @reader_client.setter
    def reader_client(self, client: Any) -> None:
        self._clients = self._clients[0], client

    def _connected(self) -> tuple[Any, Any]:
        if self._living is not incarnation():  # a child never uses its parent's connections
            if self._has_own("writer_client") or self._has_own("reader_client"):
                return self.writer_client, self.reader_client
            self._create_client()
            self._living = incarnation()
        return self._clients

    def _create_client(self) -> None:
        """Set ``writer_client`` and ``reader_client``; a subclass may override this."""
        self.writer_client, self.reader_client = self._connect()

    def _has_own(self, name: str) -> bool:
        """Return whether a subclass has overridden an attribute."""
        return getattr(type(self), name, None) is not getattr(RedisBackend, name, None)

    def _prepare_subclass(self, arguments: Mapping[str, Any]) -> None:
        """Give a subclass that makes its client the attributes of dogpile.cache; refuse one that gives mpcache none."""
        makes = any(self._has_own(name) for name in ("_create_client", "writer_client", "reader_client"))
        for name in ("client", "_imports"):
            if self._has_own(name) and not makes:
                raise TypeError(
                    f"{type(self).__name__} overrides {name!r}, which gives mpcache no client; override"
                    " _create_client(), which sets self.writer_client and self.reader_client"
                )
        if makes:
            usual = {"host": "localhost", "port": 6379, "db": 0, "connection_kwargs": {}}
            for name in (*self.more, *_EVERYWHERE):
                if not hasattr(self, name):
                    setattr(self, name, arguments.get(name, usual.get(name)))
            if self._has_own("_imports"):
                self._imports()  # type: ignore[attr-defined]  # the subclass has it

    def _connect(self) -> tuple[Any, Any]:
        """Return the clients for writing and for reading; the server may be down."""
        kind, given = getattr(self._module, self.brand), self._given
        if given.get("connection_pool") is not None:
            client = kind(connection_pool=given["connection_pool"])
            return client, client
        if given.get("url") is not None:
            how, url = self._how("ssl"), given["url"]
            if how.pop("ssl", False):
                url = re.sub("^(redis|valkey)://", r"\1s://", url)  # from_url has no argument for it
            client = kind.from_url(url, **how)
        else:
            client = kind(**self._how("host", "port", "db", "username", "password", "ssl"))
        return careful(client), client

    def _how(self, *names: str) -> dict[str, Any]:
        """Return the arguments of a client: our defaults, then ``connection_kwargs``, then arguments given by name."""
        ours = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, "max_connections": MANY}
        how = {**ours, "retry": retry_once(self.driver), **(self._given.get("connection_kwargs") or {})}
        for name in (*_TIMEOUTS, *names):
            if name in self._given and not (name == "ssl" and self._given[name] is None):
                how[name] = self._given[name]
        if self._given.get("socket_keepalive"):
            how["socket_keepalive"] = True
            how["socket_keepalive_options"] = self._given.get("socket_keepalive_options")
        return how

    def _reader(self, *keys: KeyType) -> Any:
        """Return the client for reading: of the master, if this process holds one of the keys.

        A replica may not know yet what the previous holder has just stored.
        """
        writer, reader = self._clients if self._living is incarnation() else self._connected()
        if reader is writer or not any(held_here(place_of(writer), self._lock_name(key)) for key in keys):
            return reader
        return writer

    # -- reading ---------------------------------------------------------------------------------------

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        tolerates = self._outage.tolerates
        value = self._outage.or_default(lambda: self._read(key), None) if tolerates else self._read(key)
        return NO_VALUE if value is None else value

    def _read(self, key: KeyType) -> Any:
        if self._generation is not None:
            return self._read_all([key])[0]
        client, name = self._reader(key), client_key(key)
        return client.execute_command("GET", name, keys=[name], **_AS_BYTES)

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        if not keys:
            return []
        nothing: list[Any] = [None] * len(keys)
        values = self._outage.or_default(lambda: self._read_all(keys), nothing)
        return [NO_VALUE if value is None else value for value in values]

    def _read_all(self, keys: Sequence[KeyType]) -> list[Any]:
        client, names = self._reader(*keys), list(map(client_key, keys))
        if self._generation is None:
            return self._get_all(client, names)
        *values, found = self._get_all(client, [*names, self._generation.key])
        now = self._generation.note(found)
        return [value and judged(value, now) for value in values]

    def _get_all(self, client: Any, keys: Sequence[Any]) -> list[Any]:
        values = list(client.execute_command("MGET", *keys, keys=keys, **_AS_BYTES))
        if len(values) != len(keys):
            raise ValueError(f"the server was asked for {len(keys)} keys, and answered with {len(values)} values")
        return values

    # -- writing ---------------------------------------------------------------------------------------

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        guard = guard_of(self, key)
        if guard is None:
            self._set(key, value, self._epoch()).run(self._connected()[0])
        else:
            self._fill_all({key: (value, guard)})

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        guards = {key: guard_of(self, key) for key in mapping}
        if any(guard is None for guard in guards.values()):
            epoch = self._epoch()
            self._run([self._set(key, mapping[key], epoch) for key, guard in guards.items() if guard is None])
        fills = {key: (mapping[key], guard) for key, guard in guards.items() if guard is not None}
        if fills:
            self._fill_all(fills)

    def delete(self, key: KeyType) -> bool:
        """Delete a key; return whether it had a value, which may have been invalidated already."""
        return bool(self.delete_multi([key]))

    def delete_multi(self, keys: Sequence[KeyType]) -> list[KeyType]:
        if self._distributed:
            there = self._run([Command(DELETE, [client_key(key), self._lock_name(key)]) for key in keys])
        else:
            there = self._delete_all(list(map(client_key, keys)))
        return [key for key, was_there in zip(keys, there, strict=True) if was_there]

    def _delete_all(self, keys: Sequence[KeyType]) -> list[Any]:
        if len(keys) == 1:
            return [self.writer_client.delete(keys[0])]
        pipe = self.writer_client.pipeline() if self.clustered else self.writer_client.pipeline(transaction=False)
        for key in keys:
            pipe.delete(key)
        return list(pipe.execute())

    def _epoch(self) -> int | None:
        return None if self._generation is None else self._generation.now()

    def _fill_all(self, fills: Mapping[KeyType, tuple[bytes, Any]]) -> None:
        commands = [self._fill(key, value, guard) for key, (value, guard) in fills.items()]
        replies = self._outage.or_default(lambda: self._run(commands), [None] * len(commands))
        for (key, (_, guard)), reply in zip(fills.items(), replies, strict=True):
            guard.end(key, reply)

    def _set(self, key: KeyType, value: bytes, epoch: int | None) -> Command:
        ready, name = self._ready(value, epoch), client_key(key)
        return Command(SET, [name, self._lock_name(key)], ready) if self._distributed else Command(None, [name], ready)

    def _fill(self, key: KeyType, value: bytes, guard: Any) -> Command:
        if guard.lock is None:
            return self._set(key, value, guard.epoch)
        return Command(
            FILL, [client_key(key), self._lock_name(key)], (guard.lock.token, *self._ready(value, guard.epoch))
        )

    def _ready(self, value: bytes, epoch: int | None) -> tuple[bytes] | tuple[bytes, int]:
        """Return the bytes as they are kept, and for how many milliseconds; the bytes alone: for ever."""
        lifetime, expires = self._milliseconds, codec.expires_at(value)
        if expires is not None:
            left = milliseconds(expires - time.time())
            lifetime = min(lifetime or left, left)
        if epoch is not None:
            value = codec.with_epoch(value, epoch)
        return (value, lifetime) if lifetime else (value,)

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        return run_all(self.writer_client, commands, self.clustered)

    # -- creation -----------------------------------------------------------------------------------

    def get_mutex(self, key: KeyType) -> RedisMutex | None:
        if not self._distributed:
            return None
        connected = self._living is incarnation()
        client = self.writer_client if connected else self._outage.or_default(lambda: self.writer_client, None)
        if client is None:  # a cluster, and none of its nodes can be reached
            return None
        return RedisMutex(key, client=client, outage=self._outage, **self._lock)

    def begin_fill(self, key: KeyType) -> Guard:
        lock = None
        if self._distributed and self._living is incarnation():
            lock = held_here(place_of(self.writer_client), self._lock_name(key))
        return Guard(lock, None if self._generation is None else self._generation.recent())

    def _lock_name(self, key: KeyType) -> bytes:
        if self.clustered:
            return names_of(key, self._lock["prefix"], "", True)[0]
        return self._prefix + key_bytes(key)

    # -- shared invalidation ---------------------------------------------------------------------------

    def invalidation(self) -> GenerationStrategy | None:
        return None if self._generation is None else GenerationStrategy(self._generation)

    def invalidate(self, hard: bool = True) -> None:
        """Hide what was begun before, or make it stale, in all processes.

        :raises ValidationError: there is no ``namespace`` that says whose values are meant.
        """
        if self._generation is None:
            raise ValidationError(f"{self!r} has no namespace, and therefore no invalidation of its own")
        self._generation.invalidate(hard)

    # -- the whole -------------------------------------------------------------------------------------

    def _errors(self) -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
        """Return the driver's exceptions, and those that say that the server cannot be reached."""
        known = importlib.import_module(f"{self.driver}.exceptions")
        every, of_cluster = (getattr(known, f"{self.brand}{kind}") for kind in ("Error", "ClusterException"))
        return (every,), (known.ConnectionError, known.TimeoutError, of_cluster, OSError)

    @property
    def errors(self) -> Counter[str]:
        """Return how often which error counted as a miss (``on_error="miss"``), in this process."""
        return self._outage.counts

    def __repr__(self) -> str:
        identifying = ("host", "port", "db", "service_name")
        where: dict[str, Any] = {name: self._given[name] for name in identifying if name in self._given}
        if isinstance(self._given.get("url"), str):
            where["url"] = re.sub(r"//[^/]*@", "//***@", self._given["url"])
        return f"<{type(self).__name__} {' '.join(f'{name}={value!r}' for name, value in where.items())}>"


def _lock_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mutex's arguments, from dogpile.cache's arguments for it."""
    prefix = given.get("lock_prefix") or "_lock"
    if not (isinstance(prefix, str) and _PREFIX.fullmatch(prefix)):
        raise ValueError(
            f"Invalid `lock_prefix` submitted: `{prefix}`.  It must have 2 to 10 letters, digits or signs out of _-.:"
        )
    patience = seconds(given.get("lock_blocking_timeout"), "lock_blocking_timeout")
    return {
        "prefix": prefix,
        "lease": limit(given.get("lock_timeout") or DEFAULT_LEASE, "lock_timeout"),
        "poll": limit(given.get("lock_sleep", POLL), "lock_sleep") or POLL,
        "blocking_timeout": patience if given.get("lock_blocking", True) else 0,
    }


# -- sentinels and clusters ----------------------------------------------------------------------------


class RedisSentinelBackend(RedisBackend):
    """``mpcache.redis_sentinel``: the server that the sentinels name as master."""

    more = ("sentinels", "service_name", "sentinel_kwargs", "db", "read_from_replicas")

    def _connect(self) -> tuple[Any, Any]:
        how = self._how("db", "username", "password")
        theirs = {name: how[name] for name in ("username", "password", *_TIMEOUTS) if name in how}
        sentinel = importlib.import_module(f"{self.driver}.sentinel").Sentinel(
            self._given.get("sentinels"),
            sentinel_kwargs={**theirs, **(self._given.get("sentinel_kwargs") or {})},
            **how,
        )
        name = self._given.get("service_name", "mymaster")
        for client in sentinel.sentinels:
            careful(client)
        master = careful(sentinel.master_for(name))
        return master, careful(sentinel.slave_for(name)) if self._given.get("read_from_replicas") else master


class RedisClusterBackend(RedisBackend):
    """``mpcache.redis_cluster``: the keys are spread over the nodes, each key with its lock."""

    more = ("startup_nodes", "url", "host", "port", "ssl", "read_from_replicas")
    clustered = True

    def _connect(self) -> tuple[Any, Any]:
        known = importlib.import_module(f"{self.driver}.cluster")
        how = self._how("url", "host", "port", "username", "password", "ssl")
        replicas = self._given.get("read_from_replicas", how.pop("read_from_replicas", False))
        nodes = self._given.get("startup_nodes")
        if nodes:
            how["startup_nodes"] = [known.ClusterNode(*n) if isinstance(n, (tuple, list)) else n for n in nodes]
        kind = getattr(known, f"{self.brand}Cluster")
        client = careful(kind(**how))
        if not replicas:
            return client, client
        strategies = getattr(known, "LoadBalancingStrategy", None)  # of newer versions of redis-py
        if strategies is not None:
            return client, careful(kind(**how, load_balancing_strategy=strategies.ROUND_ROBIN))
        return client, careful(kind(**how, read_from_replicas=True))

    def _get_all(self, client: Any, keys: Sequence[Any]) -> list[Any]:
        if len(keys) == 1:
            return [client.execute_command("GET", keys[0], keys=[keys[0]], **_AS_BYTES)]
        pipe = client.pipeline()
        for key in keys:
            pipe.execute_command("GET", key, keys=[key], **_AS_BYTES)
        return list(pipe.execute())


# -- the same with valkey's driver ---------------------------------------------------------------------


class ValkeyBackend(RedisBackend):
    """``mpcache.valkey``"""

    driver, brand = "valkey", "Valkey"


class ValkeySentinelBackend(RedisSentinelBackend):
    """``mpcache.valkey_sentinel``"""

    driver, brand = "valkey", "Valkey"


class ValkeyClusterBackend(RedisClusterBackend):
    """``mpcache.valkey_cluster``"""

    driver, brand = "valkey", "Valkey"
