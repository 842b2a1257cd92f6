"""Crowds: processes, with as many threads each, that ask for many keys at once, in sets that overlap.

Depends on support.  A program: ``python -m tests.processes.crowds SEGMENT MUTEX ARGUMENTS LOG --seed 7``; its report is
a line of JSON.  In each generation all keys are absent at first; each creation adds a line to the log.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import mpcache
from tests.processes.support import Child, note, notes, wait_until

KEYS = [f"key-{number:02}" for number in range(60)]
ASKED = 3
"""How often each thread asks in a generation."""


class Process:
    """Its threads ask as soon as a generation has begun."""

    def __init__(self, which: int, region: mpcache.CacheRegion, told: argparse.Namespace) -> None:
        self._which, self._region, self._told = which, region, told

    def live(self) -> None:
        with ThreadPoolExecutor(self._told.threads) as pool:
            for generation in range(self._told.generations):
                wait_until(lambda now=generation: len(notes(self._told.log + ".begun")) > now, "next generation")
                asked = [pool.submit(self._ask, generation, thread) for thread in range(self._told.threads)]
                wrong = [text for one in asked for text in one.result(self._told.patience)]
                note(f"{self._told.log}.{generation}", json.dumps(wrong))

    def _ask(self, generation: int, thread: int) -> list[str]:
        """What is wrong with the values."""
        chance = random.Random(f"{self._told.seed}/{generation}/{self._which}/{thread}")
        wrong = []
        for _ in range(ASKED):
            keys = chance.sample(KEYS, chance.randint(3, 20))
            values = self._region.get_or_create_multi(keys, lambda *missing: self._create(generation, missing))
            pairs = zip(keys, values, strict=True)
            wrong += [f"{value} for {key}" for key, value in pairs if not value.startswith(f"{generation} {key} ")]
        return wrong

    def _create(self, generation: int, keys: tuple[str, ...]) -> list[str]:
        time.sleep(0.0005)
        for key in keys:
            note(self._told.log, f"{generation} {key}")
        return [f"{generation} {key} {secrets.token_hex(4)}" for key in keys]


def conduct(region: mpcache.CacheRegion, told: argparse.Namespace) -> list[str]:
    """Begin each generation when all have ended the one before; returns what was wrong with the values."""
    wrong: list[str] = []
    for generation in range(told.generations):
        region.delete_multi(KEYS)
        note(told.log + ".begun", str(os.getpid()))
        path = f"{told.log}.{generation}"
        wait_until(lambda path=path: len(notes(path)) == told.processes, "end of all", told.patience)
        wrong += [text for line in notes(path) for text in json.loads(line)]
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("segment")
    parser.add_argument("mutex", help="own: that of the store")
    parser.add_argument("arguments", type=json.loads)
    parser.add_argument("log")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--seed", required=True)
    told = parser.parse_args()
    mutex = None if told.mutex == "own" else told.mutex
    region = mpcache.shared(told.segment, "8MB", mutex=mutex, mutex_arguments=told.arguments)
    children = [Child(Process(which, region, told).live) for which in range(told.processes)]
    try:
        wrong = conduct(region, told)
        ended = [child.wait() for child in children]
    finally:
        for child in children:
            child.end()
    print(json.dumps({"seed": told.seed, "ended": ended, "wrong": wrong}))


if __name__ == "__main__":
    main()
