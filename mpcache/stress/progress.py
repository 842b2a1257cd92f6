"""The progress of a run: what the console shows while it runs, and the operations over time for the report.

Depends on scoreboard, settings and latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mpcache.stress.latency import Latencies
from mpcache.stress.scoreboard import DONE, HOLDING, KILLS, REAPED, STOPS, Scoreboard
from mpcache.stress.settings import Settings

_SAMPLES = 4000
"""Samples of the pulse that are kept; an even number."""


@dataclass
class Progress:
    """The figures of a run so far.

    :ivar seconds, of: the time that was played, and the time that is to be played.
    :ivar rate: operations a second, since the last look.
    :ivar holders: threads that hold a mutex now.
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
"""Gets the progress some times a second."""


class RoundProgress:
    """Adds what the scoreboard of one round shows to the progress of the run."""

    def __init__(self, scoreboard: Scoreboard, progress: Progress) -> None:
        self._head, self._rows, self._progress = scoreboard.head, scoreboard.all_rows(), progress
        self._kills, self._stops = progress.kills, progress.stops
        self._done = 0
        self._when = time.monotonic()

    def update(self) -> int:
        """Update the counts; return the operations since the last update."""
        progress = self._progress
        operations = self._operations()
        then, self._when = self._when, time.monotonic()
        progress.kills, progress.stops = self._kills + self._head[KILLS], self._stops + self._head[STOPS]
        progress.operations += operations
        progress.holders = sum(1 for row in self._rows if row[HOLDING])
        progress.rate = operations / max(self._when - then, 1e-3)
        return operations

    def _operations(self) -> int:
        last, now = self._done, self._head[REAPED] + sum(row[DONE] for row in self._rows)
        self._done = max(last, now)  # the sum is too small for the moment in which a row is cleared
        return self._done - last


Sample = tuple[float, int, int, int]
"""Seconds, operations since the sample before, kills and stops so far."""


def add_sample(pulse: list[Sample], sample: Sample) -> list[Sample]:
    """Return the pulse with one more sample; when it is full, each two samples become one."""
    pulse.append(sample)
    if len(pulse) < _SAMPLES:
        return pulse
    pairs = zip(pulse[::2], pulse[1::2], strict=True)
    return [(then, one + more, kills, stops) for (_, one, _, _), (then, more, kills, stops) in pairs]
