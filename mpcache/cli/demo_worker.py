"""A worker of the demo: a process that shares nothing with the others but the store.

Depends on the public package alone.  Orders come as lines of JSON on standard input, events go out as lines of JSON on
standard output.  When its input ends without the order ``end``, the demo has died: the worker then removes the store
and exits at once.
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, cycle
from typing import Any

import mpcache

PAGE = "The quick brown fox jumps over the lazy dog. " * 21
"""A text that makes a value about 1 KiB."""

REPORT_EVERY = 100_000_000
LOOK_EVERY = 0.0002
GIVE_UP_LOOKING = 1_000_000_000

# CLOCK_MONOTONIC on Linux, which all processes of a machine share: times of different workers can be compared.
clock = time.perf_counter_ns


def tell(event: str, **facts: Any) -> None:
    """Send an event to the demo, in one write, so that a kill leaves no partial line."""
    try:
        os.write(1, json.dumps({"event": event, **facts}).encode() + b"\n")
    except BrokenPipeError:
        time.sleep(3600)  # the demo is dead: the thread that reads the orders is about to end this process


def orders(clear: list[str]) -> queue.SimpleQueue[dict[str, Any]]:
    """Return the queue of orders; a thread fills it, and ends this process if the demo is dead."""
    coming: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        with open(0, "rb", buffering=0, closefd=False) as lines:  # without a buffer, whose lock an exit waits for
            for line in lines:
                order = json.loads(line)
                coming.put(order)
                if order["do"] == "end":
                    return
        # exec ends the other threads first: none of them can create the segment again after this.
        os.execv(sys.executable, [sys.executable, *(clear or ["-c", ""])])

    threading.Thread(target=read, daemon=True).start()
    return coming


class Worker:
    """Executes the orders; each is the method of its name."""

    def __init__(self, backend: str, arguments: dict[str, Any]) -> None:
        self.cache = mpcache.make_region().configure(backend, arguments=arguments)
        self.creations: Counter[str] = Counter()

    def _create(self, key: str, seconds: float) -> dict[str, Any]:
        self.creations[key] += 1
        time.sleep(seconds)
        serial = f"{os.getpid()}-{self.creations[key]}-{random.getrandbits(32):08x}"
        return {"key": key, "by": os.getpid(), "serial": serial, "page": PAGE, "made_at": clock()}

    # -- 1: load ----------------------------------------------------------------------------------------

    def load(self, keys: int, slow_ms: tuple[int, int], seconds: float, seed: int, start: int) -> None:
        """Request keys as fast as possible, few of them often and many seldom."""
        rng = random.Random(seed)
        names = [f"page:{number}" for number in range(keys)]
        makers = [self._maker(name, rng.uniform(*slow_ms) / 1000) for name in names]
        weights = [*accumulate(1 / (rank + 1) for rank in range(keys))]
        draws = rng.choices(range(keys), cum_weights=weights, k=10_007)
        tally = _Tally(names, self.creations)
        time.sleep(max(0, start - clock()) / 1e9)
        self._ask([(names[draw], makers[draw]) for draw in draws], tally, start + int(seconds * 1e9))
        tell("load", **tally.total())

    def _maker(self, key: str, seconds: float) -> Callable[[], dict[str, Any]]:
        return lambda: self._create(key, seconds)

    def _ask(self, draws: list[tuple[str, Callable[[], Any]]], tally: _Tally, deadline: int) -> None:
        get_or_create, took, serials, me = self.cache.get_or_create, tally.window.append, tally.last, os.getpid()
        report_at = clock() + REPORT_EVERY
        for asked, (key, create) in enumerate(cycle(draws), 1):
            began = clock()
            value = get_or_create(key, create)
            ended = clock()
            if value["made_at"] <= began:
                took(ended - began)
            elif value["by"] != me:
                tally.waits += 1
            if value["serial"] != serials[key] or value["key"] != key:
                tally.note(key, value)
            if ended >= report_at:
                report_at, tally.requests = ended + REPORT_EVERY, asked
                if ended >= deadline:
                    return
                tell("progress", **tally.so_far())

    # -- 2: one is killed -------------------------------------------------------------------------------

    def create(self, key: str, seconds: float) -> None:
        """Request a key; if this worker creates its value, report the beginning and the end."""

        def creator() -> dict[str, Any]:
            tell("begun", at=clock())
            value = self._create(key, seconds)
            tell("ended", at=clock(), serial=value["serial"])
            return value

        tell("asks")
        value = self.cache.get_or_create(key, creator)
        tell("has", at=clock(), serial=value["serial"])

    # -- 3: invalidate() --------------------------------------------------------------------------------

    def watch(self, key: str) -> None:
        """Poll a value until it is gone."""
        old_at = clock()
        self.cache.get_or_create(key, lambda: "old")
        tell("watches")
        began = clock()
        give_up_at = began + GIVE_UP_LOOKING
        while self.cache.get(key) is not mpcache.NO_VALUE and began < give_up_at:
            old_at = began
            time.sleep(LOOK_EVERY)
            began = clock()
        tell("saw", old_at=old_at, gone_at=clock() if began < give_up_at else None)

    def invalidate(self) -> None:
        """Invalidate the region."""
        began = clock()
        self.cache.invalidate()
        tell("invalidated", began_at=began, returned_at=clock())


class _Tally:
    """Counts of one worker under load."""

    def __init__(self, names: list[str], creations: Counter[str]) -> None:
        self.creations = creations
        self.clock = _cost_of_the_clock()
        self.requests = self.waits = self.wrong = 0
        self.window: list[int] = []
        self.took: list[int] = []
        self.last: dict[str, str | None] = dict.fromkeys(names)
        self.serials: dict[str, list[str]] = {}

    def note(self, key: str, value: dict[str, Any]) -> None:
        """Record a value that differs from the last one of its key: the first, or a violation."""
        self.wrong += value["key"] != key
        self.last[key] = value["serial"]
        self.serials.setdefault(key, []).append(value["serial"])

    def so_far(self) -> dict[str, Any]:
        """Return the counts, and the percentiles since the last call."""
        window = sorted(self.window)
        self.took += window
        self.window.clear()
        return self._counts() | _percentiles(window)

    def total(self) -> dict[str, Any]:
        """Return the counts, and the percentiles of all hits."""
        self.so_far()
        return self._counts() | _percentiles(sorted(self.took)) | {"serials": self.serials, "wrong": self.wrong}

    def _counts(self) -> dict[str, Any]:
        hits, creations = len(self.took), dict(self.creations)
        counts = {"requests": self.requests, "hits": hits, "waits": self.waits, "creations": creations}
        return counts | {"clock": self.clock}


def _percentiles(times: list[int]) -> dict[str, int | None]:
    """Return the percentiles of a sorted list."""
    last = len(times) - 1
    return {"p50": times[last // 2] if times else None, "p99": times[last * 99 // 100] if times else None}


def _cost_of_the_clock() -> int:
    """Return the nanoseconds of each measured time that the clock itself takes."""
    return sorted(-clock() + clock() for _ in range(1001))[500]


def main() -> None:
    """Execute orders until the order ``end``."""
    environment = json.loads(sys.argv[1])
    coming = orders(environment["clear"])
    try:
        worker = Worker(environment["backend"], environment["arguments"])
        tell("ready")
        while (order := coming.get())["do"] != "end":
            getattr(worker, order.pop("do"))(**order)
    except Exception as error:
        tell("failed", what=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
