"""A mixed workload: 95 reads and 5 writes; few keys are requested often, many seldom.

Depends on workers, on stores for LMDB, and on harness.  Keys are drawn by Zipf's law with the exponent 0.99, as in YCSB
(Cooper et al., 2010), which has it from Gray et al. (1994).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from bench.environment import Environment
from bench.harness import Benchmark, Bound, Contender, Way
from bench.pace import Sample
from bench.stores import lmdb_environment
from bench.values import KIB
from bench.workers import Turn, WorkerPool, each_takes

KEYS, EXPONENT, WRITES = 100_000, 0.99, 0.05
OPERATIONS = 400_000
"""Operations of all processes together, in one trial."""

Get = Callable[[Any], object]
Set = Callable[[Any, bytes], object]


def _shm(environment: Environment) -> tuple[Get, Set, Callable[[int], Any]]:
    import mpcache

    region = mpcache.make_region().configure("mpcache.shm", arguments={"name": "mix", "size": "256MB"})
    return region.get, region.set, "user:{:06}".format


def _lmdb(environment: Environment) -> tuple[Get, Set, Callable[[int], Any]]:
    files = lmdb_environment(environment, "mix")

    def get(key: bytes) -> object:
        with files.begin() as transaction:
            return transaction.get(key)

    def put(key: bytes, value: bytes) -> None:
        with files.begin(write=True) as transaction:
            transaction.put(key, value)

    return get, put, lambda number: b"user:%06d" % number


def _turn(get: Get, put: Set, work: list[tuple[Any, bool]]) -> Turn:
    def turn(told: None) -> None:
        for key, reads in work:
            if reads:
                get(key)
            else:
                put(key, KIB)

    return turn


def _way(open_it: Callable[[Environment], tuple[Get, Set, Callable[[int], Any]]], size: int) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        number = int(OPERATIONS * environment.pace.portion) // size
        keys = max(1000, int(KEYS * environment.pace.portion))
        weights = list(accumulate((rank + 1) ** -EXPONENT for rank in range(keys)))

        def prepare(member: int) -> Turn:
            get, put, named = open_it(environment)
            names = [named(key) for key in range(keys)]
            for name in names if member == 0 else ():
                put(name, KIB)
            random.Random(7).shuffle(names)  # the same order for all processes: they share their popular keys
            dice = random.Random(member)
            drawn = dice.choices(names, cum_weights=weights, k=number)
            return _turn(get, put, [(key, dice.random() >= WRITES) for key in drawn])

        pool = WorkerPool(size, prepare)
        yield lambda: each_takes(pool, None, number)
        pool.end()

    return way


def _contenders() -> Iterator[Contender]:
    for size in (2, 8):
        yield Contender(f"mpcache.shm, {size} processes", _way(_shm, size), f"lmdb, {size} processes")
        yield Contender(f"lmdb, {size} processes", _way(_lmdb, size))


MIX = Benchmark(
    f"each of 95 gets and 5 sets of 1 KiB, {KEYS:,} keys by Zipf's law ({EXPONENT}), of all processes together",
    tuple(_contenders()),
    (
        Bound("mpcache.shm, 2 processes", "least", 1 / 3.5, "lmdb, 2 processes"),
        Bound("mpcache.shm, 8 processes", "least", 1 / 4, "lmdb, 8 processes"),
        Bound("mpcache.shm, 8 processes", "least", 1 / 0.85, "mpcache.shm, 2 processes"),
    ),
    pace="trials",
)
