"""The kill storm: processes that work on one small segment, and one that kills them at random moments.

Depends on support.  A program: ``python -m tests.processes.storm NAME FINDINGS --kills 1000 --seed 7``; its report
is a line of JSON.  What may be found, and must not:

corrupt   a value that does not prove itself, or is another key's
aged      a value of a writer of whom the reader has seen a later one under the same key
two       creators of one key that were at work at the same time
damaged   what check() says of the segment
hang      a worker that finishes nothing for two seconds
ended     a worker that ended without being killed
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import SegmentDamaged
from mpcache.shm import _engine, segment
from tests.processes.support import (
    SMALLEST,
    Anatomy,
    Child,
    Corrupt,
    Sign,
    note,
    notes,
    prove,
    proven,
    state_of,
)

WORKERS = 6
KEYS = [f"key-{i}" for i in range(1500)]
HOT = KEYS[:2]
NUMBERS = {key: i for i, key in enumerate(KEYS)}
SPARED = 0.25
"""Seconds in one operation after which no worker is killed any more: a hang must be seen, not ended by the kill."""
HANG = 2.0
CHECK_EVERY = 50
AIMS = ("any-worker", "shard-holder", "creator")
AIM = 0.002
"""Seconds for which a kill that is meant for the holder of the shard waits for one."""

Row = memoryview
DONE, SINCE, SLOWEST = range(3)
"""What a worker keeps on the board: operations done; when this one began, or 0; the slowest so far (ns)."""


class Board:
    """Three words for each worker and one for each key, in memory that all of them share."""

    def __init__(self) -> None:
        words = memoryview(mmap.mmap(-1, 8 * (8 * WORKERS + len(KEYS)))).cast("Q")
        self._rows, creators = words[: 8 * WORKERS], words[8 * WORKERS :]
        self.creators = creators
        """Which worker was the last to begin the creation of key i."""

    def row(self, which: int) -> Row:
        return self._rows[which * 8 : which * 8 + 3]


# -- a worker -------------------------------------------------------------------------------------------------------


class Worker:
    """Reads, writes, deletes and creates, until it is killed or finds what must not be."""

    def __init__(self, board: Board, which: int, told: argparse.Namespace, writer: int) -> None:
        self._row, self._creators = board.row(which), board.creators
        self._told, self._writer = told, writer
        self._random = random.Random(f"{told.seed}/{writer}")
        self._written = 0
        self._newest: dict[tuple[str, int], int] = {}

    def live(self) -> None:
        self._row[SINCE] = time.monotonic_ns()  # to attach is an operation, too
        region = mpcache.shared(self._told.name, self._told.size, serializer=bytes, deserializer=bytes)
        self._over()
        while True:
            act, key = self._choose()
            self._row[SINCE] = time.monotonic_ns()
            value = act(region, key)
            self._over()
            if value is not NO_VALUE:
                self._examine(act.__name__, key, value)

    def _choose(self) -> tuple[Callable[[mpcache.CacheRegion, str], Any], str]:
        """Choose any operation with any key; and more often than by chance, let many workers create the same key."""
        if self._random.random() < self._told.hot:
            return self._random.choice((self._create, self._delete)), self._random.choice(HOT)
        acts = (self._read, self._write, self._delete, self._create, self._check)
        (act,) = self._random.choices(acts, (650, 250, 20, 78, 2))
        return act, self._random.choice(KEYS[: self._random.choice((20, 200, len(KEYS)))])

    def _over(self) -> None:
        took = time.monotonic_ns() - self._row[SINCE]
        self._row[SINCE] = 0
        self._row[SLOWEST] = max(took, self._row[SLOWEST])
        self._row[DONE] += 1

    def _read(self, region: mpcache.CacheRegion, key: str) -> Any:
        return region.get(key)

    def _write(self, region: mpcache.CacheRegion, key: str) -> Any:
        region.set(key, self._new(key))
        return NO_VALUE

    def _delete(self, region: mpcache.CacheRegion, key: str) -> Any:
        region.delete(key)
        return NO_VALUE

    def _create(self, region: mpcache.CacheRegion, key: str) -> Any:
        alone = region.mishaps.counts["created_alone"]
        return region.get_or_create(key, lambda: self._made(region, key, alone))

    def _check(self, region: mpcache.CacheRegion, key: str) -> Any:
        try:
            region.actual_backend.check()
        except SegmentDamaged as error:
            self._find("damaged", str(error))
        return NO_VALUE

    def _made(self, region: mpcache.CacheRegion, key: str, alone: int) -> bytes:
        """A creator without the mutex, since the last creator's value was refused, excludes no other."""
        elected = region.mishaps.counts["created_alone"] == alone
        which = NUMBERS[key]
        if elected:
            self._creators[which] = self._writer
        if key in HOT or self._random.random() < 0.3:
            time.sleep(self._random.random() * 0.003)  # creators work; that is when many are killed
        if elected and self._creators[which] != self._writer:
            self._find("two", f"{key!r}: worker {self._creators[which]} began before worker {self._writer} was done")
        return self._new(key)

    def _new(self, key: str) -> bytes:
        self._written += 1
        size = int(SMALLEST * (self._told.largest / SMALLEST) ** self._random.random())
        return prove(key, Sign(self._writer, self._written), size)

    def _examine(self, act: str, key: str, value: bytes) -> None:
        try:
            sign = proven(key, value)
        except Corrupt as error:
            return self._find("corrupt", f"{act}: {error}")
        newest = self._newest.setdefault((key, sign.writer), sign.sequence)
        if sign.sequence < newest:
            self._find("aged", f"{act} of {key!r}: {sign}, and before that the same writer's number {newest}")
        self._newest[key, sign.writer] = max(newest, sign.sequence)

    def _find(self, what: str, text: str) -> None:
        note(self._told.findings, json.dumps([what, f"pid {os.getpid()}: {text}"]))


