"""A worker: a process whose threads do what the scenario says, and write down what they did.

Leans on environment, board, diary, scenario and settings.  It is forked, or a program that calls :func:`main`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import random
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mpcache.exception import DeadlockError, NotHeld
from mpcache.stress import scenarios
from mpcache.stress.environment import Arena
from mpcache.stress.history import Diary, Kind, Outcome, now
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import DONE, FINDINGS, HOLDING, OCCUPANT, SINCE, STOP, TIMES, WHO, Board, Words
from mpcache.stress.settings import Settings

LIMIT = 5
"""Times the patience of a part: no wait is longer, even for a process that is always busy or never gets a core."""

ORPHANS = 5.0
"""Seconds that what a worker has borne may outlive it: it ends when it hears that its parent is gone."""


class Part(NamedTuple):
    """What a play is told, by a file in its folder."""

    settings: Settings
    arena: Arena
    round: int
    seconds: float
    folder: Path

    def write(self) -> None:
        """For :meth:`read`, in another process."""
        told = {"settings": self.settings.json(), "arena": self.arena.json()}
        (self.folder / "part").write_text(json.dumps(told | {"round": self.round, "seconds": self.seconds}))

    @classmethod
    def read(cls, folder: Path) -> Part:
        """What was written there."""
        told = json.loads((folder / "part").read_text())
        settings, arena = Settings.of(told["settings"]), Arena.of(told["arena"])
        return cls(settings, arena, told["round"], told["seconds"], folder)

    @property
    def patience(self) -> float:
        """Seconds that an operation may take.  All others may die one after the other before it is this one's turn."""
        return 6 + 4 * self.arena.takeover * bool(self.settings.kills or self.settings.stops)

    def board(self) -> Board:
        """The play's board."""
        return Board(self.folder / "board", self.settings.workers, self.settings.threads)

    def scenario(self) -> Scenario:
        """The scenario, ready to be played."""
        scenario: Scenario = scenarios.load(self.settings.scenario)(self.settings, self.arena)
        return scenario


# -- values that prove themselves -----------------------------------------------------------------------------------

_HEAD = struct.Struct("<16sQI")  # digest of all the rest and of the key; number; bytes of the body
_BODIES = random.Random(1).randbytes(1 << 20)
SMALLEST = _HEAD.size


class Refused(Exception):
    """A mutex was not had, as its contract allows: not in time, or there was a deadlock."""


class Torn(Exception):
    """A value is not what anybody wrote for this key."""


def prove(key: str, number: int, size: int) -> bytes:
    """A value of that many bytes, at least SMALLEST, that shows whose it is, and that it is whole."""
    body = size - SMALLEST
    start = number * 7919 % (len(_BODIES) - body)
    told = struct.pack("<QI", number, body) + _BODIES[start : start + body]
    return _digest(key, told) + told


def proven(key: str, value: Any) -> int:
    """Its number.  Raises Torn: it is no such value, or another key's."""
    if not isinstance(value, bytes) or len(value) < SMALLEST:
        raise Torn(f"{key!r} has a value of {type(value).__name__} that nobody wrote: {value!r:.80}")
    digest, number, body = _HEAD.unpack_from(value)
    if len(value) != SMALLEST + body or digest != _digest(key, value[16:]):
        raise Torn(f"{key!r} has a value of {len(value)} bytes, number {number:#x}, that does not prove itself")
    return int(number)


def _digest(key: str, told: bytes) -> bytes:
    return hashlib.blake2b(told, digest_size=16, key=key.encode()[:64]).digest()


# -- one thread of a worker ---------------------------------------------------------------------------------------


