"""Cost of acquire and release without contention: each mutex, and the library that it is built on alone.

Depends on harness; on the libraries, where they are installed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from bench.environment import Absent, Environment
from bench.harness import CANARY, Benchmark, Bound, Contender, Way
from bench.pace import Sample, looped
from mpcache import mutexes
from mpcache.exception import PluginNotFound

LEASE = 10
"""Seconds."""


def factory(name: str, environment: Environment) -> Callable[[str], Any]:
    """Return the factory of a mutex: key to mutex.  Raises Absent if the mutex is not installed."""
    try:
        kind = mutexes.resolve(name)
    except PluginNotFound as unknown:
        raise Absent(str(unknown)) from unknown
    arguments = arguments_of(name, environment)
    return lambda key: kind(key, **arguments)


SERVERS = {"redis": "Redis", "valkey": "Redis", "memcached": "Memcached"}
"""The server that a mutex needs."""


def arguments_of(name: str, environment: Environment) -> dict[str, Any]:
    """Return the arguments of a mutex with which it finds the server of this run."""
    return {"url": environment.url(SERVERS[name])} if name in SERVERS else {}


def clear(name: str) -> None:
    """Remove the files that a mutex leaves, so that the next contender starts clean."""
    unlink = getattr(mutexes.resolve(name), "unlink", None)
    if unlink is not None:
        unlink()


def _ours(name: str) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        yield _pair(factory(name, environment)("key"), environment)
        clear(name)

    return way


def _pair(lock: Any, environment: Environment) -> Sample:
    def act() -> None:
        lock.acquire()
        lock.release()

    return looped(act, environment.pace)


def nothing(environment: Environment) -> Iterator[Sample]:
    """Measure an empty function: the canary."""
    yield looped(lambda: None, environment.pace)


def _threading_lock(environment: Environment) -> Iterator[Sample]:
    yield _pair(threading.Lock(), environment)


def _multiprocessing_lock(environment: Environment) -> Iterator[Sample]:
    import multiprocessing

    yield _pair(multiprocessing.get_context("spawn").Lock(), environment)


def _engine_lease(environment: Environment) -> Iterator[Sample]:
    from mpcache.shm import segment

    space = segment.attach("lease", "4MB").engine.namespace("")

    def act() -> None:
        lease = space.lease("key", False)
        lease.acquire(None, False, ())
        lease.release(True)

    yield looped(act, environment.pace)


def _filelock(environment: Environment) -> Iterator[Sample]:
    import filelock

    yield _pair(filelock.FileLock(environment.folder / "filelock"), environment)


def _ofd_lock(environment: Environment) -> Iterator[Sample]:
    taken, given = (struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))
    file = os.open(environment.folder / "ofd", os.O_RDWR | os.O_CREAT)

    def act() -> None:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, taken)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, given)

    yield looped(act, environment.pace)
    os.close(file)


def _semaphore(environment: Environment) -> Iterator[Sample]:
    import posix_ipc

    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    semaphore.unlink()
    yield _pair(semaphore, environment)
    semaphore.close()


def _redis_client(environment: Environment) -> Any:
    import redis

    return redis.Redis.from_url(environment.url("Redis"))


def _redis_lock(environment: Environment) -> Iterator[Sample]:
    with _redis_client(environment) as client:
        yield _pair(client.lock("redis-py", timeout=LEASE), environment)


def _redis_commands(environment: Environment) -> Iterator[Sample]:
    with _redis_client(environment) as client:

        def act() -> None:
            client.set("raw", b"token", nx=True, ex=LEASE)
            client.delete("raw")

        yield looped(act, environment.pace)


def _memcached_commands(environment: Environment) -> Iterator[Sample]:
    from pymemcache.client.base import Client

    client = Client(environment.url("Memcached"))

    def act() -> None:
        client.add("raw", b"token", expire=LEASE, noreply=False)
        client.delete("raw", noreply=False)

    yield looped(act, environment.pace)
    client.close()


ACQUIRE = Benchmark(
    "acquire and release of a mutex that is free",
    (
        Contender(CANARY, nothing),
        Contender("null", _ours("null"), CANARY),
        Contender("thread", _ours("thread"), "threading.Lock"),
        Contender("threading.Lock", _threading_lock),
        Contender("shm", _ours("shm"), "engine lease"),
        Contender("engine lease", _engine_lease),
        Contender("multiprocessing.Lock", _multiprocessing_lock),
        Contender("file", _ours("file"), "filelock.FileLock"),
        Contender("filelock.FileLock", _filelock),
        Contender("semaphore", _ours("semaphore"), "OFD lock"),
        Contender("OFD lock", _ofd_lock),
        Contender("posix_ipc.Semaphore", _semaphore),
        Contender("redis", _ours("redis"), "SET NX, DEL", "Redis"),
        Contender("valkey", _ours("valkey"), "SET NX, DEL", "Redis"),
        Contender("SET NX, DEL", _redis_commands, None, "Redis"),
        Contender("redis-py lock", _redis_lock, "SET NX, DEL", "Redis"),
        Contender("memcached", _ours("memcached"), "add, delete", "Memcached"),
        Contender("add, delete", _memcached_commands, None, "Memcached"),
    ),
    (Bound("shm", "least", 1500),),
)
