"""A crowd of processes whose requests follow a script, so that the sums that they must leave are known.

    python -m tests.processes.count_crowd

Each process asks in more namespaces than it has request words for, and calls a decorated function in each.  Some kill
themselves between two steps, or inside a creator, and later processes get their slots.  The first process reads all
sums meanwhile: none may fall.  It prints what it found.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import mpcache
from mpcache.shm import segment

NAMESPACES = 20
"""Each with a word for hits and for misses: more than the 32 words of a process slot."""
STEPS = 2000
KEYS = 10
"""What a process asks for in one namespace."""
EXTRA = 3000
"""More hits of the function in the first namespace: more than a process keeps to itself."""
BEFORE = 500
"""Calls of the first process before it forks, which it has not added to the sums yet."""
WAVES, CROWD = 3, 8


class Worker(NamedTuple):
    """One process of the crowd.

    :ivar number: its own, among all of all waves.
    :ivar dies_at: the step before which it kills itself; None: it ends by itself.
    :ivar creating: whether it dies inside a creator.
    """

    number: int
    dies_at: int | None
    creating: bool

    @property
    def spawned(self) -> bool:
        return self.number % 2 == 1


class Place(NamedTuple):
    """One namespace: its region and its decorated function."""

    region: Any
    load: Any


def places(name: str) -> list[Place]:
    return [_place(name, f"namespace {number}") for number in range(NAMESPACES)]


def _place(name: str, namespace: str) -> Place:
    arguments = {"name": name, "size": "32MB", "namespace": namespace}
    region = mpcache.make_region().configure("mpcache.shm", arguments=arguments)

    @region.cache_on_arguments()
    def load(worker: int, number: int) -> int:
        return number

    return Place(region, load)


def work(name: str, worker: Worker, inherited: list[Place] | None = None) -> None:
    """Follow the script."""
    mine = inherited or places(name)
    for step in range(STEPS):
        region, load = mine[step % NAMESPACES]
        number = step // NAMESPACES % KEYS
        if step == worker.dies_at:
            if worker.creating:
                region.get_or_create(f"{worker.number} dies", _die)
            _die()
        load(worker.number, number)
        region.get("absent")
        region.get_or_create(f"{worker.number} {number}", int)
    for _ in range(0 if worker.dies_at is not None else EXTRA):
        mine[0].load(worker.number, 0)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def script(worker: Worker) -> list[Counter[str]]:
    """Return what a process must count, for each namespace; calls and hits of the function as ``f_calls`` and so on."""
    done = STEPS if worker.dies_at is None else worker.dies_at
    sums = []
    for place in range(NAMESPACES):
        steps = len(range(place, done, NAMESPACES))
        created, extra = min(steps, KEYS), EXTRA if place == 0 and worker.dies_at is None else 0
        hits = steps - created
        found = Counter(hits=2 * hits + extra, misses=2 * created + steps, created=2 * created)
        found.update(f_calls=steps + extra, f_hits=hits + extra, f_created=created)
        sums.append(found)
    return sums


def sums_of(mine: list[Place]) -> list[Counter[str]]:
    """Return what all processes have counted so far, for each namespace."""
    functions = {of: counts for of, name, counts in mine[0].region.actual_backend.segment.engine.functions() if name}
    found = []
    for number, place in enumerate(mine):
        counts = functions.get(f"namespace {number}", (0,) * 9)
        tallies = Counter(place.region.actual_backend.tallies())
        found.append(tallies + Counter(f_calls=counts[0], f_hits=counts[1], f_created=counts[5]))
    return found


class Watch:
    """Counts the sums that fell from one look to the next."""

    def __init__(self, mine: list[Place]) -> None:
        self._mine, self._last = mine, sums_of(mine)
        self.looks, self.fallen = 0, 0

    def look(self) -> None:
        now = sums_of(self._mine)
        self.fallen += sum(
            after[name] < before[name] for before, after in zip(self._last, now, strict=True) for name in before
        )
        self._last = now
        self.looks += 1


def crowd(wave: int) -> list[Worker]:
    """The first wave ends by itself; half of every other one is killed, each process at another step."""
    return [
        Worker(CROWD * wave + place, 997 * (place + 1) % STEPS if wave and place % 4 < 2 else None, place % 8 > 3)
        for place in range(CROWD)
    ]


def play(name: str) -> dict[str, Any]:
    mine, expected = places(name), [Counter[str]() for _ in range(NAMESPACES)]
    for _ in range(BEFORE):
        mine[1].load(-1, 0)
    expected[1].update(hits=BEFORE - 1, misses=1, created=1, f_calls=BEFORE, f_hits=BEFORE - 1, f_created=1)
    watch, killed, report = Watch(mine), 0, []
    for wave in range(WAVES):
        workers = crowd(wave)
        running = [_start(name, worker, mine) for worker in workers]
        while any(process.is_alive() for process in running):
            watch.look()
        killed += sum(worker.dies_at is not None for worker in workers)
        codes = [process.exitcode for process in running]
        for worker in workers:
            for place, one in enumerate(script(worker)):
                expected[place].update(one)
        mine[1].load.flush_counts()
        found = sums_of(mine)
        watch.look()
        report.append({"codes": codes, "killed": killed, "wanted": expected, "found": found})
        expected = [Counter(one) for one in expected]
    return {"waves": report, "looks": watch.looks, "fallen": watch.fallen}


def _start(name: str, worker: Worker, mine: list[Place]) -> BaseProcess:
    context: Any = multiprocessing.get_context("spawn" if worker.spawned else "fork")
    process: BaseProcess = context.Process(target=work, args=(name, worker, None if worker.spawned else mine))
    process.start()
    return process


def main() -> None:
    name = f"count-crowd-{os.getpid()}"
    try:
        print(json.dumps(play(name)))
    finally:
        segment.unlink(name)


if __name__ == "__main__":
    from tests.processes import count_crowd  # under its own name, as its children import it

    count_crowd.main()
