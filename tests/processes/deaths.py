"""Deaths of holders: processes that contend for a few mutexes of one kind, and a reaper that kills holders.

Depends on support.  A program: ``python -m tests.processes.deaths KIND ARGUMENTS --kills 200 --seed 7``; its report is
a line of JSON.  A holder of a mutex writes its number into the word of its lane.  A holder that finds a number there
has taken over from a dead holder, or there are two holders.
"""

from __future__ import annotations

import argparse
import heapq
import json
import mmap
import os
import random
import select
import struct
import time
from typing import Any, NamedTuple

from mpcache.mutexes import resolve
from tests.processes.support import PATIENCE, Child, queued

DOOM = 0.008
"""Seconds after which a holder is killed, at most; some have let go by then, and wait again."""


class Held(NamedTuple):
    """What a contender reports when it holds the mutex: the lane, its number, the number that it found there, when.

    ``queued``: ns for which it was runnable and had no core, in all its life, see support; and ``intruder``, in the
    report of a release: the number that stood there in place of its own.
    """

    lane: int
    who: int
    found: int
    when: int
    queued: int
    intruder: int


_HELD = struct.Struct("<IIIQQI")  # so short a write to a pipe is never torn


class Contender:
    """Acquires, works, lets go, again and again, until it is killed."""

    def __init__(self, lane: int, who: int, board: memoryview, line: int, told: argparse.Namespace) -> None:
        self._lane, self._who, self._board, self._line, self._told = lane, who, board, line, told
        self._random = random.Random(f"{told.seed}/{who}")

    def live(self) -> None:
        make = resolve(self._told.kind)
        while True:
            mutex = make(f"lane {self._lane}", **self._told.arguments)
            mutex.acquire()
            when = time.monotonic_ns()
            found, self._board[self._lane] = self._board[self._lane], self._who
            self._say(found, when, queued(), 0)
            time.sleep(self._random.uniform(0, self._told.work))
            if self._board[self._lane] != self._who:
                self._say(0, when, 0, self._board[self._lane])
            self._board[self._lane] = 0
            mutex.release()

    def _say(self, found: int, when: int, queue: int, intruder: int) -> None:
        os.write(self._line, _HELD.pack(self._lane, self._who, found, when, queue, intruder))


class Reaper:
    """Kills a contender a moment after it reported that it holds a mutex, and starts another in its place."""

    def __init__(self, told: argparse.Namespace) -> None:
        self._told, self._random = told, random.Random(told.seed)
        resolve(told.kind)("warm", **told.arguments).locked()  # what all need is loaded once, before the forks
        self._hears, self._line = os.pipe()
        self._board = memoryview(mmap.mmap(-1, 4 * told.lanes)).cast("I")
        self._living: dict[int, tuple[int, Child]] = {}
        self._killed: dict[int, tuple[int, dict[int, int]]] = {}
        self._doomed: list[tuple[int, int]] = []
        self._born = 0
        self.doubles: list[str] = []
        self.takeovers: list[tuple[float, float]] = []
        self.handed_on = 0
        for lane in range(told.lanes):
            for _ in range(told.contenders):
                self._bear(lane)

    def _bear(self, lane: int) -> None:
        self._born += 1
        contender = Contender(lane, self._born, self._board, self._line, self._told)
        self._living[self._born] = lane, Child(contender.live)

    def reap(self) -> None:
        while len(self.takeovers) < self._told.kills and not self.doubles:
            due = self._doomed[0][0] - time.monotonic_ns() if self._doomed else PATIENCE * 1e9
            ready, _, _ = select.select([self._hears], [], [], max(0.0, due / 1e9))
            if ready:
                self._hear(Held(*_HELD.unpack(os.read(self._hears, _HELD.size))))
            elif not self._doomed:
                raise TimeoutError(f"within {PATIENCE:g} s no process acquired anything")
            while self._doomed and self._doomed[0][0] <= time.monotonic_ns():
                self._kill(heapq.heappop(self._doomed)[1])

    def _hear(self, held: Held) -> None:
        if held.intruder:
            self.doubles.append(f"{held.intruder} came while {held.who} was there")
        elif held.found not in (0, *self._killed):
            self.doubles.append(f"{held.who} found {held.found}, which lives")
        elif held.found:
            when, queued_then = self._killed[held.found]
            took = held.when - when
            self.takeovers.append((took / 1e9, (took - held.queued + queued_then.get(held.who, 0)) / 1e9))
        else:
            self.handed_on += 1
        doom = time.monotonic_ns() + int(self._random.uniform(0, DOOM) * 1e9)
        heapq.heappush(self._doomed, (doom, held.who))

    def _kill(self, who: int) -> None:
        if who in self._living:
            lane, child = self._living.pop(who)
            heirs = {heir: queued(other.pid) for heir, (there, other) in self._living.items() if there == lane}
            self._killed[who] = time.monotonic_ns(), heirs
            child.kill()
            child.wait()
            self._bear(lane)

    def end(self) -> None:
        for _, child in self._living.values():
            child.end()

    def report(self) -> dict[str, Any]:
        return {
            "seed": self._told.seed,
            "kills": len(self._killed),
            "doubles": self.doubles,
            "takeovers": self.takeovers,
            "handed_on": self.handed_on,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("arguments", type=json.loads)
    parser.add_argument("--kills", type=int, default=200, help="how many of the killed processes must be holders")
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--contenders", type=int, default=3, help="in each lane")
    parser.add_argument("--work", type=float, default=0.005, help="seconds for which a holder works, at most")
    parser.add_argument("--seed", required=True)
    reaper = Reaper(parser.parse_args())
    try:
        reaper.reap()
    finally:
        reaper.end()
    print(json.dumps(reaper.report()))


if __name__ == "__main__":
    main()
