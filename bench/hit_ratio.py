"""Miss ratio with equal bytes for every policy: the engine's eviction policy beside reference policies.

Depends on harness; on libcachesim for the references.  The traces are generated: by Zipf's law, with keys in between
that are requested only once, and with scans, of the same keys each time or of new ones.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any

from bench.environment import Environment
from bench.harness import Benchmark, Bound, Contender, Way
from bench.pace import Sample

REQUESTS, KEYS = 400_000, 40_000
SEGMENT = 8 << 20
NAME = b"user:%08d"
SIZE = len(NAME % 0) + 1024
"""Bytes of a key and its value."""


def _zipf(exponent: float, number: int, dice: random.Random) -> list[int]:
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(KEYS)))
    return dice.choices(range(KEYS), cum_weights=weights, k=number)


def _wonders(number: int, dice: random.Random) -> Iterator[int]:
    for at, key in enumerate(_zipf(0.9, number, dice)):
        yield KEYS + at if dice.random() < 0.3 else key


def _scans(number: int, dice: random.Random) -> Iterator[int]:
    for at, key in enumerate(_zipf(0.9, number, dice)):
        yield key
        if at % 20_000 == 0:
            yield from range(KEYS, KEYS + KEYS // 8)


def _new_scans(number: int, dice: random.Random) -> Iterator[int]:
    for at, key in enumerate(_zipf(0.9, number, dice)):
        yield key
        if at % 20_000 == 0:
            yield from range(KEYS + at, KEYS + at + KEYS // 8)


TRACES: dict[str, Callable[[int, random.Random], Iterable[int]]] = {
    "Zipf 0.8": lambda number, dice: _zipf(0.8, number, dice),
    "Zipf 1.0": lambda number, dice: _zipf(1.0, number, dice),
    "one-hit wonders": _wonders,
    "scans": _scans,
    "scans of new keys": _new_scans,
}


def _space() -> Any:
    from mpcache.shm import _engine

    file = os.memfd_create("misses")
    os.posix_fallocate(file, 0, SEGMENT)
    _engine.format(file, SEGMENT, 1)
    space = _engine.Engine(file).namespace("")
    os.close(file)
    return space


def _ours(trace: Iterable[int]) -> int:
    space, value, missed = _space(), bytes(1024), 0
    for number in trace:
        key = NAME % number
        if space.get(key) is None:
            space.set(key, value)
            missed += 1
    return missed


def _reference(policy: str) -> Callable[[Iterable[int]], int]:
    """Return a function that counts the misses of a reference policy.

    The reference gets as many bytes as the engine's log has, and fills them with keys and values alone: its own
    bookkeeping costs nothing here.
    """

    def misses(trace: Iterable[int]) -> int:
        import libcachesim

        cache = getattr(libcachesim, policy)(_space().engine.stats()["capacity_bytes"])
        return sum(not cache.get(libcachesim.Request(obj_id=key, obj_size=SIZE)) for key in trace)

    return misses


def _way(name: str, misses: Callable[[Iterable[int]], int]) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        number = max(20_000, int(REQUESTS * environment.pace.portion))
        trace = list(TRACES[name](number, random.Random(7)))
        yield lambda: 100 * misses(trace) / len(trace)

    return way


POLICIES = {
    "mpcache.shm": _ours,
    "LRU": _reference("LRU"),
    "S3-FIFO": _reference("S3FIFO"),
    "W-TinyLFU": _reference("WTinyLFU"),
}

MISSES = Benchmark(
    f"misses of {REQUESTS:,} requests with as many bytes as the log of a segment of {SEGMENT >> 20} MiB",
    tuple(
        Contender(f"{trace}, {name}", _way(trace, misses), None if name == "LRU" else f"{trace}, LRU")
        for trace in TRACES
        for name, misses in POLICIES.items()
    ),
    tuple(
        bound
        for trace in TRACES
        for bound in (
            Bound(f"{trace}, mpcache.shm", "least", 1, f"{trace}, LRU"),
            Bound(f"{trace}, mpcache.shm", "least", 1, f"{trace}, S3-FIFO", more=1.5),
        )
    ),
    pace="once",
    unit="%",
)
