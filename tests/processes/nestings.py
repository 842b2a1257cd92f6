"""Nested creators: two processes that create one key while they create another, in whichever order chance will have.

Depends on support.  A program::

    python -m tests.processes.nestings SEGMENT MUTEX ARGUMENTS --nestings 10000 --seed 7

Its report is a line of JSON, with the results of each process's nestings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import mpcache
from mpcache.exception import DeadlockError, LockTimeout
from tests.processes.support import Child, note, notes, own_time, wait_until

KEYS = [f"key-{number}" for number in range(50)]
HOT = KEYS[:3]
"""Every fifth nesting is of two of these, or there would hardly be a cycle."""
WORK = 0.0002
CYCLE = "cycle"


class Nester:
    """One of the two."""

    def __init__(self, which: int, told: argparse.Namespace) -> None:
        self._which, self._told = which, told
        self._random = random.Random(f"{told.seed}/{which}")
        self._region = mpcache.shared(
            told.segment,
            "8MB",
            mutex=None if told.mutex == "own" else told.mutex,
            mutex_arguments=told.arguments,
            creation_wait=told.wait,
        )
        self._counts: Counter[str] = Counter()
        self._slowest: dict[str, float] = {}

    def live(self) -> None:
        self._meet("born")
        for _ in range(self._told.nestings):
            crowd = HOT if self._random.random() < 0.2 else KEYS
            self._nest(*self._random.sample(crowd, 2))
        if self._told.cycle:
            self._cycle(*[f"{CYCLE}-a", f"{CYCLE}-b"][:: 1 if self._which else -1])
        note(self._told.findings, json.dumps({"counts": self._counts, "slowest": self._slowest}))

    def _meet(self, where: str) -> None:
        """Wait until the other one has come here, too."""
        path = f"{self._told.findings}.{where}"
        note(path, str(os.getpid()))
        wait_until(lambda: len(notes(path)) == 2, "second process")

    def _nest(self, outer: str, inner: str) -> None:
        self._region.delete_multi([outer, inner])
        self._timed(lambda: self._region.get_or_create(outer, lambda: self._inside(outer, inner)))

    def _inside(self, outer: str, inner: str) -> str:
        time.sleep(WORK)
        return outer + self._region.get_or_create(inner, lambda: self._worked(inner))

    def _worked(self, key: str) -> str:
        time.sleep(WORK)
        return key

    def _cycle(self, outer: str, inner: str) -> None:
        """Each process certainly holds one key when it asks for the other's."""

        def create() -> str:
            self._meet("inside")
            return outer + self._region.get_or_create(inner, lambda: inner)

        self._timed(lambda: self._region.get_or_create(outer, create))

    def _timed(self, act: Any) -> None:
        began, came_to = own_time(), "values"
        try:
            act()
        except (DeadlockError, LockTimeout) as error:
            came_to = type(error).__name__
        self._counts[came_to] += 1
        self._slowest[came_to] = max(own_time() - began, self._slowest.get(came_to, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("segment")
    parser.add_argument("mutex", help="own: that of the store")
    parser.add_argument("arguments", type=json.loads)
    parser.add_argument("findings")
    parser.add_argument("--nestings", type=int, default=0)
    parser.add_argument("--cycle", action="store_true", help="a true one, at the end")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds: creation_wait")
    parser.add_argument("--seed", required=True)
    told = parser.parse_args()
    children = [Child(Nester(which, told).live) for which in range(2)]
    try:
        ended = [child.wait(100) for child in children]
    finally:
        for child in children:
            child.end()
    found = [json.loads(line) for line in Path(told.findings).read_text().splitlines()]
    print(json.dumps({"seed": told.seed, "ended": ended, "found": found}))


if __name__ == "__main__":
    main()
