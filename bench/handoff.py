"""Hand-off: the time from the release of a mutex until a waiter in another process has acquired it.

Depends on harness, and on mutexes for the primitives.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from bench.environment import Environment
from bench.harness import Benchmark, Bound, Contender, Way, orders
from bench.mutexes import LEASE, arguments_of, clear, factory
from bench.pace import Sample
from mpcache import mutexes

PATIENCE = 20.0
"""Seconds until a waiter that does not report counts as failed."""

WAITED = 0.010, 0.040
"""Range of the random seconds for which the waiter waits: it sleeps by then, at any point of its polling."""

_spawn = multiprocessing.get_context("spawn")


def _waiter(line: Connection, make: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Report, in the other process, when the mutex was acquired; all processes share the clock."""
    mutex = make(**arguments)
    for _ in orders(line):
        mutex.acquire()
        line.send(time.monotonic_ns())
        mutex.release()
        line.send("released")


class Waiter:
    """The process that waits for the mutex."""

    def __init__(self, make: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self._line, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_waiter, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def meet(self, mutex: Any) -> float:
        """Measure one hand-off, in nanoseconds."""
        mutex.acquire()
        self._line.send(True)
        time.sleep(random.uniform(*WAITED))
        released = time.monotonic_ns()
        mutex.release()
        had: int = self._hear()
        self._hear()
        return had - released

    def _hear(self) -> Any:
        if not self._line.poll(PATIENCE):
            raise TimeoutError(f"the waiter did not get the mutex within {PATIENCE:g} s")
        return self._line.recv()

    def end(self) -> None:
        self._line.close()
        self._process.join(PATIENCE)


def _handed(make: Callable[..., Any], arguments: Callable[[Environment], dict[str, Any]]) -> Way:
    """Measure hand-offs; the first one waits until the other process has started, and does not count."""

    def way(environment: Environment) -> Iterator[Sample]:
        here = arguments(environment)
        mutex, waiter = make(**here), Waiter(make, here)
        waiter.meet(mutex)
        yield lambda: waiter.meet(mutex)
        waiter.end()

    return way


def _mutex(name: str, arguments: dict[str, Any]) -> Any:
    return mutexes.resolve(name)("key", **arguments)


def _ours(name: str) -> Way:
    def arguments(environment: Environment) -> dict[str, Any]:
        factory(name, environment)
        return {"name": name, "arguments": arguments_of(name, environment)}

    def way(environment: Environment) -> Iterator[Sample]:
        yield from _handed(_mutex, arguments)(environment)
        clear(name)

    return way


def _lock_itself(lock: Any) -> Any:
    return lock


def _filelock(path: str) -> Any:
    import filelock

    return filelock.FileLock(path)


def _redis_lock(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url).lock("redis-py", timeout=LEASE)


def _redis_url(environment: Environment) -> dict[str, Any]:
    return {"url": arguments_of("redis", environment)["url"]}


HANDOFF = Benchmark(
    "from the release to a waiter in another process",
    (
        Contender("shm", _ours("shm"), "multiprocessing.Lock"),
        Contender("multiprocessing.Lock", _handed(_lock_itself, lambda environment: {"lock": _spawn.Lock()})),
        Contender("semaphore", _ours("semaphore"), "multiprocessing.Lock"),
        Contender("file", _ours("file"), "filelock.FileLock"),
        Contender(
            "filelock.FileLock", _handed(_filelock, lambda environment: {"path": str(environment.folder / "handoff")})
        ),
        Contender("redis", _ours("redis"), "redis-py lock", "Redis"),
        Contender("valkey", _ours("valkey"), "redis-py lock", "Redis"),
        Contender("redis-py lock", _handed(_redis_lock, _redis_url), None, "Redis"),
        Contender("memcached", _ours("memcached"), None, "Memcached"),
    ),
    (Bound("shm", "median", 200_000),),
    figure="median",
    pace="meetings",
)
