"""The demo: worker processes share a region, creators are killed, an invalidation goes round; then the verdict.

Leans on demo_workers for the processes, demo_environments for the store, demo_checks for the
judgement, demo_view for what one sees of it.
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
"""How long a value takes to create, from and to."""
KILLS = 4
NEVER = 60.0
"""Seconds that the creator which will be killed would take."""
SHORTLY = 0.04
"""Seconds that its successor takes."""
BEFORE_THE_KILL = 0.3
"""Seconds in which the others have come to wait, and the creator to the middle of its work."""
PATIENCE = 10.0
"""Seconds until a worker that does not answer counts as failed."""

clock = time.perf_counter_ns  # the workers' own


class Demo:
    """The three acts, and the facts that come of them."""

    def __init__(self, pool: WorkerPool, facts: Facts, view: View) -> None:
        self.pool, self.facts, self.view = pool, facts, view

    def play(self, seconds: float, seed: int) -> None:
        """All of it; raises WorkerFailed."""
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
        """All ask for the same keys, beginning at the same time."""
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
        """The first worker creates, the others wait for it, it is killed; a new worker takes its place."""
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
        """One calls invalidate() while the others look for a value that was there before."""
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
    """Who said it, each as often as he said it."""
    moments = []
    for worker in workers:
        while (said := worker.take(event)) is not None:
            moments.append(Moment(worker.pid, said["at"], said.get("serial", "")))
    return moments


# -- the environment ------------------------------------------------------------------------------------------------


def run(backend: str, workers: int, seconds: float, seed: int, console: Console) -> int:
    """Play it, judge it; the exit status.

    :param backend: one of ENVIRONMENTS.
    :raises SegmentError: there is no shared memory to play in.
    :raises NoServer: the server that was asked for is not installed.
    :raises SystemExit: a signal ended it; everything is cleared away by then.
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
    judged = verdicts(facts)
    view.verdicts(judged, time.monotonic() - began)
    return 0 if all(verdict.held for verdict in judged) else 1


def _to_workers(environment: Environment) -> str:
    return json.dumps({"backend": environment.backend, "arguments": environment.arguments, "clear": environment.clear})


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """A signal that ends programs unwinds this one, once: a second Ctrl-C does not disturb the clearing away."""
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
