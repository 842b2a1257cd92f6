"""A stampede: all processes request one missing key; the time from the creator's end until the others have it.

Depends on workers, stores and harness.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from bench.environment import Environment
from bench.harness import Benchmark, Bound, Contender, Way
from bench.pace import Sample
from bench.stores import STORES, Row
from bench.workers import Report, Turn, WorkerPool

CREATION = 0.020
"""Seconds for which the creator sleeps."""

SIZES = 2, 8

SHARED = (
    *("mpcache.shm", "mpcache.dbm", "mpcache.redis", "mpcache.pymemcache"),
    *("diskcache", "dogpile.cache.dbm", "dogpile.cache.redis", "dogpile.cache.pymemcache"),
)


def _member(row: Row, environment: Environment) -> Turn:
    opened = contextmanager(row.open)(environment)
    store = opened.__enter__()

    def turn(key: str) -> tuple[int | None, bool]:
        assert store.get_or_create is not None
        ended: list[int] = []

        def create() -> Any:
            time.sleep(CREATION)
            ended.append(time.monotonic_ns())
            return key

        right = store.get_or_create(key, create)() == key
        assert opened is not None  # keeps the store open as long as turns run
        return (ended[0] if ended else None), right

    return turn


def _waited(name: str, reports: list[Report]) -> float:
    """Return the median wait in nanoseconds.

    :raises AssertionError: the value was not created exactly once, or a process got another value.
    """
    created = [one.answer[0] for one in reports if one.answer[0] is not None]
    if len(created) != 1 or not all(one.answer[1] for one in reports):
        raise AssertionError(f"{name}: {len(created)} of {len(reports)} processes have created the value: {reports}")
    return float(statistics.median(one.ended - created[0] for one in reports if one.answer[0] is None))


def _way(row: Row, size: int) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        pool = WorkerPool(size, lambda number: _member(row, environment))
        keys = (f"stampede-{row.name}-{size}-{number}" for number in count())
        _waited(row.name, pool.together(next(keys)))  # warm-up: the first turn loads modules
        yield lambda: _waited(row.name, pool.together(next(keys)))
        pool.end()

    return way


def _contenders() -> Iterator[Contender]:
    for size in SIZES:
        for row in STORES:
            if row.name in SHARED:
                name = f"{row.name}, {size} processes"
                against = None if row.name == "mpcache.shm" else f"mpcache.shm, {size} processes"
                yield Contender(name, _way(row, size), against, row.server)


STAMPEDE = Benchmark(
    f"from the end of the creator, which sleeps {CREATION * 1000:.0f} ms, to the median waiter",
    tuple(_contenders()),
    (
        Bound("mpcache.shm, 2 processes", "median", 500_000),
        Bound("mpcache.shm, 8 processes", "median", 1_000_000),
        Bound("mpcache.redis, 8 processes", "median", 20_000_000),
        Bound("mpcache.pymemcache, 8 processes", "median", 100_000_000),
    ),
    figure="median",
    pace="trials",
)
