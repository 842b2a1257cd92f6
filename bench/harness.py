"""Measuring: short rounds, one of each contender in turn, each contender in a process of its own.

Depends on environment for folders and servers, and on pace for the number of rounds.  Noise only adds time and comes in
bursts, so the fastest of many short rounds is what the code costs, and rounds in turn are disturbed alike.  A process
for each contender keeps what one contender has loaded, and its threads, out of the figures of another.
"""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from bench.environment import Absent, Environment
from bench.pace import Sample

Way = Callable[[Environment], Iterator[Sample]]
"""Sets a contender up, yields its sample once, and cleans up."""

CANARY = "nothing"
"""The contender that does nothing: its figures are the cost of measuring, and the noise of the machine."""


# -- what is measured -----------------------------------------------------------------------------------------------


class Contender(NamedTuple):
    """One of the alternatives that a benchmark compares.

    :param against: name of the contender that it is compared with; None: it is not compared.
    :param server: kind of server that it needs, a class of :mod:`mpcache.testing.servers`.
    """

    name: str
    way: Way
    against: str | None = None
    server: str | None = None


class Figures(NamedTuple):
    """Statistics of the rounds of one contender, in the unit of the benchmark.

    :param spread: (90th percentile - least) / least.
    """

    least: float
    median: float
    most: float
    spread: float
    rounds: int


class Bound(NamedTuple):
    """A target: a figure of a contender is at most ``most``; with ``of``, ``most`` times that contender's figure.

    :param figure: field of the contender's Figures; or ``ratio``, to the contender that it is compared with.
    :param most: in the unit of the benchmark, or a factor.
    :param more: added to the limit, in the unit of the benchmark.
    """

    contender: str
    figure: str
    most: float
    of: str | None = None
    more: float = 0


class Benchmark(NamedTuple):
    """Contenders that do the same work.  In every unit less is better.

    :param figure: field of Figures that contenders are compared by: ``least`` of a loop, ``median`` where the figure
        depends on chance.
    :param pace: field of Pace that is the number of rounds.
    :param unit: of all figures.
    """

    title: str
    contenders: tuple[Contender, ...]
    bounds: tuple[Bound, ...] = ()
    figure: str = "least"
    pace: str = "rounds"
    unit: str = "ns"


class Outcome(NamedTuple):
    """Result of a benchmark.

    :param idle: figure of the canary, which is subtracted from all others; 0 without a canary.
    :param skipped: why a contender was not measured, by name.
    """

    benchmark: Benchmark
    figures: dict[str, Figures]
    idle: float
    skipped: dict[str, str]


# -- a contender's process ------------------------------------------------------------------------------------------


class ContenderProcess:
    """A process that runs one round of its contender for each order."""

    def __init__(self, contender: Contender, environment: Environment, others: list[ContenderProcess]) -> None:
        fork = multiprocessing.get_context("fork")  # from a process that has loaded nothing yet, and has no threads
        self._line, theirs = fork.Pipe()
        lines = [self._line, *(other._line for other in others)]
        self._process = fork.Process(target=_serve, args=(theirs, lines, contender, environment))
        self._process.start()
        theirs.close()

    def ready(self) -> float:
        """Wait for the answer to the last order, at first for the end of the set-up.

        :raises Absent: the contender cannot be measured here.
        :raises RuntimeError: the contender failed.
        """
        answer = self._line.recv()
        if isinstance(answer, float):
            return answer
        raise Absent(answer[1]) if answer[0] else RuntimeError(answer[1])

    def sample(self) -> float:
        """Run one round."""
        self._line.send(True)
        return self.ready()

    def end(self) -> None:
        """Close the pipe, which ends the process."""
        self._line.close()
        self._process.join()


def _serve(line: Connection, lines: list[Connection], contender: Contender, environment: Environment) -> None:
    """Run rounds, in the contender's process, until the other end of the pipe is closed or its process is dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the harness, which closes the pipe
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
        with suppress(BrokenPipeError):  # the failure of another contender has ended the harness
            line.send((False, f"{contender.name} has failed:\n{traceback.format_exc()}"))


def orders(line: Connection) -> Iterator[Any]:
    """Yield what arrives, until the other end is closed."""
    try:
        while True:
            yield line.recv()
    except (EOFError, ConnectionResetError):
        pass


# -- a run ----------------------------------------------------------------------------------------------------------


def run(benchmark: Benchmark, environment: Environment) -> Outcome:
    """Measure all contenders that are installed here, in turn."""
    with ExitStack() as stack:
        processes: dict[str, ContenderProcess] = {}
        skipped: dict[str, str] = {}
        for contender in benchmark.contenders:
            try:
                environment.start_server(contender.server)
            except Absent as absent:
                skipped[contender.name] = str(absent)
                continue
            processes[contender.name] = ContenderProcess(contender, environment, list(processes.values()))
            stack.callback(processes[contender.name].end)
        samples = dict(_ready(processes, skipped))
        taken = _in_turn(samples, getattr(environment.pace, benchmark.pace))
    idle = min(taken.get(CANARY, [0.0]))
    figures = {name: _figures(times, 0.0 if name == CANARY else idle) for name, times in taken.items()}
    return Outcome(benchmark, figures, idle, skipped)


def _ready(processes: dict[str, ContenderProcess], skipped: dict[str, str]) -> Iterator[tuple[str, Sample]]:
    """Yield the samples of those contenders whose set-up succeeds; add the others to ``skipped``."""
    for name, process in processes.items():
        try:
            process.ready()
        except Absent as absent:
            skipped[name] = str(absent)
        else:
            yield name, process.sample


def _in_turn(samples: dict[str, Sample], rounds: int) -> dict[str, list[float]]:
    """Run the rounds; each begins with another contender, so that none always follows the same one."""
    taken: dict[str, list[float]] = {name: [] for name in samples}
    order = list(samples)
    for _ in range(rounds):
        for name in order:
            taken[name].append(samples[name]())
        order.append(order.pop(0))
    return taken


def _figures(times: list[float], idle: float) -> Figures:
    """Subtract the canary's figure and compute the statistics.

    Where a call is subtracted, a rest below the resolution of the clock counts as 0.1 ns.
    """
    rest = sorted(max(one - idle, 0.1) if idle else one for one in times)
    least, ninth = rest[0], rest[min(len(rest) - 1, len(rest) * 9 // 10)]
    return Figures(least, statistics.median(rest), rest[-1], ninth / least - 1 if least else 0.0, len(rest))
