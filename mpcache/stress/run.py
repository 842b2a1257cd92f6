"""A run: rounds, each of which is checked when it is over, until the time is over or a violation was found.

Depends on environment, builds, round_plan, round_results, progress and checker.  A round runs in a process of its own,
see round_runner.  The verdict and all data of a report come from here.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mpcache
from mpcache.stress import builds, checker, faults, scenarios
from mpcache.stress.checker import Violation
from mpcache.stress.environment import PRIVATE, Environment, set_up
from mpcache.stress.errors import CannotRun
from mpcache.stress.history import now
from mpcache.stress.interrupts import defer_signals
from mpcache.stress.progress import Progress, RoundProgress, Sample, Watcher, add_sample
from mpcache.stress.report.timeline import timeline_of
from mpcache.stress.round_plan import LIMIT, ORPHANS, RoundPlan
from mpcache.stress.round_results import add_latencies, load_findings, load_history
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import BEGAN, FINDINGS, STOP
from mpcache.stress.settings import ROUND, Settings

HELD, VIOLATED, COULD_NOT_RUN = 0, 1, 2
"""The exit statuses."""

VERDICTS = {HELD: "held", VIOLATED: "violated", COULD_NOT_RUN: "could not run"}

PROMISES = ("takeover", "leased", "processes", "survives_death", "fair", "assumed")
"""The guarantees of a mutex that a report shows."""

_LOOK = 0.1
"""Seconds between two looks at the scoreboard."""

_SLACK = 30.0
"""Seconds that a round may need for its beginning and its end, beyond the waits of its plan."""


@dataclass
class Run:
    """One run of one scenario.

    :ivar watcher: gets the progress some times a second.
    :ivar package: the folder of the engine to use; None: the settings' engine is built if it is not the installed one.
    :raises CannotRun: the scenario or the fault does not exist.
    """

    settings: Settings
    watcher: Watcher = lambda progress: None
    package: Path | None = None

    def __post_init__(self) -> None:
        try:
            self._kind: type[Scenario] = scenarios.load(self.settings.scenario)
        except KeyError:
            known = ", ".join(scenarios.names())
            raise CannotRun(f"there is no scenario {self.settings.scenario!r}; there are {known}") from None
        if self.settings.fault and self.settings.fault not in faults.TABLE:
            known = ", ".join(faults.TABLE)
            raise CannotRun(f"there is no known bug {self.settings.fault!r} to be seeded; there are {known}")
        if not self.settings.seed:
            self.settings = self.settings.but(seed=secrets.token_hex(4))
        self.progress = Progress(self.settings, self.settings.seconds)
        self.violations: list[Violation] = []
        self.pulse: list[Sample] = []
        self.timeline: dict[str, Any] = {}
        self.figures: dict[str, float] = {}
        self.lives = self.entries = 0
        self.interrupted = False
        self.unfit = ""
        self._environment: Environment | None = None
        self._signals: list[int] = []

    def run(self) -> dict[str, Any]:
        """Run and check all rounds; return the report, see :meth:`report`.

        :raises CannotRun: it cannot run here.
        """
        began = time.time()
        with ExitStack() as last:
            with set_up(self.settings, self._kind.size) as environment:
                self._environment = environment
                self.unfit = self._kind(self.settings, environment).unfit() or self._unreachable(environment)
                try:
                    if not (self.unfit or self.package or (build := faults.build(self.settings)).ordinary):
                        (self.package,) = builds.engines([build], Path(environment.folder)).values()
                    self._signals = last.enter_context(defer_signals())
                    while not (self.unfit or self.violations or self._signals) and self._left() > 0.05:
                        self._round(environment, min(self._left(), ROUND))
                except KeyboardInterrupt:  # before the first round
                    self.interrupted = True
            self.interrupted |= bool(self._signals)
            return self.report(began)

    @property
    def status(self) -> int:
        """HELD, VIOLATED or COULD_NOT_RUN."""
        if self.violations:
            return VIOLATED
        return HELD if self.progress.rounds and self.progress.operations else COULD_NOT_RUN

    def _unreachable(self, environment: Environment) -> str:
        """Return why some workers could not use this store or mutex; empty: all can."""
        if self._kind.programs and environment.inherited:
            return f"programs cannot have a {environment.mutex}: it is made before the fork, and inherited"
        if self._kind.store and environment.backend in PRIVATE and (self.settings.workers > 1 or self.settings.kills):
            return f"each process has its own {environment.backend}, which dies with it: use --workers 1 --kills 0"
        if self._kind.store and environment.backend == "null":
            return "null stores nothing, so there is nothing to check"
        return ""

    def _left(self) -> float:
        return self.settings.seconds - self.progress.seconds

    # -- a round --

    def _round(self, environment: Environment, seconds: float) -> None:
        folder = Path(environment.folder) / f"round-{self.progress.rounds}"
        folder.mkdir()
        plan = RoundPlan(self.settings, environment, self.progress.rounds, seconds, folder)
        plan.write()
        before = replace(self.progress)
        self._watch(plan, self._start(plan))
        if (folder / "signals").exists():
            self._check(plan)
            self.progress.rounds += 1
        else:  # a second signal killed the runner: there is no verdict on this round
            self.progress = before
        shutil.rmtree(folder, ignore_errors=True)
        self.watcher(self.progress)

    def _start(self, plan: RoundPlan) -> subprocess.Popen[bytes]:
        path = [str(self.package)] if self.package else []
        path += [os.path.abspath(entry) for entry in sys.path]
        with open(plan.folder / "output", "wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "mpcache.stress.round_runner", str(plan.folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
                cwd=plan.folder,  # -m looks here first, where no other mpcache lies
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others
            )

    def _watch(self, plan: RoundPlan, runner: subprocess.Popen[bytes]) -> None:
        """Follow a round until its runner has ended.  Raises CannotRun: it failed, or does not end."""
        head, played = plan.scoreboard().head, self.progress.seconds
        round_progress = RoundProgress(plan.scoreboard(), self.progress)
        latest = time.monotonic() + plan.seconds + 2 * LIMIT * plan.patience + ORPHANS + _SLACK
        try:
            while runner.poll() is None:
                if time.monotonic() > latest:
                    raise CannotRun("the round did not come to its end, though no operation of a worker hangs")
                if self._signals:
                    head[STOP] = 1
                if len(self._signals) > 1:
                    runner.kill()
                with suppress(subprocess.TimeoutExpired):
                    runner.wait(_LOOK)
                elapsed = (now() - head[BEGAN]) / 1e9 if head[BEGAN] else 0.0
                self.progress.seconds = played + min(elapsed, plan.seconds)
                self.progress.violations = len(self.violations) + head[FINDINGS]
                self._add_to_pulse(round_progress.update())
                self.watcher(self.progress)
        finally:
            if runner.poll() is None:
                runner.kill()
                runner.wait()
        if runner.returncode and len(self._signals) < 2:
            said = (plan.folder / "output").read_text(errors="replace").strip()
            raise CannotRun(f"the round runner ended with {runner.returncode}: {said or 'it printed nothing'}")

    def _add_to_pulse(self, operations: int) -> None:
        progress = self.progress
        self.pulse = add_sample(self.pulse, (round(progress.seconds, 3), operations, progress.kills, progress.stops))

    def _check(self, plan: RoundPlan) -> None:
        """Check the history of a round, and add its results to those of the run."""
        scenario = plan.scenario()
        history = load_history(plan)
        self.lives += history.lives
        self.entries += sum(map(len, history.entries.values()))
        found = load_findings(plan.folder) + checker.apply(scenario.checks, history)
        self.violations += found
        self.progress.violations = len(self.violations)
        add_latencies(self.progress.latencies, history)
        for name, figure in scenario.figures(history).items():
            self.figures[name] = max(figure, self.figures.get(name, figure))
        self.timeline = timeline_of(history, found)

    # -- its results --

    def report(self, began: float) -> dict[str, Any]:
        """Return all results, as data for JSON and for the page.

        :param began: seconds since the epoch.
        """
        progress, environment = self.progress, self._environment
        return {
            "verdict": VERDICTS[self.status],
            "status": self.status,
            "scenario": self.settings.scenario,
            "question": self._kind.question(),
            "store": self._kind.store,
            "unfit": self.unfit,
            "interrupted": self.interrupted,
            "settings": json.loads(self.settings.json()),
            "words": self.settings.words(),
            "mutex": environment.mutex if environment else self.settings.mutex,
            "guarantees": {name: getattr(environment, name) for name in PROMISES} if environment else {},
            "machine": machine(),
            "began": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(began)),
            "took": round(time.time() - began, 3),
            "seconds": round(progress.seconds, 3),
            "rounds": progress.rounds,
            "operations": progress.operations,
            "entries": self.entries,
            "lives": self.lives,
            "kills": progress.kills,
            "stops": progress.stops,
            "violations": [violation.plain() for violation in self.violations[:100]],
            "found": len(self.violations),
            "latencies": progress.latencies.plain(),
            "figures": self.figures,
            "pulse": self.pulse,
            "timeline": self.timeline,
        }


def machine() -> dict[str, Any]:
    """Return what a report says of the machine and the interpreter."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "mpcache": mpcache.__version__,
    }