class Actor:
    """One thread of a worker: who acts, where, by what chance.

    :ivar number: life << 8 | thread; no other actor of a play has the same.
    :ivar region: of its process; None where the scenario asks for the mutex alone.
    """

    def __init__(self, part: Part, board: Board, place: tuple[int, int], life: int, process: Process) -> None:
        worker, thread = place
        self.part, self.settings, self.board = part, part.settings, board
        self.number = life << 8 | thread
        self.row: Words = board.row(worker, thread)
        self.diary = Diary(part.folder, self.number)
        self.random = random.Random(f"{part.settings.seed}/{part.round}/{life}/{thread}")
        self.region, self._mutex = process.region, process.mutex
        self._values = 0

    # names and numbers

    def key(self, key: int, generation: int = 0) -> str:
        """The name of a key, which no other round uses."""
        return f"{self.part.round}.{key}.{generation}"

    def mutex(self, key: int) -> Any:
        """A new mutex object of a key."""
        return self._mutex(self.key(key))

    def named(self, name: str) -> Any:
        """One that no other actor's play concerns: of a key that is on no board."""
        return self._mutex(f"{self.part.round}.{name}")

    def new(self) -> int:
        """A number that no other value of the round has."""
        self._values += 1
        return self.number << 24 | self._values

    def work(self, most: float) -> None:
        """Do something that takes a while: wait, compute, or next to nothing."""
        how, long = self.random.random(), self.random.random() * most
        if how < 0.4:
            time.sleep(long)
        elif how < 0.7:
            until = time.perf_counter() + long
            while time.perf_counter() < until:
                pass

    def find(self, check: str, text: str, key: int | None = None) -> None:
        """Say that something is amiss which no diary would show."""
        found = {"check": check, "text": f"{text} (pid {os.getpid()})", "key": key, "at": now()}
        note(self.part.folder, found)
        self.board.head[FINDINGS] += 1

    # what most scenarios do

    @contextmanager
    def hold(self, key: int, within: float | None = None) -> Iterator[Any]:
        """Acquire the mutex of a key, write down who was found there, and let go at the end.

        :param within: seconds; None: however long it takes.
        :raises Refused: it was not had.
        """
        diary, row, word = self.diary, self.row, self.board.key(key)
        mutex = self.mutex(key)
        at = diary.begin(Kind.HOLD, key)
        try:
            if not had(mutex, within):
                raise Refused(f"key {key} was not had within {within} s")
        except (Refused, DeadlockError) as refusal:
            diary.end(at, Outcome.REFUSED)
            raise Refused(str(refusal)) from refusal
        found, word[OCCUPANT] = word[OCCUPANT], self.number
        times, outer = word[TIMES], row[HOLDING]
        diary.got(at, getattr(mutex, "fence", None) or 0, found, times)
        row[HOLDING] = key + 1
        try:
            yield mutex
        finally:
            outcome = Outcome.DONE
            if word[OCCUPANT] == self.number:
                word[TIMES] = times + 1
                word[OCCUPANT] = 0
            else:
                outcome = Outcome.INTRUDED
            row[HOLDING] = outer
            diary.end(at, Outcome.LEAVING)
            try:
                mutex.release()
            except NotHeld:
                outcome = Outcome.LOST
            diary.amend(at, outcome)

    def read(self, kind: Kind, key: int, name: str, ask: Callable[[], Any]) -> int:
        """Write down what ``ask`` returns for a key: the number of the value; 0: none."""
        at = self.diary.begin(kind, key)
        return self.note(at, name, key, ask())

    def note(self, at: int, name: str, key: int, value: Any) -> int:
        """Write down what was returned where it was asked for; as :meth:`read`."""
        if not isinstance(value, bytes):  # NO_VALUE, the original's or mpcache's
            self.diary.end(at)
            return 0
        try:
            number = proven(name, value)
        except Torn as torn:
            self.diary.end(at, Outcome.REFUSED)
            self.find("torn value", str(torn), key)
            return 0
        self.diary.end(at, Outcome.DONE, number)
        return number

    # its life

    def live(self, scenario: Scenario) -> None:
        """Act until the round is over, or the diary is full."""
        row, head, diary = self.row, self.board.head, self.diary
        row[WHO] = self.number
        scenario.begin(self)
        while not head[STOP] and diary.ready():
            row[SINCE] = now()
            scenario.act(self)
            row[SINCE] = 0
            row[DONE] += 1


def had(mutex: Any, within: float | None) -> bool:
    """Acquire a mutex, of any kind; False: it could not be had in so many seconds; None: it will be waited for."""
    if within is None:
        return mutex.acquire() is not False  # some return nothing
    if hasattr(mutex, "contend"):
        return bool(mutex.acquire(timeout=within))
    deadline = time.monotonic() + within
    while not mutex.acquire(False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001)
    return True


class Process:
    """What the threads of one process share: the region, and how mutexes are made."""

    def __init__(self, part: Part, scenario: Scenario) -> None:
        self.region: Any = part.arena.region() if scenario.store else None
        self.mutex = part.arena.mutexes()
        if part.arena.original and self.region is not None and not part.settings.mutex:
            self.mutex = self.region._mutex  # the original's, which has no name here


def live(part: Part, board: Board, scenario: Scenario, process: Process, worker: int, life: int) -> None:
    """A worker's life, in the process that is it.  Ends when all its threads have ended."""
    actors = [Actor(part, board, (worker, thread), life, process) for thread in range(part.settings.threads)]

    def act(actor: Actor) -> None:
        try:
            actor.live(scenario)
        except BaseException as error:
            actor.row[SINCE] = 0
            amiss(part.folder, board, f"worker {life}", error)

    threads = [threading.Thread(target=act, args=(actor,)) for actor in actors[1:]]
    for thread in threads:
        thread.start()
    act(actors[0])
    for thread in threads:
        thread.join()


NO_ROOM = "no room"
"""The check of a finding that is no violation: the machine cannot bear the play."""


def amiss(folder: Path, board: Board, who: str, error: BaseException) -> None:
    """Say that somebody has ended with an error."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
    text = "".join(traceback.format_exception(error))
    found = {"check": NO_ROOM if full else "error", "text": f"{who} ended with an error:\n{text}"}
    note(folder, {**found, "key": None, "at": now()})
    board.head[FINDINGS] += 1


def note(folder: Path, found: dict[str, Any]) -> None:
    """Add a line to the findings of a play, whoever else does."""
    fd = os.open(folder / "findings", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(found).encode() + b"\n")
    finally:
        os.close(fd)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, in whichever way; now, if that was so already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)


def adopt() -> None:
    """Be the parent of those whose own parents die below this process, and so see them end."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def main() -> None:
    """Be a worker that inherits nothing.  The words of the program are FOLDER WORKER LIFE PARENT."""
    folder, worker, life, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    die_with(parent)
    part = Part.read(folder)
    prepare(part)
    scenario = part.scenario()
    live(part, part.board(), scenario, Process(part, scenario), worker, life)


def prepare(part: Part) -> None:
    """Seed the fault that is asked for, before anything is used, and make what is only inherited."""
    if part.settings.fault:
        from mpcache.stress import faults

        faults.seed(part.settings.fault)
    part.arena.prepare()
