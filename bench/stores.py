"""The measured stores, as adapters: mpcache's, dogpile.cache's, other libraries, bare clients.

Depends on environment; on the libraries, where they are installed.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.environment import Environment

Act = Callable[[], object]
Creator = Callable[[], Any]


class Store(NamedTuple):
    """The verbs of a store.  Each returns an act without arguments, so that no figure includes the adapter.

    :param decorated: takes a function, a namespace for its keys, and whether it will be called with keywords.
    """

    get: Callable[[str], Act]
    set: Callable[[str, Any], Act]
    get_multi: Callable[[list[str]], Act] | None = None
    get_or_create: Callable[[str, Creator], Act] | None = None
    decorated: Callable[[Callable[..., Any], str, bool], Callable[..., Any]] | None = None


class Row(NamedTuple):
    """A store as a contender.

    :param open: yields the store once, and cleans up.
    :param verbs: the verbs of :class:`Store` that it has; and ``miss``, a get of a missing key.
    :param server: the kind of server that it needs.
    :param kinds: the values that it takes: ``any``; ``bytes``, unpickled.
    :param against: the contender that it is compared with.
    """

    name: str
    open: Callable[[Environment], Iterator[Store]]
    verbs: str
    server: str | None = None
    kinds: str = "any"
    against: str = "dogpile.cache.memory"


Arguments = Callable[[Environment], dict[str, Any]]

LIFETIME = 3600
"""Seconds, of every region: nothing expires, but each get has to check."""


def _region(
    package: str, store: str, arguments: Arguments, ttl: float | None = None, **more: Any
) -> Callable[[Environment], Iterator[Store]]:
    """Return what opens a region.

    :param ttl: the time to live of all values; None: they have none.
    """
    lives = {} if ttl is None else {"ttl": ttl}

    def open_it(environment: Environment) -> Iterator[Store]:
        utilities = importlib.import_module(f"{package}.util")
        dogpile = package == "dogpile.cache"
        mangler = (
            utilities.sha1_mangle_key if dogpile and store == "pymemcache" else None
        )  # its default keys contain spaces
        region = importlib.import_module(package).make_region(key_mangler=mangler, **more)
        region.configure(f"{package}.{store}", expiration_time=LIFETIME, arguments=arguments(environment))

        def decorated(function: Callable[..., Any], namespace: str, keywords: bool) -> Callable[..., Any]:
            how: dict[str, Any] = dict(lives)
            if keywords and dogpile:  # its default key generator refuses keywords
                how["function_key_generator"] = utilities.kwarg_function_key_generator
            made: Callable[..., Any] = region.cache_on_arguments(namespace, **how)(function)
            return made

        def keep(key: str, value: Any) -> Act:
            if ttl is None:
                return lambda: region.set(key, value)
            return lambda: region.set(key, value, ttl)

        yield Store(
            get=lambda key: lambda: region.get(key),
            set=keep,
            get_multi=lambda keys: lambda: region.get_multi(keys),
            get_or_create=lambda key, creator: lambda: region.get_or_create(key, creator, **lives),
            decorated=decorated,
        )

    return open_it


def _engine(environment: Environment) -> Iterator[Store]:
    """The engine calls behind a region's get and set; like LMDB's they return the value and nothing else."""
    from mpcache.backends.shm import ShmBackend

    store = ShmBackend({"name": "bench-engine", "size": "32MB"})
    short = store.fast_path(store.serializer, store.deserializer, None, None)
    assert short is not None
    peek, poke = short.fast_get, short.fast_set
    yield Store(get=lambda key: lambda: peek(key, None, False), set=lambda key, value: lambda: poke(key, value, None))


def _pickled(environment: Environment) -> Iterator[Store]:
    """Pickling alone: the minimum that a store of objects has to do."""
    kept: dict[str, bytes] = {}
    dumps, loads = pickle.dumps, pickle.loads

    def keep(key: str, value: Any) -> Act:
        kept[key] = dumps(value, 5)
        return lambda: dumps(value, 5)

    yield Store(get=lambda key: lambda: loads(kept[key]), set=keep)


def _cachetools(environment: Environment) -> Iterator[Store]:
    import threading

    import cachetools

    cache: Any = cachetools.LRUCache(maxsize=1000)

    def keep(key: str, value: Any) -> Act:
        def act() -> None:
            cache[key] = value

        return act

    def decorated(function: Callable[..., Any], namespace: str, keywords: bool) -> Callable[..., Any]:
        made: Callable[..., Any] = cachetools.cached(cache, lock=threading.Lock())(function)
        return made

    yield Store(get=lambda key: lambda: cache.get(key), set=keep, decorated=decorated)


def _diskcache(environment: Environment) -> Iterator[Store]:
    import diskcache

    cache = diskcache.Cache(environment.folder / "diskcache")

    def get_or_create(key: str, creator: Creator) -> Act:
        lock = diskcache.Lock(cache, f"{key} lock")

        def act() -> Any:
            value = cache.get(key)
            if value is None:
                with lock:
                    value = cache.get(key)
                    if value is None:
                        value = creator()
                        cache.set(key, value)
            return value

        return act

    yield Store(
        get=lambda key: lambda: cache.get(key),
        set=lambda key, value: lambda: cache.set(key, value),
        get_or_create=get_or_create,
        decorated=lambda function, namespace, keywords: cache.memoize(namespace)(function),
    )
    cache.close()


def lmdb_environment(environment: Environment, name: str) -> Any:
    """Open LMDB in its fastest mode: in memory, written through the mapping, never synchronised."""
    import lmdb

    return lmdb.open(str(environment.folder / name), map_size=1 << 30, writemap=True, sync=False, metasync=False)


def _lmdb(pickled: bool) -> Callable[[Environment], Iterator[Store]]:
    def open_it(environment: Environment) -> Iterator[Store]:
        files = lmdb_environment(environment, "lmdb-pickled" if pickled else "lmdb")
        dumps, loads = pickle.dumps, pickle.loads

        def get(key: str) -> Act:
            name = key.encode()

            def raw() -> Any:
                with files.begin() as transaction:
                    return transaction.get(name)

            def loaded() -> Any:
                with files.begin() as transaction:
                    found = transaction.get(name)
                return None if found is None else loads(found)

            return loaded if pickled else raw

        def keep(key: str, value: Any) -> Act:
            name = key.encode()

            def raw() -> None:
                with files.begin(write=True) as transaction:
                    transaction.put(name, value)

            def dumped() -> None:
                made = dumps(value, 5)
                with files.begin(write=True) as transaction:
                    transaction.put(name, made)

            return dumped if pickled else raw

        yield Store(get=get, set=keep)
        files.close()

    return open_it


def _ultradict(environment: Environment) -> Iterator[Store]:
    import UltraDict

    shared = UltraDict.UltraDict(buffer_size=16 << 20, full_dump_size=64 << 20)

    def keep(key: str, value: Any) -> Act:
        def act() -> None:
            shared[key] = value

        return act

    yield Store(get=lambda key: lambda: shared.get(key), set=keep)
    shared.close()
    shared.unlink()


def _shared_memory_dict(environment: Environment) -> Iterator[Store]:
    import os

    import shared_memory_dict

    shared = shared_memory_dict.SharedMemoryDict(name=f"mpcache-bench-{os.getpid()}", size=4 << 20)

    def keep(key: str, value: Any) -> Act:
        def act() -> None:
            shared[key] = value

        return act

    yield Store(get=lambda key: lambda: shared.get(key), set=keep)
    shared.shm.close()
    shared.shm.unlink()


PATIENCE = 3.0
"""Time-out of the bare clients in seconds, the same as the regions use.

