"""Writers on a busy machine wait for each other for as long as it takes: no set is dropped where no process is stopped.

MPCACHE_LONG=1 plays it for a minute (``make long``).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable

import pytest

import mpcache
from tests.processes.support import LONG, Child

pytestmark = [pytest.mark.slow, pytest.mark.engine]

SECONDS = 60.0 if LONG else 5.0
WRITERS, LOAD = 8, 8
LONG, SHORT = 2 << 20, 1 << 10


def test_large_and_small_values_in_one_shard(fork: Callable[[Callable[[], object]], Child]) -> None:
    region = mpcache.shared(None, size="256MB", shards=1)
    longest = multiprocessing.Array("d", 2 * WRITERS)
    end = time.monotonic() + SECONDS

    def write(number: int) -> None:
        value, sets = bytes(LONG if number < WRITERS else SHORT), 0
        while (began := time.monotonic()) < end:
            region.set(f"{number} {sets % 5}", value)
            sets += 1
            longest[number] = max(longest[number], time.monotonic() - began)

    def compute() -> None:
        while time.monotonic() < end:
            pass

    children = [fork(lambda number=number: write(number)) for number in range(2 * WRITERS)]  # type: ignore[misc]
    children += [fork(compute) for _ in range(LOAD)]
    assert [child.wait(SECONDS + 60) for child in children] == [0] * len(children)
    stats = region.actual_backend.stats()
    print(
        f"{stats['sets']} sets in {SECONDS:g} s, {stats['dropped']} dropped; the longest took"
        f" {max(longest[:WRITERS]):.2f} s with 2 MiB, {max(longest[WRITERS:]):.2f} s with 1 KiB"
    )
    assert stats["dropped"] == 0
    assert stats["sets"] > 10 * WRITERS
    region.actual_backend.check()
