"""The two processes of a fuzz: one damages the segment between its operations, the other is in the middle of its own.

Depends on board, damage and operations.  Each writes what it does into a log of its own, and onto the board where it
stands, which the director reads.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import mmap
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mpcache.shm import _engine, segment

from .board import Board, Word
from .damage import Damage, View
from .layout import Layout
from .operations import OPERATIONS, Victim, perform, prepare

NAMES = [name for name, _ in OPERATIONS]
STRIKES = (1, 4, 16, 30, 50)
"""Corruptions of one episode."""

LONGEST = 1.0
"""Seconds after which an episode ends early: each operation on a shard waits that a living process seems to hold."""

TOLD = 25
"""Lines of each log that a finding shows."""


class Job(NamedTuple):
    """What both processes are given.

    :ivar folder: for logs and findings.
    :ivar births: clean segments, by variant.
    :ivar limit: seconds that a call may take.
    """

    folder: Path
    births: list[Path]
    layout: Layout
    seed: int
    limit: float


def name_of(episode: int) -> str:
    """Return the name of an episode's segment."""
    return f"fuzz-{episode}"


def last_lines(folder: Path) -> str:
    """Return what both processes have done last."""
    text = ""
    for row in (1, 2):
        path = folder / f"log-{row}"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        text += f"\n-- process {row}: its last {TOLD} lines\n" + "\n".join(lines[-TOLD:])
    return text


def _not_run() -> float:
    """Return the seconds in which this thread was ready to run, and the machine ran something else."""
    with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
        return int(file.read(64).split()[1]) / 1e9


class Worker:
    """What both have in common: operations, each of which is logged, timed and shown on the board."""

    def __init__(self, row: int, job: Job, board: Board) -> None:
        self.row, self.job, self.board = row, job, board
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self.fences: list[int] = []

    def begin(self, episode: int, who: str) -> Victim:
        dice = random.Random(f"{self.job.seed}/{episode}/{who}")
        self.episode = episode
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self.log = os.open(self.job.folder / f"log-{self.row}", flags, 0o600)
        self.note(f"episode {episode}")
        size = self.job.births[self.variant(episode)].stat().st_size
        return Victim(name_of(episode), size, dice, self.fence, self.call)

    def end(self, victim: Victim) -> None:
        self.call("detach", victim.detach)
        os.close(self.log)
        for at in self.fences:
            self.libc.munmap(ctypes.c_void_p(at), mmap.PAGESIZE)
        self.fences.clear()

    def variant(self, episode: int) -> int:
        return random.Random(f"{self.job.seed}/{episode}").randrange(len(self.job.births))

    def note(self, text: str) -> None:
        os.write(self.log, f"{text}\n".encode(errors="replace"))

    def fence(self, engine: _engine.Engine) -> None:
        """Put a page that nothing may touch behind the mapping, so that a read beyond its end is a crash."""
        file = os.fstat(engine.fd)
        with open("/proc/self/maps") as maps:
            ends = [line.split() for line in maps if f" {file.st_ino} " in line]
        whole = [one for one in ends if "w" in one[1]]
        if not whole:
            return
        at = int(whole[-1][0].split("-")[1], 16)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
        found = self.libc.mmap(at, mmap.PAGESIZE, 0, flags, -1, 0)
        if found == at:
            self.fences.append(at)
            self.board.add(self.row, Word.FENCED)

    def finding(self, kind: str, call: str, text: str) -> None:
        """Tell the director."""
        told = {"kind": kind, "episode": self.episode, "row": self.row, "call": call}
        told["text"] = text + last_lines(self.job.folder)
        with open(self.job.folder / "findings", "a") as file:
            file.write(json.dumps(told) + "\n")

    def call(self, name: str, act: Callable[[], Any]) -> None:
        """Do an operation.  Of the time that it may take does not count what it waited for a processor."""
        self.note(name)
        self.board.put(self.row, Word.CALL, NAMES.index(name) if name in NAMES else len(NAMES))
        before, start = _not_run(), time.monotonic_ns()
        self.board.put(self.row, Word.STARTED, start)
        try:
            self.board.add(self.row, Word.ERRORS, perform(act))
        except BaseException:
            self.finding("exception", name, traceback.format_exc())
        took = (time.monotonic_ns() - start) / 1e9
        self.board.put(self.row, Word.STARTED, 0)
        self.board.add(self.row, Word.CALLS)
        if name == "fork":
            return  # several calls of a child, each of which was judged
        if took > self.job.limit and took - (waited := _not_run() - before) > self.job.limit:
            self.finding("slow", name, f"{name} took {took:.2f} s, {waited:.2f} s of them without a processor")


class Striker(Worker):
    """Makes the segment of each episode, and damages it between its own operations."""

    def run(self, episodes: range) -> None:
        for episode in episodes:
            path = Path(segment.path_of(name_of(episode)))
            shutil.copyfile(self.job.births[self.variant(episode)], path)
            path.chmod(0o600)
            victim = self.begin(episode, "striker")
            self.play(victim, path)
            self.end(victim)
            path.unlink(missing_ok=True)
            self.board.put(0, Word.DONE, episode + 1)

    def play(self, victim: Victim, path: Path) -> None:
        self.call("attach", victim.attach)
        with open(path, "r+b") as file:
            view = View(file.fileno(), self.job.layout)
        self.board.put(0, Word.EPISODE, self.episode)
        self.board.put(0, Word.READY, self.episode + 1)
        for _ in range(3):
            self.call(*victim.step())
        self.strike(victim, view)
        if not view.is_same_birth():
            self.finding("overrun", "any", "the immutable part of the segment's header was written to")
        view.close()

    def strike(self, victim: Victim, view: View) -> None:
        dice = random.Random(f"{self.job.seed}/{self.episode}/damage")
        damage, until = Damage(view, dice), time.monotonic() + LONGEST
        slots, size = view.geometry["slots_at"], view.layout.sizes["slot"]
        left = dice.choice(STRIKES)
        while left > 0 and time.monotonic() < until:
            damage.owners = [owner for slot in range(3) if (owner := view.read(slots + slot * size, 8))]
            for _ in range(min(left, dice.choice((1, 2, 3, 6)))):
                self.note("  " + damage.strike())
                self.board.add(self.row, Word.STRUCK)
                left -= 1
            for _ in range(dice.choice((0, 1, 2, 3, 6))):
                self.call(*victim.step())
        if dice.random() < 0.05:
            self.call("unlink", victim.segment.unlink)
            for _ in range(5):
                self.call(*victim.step())


class Bystander(Worker):
    """Uses the segment while it is being damaged, from one episode to the next."""

    def run(self, episodes: range) -> None:
        while (episode := self.next_episode()) < episodes.stop:
            victim = self.begin(episode, f"bystander {self.row}")
            while self.board.get(0, Word.DONE) <= episode and self.board.get(0, Word.EPISODE) == episode:
                self.call(*victim.step())
            self.end(victim)

    def next_episode(self) -> int:
        """Wait for the next segment."""
        while self.board.get(0, Word.READY) <= self.board.get(0, Word.DONE):
            time.sleep(0.0005)
            if os.getppid() == 1:
                os._exit(3)
        return self.board.get(0, Word.EPISODE)


def start(row: int, job: Job, board: Board, episodes: range) -> int:
    """Fork the process of that row; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        output = os.open(job.folder / f"output-{row}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        prepare()
        (Striker if row == 1 else Bystander)(row, job, board).run(episodes)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(99)
