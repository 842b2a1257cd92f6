"""Pacing of a round: when which worker is killed or stopped, and when a stopped worker goes on.

Depends on round_plan, scoreboard and idle_time.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass

from mpcache.stress.history import NEVER, now
from mpcache.stress.idle_time import IdleTime
from mpcache.stress.round_plan import LIMIT, RoundPlan
from mpcache.stress.scoreboard import HOLDING, KILLS, SINCE, STOPS, Scoreboard, Words

TICK = 0.004
"""Seconds between two looks at the workers, at most."""

SignalRecord = tuple[str, int, int, int]
"""The fields of a :class:`~mpcache.stress.history.Signal`."""


@dataclass
class Worker:
    """A worker process, as the round runner sees it.

    :ivar place: on the scoreboard.
    :ivar resume: when SIGCONT is due; 0: it is not stopped.
    :ivar exempt: moment before which no time counts against it, since it was stopped or the machine paused.
    :ivar doomed: whether SIGKILL was sent to it.
    """

    place: int
    life: int
    pid: int
    rows: list[Words]
    resume: int = 0
    exempt: int = 0
    doomed: bool = False
    idle: IdleTime | None = None

    def holds(self) -> bool:
        """Return whether one of its threads holds a mutex."""
        return any(row[HOLDING] for row in self.rows)

    def longest(self) -> int:
        """Return the ns of the longest of its present operations, without the time before ``exempt``."""
        began = [since for row in self.rows if (since := row[SINCE])]  # each read once: it changes meanwhile
        return max((now() - max(since, self.exempt) for since in began), default=0)

    def hangs(self, patience: int) -> bool:
        """Return whether its present operation exceeds the ns of patience and the machine is not to blame.

        Half of the patience is measured by the clock.  From then on only the worker's idle time counts, so that a
        process that has to wait for a core, or starts slowly, is not taken for one that hangs.
        """
        longest = self.longest()
        if longest <= patience // 2:
            self.idle = None
            return False
        self.idle = self.idle or IdleTime(self.pid)
        return self.idle.ns() > patience // 2 or longest > LIMIT * patience


def mark_over(signals: list[SignalRecord], kind: str, life: int) -> None:
    """Set the end of the last signal of this kind to this life to now."""
    for at in range(len(signals) - 1, -1, -1):
        if signals[at][:2] == (kind, life):
            signals[at] = (kind, life, signals[at][2], now())
            return


class SignalInjector:
    """Sends SIGKILL, SIGSTOP and SIGCONT to workers, and records what it sends.

    :param signals: the record, to which it appends.
    """

    def __init__(
        self, plan: RoundPlan, scoreboard: Scoreboard, dice: random.Random, signals: list[SignalRecord]
    ) -> None:
        self._environment, self._head, self._random, self._signals = plan.environment, scoreboard.head, dice, signals
        self._kills, self._stops = plan.settings.kills, plan.settings.stops
        self.tick = min(TICK, 0.2 / (self._kills or 1))
        self._kill_at = self._due(self._kills, now())
        self._stop_at = self._due(self._stops, now())

    def _due(self, rate: float, last: int) -> int:
        """Return when the next of events comes that occur at random, ``rate`` times a second on average."""
        return last + int(1e9 * self._random.expovariate(rate)) if rate else NEVER

    def inject(self, workers: Collection[Worker]) -> None:
        """Send the signals that are due."""
        if now() >= self._kill_at:
            # A slow machine makes up for missed kills, within a quarter of a second.
            self._kill_at = self._due(self._kills, max(self._kill_at, now() - 250_000_000))
            if victim := self._victim(workers):
                self._kill(victim)
        if now() >= self._stop_at:
            self._stop_at = self._due(self._stops, now())
            if victim := self._victim(workers):
                self._stop(victim)
        for worker in workers:
            if worker.resume and now() >= worker.resume:
                self.resume(worker)

    def _victim(self, workers: Collection[Worker]) -> Worker | None:
        """Choose a worker that runs; in 70 % of the cases one that holds a mutex, if one is found within a tick."""
        running = [worker for worker in workers if not (worker.resume or worker.doomed)]
        if self._random.random() < 0.7:
            until = now() + int(1e9 * self.tick)  # a hold lasts a millisecond or two only
            while now() < until:
                if holders := [worker for worker in running if worker.holds()]:
                    return self._random.choice(holders)
        return self._random.choice(running) if running else None

    def _kill(self, worker: Worker) -> None:
        self._signals.append(("kill", worker.life, now(), NEVER))
        self._head[KILLS] += 1
        worker.doomed = True
        os.kill(worker.pid, signal.SIGKILL)

    def _stop(self, worker: Worker) -> None:
        self._signals.append(("stop", worker.life, now(), NEVER))
        self._head[STOPS] += 1
        os.kill(worker.pid, signal.SIGSTOP)
        longest = self._environment.takeover * 1.5 if self._environment.leased else 0.3
        worker.resume = now() + int(1e9 * self._random.uniform(0.01, longest))

    def resume(self, worker: Worker) -> None:
        """Send SIGCONT to a stopped worker."""
        worker.resume, worker.exempt = 0, now()
        mark_over(self._signals, "stop", worker.life)
        os.kill(worker.pid, signal.SIGCONT)

    def wait(self) -> None:
        """Sleep for a tick."""
        time.sleep(self.tick)
