"""Scaling: throughput of two processes compared with one, for reads of shared keys and writes of separate keys.

Depends on workers, and on harness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

from bench.environment import Environment
from bench.harness import Benchmark, Bound, Contender, Way
from bench.pace import Sample
from bench.values import KIB
from bench.workers import Turn, WorkerPool, repeated

KEYS = [f"user:{number:04}" for number in range(1000)]


def _often(act: Callable[[str], object], keys: list[str]) -> Turn:
    def turn(number: int) -> None:
        for key in islice(cycle(keys), number):
            act(key)

    return turn


def _nothing(number: int) -> Turn:
    return _often(lambda key: None, KEYS)


def _region() -> Any:
    import mpcache

    return mpcache.make_region().configure("mpcache.shm", arguments={"name": "scaling", "size": "64MB"})


def _reader(number: int) -> Turn:
    region = _region()
    if number == 0:
        region.set_multi(dict.fromkeys(KEYS, KIB))
    return _often(lambda key: region.get(key), KEYS)


def _writer(number: int) -> Turn:
    region = _region()
    return _often(lambda key: region.set(key, KIB), [f"{key}:{number}" for key in KEYS])


def _pooled(size: int, prepare: Callable[[int], Turn]) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        pool = WorkerPool(size, prepare)
        yield repeated(pool, environment.pace)
        pool.end()

    return way


def _contenders() -> Iterator[Contender]:
    for name, prepare in (("a call", _nothing), ("get", _reader), ("set", _writer)):
        yield Contender(f"{name}, 1 process", _pooled(1, prepare))
        yield Contender(f"{name}, 2 processes", _pooled(2, prepare), f"{name}, 1 process")


SCALING = Benchmark(
    "time for one operation, of one process and of two together; the ratio is 0.5 if two do not slow each other down",
    tuple(_contenders()),
    (
        Bound("get, 2 processes", "ratio", 1 / 0.93, "a call, 2 processes"),
        Bound("set, 2 processes", "ratio", 1 / 1.3),
    ),
)
