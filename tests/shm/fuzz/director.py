"""The director of a fuzz: makes clean segments, starts the two processes, watches them, and tells what they found.

Depends on board, layout and worker.  A process that dies or hangs is a finding; the director starts it again behind
that episode.
"""

from __future__ import annotations

import glob
import json
import os
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpcache.shm import _engine, segment

from .board import Board, Word
from .layout import compile_birth, plain_environment, read_layout
from .worker import NAMES, Job, last_lines, start

HANG = 15.0
"""Seconds after which the director no longer waits for a call to return."""

KEYS_AT_BIRTH = 60


@dataclass
class Outcome:
    """What a run did and found."""

    seed: int
    corruptions: int = 0
    calls: int = 0
    errors: int = 0
    episodes: int = 0
    fenced: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"fuzz: seed {self.seed}: {self.corruptions:,} corruptions in {self.episodes:,} episodes,"
            f" {self.calls:,} calls, of which {self.errors:,} raised an error of mpcache; {self.fenced:,} mappings with"
            f" a page behind them that nothing may touch; {len(self.findings)} findings; {self.seconds:.0f} s"
        )


def make_births(folder: Path, seed: int) -> list[Path]:
    """Make clean segments: small, of 1 and of 2 shards; larger; and small, with rings that soon begin again."""
    birth = compile_birth(folder)
    plans = []
    for shards, more, laps in ((1, 0, 0), (2, 0, 0), (1, 1 << 20, 0), (1, 0, 9)):
        size = _engine.smallest(shards) + more
        plans.append((size, shards, laps * (size - _engine.smallest(shards) + (256 << 10)) // 8 or 1 << 48))
    births = []
    for number, (size, shards, limit) in enumerate(plans):
        path = folder / f"birth-{number}"
        status = os.spawnve(
            os.P_WAIT, birth, [birth, path, str(size), str(shards), "1024", str(limit), str(seed + number)],
            plain_environment(),
        )  # fmt: skip
        if status != 0:
            raise RuntimeError(f"birth ended with status {status}")
        _fill(path, random.Random(f"{seed}/birth/{number}"))
        births.append(path)
    return births


def _fill(path: Path, dice: random.Random) -> None:
    """Store records in both rings, read and unread, from a process that then ends."""
    child = os.fork()
    if child == 0:
        with open(path, "r+b") as file:
            engine = _engine.Engine(file.fileno(), str(path))
            for space in map(engine.namespace, ("fuzz", "")):
                for _ in range(300):
                    key = f"key-{dice.randrange(KEYS_AT_BIRTH)}"
                    if dice.random() < 0.5:
                        space.get(key)
                    else:
                        space.set(key, dice.randbytes(1) * dice.choice((10, 300, 2000, 7000)), 1.0)
            space.lease("key-1", True).acquire(0.0, False, ())
            os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the process that fills a segment failed")


class Director:
    """A run.

    :param limit: seconds that a call may take.
    """

    def __init__(self, folder: Path, seed: int, limit: float) -> None:
        self.folder = folder
        self.board = Board()
        self.job = Job(folder, make_births(folder, seed), read_layout(folder), seed, limit)
        self.outcome = Outcome(seed)
        self.reports = f"{os.environ['FINDING']}.*" if "FINDING" in os.environ else None
        self.told = 0

    def run(self, episodes: range, corruptions: int, seconds: float, findings: int) -> Outcome:
        """Play until the first of these is reached: the episodes, the corruptions, the seconds, the findings."""
        begun = time.monotonic()
        self.board.put(0, Word.DONE, episodes.start)
        self.board.put(0, Word.READY, episodes.start)
        processes = {row: start(row, self.job, self.board, episodes) for row in (1, 2)}
        try:
            while not self._is_over(begun, corruptions, seconds, findings) and processes:
                self._watch(processes, episodes)
                time.sleep(0.02)
        finally:
            for child in processes.values():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        self._collect()
        self._count(begun, episodes)
        return self.outcome

    def _is_over(self, begun: float, corruptions: int, seconds: float, findings: int) -> bool:
        self._collect()
        return (
            self.board.get(1, Word.STRUCK) >= corruptions
            or time.monotonic() - begun > seconds
            or len(self.outcome.findings) >= findings
        )

    def _count(self, begun: float, episodes: range) -> None:
        def both(what: Word) -> int:
            return self.board.get(1, what) + self.board.get(2, what)

        self.outcome.corruptions, self.outcome.calls, self.outcome.errors = (
            both(Word.STRUCK),
            both(Word.CALLS),
            both(Word.ERRORS),
        )
        self.outcome.fenced = both(Word.FENCED)
        self.outcome.episodes = self.board.get(0, Word.EPISODE) + 1 - episodes.start
        self.outcome.seconds = time.monotonic() - begun

    # -- watching -----------------------------------------------------------------------------------------

    def _watch(self, processes: dict[int, int], episodes: range) -> None:
        for row, child in list(processes.items()):
            dead, status = os.waitpid(child, os.WNOHANG)
            began = self.board.get(row, Word.STARTED)
            hangs = not dead and began and time.monotonic_ns() - began > HANG * 1e9
            if hangs:
                status = self._end(child)
            if dead or hangs:
                del processes[row]
            if hangs or (dead and status != 0):
                self._tell("hang" if hangs else "death", row, f"process {child}, status {status:#x}")
                self._go_on(processes, row, episodes)
            elif dead and row == 1:
                for other in processes.values():
                    os.kill(other, signal.SIGKILL)
                    os.waitpid(other, 0)
                return processes.clear()

    def _go_on(self, processes: dict[int, int], row: int, episodes: range) -> None:
        self.board.put(row, Word.STARTED, 0)
        following = self.board.get(0, Word.EPISODE) + 1
        if row == 1:
            self.board.put(0, Word.DONE, following)
            self.board.put(0, Word.READY, following)
        processes[row] = start(row, self.job, self.board, range(following, episodes.stop))

    def _end(self, child: int) -> int:
        """Kill a process that hangs, after it has said where."""
        os.kill(child, signal.SIGUSR1)
        time.sleep(0.5)
        os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]

    # -- telling ------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take up what the processes have told, and what the sanitizers have written."""
        path = self.folder / "findings"
        lines = path.read_text().splitlines()[self.told :] if path.exists() else []
        for line in lines:
            self.told += 1
            found: dict[str, Any] = json.loads(line)
            self._say(found["kind"], found["row"], found["episode"], f"{found['call']}\n{found['text']}")
        for report in glob.glob(self.reports) if self.reports else []:
            self._tell("report", 1, Path(report).read_text())
            os.rename(report, f"{report.replace('finding', 'seen')}-{len(self.outcome.findings)}")

    def _tell(self, kind: str, row: int, text: str) -> None:
        call = self.board.get(row, Word.CALL)
        name = NAMES[call] if call < len(NAMES) else "attach, detach or unlink"
        output = self.folder / f"output-{row}"
        more = output.read_text(errors="replace")[-6000:] if output.exists() else ""
        self._say(kind, row, self.board.get(0, Word.EPISODE), f"in {name}: {text}\n{more}{last_lines(self.folder)}")

    def _say(self, kind: str, row: int, episode: int, text: str) -> None:
        again = f"--seed {self.outcome.seed} --only {episode}"
        self.outcome.findings.append(f"{kind}, process {row}; again by {again}\n{text}")
        print(f"fuzz: finding {len(self.outcome.findings)}: {self.outcome.findings[-1]}\n", flush=True)


def fuzz(
    seed: int,
    corruptions: int = 1 << 60,
    only: int | None = None,
    times: int = 1,
    seconds: float = 1e9,
    limit: float = 2.0,
    findings: int = 20,
) -> Outcome:
    """Damage live segments.

    :param corruptions: after which it ends.
    :param only: the one episode that is played, and ``times`` how often: the processes do not run in step, so that
        what was found may take some tries.
    :param seconds: after which it ends.
    :param limit: seconds that a call may take.
    :param findings: after which it ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="mpcache-fuzz-", dir="/dev/shm"))
    before = os.environ.get("MPCACHE_SHM")
    os.environ["MPCACHE_SHM"] = str(folder)
    try:
        os.mkdir(segment.directory(), 0o700)
        director = Director(folder, seed, limit)
        if only is None:
            return director.run(range(1 << 40), corruptions, seconds, findings)
        for _ in range(times):
            outcome = director.run(range(only, only + 1), corruptions, seconds, findings)
            if outcome.findings:
                break
        return outcome
    finally:
        if before is None:
            del os.environ["MPCACHE_SHM"]
        else:
            os.environ["MPCACHE_SHM"] = before
        shutil.rmtree(folder)
