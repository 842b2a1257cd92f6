"""A user's module: a region that all processes find by its name, and functions that it caches.

Depends on support.  MPCACHE_TEST_SEGMENT names the segment, MPCACHE_TEST_LOG the file where each creation adds a line;
MPCACHE_TEST_MUTEX chooses another mutex than the store's.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from pathlib import Path

import mpcache
from tests.processes.support import note, notes, wait_until

NUMBERS = range(200)
CROWD = 8

cache = mpcache.shared(os.environ["MPCACHE_TEST_SEGMENT"], size="8MB", mutex=os.environ.get("MPCACHE_TEST_MUTEX"))


@cache.cache_on_arguments()
def answer(number: int) -> str:
    """Never twice the same: each value names the creation that made it."""
    note(os.environ["MPCACHE_TEST_LOG"], str(number))
    time.sleep(0.002)  # the work of a creator
    return f"{number}-{secrets.token_hex(8)}"


def answers(seed: int) -> tuple[int, dict[int, str]]:
    """All of them, in an order of its own, begun when a whole crowd of processes has come to do the same."""
    arrivals = Path(os.environ["MPCACHE_TEST_LOG"]).with_suffix(".arrivals")
    note(arrivals, str(os.getpid()))
    wait_until(lambda: len(set(notes(arrivals))) >= CROWD, f"crowd of {CROWD} processes")
    order = random.Random(seed).sample(NUMBERS, len(NUMBERS))
    return os.getpid(), {number: answer(number) for number in order}
