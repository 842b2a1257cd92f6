"""A play: one round, in a process that does nothing else.  It bears workers, kills, stops and buries them, and watches.

Leans on worker, board and checker.  A program: ``python -m mpcache.stress.round_runner FOLDER PARENT``.  It ends
with its parent, and its workers with it.  Half of these have inherited an open region by fork, half have opened it
themselves.
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
from dataclasses import dataclass
from pathlib import Path

from mpcache.stress.checker import NOBODY
from mpcache.stress.history import now
from mpcache.stress.idle_time import IdleTime
from mpcache.stress.scoreboard import BEGAN, BURIED, DONE, HOLDING, KILLS, SINCE, STOP, STOPS, Words
from mpcache.stress.worker import LIMIT, ORPHANS, Part, Process, adopt, amiss, die_with, live, note, prepare

ENTRIES = 300_000
"""After so many diary entries a round is over before its time, so that judging takes seconds."""

_TICK = 0.004

_PAUSE = 500_000_000
"""ns from one look at the workers to the next, from which on the machine counts as having stood still."""


@dataclass
class Worker:
    """One worker, as the play sees it."""

    place: int
    life: int
    pid: int
    rows: list[Words]
    resume: int = 0
    exempt: int = 0
    doomed: bool = False
    idle: IdleTime | None = None

    def holds(self) -> bool:
        """Whether one of its threads has a mutex."""
        return any(row[HOLDING] for row in self.rows)

    def longest(self) -> int:
        """ns for which the longest of its present operations has lasted, without those for which it was stopped."""
        began = [since for row in self.rows if (since := row[SINCE])]  # each read once: it changes meanwhile
        return max((now() - max(since, self.exempt) for since in began), default=0)

    def hangs(self, patience: int) -> bool:
        """Whether its present operation exceeds the ns of patience and the machine is not to blame for the delay.

        Half of the patience is measured by the clock.  From then on only the worker's idle time counts, so that a
        process which has to wait for a core, or which starts slowly, is not taken for one that hangs.
        """
        longest = self.longest()
        if longest <= patience // 2:
            self.idle = None
            return False
        self.idle = self.idle or IdleTime(self.pid)
        return self.idle.ns() > patience // 2 or longest > LIMIT * patience


class Play:
    """Keeps the number of workers, and troubles them."""

    def __init__(self, part: Part) -> None:
        self.part, self.settings = part, part.settings
        self.board = part.board()
        self.random = random.Random(f"{part.settings.seed}/{part.round}")
        self.scenario = part.scenario()
        self.process = Process(part, self.scenario)
        self._warm_up(self.process)
        self.workers: dict[int, Worker] = {}
        self.lives = 0
        self.signals: list[tuple[str, int, int, int]] = []
        self.born: list[tuple[int, int]] = []
        self.patience = int(1e9 * part.patience)
        self._beat = now()
        self._tick = min(_TICK, 0.2 / (part.settings.kills or 1))
        self._kill_at = self._due(self.settings.kills, now())
        self._stop_at = self._due(self.settings.stops, now())

    def _warm_up(self, process: Process) -> None:
        """Let what is imported when it is first used be imported here, and not in each worker."""
        mutex = process.mutex("")
        with suppress(Exception):  # what is wrong with them, workers will find
            if process.region is not None:
                process.region.get("")
            if hasattr(mutex, "contend") and not self.part.arena.leased:  # a lease begins a thread, which forks lose
                with mutex:
                    pass

    def _due(self, rate: float, last: int) -> int:
        """When the next of something comes that comes so often a second, as rare events do."""
        return last + int(1e9 * self.random.expovariate(rate)) if rate else 1 << 63

    # -- births and deaths --

    def bear(self, place: int) -> None:
        """A new worker at that place: forked with what is open here, forked without, or a program of its own."""
        self.lives += 1
        for row in self.board.rows(place):
            done = row[DONE]
            row[:] = memoryview(bytes(row.nbytes)).cast("Q")
            self.board.head[BURIED] += done
        how = self.random.random()
        if self.scenario.programs and how < 0.3:
            pid = self._start(place, self.lives)
        else:
            pid = self._fork(place, self.lives, self.process if how < 0.65 else None)
        self.workers[pid] = Worker(place, self.lives, pid, self.board.rows(place))
        self.born.append((self.lives, now()))

    def _fork(self, place: int, life: int, process: Process | None) -> int:
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            try:
                die_with(parent)
                live(self.part, self.board, self.scenario, process or Process(self.part, self.scenario), place, life)
                os._exit(0)
            except BaseException as error:
                amiss(self.part.folder, self.board, f"worker {life}", error)
            finally:
                os._exit(0)  # what was amiss has been said
        return pid

    def _start(self, place: int, life: int) -> int:
        # Not by -m: the exceptions of a module that is __main__ are not those that scenarios catch.
        words = [sys.executable, "-c", "from mpcache.stress.worker import main; main()"]
        words += map(str, (self.part.folder, place, life, os.getpid()))
        return os.posix_spawn(sys.executable, words, os.environ)  # subprocess would bury it by itself, unasked

    def bury(self) -> None:
        """Take leave of those who have ended, and let others take their places."""
        while self.workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self.workers.pop(pid, None)
            if worker is None:
                continue  # an orphan, see adopt()
            code = os.waitstatus_to_exitcode(status)
            if code == -signal.SIGKILL:
                self._over("kill", worker.life)
            elif code:
                self._find("ended", f"worker {worker.life} (pid {pid}) ended with {code}, and nobody had killed it")
            if not self.board.head[STOP]:
                self.bear(worker.place)

    def _over(self, kind: str, life: int) -> None:
        for at in range(len(self.signals) - 1, -1, -1):
            if self.signals[at][:2] == (kind, life):
                self.signals[at] = (kind, life, self.signals[at][2], now())
                return

    # -- trouble --

    def trouble(self) -> None:
        """Kill and stop those whose time has come; every other time somebody who holds something, if there is one."""
        if now() >= self._kill_at:
            # What a slow machine could not do is made up for, within a quarter of a second.
            self._kill_at = self._due(self.settings.kills, max(self._kill_at, now() - 250_000_000))
            self._signal("kill", self._victim())
        if now() >= self._stop_at:
            self._stop_at = self._due(self.settings.stops, now())
            self._signal("stop", self._victim())
        for worker in self.workers.values():
            if worker.resume and now() >= worker.resume:
                self._resume(worker)

    def _victim(self) -> Worker | None:
        standing = [worker for worker in self.workers.values() if not (worker.resume or worker.doomed)]
        if self.random.random() < 0.7:
            # A holder lets go within a millisecond or two: look for one for as long as a tick takes.
            until = now() + int(1e9 * self._tick)
            while now() < until:
                if holders := [worker for worker in standing if worker.holds()]:
                    return self.random.choice(holders)
        return self.random.choice(standing) if standing else None

    def _signal(self, kind: str, worker: Worker | None) -> None:
        if worker is None:
            return
        self.signals.append((kind, worker.life, now(), 1 << 63))
        if kind == "kill":
            self.board.head[KILLS] += 1
            worker.doomed = True
            os.kill(worker.pid, signal.SIGKILL)
        else:
            self.board.head[STOPS] += 1
            os.kill(worker.pid, signal.SIGSTOP)
            long = self.part.arena.takeover * 1.5 if self.part.arena.leased else 0.3
            worker.resume = now() + int(1e9 * self.random.uniform(0.01, long))

    def _resume(self, worker: Worker) -> None:
        worker.resume, worker.exempt = 0, now()
        self._over("stop", worker.life)
        os.kill(worker.pid, signal.SIGCONT)

    # -- the round --

    def play(self) -> None:
        """The whole round.  Its time begins with the first operation that is done, however slow the births were."""
        for place in range(self.settings.workers):
            self.bear(place)
        latest = now() + self.patience
        while now() < latest and not self._done() and not self._enough():
            self._go_on()
        self.board.head[BEGAN] = now()
        deadline = now() + int(1e9 * self.part.seconds)
        while now() < deadline and not self._enough():
            self.trouble()
            self._go_on()
        self.board.head[STOP] = 1
        self.calm()

    def _go_on(self) -> None:
        time.sleep(self._tick)
        self._paused()
        self.bury()
        self.watch()

    def _paused(self) -> int:
        """ns for which the machine stood still, or this process alone, which cannot tell: nobody hung for so long."""
        before, self._beat = self._beat, now()
        if self._beat - before < _PAUSE:
            return 0
        self.signals.append(("pause", NOBODY, before, self._beat))
        for worker in self.workers.values():
            worker.exempt = self._beat
        return self._beat - before

    def _enough(self) -> bool:
        """Whether it is to end before its time.  An operation writes two entries, more or less."""
        found = bool(self.board.head[STOP]) or (self.part.folder / "findings").exists()
        return found or 2 * self._done() >= ENTRIES

    def _done(self) -> int:
        """Operations, of those who live and of those who lived."""
        return self.board.head[BURIED] + sum(row[DONE] for row in self.board.everybody())

    def watch(self) -> None:
        """Say who does not come to an end."""
        stopped = any(worker.resume for worker in self.workers.values())
        for worker in self.workers.values():
            if worker.hangs(self.patience) and not (worker.resume or worker.doomed or stopped):
                seconds = worker.longest() / 1e9
                self._find("hang", f"worker {worker.life} (pid {worker.pid}) has finished nothing for {seconds:.1f} s")
                return

    def calm(self) -> None:
        """Wait for the ends of all workers; report those that hang."""
        for worker in self.workers.values():
            if worker.resume:
                self._resume(worker)
        if not self._all_end() and not (self.part.folder / "findings").exists():
            pids = ", ".join(str(pid) for pid in self.workers)
            idle, busy = self.patience / 1e9, LIMIT * self.patience / 1e9
            self._find("hang", f"pid {pids} did not end after the round: {idle:.1f} s idle or {busy:.1f} s in all")
        for pid, worker in list(self.workers.items()):
            self.signals.append(("end", worker.life, now(), 1 << 63))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.workers.clear()
        self._bury_orphans()

    def _all_end(self) -> bool:
        """Whether all workers end before one hangs, or a finding makes the wait pointless."""
        idle = {pid: IdleTime(pid) for pid in self.workers}
        latest, paused = now() + LIMIT * self.patience, 0
        while self.workers and not (self.part.folder / "findings").exists():
            time.sleep(_TICK)
            paused += self._paused()
            self.bury()
            if now() - paused > latest or any(idle[pid].ns() - paused > self.patience for pid in self.workers):
                return not self.workers
        return not self.workers

    def _bury_orphans(self) -> None:
        deadline = now() + int(1e9 * ORPHANS)
        try:
            while os.waitpid(-1, os.WNOHANG)[0] or now() < deadline:
                time.sleep(_TICK)
                deadline += self._paused()
        except ChildProcessError:
            return
        self._find("left behind", f"children of workers were alive {ORPHANS:g} s after all workers had ended")

    def _find(self, check: str, text: str) -> None:
        note(self.part.folder, {"check": check, "text": text, "key": None, "at": now()})


def main() -> None:
    """Play the part that is written in a folder."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    adopt()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who watches, and says what follows
    part = Part.read(folder)
    prepare(part)
    began = now()
    try:
        play = Play(part)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        sys.exit(f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})")
    try:
        play.play()
    finally:
        report = {"began": began, "ended": now(), "signals": play.signals, "born": play.born, "lives": play.lives}
        (folder / "signals.new").write_text(json.dumps(report))
        (folder / "signals.new").rename(folder / "signals")  # which is whole, or not there


if __name__ == "__main__":
    main()
