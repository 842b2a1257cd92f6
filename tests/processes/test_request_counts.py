"""Counts of requests are exact over processes that are forked, spawned and killed, whatever slots they get.

Depends on support.  Each process notes on a line of its own what it has counted; a killed one may have counted one
request more than it noted, and may have lost 1,023 calls of its function.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import random
import subprocess
import sys
from typing import Any

import pytest

import mpcache
from mpcache.shm import _engine
from tests.processes.support import Child, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.engine]

PROCESSES, KILLS = 8, 24
NAMESPACES = 45
"""More than a process slot has request words, by three words a namespace."""

SPAWNED = """
import json, sys
from tests.processes import test_request_counts as this

print(json.dumps(this.crowd_member(sys.argv[1], int(sys.argv[2]), 2000)))
"""


def region_of(name: str, number: int) -> mpcache.CacheRegion:
    return mpcache.shared(name, size="8MB", namespace=f"namespace {number}")


class Member:
    """One process: regions of some namespaces, and a decorated function."""

    def __init__(self, name: str, seed: int) -> None:
        self.dice = random.Random(seed)
        self.numbers = self.dice.sample(range(NAMESPACES), 20)
        self.regions = [region_of(name, number) for number in self.numbers]
        self.function = self.regions[0].cache_on_arguments(namespace="crowd")(twice)
        self.requests = [0] * NAMESPACES
        self.calls = 0

    def step(self) -> None:
        """Make one request, and note it."""
        which = self.dice.randrange(len(self.regions))
        region, key = self.regions[which], f"key {self.dice.randrange(20)}"
        act = self.dice.randrange(4)
        if act == 0:
            region.get_or_create(key, lambda: 1)
        elif act == 1:
            region.get_multi([key, "none"])
        elif act == 2:
            self.function(self.dice.randrange(5))
            self.calls += 1
            which = 0
        else:
            region.get(key)
        self.requests[self.numbers[which]] += 2 if act == 1 else 1


def twice(number: int) -> int:
    return 2 * number


def crowd_member(name: str, seed: int, steps: int) -> tuple[list[int], int]:
    """Play a member that ends in good order; return its requests of each namespace, and the calls of its function."""
    member = Member(name, seed)
    for _ in range(steps):
        member.step()
    return member.requests, member.calls


class Board:
    """A line for each process: its requests of each namespace, and its calls."""

    WIDTH = NAMESPACES + 1

    def __init__(self, lines: int) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * self.WIDTH * lines)).cast("Q")

    def note(self, line: int, member: Member) -> None:
        for i, number in enumerate((*member.requests, member.calls)):
            self._words[line * self.WIDTH + i] = number

    def line(self, line: int) -> list[int]:
        return list(self._words[line * self.WIDTH : (line + 1) * self.WIDTH])


def play(name: str, board: Board, line: int, steps: int | None) -> None:
    member = Member(name, line)
    for _ in itertools.count() if steps is None else range(steps):
        member.step()
        board.note(line, member)
    flush(member)


def flush(member: Member) -> None:
    member.function.flush_counts()


def all_calls(name: str) -> int:
    """Return the calls of the crowd's functions, in all namespaces."""
    engine: _engine.Engine = region_of(name, 0).actual_backend.segment.engine
    return sum(counts[0] for _, function, counts in engine.functions() if function is not None)


def all_requests(name: str) -> list[int]:
    return [region_of(name, number).stats()["requests"] for number in range(NAMESPACES)]


def test_a_crowd_is_counted_exactly_and_killed_processes_lose_what_is_said(name: str) -> None:
    board = Board(PROCESSES + KILLS)
    spawned = [spawn(name, 1000 + i) for i in range(2)]
    ending = [Child(lambda line=i: play(name, board, line, 2000)) for i in range(PROCESSES)]
    before, dice = [0] * NAMESPACES, random.Random(1)
    for i in range(KILLS):
        line = PROCESSES + i
        child = Child(lambda line=line: play(name, board, line, None))
        steps = dice.randrange(1, 400)
        wait_until(lambda line=line, steps=steps: sum(board.line(line)[:-1]) > steps, "steps of a process")
        child.kill()
        child.wait()
        now = all_requests(name)
        assert all(a <= b for a, b in zip(before, now, strict=True)), "a sum fell"
        before = now
    for child in ending:
        assert child.wait() == 0
    told = [json.loads(process.communicate(timeout=100)[0]) for process in spawned]
    noted = [sum(line) for line in zip(*(board.line(i) for i in range(PROCESSES + KILLS)), strict=True)]
    for requests, calls in told:
        noted = [a + b for a, b in zip(noted, (*requests, calls), strict=True)]
    requests, calls = all_requests(name), all_calls(name)
    assert sum(noted[:-1]) <= sum(requests) <= sum(noted[:-1]) + 2 * KILLS
    assert all(a <= b <= a + 2 * KILLS for a, b in zip(noted[:-1], requests, strict=True))
    assert noted[-1] - 1023 * KILLS <= calls <= noted[-1] + KILLS
    lost_by_the_killed = sum(board.line(PROCESSES + i)[-1] for i in range(KILLS))
    assert calls >= noted[-1] - lost_by_the_killed, "a process that was not killed lost calls"


def spawn(name: str, seed: int) -> Any:
    command = [sys.executable, "-c", SPAWNED, name, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_adds_its_hits_when_it_ends(name: str, method: str) -> None:
    import multiprocessing

    context = multiprocessing.get_context(method)
    for _ in range(2):
        child = context.Process(target=call_in_child, args=(name,))
        child.start()
        child.join()
        assert child.exitcode == 0
    assert all_calls(name) == 200


def call_in_child(name: str) -> None:
    function = region_of(name, 0).cache_on_arguments(namespace="crowd")(twice)
    for _ in range(100):
        function(1)


def test_a_program_that_ends_adds_its_hits(name: str) -> None:
    text = f"from tests.processes import test_request_counts as this; this.call_in_child({name!r})"
    subprocess.run([sys.executable, "-c", text], check=True, env=os.environ)
    assert all_calls(name) == 100
