"""Counts are exact: processes and threads add to the same keys, and some are killed meanwhile.

Depends on support.  Each thread notes what it is about to add and what it has added, on its own line of a board.  So
the test knows what a killed process may have left out: at most one addition of each of its threads.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import mpcache
from mpcache.exception import ShardBusy
from tests.processes.support import PATIENCE, Anatomy, Child

pytestmark = [pytest.mark.slow, pytest.mark.engine]

KEYS = ["one", "another", "a third"]
WORKERS, THREADS, KILLS = 4, 2, 60
SIZE = "4MB"
AIM = 0.005
"""Seconds for which a kill waits for its victim to have the shard."""


class Board:
    """For each thread that ever was: additions begun and done of each key.  And whether it is enough."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 16 * len(KEYS) * THREADS * (WORKERS + KILLS) + 8)).cast("Q")

    def line(self, worker: int, thread: int) -> memoryview:
        start = 1 + 2 * len(KEYS) * (worker * THREADS + thread)
        return self._words[start : start + 2 * len(KEYS)]

    def sums(self) -> list[tuple[int, int]]:
        """(done, begun) of each key."""
        lines = [self.line(worker, thread) for worker in range(WORKERS + KILLS) for thread in range(THREADS)]
        return [(sum(line[2 * i + 1] for line in lines), sum(line[2 * i] for line in lines)) for i in range(len(KEYS))]

    @property
    def enough(self) -> bool:
        return bool(self._words[0])

    def end(self) -> None:
        self._words[0] = 1


def count(store: Any, board: Board, line: memoryview, dice: random.Random) -> None:
    """Each sum that comes back is greater than the one before.  Values between the counts drive the log around."""
    last = dict.fromkeys(KEYS, 0)
    for step in itertools.count():
        if board.enough:
            return
        which = dice.randrange(len(KEYS))
        key = KEYS[which]
        line[2 * which] += 1
        try:
            found = store.incr(key)
        except ShardBusy:  # nothing was changed
            line[2 * which] -= 1
            continue
        line[2 * which + 1] += 1
        assert found is not None
        assert found > last[key]
        last[key] = found
        if step % 5 == 0:
            store.touch(key, dice.choice([None, 1000]))
            store.add(f"filler {dice.random()}", b"." * dice.randrange(4000))


def work(name: str, board: Board, worker: int, seed: str) -> None:
    store = mpcache.shared(name, SIZE, shards=1).actual_backend
    failed: list[BaseException] = []

    def run(thread: int) -> None:
        try:
            count(store, board, board.line(worker, thread), random.Random(f"{seed}/{worker}/{thread}"))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def kill(victim: Child, anatomy: Anatomy) -> None:
    """While it has the shard locked, if that comes about."""
    deadline = time.monotonic() + AIM
    while anatomy.shard_holder() != victim.pid and time.monotonic() < deadline:
        pass
    victim.kill()


def test_sums_are_right_up_to_what_the_killed_had_begun(
    name: str, fork: Callable[[Callable[[], object]], Child]
) -> None:
    seed = os.environ.get("MPCACHE_TEST_SEED") or secrets.token_hex(4)
    print("seed", seed)
    dice, board = random.Random(seed), Board()
    region = mpcache.shared(name, SIZE, shards=1)
    store: Any = region.actual_backend
    assert [store.incr(key, 0, 0) for key in KEYS] == [0, 0, 0]
    anatomy = Anatomy(store.segment.path)

    numbers = itertools.count()

    def start() -> Child:
        worker = next(numbers)
        return fork(lambda: work(name, board, worker, seed))

    workers = [start() for _ in range(WORKERS)]
    for _ in range(KILLS):
        time.sleep(dice.random() * 0.03)  # the moment is what is random here
        which = dice.randrange(WORKERS)
        assert workers[which].poll() is None, "a worker ended without being killed"
        kill(workers[which], anatomy)
        workers[which].wait()
        workers[which] = start()
    enough = time.monotonic() + PATIENCE
    while min(done for done, _ in board.sums()) < 1000:
        assert time.monotonic() < enough
    board.end()
    assert [worker.wait() for worker in workers] == [0] * WORKERS

    sums = board.sums()
    print(sums, [region.get(key) for key in KEYS], store.stats()["owner_deaths"])
    for key, (done, begun) in zip(KEYS, sums, strict=True):
        assert done <= region.get(key) <= begun
    assert sum(begun - done for done, begun in sums) <= KILLS * THREADS
    assert store.stats()["owner_deaths"] > 0, "no process was killed with the shard locked"
    assert store.stats()["evictions"] > 0
    store.check()
