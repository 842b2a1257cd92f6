"""The demo: worker processes share a region, creators are killed, all invalidate; then the promises are checked.

Depends on demo_workers for the processes, demo_environments for the store, demo_checks for the verdicts, and demo_view
for the output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mpcache._console import Console
from mpcache.cli.demo_checks import Facts, Invalidation, Kill, Load, Moment, Watch, verdicts
from mpcache.cli.demo_environments import ENVIRONMENTS, Environment
from mpcache.cli.demo_view import View
from mpcache.cli.demo_workers import Event, Worker, WorkerFailed, WorkerPool

KEYS = 60
SLOW_MS = (20, 50)
"""Range of the milliseconds that a creation takes."""
KILLS = 4
NEVER = 60.0
"""Seconds of a creation whose creator will be killed."""
SHORTLY = 0.04
"""Seconds of the creation that follows it."""
BEFORE_THE_KILL = 0.3
"""Seconds after which the others are waiting, and the creator is in the middle of its work."""
PATIENCE = 10.0
"""Seconds after which a worker that does not answer counts as failed."""

clock = time.perf_counter_ns  # the same clock as the workers'


class Demo:
    """The three parts of the demo, and the facts that they yield."""

    def __init__(self, pool: WorkerPool, facts: Facts, view: View) -> None:
        self.pool, self.facts, self.view = pool, facts, view

    def play(self, seconds: float, seed: int) -> None:
        """Run all parts.  Raises WorkerFailed."""
        for number in range(1, self.facts.workers + 1):
            self.pool.start(number)
        self.pool.wait_for("ready", self.pool.members, PATIENCE)
        self.load(seconds, seed)
        self.view.kills_begin()
        for number in range(1, KILLS + 1):
            self.kill(f"report:{number}")
        self.view.invalidations_begin()
        for number, caller in enumerate(self.pool.members, 1):
            self.invalidate(caller, f"news:{number}")

    # -- 1 ----------------------------------------------------------------------------------------------

    def load(self, seconds: float, seed: int) -> None:
        """Have all workers request the same keys, from the same moment on."""
        pool, start = self.pool, clock() + 50_000_000
        how = {"keys": KEYS, "slow_ms": SLOW_MS, "seconds": seconds, "start": start}
        for worker in pool.members:
            worker.tell("load", **how, seed=seed * 1000 + worker.number)
        with self.view.load([f"page:{number}" for number in range(KEYS)], SLOW_MS) as show:
            seen = {worker.pid: _load(worker, {}) for worker in pool.members}

            def progress(worker: Worker, event: Event) -> None:
                seen[worker.pid] = _load(worker, event)
                show([*seen.values()], clock() - start)

            ends = pool.wait_for("load", pool.members, seconds + PATIENCE, progress)
            self.facts.loads = [_load(worker, event) for worker, event in zip(pool.members, ends, strict=True)]
            show(self.facts.loads)

    # -- 2 ----------------------------------------------------------------------------------------------

    def kill(self, key: str) -> None:
        """Kill the first worker in a creation for which the others wait; start a new worker in its place."""
        pool = self.pool
        victim, others = pool.members[0], pool.members[1:]
        victim.tell("create", key=key, seconds=NEVER)
        (begun,) = pool.wait_for("begun", [victim], PATIENCE)
        for worker in others:
            worker.tell("create", key=key, seconds=SHORTLY)
        pool.wait_for("asks", others, PATIENCE)
        pool.pause(BEFORE_THE_KILL)
        killed_at = clock()
        pool.kill(victim)
        answers = pool.wait_for("has", others, PATIENCE)
        successors, ends = _said(others, "begun"), _said([victim, *others], "ended")
        fact = Kill(
            victim=victim.pid,
            killed_at=killed_at,
            asked=[worker.pid for worker in others],
            begun=[Moment(victim.pid, begun["at"]), *successors],
            ended=ends,
            answers=[
                Moment(worker.pid, said["at"], said["serial"]) for worker, said in zip(others, answers, strict=True)
            ],
        )
        self.facts.kills.append(fact)
        self.view.kill(fact, pool.start(victim.number).pid)
        pool.wait_for("ready", pool.members[-1:], PATIENCE)

    # -- 3 ----------------------------------------------------------------------------------------------

    def invalidate(self, caller: Worker, key: str) -> None:
        """Have one worker call invalidate() while the others look for a value that was stored before."""
        watchers = [worker for worker in self.pool.members if worker is not caller]
        for worker in watchers:
            worker.tell("watch", key=key)
        self.pool.wait_for("watches", watchers, PATIENCE)
        caller.tell("invalidate")
        (call,) = self.pool.wait_for("invalidated", [caller], PATIENCE)
        saw = self.pool.wait_for("saw", watchers, PATIENCE)
        fact = Invalidation(
            by=caller.pid,
            began_at=call["began_at"],
            returned_at=call["returned_at"],
            watches=[
                Watch(worker.pid, one["old_at"], one["gone_at"]) for worker, one in zip(watchers, saw, strict=True)
            ],
        )
        self.facts.invalidations.append(fact)
        self.view.invalidation(fact)


def _load(worker: Worker, said: Event) -> Load:
    empty: dict[str, Any] = {"requests": 0, "hits": 0, "waits": 0, "creations": {}, "serials": {}}
    return Load(worker.number, worker.pid, **empty | {name: fact for name, fact in said.items() if name != "event"})


def _said(workers: list[Worker], event: str) -> list[Moment]:
    """Take all events of this name from the workers' inboxes."""
    moments = []
    for worker in workers:
        while (said := worker.take(event)) is not None:
            moments.append(Moment(worker.pid, said["at"], said.get("serial", "")))
    return moments


# -- a run ----------------------------------------------------------------------------------------------------


def run(backend: str, workers: int, seconds: float, seed: int, console: Console) -> int:
    """Run the demo and check its promises; return the exit status.

    :param backend: a key of ENVIRONMENTS.
    :raises SegmentError: shared memory is missing or full.
    :raises NoServer: the server is not installed.
    :raises SystemExit: a signal ended it; everything has been removed by then.
    """
    began, name = time.monotonic(), f"demo-{os.getpid()}"
    facts = Facts(workers, kills_planned=KILLS, invalidations_planned=workers)
    view = View(console)
    with _signals_as_exits(), ENVIRONMENTS[backend](name) as environment, WorkerPool(_to_workers(environment)) as pool:
        view.title(name, workers, environment.where)
        facts.take_over_within = environment.take_over_within
        try:
            Demo(pool, facts, view).play(seconds, seed)
            facts.failures += pool.end_all()
        except WorkerFailed as failure:
            facts.failures.append(str(failure))
    facts.leftovers += environment.left()
    checked = verdicts(facts)
    view.verdicts(checked, time.monotonic() - began)
    return 0 if all(verdict.held for verdict in checked) else 1


def _to_workers(environment: Environment) -> str:
    return json.dumps({"backend": environment.backend, "arguments": environment.arguments, "clear": environment.clear})


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """Turn the first signal that ends programs into SystemExit; ignore later ones, which would disturb the clean-up."""
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, frame: FrameType | None) -> None:
        for one in caught:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    before: dict[int, Any] = {one: signal.signal(one, leave) for one in caught}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
