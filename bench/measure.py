"""How it is measured: many short rounds, one of every contender in turn, and minima of them.

Leans on stage, where the contenders perform.  Whatever disturbs a machine makes code slower and never faster, and it
comes in bursts: the least of many short rounds is what the code costs, and rounds in turn are disturbed alike.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import NamedTuple

from bench.stage import Absent, Stage

Sample = Callable[[], float]
"""One round: nanoseconds that an operation took."""

Way = Callable[[Stage], Iterator[Sample]]
"""Sets a contender up, yields its sample once, and cleans up."""

CANARY = "nothing"
"""The contender that does nothing: what is measured with it is the measuring, and the machine's unrest."""


class Pace(NamedTuple):
    """How thoroughly.

    :param rounds: of every contender.
    :param seconds: that a round of a loop takes at least.
    :param meetings: rounds of what takes milliseconds, such as a hand-off.
    """

    rounds: int
    seconds: float
    meetings: int


THOROUGH = Pace(rounds=150, seconds=0.002, meetings=150)
QUICK = Pace(rounds=7, seconds=0.0005, meetings=7)


class Contender(NamedTuple):
    """One who takes part.

    :param against: the name of the one that it is compared with.
    """

    name: str
    way: Way
    against: str | None = None


class Figures(NamedTuple):
    """What the rounds of one contender came to, in nanoseconds.

    :param spread: how far the ninth of ten rounds was above the least, as a part of it.
    """

    least: float
    median: float
    spread: float
    rounds: int


class Bound(NamedTuple):
    """What was promised.

    :param figure: the name of a contender, and of one of its Figures.
    :param most: nanoseconds.
    """

    contender: str
    figure: str
    most: float


class Benchmark(NamedTuple):
    """Contenders who do the same.

    :param figure: the one that they are compared by: ``least`` of a loop, ``median`` of what luck decides.
    """

    title: str
    contenders: tuple[Contender, ...]
    bounds: tuple[Bound, ...] = ()
    figure: str = "least"


class Outcome(NamedTuple):
    """A benchmark that was run.

    :param idle: what the canary took, which has been taken off all others; 0 where there is no canary.
    :param skipped: contenders that are not here, and why.
    """

    benchmark: Benchmark
    figures: dict[str, Figures]
    idle: float
    skipped: dict[str, str]


def looped(act: Callable[[], object], pace: Pace) -> Sample:
    """A sample that calls ``act`` often enough for a round."""
    number = 1
    while (took := _loop(act, number)) < pace.seconds * 1e9:
        number = max(number * 2, int(number * pace.seconds * 1e9 / max(took, 1)))
    return lambda: _loop(act, number) / number


def _loop(act: Callable[[], object], number: int) -> int:
    calls = repeat(None, number)
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun = time.perf_counter_ns()
        for _ in calls:
            act()
        return time.perf_counter_ns() - begun
    finally:
        if collecting:
            gc.enable()


def run(benchmark: Benchmark, stage: Stage, rounds: int) -> Outcome:
    """Let all contenders that are here do their rounds, in turn."""
    with ExitStack() as stack:
        samples: dict[str, Sample] = {}
        skipped: dict[str, str] = {}
        for contender in benchmark.contenders:
            try:
                samples[contender.name] = stack.enter_context(contextmanager(contender.way)(stage))
            except (Absent, ModuleNotFoundError) as absent:
                skipped[contender.name] = str(absent)
        taken = _in_turn(samples, rounds)
    idle = min(taken.get(CANARY, [0.0]))
    figures = {name: _figures(times, 0.0 if name == CANARY else idle) for name, times in taken.items()}
    return Outcome(benchmark, figures, idle, skipped)


def _in_turn(samples: dict[str, Sample], rounds: int) -> dict[str, list[float]]:
    """Each round begins with another contender, so that none always follows the same one."""
    taken: dict[str, list[float]] = {name: [] for name in samples}
    order = list(samples)
    for _ in range(rounds):
        for name in order:
            taken[name].append(samples[name]())
        order.append(order.pop(0))
    return taken


def _figures(times: list[float], idle: float) -> Figures:
    rest = sorted(max(one - idle, 0.1) for one in times)  # less than a clock can tell counts as a tenth of 1 ns
    least, ninth = rest[0], rest[min(len(rest) - 1, len(rest) * 9 // 10)]
    return Figures(least, statistics.median(rest), ninth / least - 1, len(rest))
