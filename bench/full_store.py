"""A full store: bytes for each entry, unused bytes, lost entries, and the time of a set that evicts.

Depends on harness, on stores for LMDB, and on values.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from bench.environment import Environment
from bench.harness import Benchmark, Bound, Contender, Way
from bench.pace import Sample
from bench.stores import lmdb_environment
from bench.values import KIB

SETS = 500_000
"""Sets in one trial."""


def _region(name: str | None, size: str) -> Any:
    import mpcache

    return mpcache.make_region().configure("mpcache.shm", arguments={"name": name, "size": size})


def _filled() -> tuple[int, int, int]:
    """Fill a segment; return its bytes, its entries of 1 KiB, and the bytes of their keys and values."""
    region = _region(None, "64MB")  # a private segment each time, so that nothing is overwritten
    engine = region.actual_backend.segment.engine
    keys = [f"user:{number:08}" for number in range(engine.size // 1024)]
    for key in keys:
        region.set(key, KIB)
    there = sum(region.get(key) == KIB for key in keys)
    return engine.size, there, there * (len(keys[0]) + len(KIB))


def _shm_entry(environment: Environment) -> Iterator[Sample]:
    def sample() -> float:
        size, there, _ = _filled()
        return size / there

    yield sample


def _shm_idle(environment: Environment) -> Iterator[Sample]:
    def sample() -> float:
        size, _, used = _filled()
        return 100 - 100 * used / size

    yield sample


def _shm_lost(environment: Environment) -> Iterator[Sample]:
    def sample() -> float:
        region = _region(None, "16MB")
        offered = 3 * region.actual_backend.segment.engine.size // len(KIB)
        for number in range(offered):
            region.set(f"user:{number:08}", KIB)  # raises if the store refuses it
        newest = [f"user:{number:08}" for number in range(offered - offered // 10, offered)]
        return 100 * sum(region.get(key) != KIB for key in newest) / len(newest)

    yield sample


def _lmdb_entry(environment: Environment) -> Iterator[Sample]:
    def sample() -> float:
        files = lmdb_environment(environment, "fill")
        for number in range(10_000):
            with files.begin(write=True) as transaction:
                transaction.put(b"user:%08d" % number, KIB)
        pages, page = files.info()["last_pgno"] + 1, files.stat()["psize"]
        files.close()
        return float(pages * page / 10_000)

    yield sample


def _redis_entry(environment: Environment) -> Iterator[Sample]:
    import redis

    def sample() -> float:
        with redis.Redis.from_url(environment.url("Redis")) as client:
            before = client.info("memory")["used_memory"]
            client.mset({f"user:{number:08}": KIB for number in range(10_000)})
            return float((client.info("memory")["used_memory"] - before) / 10_000)

    yield sample


ENTRY = Benchmark(
    "bytes for each entry of 1 KiB, with the bookkeeping",
    (
        Contender("mpcache.shm", _shm_entry, "redis-server"),
        Contender("lmdb", _lmdb_entry, "redis-server"),
        Contender("redis-server", _redis_entry, None, "Redis"),
    ),
    (Bound("mpcache.shm", "least", 1300),),
    pace="once",
    unit="B",
)

IDLE = Benchmark(
    "of a full segment, the part that is neither a live key nor a live value",
    (Contender("mpcache.shm", _shm_idle),),
    (Bound("mpcache.shm", "least", 19),),  # cells for tags take 3.5, counts and processes 1.6
    pace="once",
    unit="%",
)

LOST = Benchmark(
    "missing of the newest tenth, after sets of three times a segment's bytes and no get",
    (Contender("mpcache.shm", _shm_lost),),
    (Bound("mpcache.shm", "least", 0),),
    pace="once",
    unit="%",
)


def _times(environment: Environment) -> Callable[[], list[int]]:
    """Fill a segment; return a function that times sets of 1 KiB, a third to present keys, and sorts the times."""
    region, dice, fresh = _region(f"evict-{os.getpid()}", "16MB"), random.Random(3), count()
    number = int(SETS * environment.pace.portion)
    for _ in range(3 * 16 << 10):
        region.set(f"user:{next(fresh):08}", KIB)

    def sets() -> list[int]:
        keys = [f"user:{dice.randrange(8000) if dice.random() < 1 / 3 else next(fresh):08}" for _ in range(number)]
        times, clock = [], time.perf_counter_ns
        for key in keys:
            begun = clock()
            region.set(key, KIB)
            times.append(clock() - begun)
        return sorted(times)

    return sets


def _part(part: float) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        sets = _times(environment)

        def sample() -> float:
            times = sets()
            return float(times[min(len(times) - 1, int(len(times) * part))])

        yield sample

    return way


EVICT = Benchmark(
    f"a set of 1 KiB that evicts, with two calls of the clock: of {SETS:,} in each trial",
    (
        Contender("median", _part(0.5)),
        Contender("p99", _part(0.99), "median"),
        Contender("p99.9", _part(0.999), "median"),
        Contender("longest", _part(1.0), "median"),
    ),
    (Bound("p99.9", "least", 20, "median"),),
    pace="trials",
)

BENCHMARKS = {"entry": ENTRY, "idle": IDLE, "lost": LOST, "evict": EVICT}
