"""Processes that do the same at the same moment.

Leans on harness.  They sleep until the moment, so that none of them is waiting for another's order to arrive.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bench.harness import Pace, Sample, orders

Turn = Callable[[Any], Any]
"""What each of them does when it is told to, with what it is told; what it returns is reported."""

AHEAD = 0.004
"""Seconds from the order until the moment."""


class Report(NamedTuple):
    """Of one process; by the monotonic clock, which is the same in all of them, in nanoseconds."""

    begun: int
    ended: int
    answer: Any


class WorkerPool:
    """So many processes, forked from one that has loaded nothing yet.

    :param prepare: called in each of them with its number; number 0 is ready before the others begin.
    """

    def __init__(self, size: int, prepare: Callable[[int], Turn]) -> None:
        self._context = multiprocessing.get_context("fork")
        self._lines: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(size):
            self._add(number, prepare)
            if number == 0:
                self._hear(self._lines[0])
        for line in self._lines[1:]:
            self._hear(line)

    def _add(self, number: int, prepare: Callable[[int], Turn]) -> None:
        ours, theirs = self._context.Pipe()
        others = [*self._lines, ours]
        process = self._context.Process(target=_serve, args=(theirs, others, number, prepare), daemon=True)
        process.start()
        theirs.close()
        self._lines.append(ours)
        self._processes.append(process)

    def __len__(self) -> int:
        return len(self._lines)

    def together(self, told: Any) -> list[Report]:
        """Have all of them take a turn, beginning at one moment."""
        moment = time.monotonic() + AHEAD
        for line in self._lines:
            line.send((moment, told))
        return [Report(*self._hear(line)) for line in self._lines]

    @staticmethod
    def _hear(line: Connection) -> Any:
        right, answer = line.recv()
        if not right:
            raise RuntimeError(f"one of a pool has failed:\n{answer}")
        return answer

    def end(self) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join()


def _serve(line: Connection, others: list[Connection], number: int, prepare: Callable[[int], Turn]) -> None:
    for theirs in others:
        theirs.close()
    try:
        turn = prepare(number)
        line.send((True, None))
        for order in orders(line):
            moment, told = order
            time.sleep(max(0.0, moment - time.monotonic()))
            begun = time.monotonic_ns()
            answer = turn(told)
            line.send((True, (begun, time.monotonic_ns(), answer)))
    except BaseException:
        line.send((False, traceback.format_exc()))


def each_takes(pool: WorkerPool, told: Any, number: int) -> float:
    """Nanoseconds for one of the operations of all of them, if a turn is so many: from the first one's begin to the
    last one's end."""
    reports = workers.together(told)
    return (max(one.ended for one in reports) - min(one.begun for one in reports)) / (number * len(pool))


def repeated(pool: WorkerPool, pace: Pace) -> Sample:
    """A sample of a pool whose turns are told how often to act; often enough that they run side by side."""
    number, wanted = 1000, pace.seconds * 1e9 * 8
    while (took := each_takes(pool, number, 1) * len(pool)) < wanted:
        number = max(number * 2, int(number * wanted / took))
    return lambda: each_takes(pool, number, number)
