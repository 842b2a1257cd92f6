"""A run: rounds of plays, each of which is judged, until the time is over or something was found that must not be.

Leans on environment, builds, play, checker and latency.  The verdict and all that a
report shows come from here, as plain data.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mpcache
from mpcache.stress import builds, checker, faults, history, scenarios, timing_checks
from mpcache.stress.checker import Signal, Story, Violation
from mpcache.stress.environment import PRIVATE, Arena, Unplayable, set_up
from mpcache.stress.history import Kind
from mpcache.stress.latency import Latencies
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import BEGAN, BURIED, DONE, FINDINGS, HOLDING, KILLS, STOP, STOPS, Board
from mpcache.stress.settings import ROUND, Settings
from mpcache.stress.worker import LIMIT, NO_ROOM, ORPHANS, Part

HELD, VIOLATED, COULD_NOT_RUN = 0, 1, 2
"""The exit status, and what it means."""

VERDICTS = {HELD: "held", VIOLATED: "violated", COULD_NOT_RUN: "could not run"}

PROMISES = ("takeover", "leased", "processes", "survives_death", "fair", "assumed")
"""What of a mutex' guarantees a report shows."""

_BEATS = 4000
"""Looks at the board that are kept; an even number."""

_LOOK = 0.1
"""Seconds between two looks at the board."""

_SLACK = 30.0
"""Seconds that a play may need for its beginning and its end, beyond what it is told to wait."""

_TIMELINE = 0.25
"""Seconds of the last round that a report draws, or until the first violation."""


@dataclass
class Progress:
    """What can be seen while it runs.

    :ivar seconds, of: how long it has been played, and how long it will be.
    """

    settings: Settings
    of: float
    seconds: float = 0.0
    operations: int = 0
    rate: float = 0.0
    holders: int = 0
    kills: int = 0
    stops: int = 0
    rounds: int = 0
    violations: int = 0
    latencies: Latencies = field(default_factory=Latencies)


Watcher = Callable[[Progress], None]


