"""Processes that do the same work from the same moment on.

Depends on harness.  Each worker gets its order ahead of time and sleeps until the given moment, so that no process has
a head start because its order was sent first.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bench.harness import orders
from bench.pace import Pace, Sample

Turn = Callable[[Any], Any]
"""The work of one turn: it gets the order's argument, and its result is reported."""

AHEAD = 0.004
"""Seconds from sending the orders until the moment."""


class Report(NamedTuple):
    """When the turn of one process began and ended, in ns of CLOCK_MONOTONIC, which all processes share."""

    begun: int
    ended: int
    answer: Any


class WorkerPool:
    """Processes forked from one that has loaded nothing yet.

    :param prepare: called in each process with its number, returns its turn; number 0 is ready before the others start.
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
        """Run one turn in all processes, beginning at one moment.  Raises RuntimeError if one fails."""
        moment = time.monotonic() + AHEAD
        for line in self._lines:
            line.send((moment, told))
        return [Report(*self._hear(line)) for line in self._lines]

    @staticmethod
    def _hear(line: Connection) -> Any:
        right, answer = line.recv()
        if not right:
            raise RuntimeError(f"a process of the pool has failed:\n{answer}")
        return answer

    def end(self) -> None:
        """Close the pipes, which ends the processes."""
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
    """Run a turn of ``number`` operations; return the nanoseconds for one operation of all processes together.

    The time is from the first process's begin to the last one's end.
    """
    reports = pool.together(told)
    return (max(one.ended for one in reports) - min(one.begun for one in reports)) / (number * len(pool))


def repeated(pool: WorkerPool, pace: Pace) -> Sample:
    """Return a sample of a pool, with enough operations in a turn that the processes run at the same time."""
    number, wanted = 1000, pace.seconds * 1e9 * 8
    while (took := each_takes(pool, number, 1) * len(pool)) < wanted:
        number = max(number * 2, int(number * wanted / took))
    return lambda: each_takes(pool, number, number)