# -- the storm ------------------------------------------------------------------------------------------------------


@dataclass
class Victim:
    """A worker as the storm sees it."""

    number: int
    child: Child
    row: Row
    done: int = -1
    moved: float = field(default_factory=time.monotonic)

    def idle(self) -> float:
        """Seconds since it was last seen to have finished something."""
        now = time.monotonic()
        if self.row[DONE] != self.done:
            self.done, self.moved = self.row[DONE], now
        return now - self.moved

    def busy(self) -> float:
        """Seconds since its operation began, 0 between two of them; of a dead one until now."""
        since = self.row[SINCE]
        return time.monotonic() - since / 1e9 if since else 0.0


class Storm:
    """Keeps the workers' number, kills, watches, and looks at the segment in between."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.told = told
        self.random = random.Random(told.seed)
        self.board = Board()
        self.kills = self.born = self.checks = self.operations = 0
        self.slowest = 0.0
        self.segment: segment.Segment | None = segment.attach(told.name, told.size)
        self.anatomy = Anatomy(segment.path_of(told.name))
        self.victims = [self._bear(which) for which in range(WORKERS)]

    def _bear(self, which: int) -> Victim:
        """Every other worker inherits the parent's attachment, every other one attaches by name."""
        self.segment = None if self.random.random() < 0.5 else segment.attach(self.told.name, self.told.size)
        self.born += 1
        row = self.board.row(which)
        row[DONE] = row[SINCE] = row[SLOWEST] = 0
        return Victim(self.born, Child(Worker(self.board, which, self.told, self.born).live), row)

    def rage(self) -> None:
        deadline = time.monotonic() + self.told.seconds
        if self.told.freeze:
            self.victims[0].child.kill(signal.SIGSTOP)
        while time.monotonic() < deadline and (not self.told.kills or self.kills < self.told.kills):
            time.sleep(self.random.uniform(0, 2 * self.told.pause))  # the moment of a kill is what is random here
            self._watch()
            if notes(self.told.findings):
                return
            if self.told.kills:
                self._strike()

    def _watch(self) -> None:
        for victim in self.victims:
            if victim.idle() > HANG:
                now = f"state {state_of(victim.child.pid)}, its operation began {victim.busy():.3f} s ago"
                self._find("hang", f"pid {victim.child.pid} finished nothing for {victim.idle():.3f} s; {now}")

    def _strike(self) -> None:
        within_reach = [i for i, victim in enumerate(self.victims) if victim.idle() < SPARED]
        within_reach = within_reach[1:] if self.told.freeze else within_reach
        turn = AIMS.index(self.told.aim) if self.told.aim else self.kills % 3
        chosen = (self._any, self._shard_holder, self._hot_creator)[turn](within_reach)
        for which in chosen:
            self.victims[which].child.kill(signal.SIGKILL)
        for which in chosen:
            self._bury(self.victims[which])
            self.victims[which] = self._bear(which)
            if self.kills % CHECK_EVERY == 0:
                self._check()

    def _any(self, within_reach: list[int]) -> list[int]:
        together = min(self.random.choice((1, 1, 2, 4)), len(within_reach), self.told.kills - self.kills)
        return self.random.sample(within_reach, together)

    def _shard_holder(self, within_reach: list[int]) -> list[int]:
        """Return a worker that has the shard locked, if one soon has; it may unlock before the signal arrives."""
        pids = {self.victims[i].child.pid: i for i in within_reach}
        deadline = time.monotonic() + AIM
        while time.monotonic() < deadline:
            holder = self.anatomy.shard_holder()
            if holder in pids:
                return [pids[holder]]
        return self._any(within_reach)

    def _hot_creator(self, within_reach: list[int]) -> list[int]:
        """Return the last worker that began to create a hot key: others are likely to wait for it."""
        numbers = {self.victims[i].number: i for i in within_reach}
        begun = (self.board.creators[NUMBERS[key]] for key in HOT)
        return [numbers[writer] for writer in begun if writer in numbers][:1] or self._any(within_reach)

    def _bury(self, victim: Victim) -> None:
        code = victim.child.wait()
        if code == -signal.SIGKILL:
            self.kills += 1
        else:
            self._find("ended", f"pid {victim.child.pid} ended by itself, with {code}; see its traceback")
        self.slowest = max(self.slowest, victim.row[SLOWEST] / 1e9, victim.busy())
        self.operations += victim.row[DONE]

    def _check(self) -> None:
        self.checks += 1
        try:
            segment.attach(self.told.name, self.told.size).engine.check()
        except SegmentDamaged as error:
            self._find("damaged", str(error))

    def _find(self, what: str, text: str) -> None:
        note(self.told.findings, json.dumps([what, text]))

    def calm(self) -> dict[str, Any]:
        """End the workers without counting them as killed, and see what they left."""
        kills = self.kills
        for victim in self.victims:
            victim.child.kill()
            self._bury(victim)
        self._check()
        return {
            "seed": self.told.seed,
            "engine": _engine.__file__,
            "findings": [json.loads(line) for line in notes(self.told.findings)],
            "kills": kills,
            "checks": self.checks,
            "operations": self.operations,
            "slowest": self.slowest,
            "stats": segment.attach(self.told.name, self.told.size).engine.stats(),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("findings")
    parser.add_argument("--size", default="8MB")
    parser.add_argument("--largest", type=int, default=100 << 10, help="bytes of a value; the smallest has 10")
    parser.add_argument("--hot", type=float, default=0.06, help="share of operations that crowd on two keys")
    parser.add_argument("--kills", type=int, default=0, help="none: the workers work until something is found")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=0.012, help="seconds from kill to kill, on average")
    parser.add_argument("--aim", choices=AIMS, help="whom to kill; in turn, if it is not said")
    parser.add_argument("--freeze", action="store_true", help="stop a worker, which must be reported")
    parser.add_argument("--seed", required=True)
    storm = Storm(parser.parse_args())
    try:
        storm.rage()
        report = storm.calm()
    finally:
        for victim in storm.victims:
            victim.child.end()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
