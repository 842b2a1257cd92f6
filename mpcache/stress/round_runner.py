"""The round runner: a process that runs one round.  It spawns workers, reaps them, and finds workers that hang.

Depends on worker and signal_injector.  A program: ``python -m mpcache.stress.round_runner FOLDER PARENT``.  It ends
with its parent, and its workers end with it.  Workers differ in what they inherit: some are forked with an open region,
some open it after the fork, and in some scenarios others are programs of their own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from mpcache._support.durations import plain
from mpcache.stress.actor import ProcessResources
from mpcache.stress.history import NEVER, WHOLE_MACHINE, now
from mpcache.stress.idle_time import IdleTime
from mpcache.stress.round_plan import LIMIT, ORPHANS, RoundPlan, add_error, add_finding, findings
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import BEGAN, DONE, REAPED, STOP
from mpcache.stress.signal_injector import TICK, SignalInjector, SignalRecord, Worker, mark_over
from mpcache.stress.worker import adopt, die_with, prepare, run_worker

ENTRIES = 300_000
"""A round ends early after so many entries, so that checking takes seconds."""

_PAUSE = 500_000_000
"""ns between two looks at the workers from which on the machine counts as having paused."""


class RoundRunner:
    """Keeps the number of workers constant, and has signals sent to them."""

    def __init__(self, plan: RoundPlan) -> None:
        self.plan, self.settings = plan, plan.settings
        self.scoreboard = plan.scoreboard()
        self.random = random.Random(f"{plan.settings.seed}/{plan.round}")
        self.scenario: Scenario = plan.scenario()
        self.resources = ProcessResources(plan, self.scenario.store)
        self._warm_up(self.resources)
        self.workers: dict[int, Worker] = {}
        self.lives = 0
        self.signals: list[SignalRecord] = []
        self.born: list[tuple[int, int]] = []
        self.patience = int(1e9 * plan.patience)
        self._beat = now()
        self.injector = SignalInjector(plan, self.scoreboard, self.random, self.signals)

    def _warm_up(self, resources: ProcessResources) -> None:
        """Import here what is imported at its first use, so that not every worker has to."""
        mutex = resources.mutex("")
        with suppress(Exception):  # errors are for workers to find
            if resources.region is not None:
                resources.region.get("")
            if hasattr(mutex, "contend") and not self.plan.environment.leased:  # a lease starts a thread; forks lose it
                with mutex:
                    pass

    # -- births and deaths --

    def spawn(self, place: int) -> None:
        """Start a worker at a place of the scoreboard, in one of the three ways, chosen at random."""
        self.lives += 1
        for row in self.scoreboard.rows(place):
            done = row[DONE]
            row[:] = memoryview(bytes(row.nbytes)).cast("Q")
            self.scoreboard.head[REAPED] += done
        how = self.random.random()
        if self.scenario.programs and how < 0.3:
            pid = self._start(place, self.lives)
        else:
            pid = self._fork(place, self.lives, self.resources if how < 0.65 else None)
        self.workers[pid] = Worker(place, self.lives, pid, self.scoreboard.rows(place))
        self.born.append((self.lives, now()))

    def _fork(self, place: int, life: int, resources: ProcessResources | None) -> int:
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            try:
                die_with(parent)
                resources = resources or ProcessResources(self.plan, self.scenario.store)
                run_worker(self.plan, self.scoreboard, self.scenario, resources, place, life)
                os._exit(0)
            except BaseException as error:
                add_error(self.plan.folder, self.scoreboard, f"worker {life}", error)
            finally:
                os._exit(0)  # an error is among the findings
        return pid

    def _start(self, place: int, life: int) -> int:
        # Not by -m: the exceptions of a module that is __main__ are not those that scenarios catch.
        words = [sys.executable, "-c", "from mpcache.stress.worker import main; main()"]
        words += map(str, (self.plan.folder, place, life, os.getpid()))
        return os.posix_spawn(sys.executable, words, os.environ)  # subprocess would reap it by itself

    def reap(self) -> None:
        """Reap workers that have ended, and spawn others in their places."""
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self.workers.pop(pid, None)
            if worker is None:
                continue  # an orphan, see adopt()
            code = os.waitstatus_to_exitcode(status)
            if code == -signal.SIGKILL:
                mark_over(self.signals, "kill", worker.life)
            elif code:
                self._find("ended", f"worker {worker.life} (pid {pid}) ended with {code}, and was not killed")
            if not self.scoreboard.head[STOP]:
                self.spawn(worker.place)

    # -- the round --

    def run(self) -> None:
        """Run the whole round.  Its time begins when the first operation is done, however slowly workers start."""
        for place in range(self.settings.workers):
            self.spawn(place)
        latest = now() + self.patience
        while now() < latest and not self._done() and not self._enough():
            self._look_after()
        self.scoreboard.head[BEGAN] = now()
        deadline = now() + int(1e9 * self.plan.seconds)
        while now() < deadline and not self._enough():
            self.injector.inject(self.workers.values())
            self._look_after()
        self.scoreboard.head[STOP] = 1
        self.shut_down()

    def _look_after(self) -> None:
        self.injector.wait()
        self._paused()
        self.reap()
        self.watch()

    def _paused(self) -> int:
        """Return the ns for which the machine, or this process alone, paused since the last call; 0: it did not.

        This process cannot tell the two apart, so the time is held against no worker.
        """
        before, self._beat = self._beat, now()
        if self._beat - before < _PAUSE:
            return 0
        self.signals.append(("pause", WHOLE_MACHINE, before, self._beat))
        for worker in self.workers.values():
            worker.exempt = self._beat
        return self._beat - before

    def _enough(self) -> bool:
        """Return whether the round ends early.  An operation writes about two entries."""
        found = bool(self.scoreboard.head[STOP]) or findings(self.plan.folder).exists()
        return found or 2 * self._done() >= ENTRIES

    def _done(self) -> int:
        """Return the number of operations of all workers, living and dead."""
        return self.scoreboard.head[REAPED] + sum(row[DONE] for row in self.scoreboard.all_rows())

    def watch(self) -> None:
        """Report the first worker that hangs.  While a worker is stopped, others may rightly wait for it."""
        stopped = any(worker.resume for worker in self.workers.values())
        for worker in self.workers.values():
            if worker.hangs(self.patience) and not (worker.resume or worker.doomed or stopped):
                seconds = worker.longest() / 1e9
                self._find("hang", f"worker {worker.life} (pid {worker.pid}) has finished nothing for {seconds:.1f} s")
                return

    # -- its end --

    def shut_down(self) -> None:
        """Wait for all workers to end; report and kill those that hang."""
        for worker in self.workers.values():
            if worker.resume:
                self.injector.resume(worker)
        if not self._all_end() and not findings(self.plan.folder).exists():
            pids = ", ".join(str(pid) for pid in self.workers)
            idle, busy = self.patience / 1e9, LIMIT * self.patience / 1e9
            self._find("hang", f"pid {pids} did not end after the round: {idle:.1f} s idle or {busy:.1f} s in all")
        for pid, worker in list(self.workers.items()):
            self.signals.append(("end", worker.life, now(), NEVER))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.workers.clear()
        self._reap_orphans()

    def _all_end(self) -> bool:
        """Return whether all workers end before one hangs, or a finding makes the wait pointless."""
        idle = {pid: IdleTime(pid) for pid in self.workers}
        latest, paused = now() + LIMIT * self.patience, 0
        while self.workers and not findings(self.plan.folder).exists():
            time.sleep(TICK)
            paused += self._paused()
            self.reap()
            if now() - paused > latest or any(idle[pid].ns() - paused > self.patience for pid in self.workers):
                return not self.workers
        return not self.workers

    def _reap_orphans(self) -> None:
        deadline = now() + int(1e9 * ORPHANS)
        try:
            while os.waitpid(-1, os.WNOHANG)[0] or now() < deadline:
                time.sleep(TICK)
                deadline += self._paused()
        except ChildProcessError:
            return
        self._find("left behind", f"children of workers were alive {plain(ORPHANS)} s after all workers had ended")

    def _find(self, check: str, text: str) -> None:
        add_finding(self.plan.folder, check, text)


def main() -> None:
    """Run the round that is planned in a folder."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    adopt()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, and decides what follows
    plan = RoundPlan.read(folder)
    prepare(plan)
    began = now()
    try:
        runner = RoundRunner(plan)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        sys.exit(f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})")
    try:
        runner.run()
    finally:
        report = {"began": began, "ended": now(), "signals": runner.signals, "born": runner.born, "lives": runner.lives}
        (folder / "signals.new").write_text(json.dumps(report))
        (folder / "signals.new").rename(folder / "signals")  # complete, or not there


if __name__ == "__main__":
    main()