Without a time-out a client saves a poll() before each send and each receive, but no program should run without one.
"""

AS_OURS: dict[str, Any] = {"timeout": PATIENCE, "connect_timeout": PATIENCE, "default_noreply": False}


def _redis(environment: Environment) -> Iterator[Store]:
    import redis

    with redis.Redis.from_url(
        environment.url("Redis"), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
    ) as client:
        yield Store(
            get=lambda key: lambda: client.get(key),
            set=lambda key, value: lambda: client.set(key, value),
            get_multi=lambda keys: lambda: client.mget(keys),
        )


def _pymemcache(environment: Environment) -> Iterator[Store]:
    from pymemcache.client.base import Client

    yield from _by_pymemcache(Client(environment.url("Memcached"), **AS_OURS))


def _pymemcache_hash(environment: Environment) -> Iterator[Store]:
    """The client for any number of servers, on which the regions of both packages are built."""
    from pymemcache.client.hash import HashClient

    yield from _by_pymemcache(HashClient([environment.url("Memcached")], **AS_OURS))


def _by_pymemcache(client: Any) -> Iterator[Store]:
    yield Store(
        get=lambda key: lambda: client.get(key),
        set=lambda key, value: lambda: client.set(key, value),
        get_multi=lambda keys: lambda: client.get_many(keys),
    )
    client.close()


def _pylibmc(environment: Environment) -> Iterator[Store]:
    import pylibmc

    client = pylibmc.Client([environment.url("Memcached")], binary=True)
    yield Store(
        get=lambda key: lambda: client.get(key),
        set=lambda key, value: lambda: client.set(key, value),
        get_multi=lambda keys: lambda: client.get_multi(keys),
    )


def _nothing_more(environment: Environment) -> dict[str, Any]:
    return {}


def _at(server: str, **more: Any) -> Arguments:
    return lambda environment: {"url": environment.url(server), **more}


def _file(name: str) -> Arguments:
    return lambda environment: {"filename": str(environment.folder / name)}


PLAIN = "get miss set"
MULTI = f"{PLAIN} get_multi"
REGION = f"{MULTI} get_or_create decorated"


EXACT = "mpcache.shm, exact keys"
"""The key generator of shared(): decorated calls only, because no other operation uses a key generator."""

ENDING = "mpcache.shm, with a ttl"
"""A time to live for each value."""


def _ours(store: str, arguments: Arguments = _nothing_more, server: str | None = None, **more: Any) -> Row:
    return Row(f"mpcache.{store}", _region("mpcache", store, arguments), REGION, server, **more)


def _dogpile(store: str, arguments: Arguments = _nothing_more, server: str | None = None) -> Row:
    return Row(f"dogpile.cache.{store}", _region("dogpile.cache", store, arguments), REGION, server)


def _segment(environment: Environment) -> dict[str, Any]:
    return {"name": "bench", "size": "32MB"}


STORES = (
    _ours("shm", _segment),
    Row(ENDING, _region("mpcache", "shm", _segment, LIFETIME), REGION, against="mpcache.shm"),
    Row(EXACT, _region("mpcache", "shm", _segment, function_key_generator="exact"), "decorated"),
    _ours("memory"),
    _ours("memory_pickle"),
    _ours("dbm", _file("ours")),
    _ours("redis", _at("Redis"), "Redis", against="redis client"),
    _ours("pymemcache", _at("Memcached"), "Memcached", against="pymemcache HashClient"),
    _dogpile("memory"),
    _dogpile("memory_pickle"),
    _dogpile("dbm", _file("theirs")),
    _dogpile("redis", _at("Redis", distributed_lock=True, thread_local_lock=False), "Redis"),
    _dogpile("pymemcache", _at("Memcached", distributed_lock=True), "Memcached"),
    Row("engine", _engine, PLAIN, kinds="bytes", against="lmdb"),
    Row("lmdb", _lmdb(False), PLAIN, kinds="bytes"),
    Row("lmdb + pickle", _lmdb(True), PLAIN),
    Row("pickle", _pickled, "get set"),
    Row("cachetools", _cachetools, f"{PLAIN} decorated"),
    Row("diskcache", _diskcache, f"{PLAIN} get_or_create decorated"),
    Row("UltraDict", _ultradict, PLAIN),
    Row("shared_memory_dict", _shared_memory_dict, PLAIN),
    Row("redis client", _redis, MULTI, "Redis", "bytes"),
    Row("pymemcache HashClient", _pymemcache_hash, MULTI, "Memcached", "bytes"),
    Row("pymemcache Client", _pymemcache, MULTI, "Memcached", "bytes"),
    Row("pylibmc client", _pylibmc, MULTI, "Memcached"),
)
"""Named as a program names them.  "pickle" is a dict of pickled values; its set is the pickling alone."""