@dataclass
class Trial:
    """One run.

    :ivar watcher: is called some times a second.
    :ivar package: the folder in which an engine of another build lies; None: it is built, if the settings ask for one.
    """

    settings: Settings
    watcher: Watcher = lambda progress: None
    package: Path | None = None

    def __post_init__(self) -> None:
        try:
            self._kind: type[Scenario] = scenarios.load(self.settings.scenario)
        except KeyError:
            known = ", ".join(scenarios.names())
            raise Unplayable(f"there is no scenario {self.settings.scenario!r}; there are {known}") from None
        if self.settings.fault and self.settings.fault not in faults.TABLE:
            known = ", ".join(faults.TABLE)
            raise Unplayable(f"there is no known bug {self.settings.fault!r} to be seeded; there are {known}")
        if not self.settings.seed:
            self.settings = self.settings.but(seed=secrets.token_hex(4))
        self.progress = Progress(self.settings, self.settings.seconds)
        self.violations: list[Violation] = []
        self.pulse: list[tuple[float, int, int, int]] = []
        self.timeline: dict[str, Any] = {}
        self.figures: dict[str, float] = {}
        self.lives = self.entries = 0
        self.interrupted = False
        self.unfit = ""
        self._arena: Arena | None = None
        self._wishes: list[int] = []

    def run(self) -> dict[str, Any]:
        """Play and judge it all; the report, see :meth:`report`.

        :raises Unplayable: it cannot be played here.
        """
        began = time.time()
        with ExitStack() as last:
            with set_up(self.settings, self._kind.size) as arena:
                self._arena = arena
                self.unfit = self._kind(self.settings, arena).unfit() or self._out_of_reach(arena)
                try:
                    if not (self.unfit or self.package or (build := faults.build(self.settings)).ordinary):
                        (self.package,) = builds.engines([build], Path(arena.folder)).values()
                    self._wishes = last.enter_context(noting())
                    while not (self.unfit or self.violations or self._wishes) and self._left() > 0.05:
                        self._round(arena, min(self._left(), ROUND))
                except KeyboardInterrupt:  # before the first round
                    self.interrupted = True
            self.interrupted |= bool(self._wishes)
            return self.report(began)

    @property
    def status(self) -> int:
        """HELD, VIOLATED or COULD_NOT_RUN."""
        if self.violations:
            return VIOLATED
        return HELD if self.progress.rounds and self.progress.operations else COULD_NOT_RUN

    def _out_of_reach(self, arena: Arena) -> str:
        if self._kind.programs and arena.inherited:
            return f"programs of their own cannot have a {arena.mutex}: it is made before the fork, and inherited"
        if self._kind.store and arena.backend in PRIVATE and (self.settings.workers > 1 or self.settings.kills):
            return f"each process has a {arena.backend} of its own, and takes it with it: play --workers 1 --kills 0"
        if self._kind.store and arena.backend == "null":
            return "null keeps nothing: there is nothing to be asked"
        return ""

    def _left(self) -> float:
        return self.settings.seconds - self.progress.seconds

    # -- a round --

    def _round(self, arena: Arena, seconds: float) -> None:
        folder = Path(arena.folder) / f"round-{self.progress.rounds}"
        folder.mkdir()
        part = Part(self.settings, arena, self.progress.rounds, seconds, folder)
        part.write()
        before = replace(self.progress)
        self._watch(part, self._start(part))
        if (folder / "signals").exists():
            self._judge(part)
            self.progress.rounds += 1
        else:  # who is in such a hurry gets no verdict on this round
            self.progress = before
        shutil.rmtree(folder, ignore_errors=True)
        self.watcher(self.progress)

    def _start(self, part: Part) -> subprocess.Popen[bytes]:
        path = [str(self.package)] if self.package else []
        path += [os.path.abspath(entry) for entry in sys.path]
        with open(part.folder / "complaints", "wb") as complaints:
            return subprocess.Popen(
                [sys.executable, "-m", "mpcache.stress.round_runner", str(part.folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=complaints,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
                cwd=part.folder,  # -m looks here first, where no other mpcache lies
                start_new_session=True,  # Ctrl-C is for this process alone, which then sees to the rest
            )

    def _watch(self, part: Part, play: subprocess.Popen[bytes]) -> None:
        board, progress = part.board(), self.progress
        before = (progress.seconds, progress.kills, progress.stops)
        seen = _Pulse(board)
        latest = time.monotonic() + part.seconds + 2 * LIMIT * part.patience + ORPHANS + _SLACK
        try:
            while play.poll() is None:
                if time.monotonic() > latest:
                    raise Unplayable("the play did not come to its end: something hangs that is no worker's operation")
                if self._wishes:
                    board.head[STOP] = 1
                if len(self._wishes) > 1:
                    play.kill()
                with suppress(subprocess.TimeoutExpired):
                    play.wait(_LOOK)
                played = (history.now() - board.head[BEGAN]) / 1e9 if board.head[BEGAN] else 0.0
                progress.seconds = before[0] + min(played, part.seconds)
                progress.kills, progress.stops = before[1] + board.head[KILLS], before[2] + board.head[STOPS]
                operations = seen.operations()
                progress.operations += operations
                progress.holders = sum(1 for row in board.everybody() if row[HOLDING])
                progress.violations = len(self.violations) + board.head[FINDINGS]
                progress.rate = seen.rate(operations)
                self._beat(operations)
                self.watcher(progress)
        finally:
            if play.poll() is None:
                play.kill()
                play.wait()
        if play.returncode and len(self._wishes) < 2:
            said = (part.folder / "complaints").read_text(errors="replace").strip()
            raise Unplayable(f"the play ended with {play.returncode}: {said or 'it said nothing'}")

    def _beat(self, operations: int) -> None:
        """One more look for the picture of operations over time, which hours make no longer than minutes do."""
        now = round(self.progress.seconds, 3)
        self.pulse.append((now, operations, self.progress.kills, self.progress.stops))
        if len(self.pulse) >= _BEATS:
            pairs = zip(self.pulse[::2], self.pulse[1::2], strict=True)
            self.pulse = [(then, one + more, kills, stops) for (_, one, _, _), (then, more, kills, stops) in pairs]

    def _judge(self, part: Part) -> None:
        scenario = part.scenario()
        story = tell(part)
        self.lives += story.lives
        self.entries += sum(map(len, story.entries.values()))
        found = _noted(part.folder) + checker.apply(scenario.checks, story)
        self.violations += found
        self.progress.violations = len(self.violations)
        _measure(self.progress.latencies, story)
        for name, figure in scenario.figures(story).items():
            self.figures[name] = max(figure, self.figures.get(name, figure))
        self.timeline = draw(story, found)

    # -- what came of it --

    def report(self, began: float) -> dict[str, Any]:
        """All of it, for JSON and for the page.

        :param began: seconds since the epoch.
        """
        progress, arena = self.progress, self._arena
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
            "mutex": arena.mutex if arena else self.settings.mutex,
            "guarantees": {name: getattr(arena, name) for name in PROMISES} if arena else {},
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


class _Pulse:
    """Counts operations by the rows of a board, and by its head for those whose rows others have by now."""

    def __init__(self, board: Board) -> None:
        self._head, self._rows = board.head, board.everybody()
        self._done = 0
        self._when = time.monotonic()

    def operations(self) -> int:
        """Since the last look."""
        last, now = self._done, self._head[BURIED] + sum(row[DONE] for row in self._rows)
        self._done = max(last, now)  # it is less for the moment in which a row is cleared
        return self._done - last

    def rate(self, operations: int) -> float:
        """A second, since the last look."""
        then, self._when = self._when, time.monotonic()
        return operations / max(self._when - then, 1e-3)


@contextmanager
def noting() -> Iterator[list[int]]:
    """From here on a signal is a wish, noted and granted between two looks; as an exception it could come anywhere."""
    noted: list[int] = []
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(one) != signal.SIG_IGN:  # by nohup
                    before[one] = signal.signal(one, lambda number, frame: noted.append(number))
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(part: Part) -> Story:
    """The story of a round, from what its processes have left in its folder."""
    told = json.loads((part.folder / "signals").read_text())
    signals = [Signal(*one) for one in told["signals"]]
    arena = part.arena
    times = told["began"], told["ended"]
    story = Story({}, signals, arena.leased, arena.takeover, arena.own, *times, told["lives"], arena.gives_up)
    died = story.killed()
    for path in part.folder.glob("diary-*"):
        actor = int(path.name.partition("-")[2])
        for entry in history.read(path, died.get(actor >> 8)):
            story.entries.setdefault(entry.kind, []).append(entry)
    return story


def _noted(folder: Path) -> list[Violation]:
    path = folder / "findings"
    found = [Violation(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    for violation in found:
        if violation.check == NO_ROOM:
            raise Unplayable(f"this machine has no room for it; {violation.text.strip()}")
    return found


def _measure(latencies: Latencies, story: Story) -> None:
    latencies.add("acquire", (hold.got - hold.began for hold in story.of(Kind.HOLD) if hold.got))
    latencies.add("take-over", (took for took, _ in checker.takeovers(story)))
    latencies.add("hand-off", checker.handoffs(story))
    latencies.add("stampede", timing_checks.stampedes(story))
    for name, kind in (("get", Kind.READ), ("set", Kind.WRITE), ("get_or_create", Kind.ASK)):
        latencies.add(name, (entry.ended - entry.began for entry in story.of(kind) if entry.ended))


def draw(story: Story, found: list[Violation]) -> dict[str, Any]:
    """What a picture of who held what needs: the last moments, or those around what was found first.

    Times are in seconds from the beginning of the picture.
    """
    at = next((violation.at for violation in found if violation.at), None)
    done = story.of(Kind.HOLD, Kind.CREATE)
    last = max((entry.got for entry in done), default=0)
    middle = at or last - int(_TIMELINE * 5e8)
    low, high = middle - int(_TIMELINE * 5e8), middle + int(_TIMELINE * 5e8)
    lanes: dict[int, list[Any]] = {}
    for entry in done:
        if entry.got and entry.got < high and entry.until > low:
            start, end = (max(entry.got, low) - low) / 1e9, (min(entry.until, high) - low) / 1e9
            lanes.setdefault(entry.key, []).append([checker.actor(entry.actor), start, end, bool(entry.ended)])
    signals = [
        [(signal.sent - low) / 1e9, signal.kind, f"worker {signal.life}"]
        for signal in story.signals
        if low <= signal.sent <= high and signal.kind in ("kill", "stop")
    ]
    return {
        "seconds": (high - low) / 1e9,
        "lanes": [{"key": key, "holds": sorted(holds, key=lambda one: one[1])} for key, holds in sorted(lanes.items())],
        "signals": signals,
        "violation": None if at is None else (at - low) / 1e9,
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "mpcache": mpcache.__version__,
    }
