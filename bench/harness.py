"""How it is measured: many short rounds, one of every contender in turn, and minima of them.

Leans on environment, where the contenders perform.  Whatever disturbs a machine makes code slower and never faster, and it
comes in bursts: the least of many short rounds is what the code costs, and rounds in turn are disturbed alike.  Each
contender has a process of its own, so that none pays for what another one has loaded, or for its threads.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bench.environment import Absent, Environment

Sample = Callable[[], float]
"""One round: nanoseconds that an operation took, or whatever the benchmark's unit is."""

Way = Callable[[Environment], Iterator[Sample]]
"""Sets a contender up, yields its sample once, and cleans up."""

CANARY = "nothing"
"""The contender that does nothing: what is measured with it is the measuring, and the machine's unrest."""


class Pace(NamedTuple):
    """How thoroughly.

    :param rounds: of every contender.
    :param seconds: that a round of a loop takes at least.
    :param meetings: rounds of what takes milliseconds, such as a hand-off.
    :param trials: rounds of what takes seconds.
    :param portion: of the work that such a trial does.
    """

    rounds: int
    seconds: float
    meetings: int
    trials: int
    portion: float
    once: int = 1


THOROUGH = Pace(rounds=150, seconds=0.002, meetings=150, trials=20, portion=1)
QUICK = Pace(rounds=7, seconds=0.0005, meetings=7, trials=1, portion=0.02)


class Contender(NamedTuple):
    """One who takes part.

    :param against: the name of the one that it is compared with.
    :param server: of :mod:`mpcache.testing.servers`, which it asks the environment for.
    """

    name: str
    way: Way
    against: str | None = None
    server: str | None = None


class Figures(NamedTuple):
    """What the rounds of one contender came to, in the unit of the benchmark.

    :param spread: how far the ninth of ten rounds was above the least, as a part of it.
    """

    least: float
    median: float
    most: float
    spread: float
    rounds: int


class Bound(NamedTuple):
    """What was promised: ``most`` at most; or, with ``of``, ``most`` times the same figure of another contender.

    :param figure: of the contender's Figures; or ``ratio``, that to the one which it is compared with.
    :param most: in the unit of the benchmark, or times.
    :param more: added to the limit, in the unit of the benchmark.
    """

    contender: str
    figure: str
    most: float
    of: str | None = None
    more: float = 0


class Benchmark(NamedTuple):
    """Contenders who do the same.  Whatever is measured, less is better.

    :param figure: the one that they are compared by: ``least`` of a loop, ``median`` of what luck decides.
    :param pace: how many rounds: the name of one of Pace's numbers.
    :param unit: of all figures.
    """

    title: str
    contenders: tuple[Contender, ...]
    bounds: tuple[Bound, ...] = ()
    figure: str = "least"
    pace: str = "rounds"
    unit: str = "ns"


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
    """A sample that calls ``act`` often enough for a round: by the least of three, or a pause would pass for work.

    Whoever was disturbed all three times finds that his rounds are short, and makes them longer.
    """
    number, wanted = 1, pace.seconds * 1e9
    while (took := min(_loop(act, number) for _ in range(3))) < wanted:
        number = max(number * 2, int(number * wanted / max(took, 1)))

    def sample() -> float:
        nonlocal number
        took, calls = _loop(act, number), number
        if took < wanted / 2:
            number *= 2
        return took / calls

    return sample


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


class Performer:
    """The process of a contender, which does a round when it is told to."""

    def __init__(self, contender: Contender, environment: Environment, others: list[Performer]) -> None:
        fork = multiprocessing.get_context("fork")  # from a process that has loaded nothing yet, and has no threads
        self._line, theirs = fork.Pipe()
        lines = [self._line, *(other._line for other in others)]
        self._process = fork.Process(target=_perform, args=(theirs, lines, contender, environment))
        self._process.start()
        theirs.close()

    def ready(self) -> float:
        """Wait until it is.

        :raises Absent: it cannot take part.
        """
        answer = self._line.recv()
        if isinstance(answer, float):
            return answer
        raise Absent(answer[1]) if answer[0] else RuntimeError(answer[1])

    def sample(self) -> float:
        """One round."""
        self._line.send(True)
        return self.ready()

    def end(self) -> None:
        self._line.close()
        self._process.join()


def _perform(line: Connection, lines: list[Connection], contender: Contender, environment: Environment) -> None:
    """In the process of a contender, until the other end of its line is closed, or the other process is dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other one's end is ours
    for theirs in lines:
        theirs.close()
    try:
        with contextmanager(contender.way)(environment) as sample:
            line.send(0.0)  # ready
            for _ in orders(line):
                line.send(float(sample()))
    except (Absent, ModuleNotFoundError) as absent:
        line.send((True, str(absent)))
    except BaseException:
        with suppress(BrokenPipeError):  # another one's failure has ended it all
            line.send((False, f"{contender.name} has failed:\n{traceback.format_exc()}"))


def orders(line: Connection) -> Iterator[Any]:
    """What comes, until the other end is closed."""
    try:
        while True:
            yield line.recv()
    except (EOFError, ConnectionResetError):
        pass


def run(benchmark: Benchmark, environment: Environment) -> Outcome:
    """Let all contenders that are here do their rounds, in turn."""
    with ExitStack() as stack:
        performers: dict[str, Performer] = {}
        skipped: dict[str, str] = {}
        for contender in benchmark.contenders:
            try:
                environment.see_to(contender.server)
            except Absent as absent:
                skipped[contender.name] = str(absent)
                continue
            performers[contender.name] = Performer(contender, environment, list(performers.values()))
            stack.callback(performers[contender.name].end)
        samples = dict(_ready(performers, skipped))
        taken = _in_turn(samples, getattr(environment.pace, benchmark.pace))
    idle = min(taken.get(CANARY, [0.0]))
    figures = {name: _figures(times, 0.0 if name == CANARY else idle) for name, times in taken.items()}
    return Outcome(benchmark, figures, idle, skipped)


def _ready(performers: dict[str, Performer], skipped: dict[str, str]) -> Iterator[tuple[str, Sample]]:
    for name, performer in performers.items():
        try:
            performer.ready()
        except Absent as absent:
            skipped[name] = str(absent)
        else:
            yield name, performer.sample


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
    # Where a call is taken off, less than a clock can tell counts as a tenth of 1 ns.
    rest = sorted(max(one - idle, 0.1) if idle else one for one in times)
    least, ninth = rest[0], rest[min(len(rest) - 1, len(rest) * 9 // 10)]
    return Figures(least, statistics.median(rest), rest[-1], ninth / least - 1 if least else 0.0, len(rest))
