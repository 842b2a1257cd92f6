"""Cost of a set of 10 MiB: an array, bytes in a dict, and bytes, compared with one copy in memory.

Depends on harness, on values, and on numpy for the array.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

from bench.environment import Absent, Environment
from bench.harness import CANARY, Benchmark, Bound, Contender, Way
from bench.mutexes import nothing
from bench.pace import Sample, looped
from bench.values import KIB

SIZE = 10 << 20
ROOM = 64 << 20
"""Bytes of the segment, and of the buffer that the copies cycle through: more than a processor's cache holds."""


def _array() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise Absent(str(error)) from error
    return numpy.frombuffer(_bytes(), dtype=float).copy()


def _bytes() -> bytes:
    return KIB * (SIZE // len(KIB))


def _set(make: Callable[[], Any]) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        import mpcache

        name = f"arrays-{os.getpid()}"
        arguments = {"name": name, "size": ROOM, "shards": 1}
        region = mpcache.make_region().configure("mpcache.shm", arguments=arguments)
        value = make()
        yield looped(lambda: region.set("large", value), environment.pace)

    return way


def _copy(environment: Environment) -> Iterator[Sample]:
    value, room = memoryview(_bytes()), memoryview(bytearray(ROOM))
    places = cycle(room[at : at + SIZE] for at in range(0, ROOM - SIZE + 1, SIZE))

    def copy() -> None:
        next(places)[:] = value

    yield looped(copy, environment.pace)


def _pickle(environment: Environment) -> Iterator[Sample]:
    value = _array()
    yield looped(lambda: pickle.dumps(value, 5), environment.pace)


COPY = "one copy"

BENCHMARKS = {
    "set-large": Benchmark(
        f"set of {SIZE >> 20} MiB",
        (
            Contender(CANARY, nothing),
            Contender("mpcache.shm, an array", _set(_array), COPY),
            Contender("mpcache.shm, bytes in a dict", _set(lambda: {"image": _bytes()}), COPY),
            Contender("mpcache.shm, bytes", _set(_bytes), COPY),
            Contender("pickle, an array", _pickle, COPY),
            Contender(COPY, _copy),
        ),
        tuple(Bound(f"mpcache.shm, {what}", "least", 1.5, COPY) for what in ("an array", "bytes in a dict", "bytes")),
        pace="meetings",
    )
}
