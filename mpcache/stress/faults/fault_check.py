"""The fault check: runs each known bug, which a scenario must find, and controls, in which it must find nothing.

Depends on builds, faults and run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mpcache.stress import builds, faults
from mpcache.stress.builds import Build
from mpcache.stress.errors import CannotRun
from mpcache.stress.faults import Fault
from mpcache.stress.progress import Watcher
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED, Run
from mpcache.stress.run_folder import own_folder
from mpcache.stress.settings import Settings

CONTROL = "control"
"""The ``where`` of a run without a bug."""

CONTROL_SECONDS = 5.0


class FaultResult(NamedTuple):
    """The result of one run.

    :ivar where: of the :class:`.Fault`, or CONTROL.
    :ivar settings: of the run, with its seed.
    :ivar status: HELD, VIOLATED or COULD_NOT_RUN.
    :ivar check: the first check that found a violation; empty: none.
    :ivar said: text of that violation; or why the run was not possible.
    :ivar seconds: of the whole run, without the build.
    """

    name: str
    where: str
    text: str
    settings: Settings
    status: int
    check: str
    said: str
    seconds: float

    @property
    def right(self) -> bool:
        """Return whether a bug was caught, or a control held."""
        return self.status == (HELD if self.where == CONTROL else VIOLATED)


def check_faults(
    names: Iterable[str] = (),
    seconds: float | None = None,
    on_result: Callable[[FaultResult], None] = lambda caught: None,
    *,
    controls: bool = False,
    seed: str = "",
    watcher: Watcher = lambda progress: None,
) -> list[FaultResult]:
    """Run known bugs, one after the other; return the results.

    :param names: keys of :data:`.faults.ALL`; empty: all of them.
    :param seconds: maximum for each; None: that of each fault's settings.
    :param on_result: called with each result as soon as it is known.
    :param controls: also run each scenario without its bug, for some seconds.
    :param seed: of all runs; empty: a random one for each.
    :param watcher: as in :class:`.Run`.
    :raises CannotRun: an unknown name.
    """
    chosen, results = _chosen(names), list[FaultResult]()
    runs: list[tuple[Fault, Settings]] = []
    for fault in chosen:
        runs.append((fault, fault.settings.but(seconds=seconds or fault.settings.seconds, seed=seed)))
    if controls:
        runs += _controls(chosen, seed)
    with ExitStack() as stack:
        packages = _Packages(stack, {fault.build for fault, _ in runs})
        try:
            for fault, settings in runs:
                caught, interrupted = _play(fault, settings, packages, watcher)
                if interrupted:
                    break
                results.append(caught)
                on_result(caught)
        except KeyboardInterrupt:  # between two runs, or while a server starts
            if not results:
                raise
    return results


def status(results: Sequence[FaultResult]) -> int:
    """Return the exit status: HELD if all is right; VIOLATED if a bug was missed or a control violated."""
    if any(not caught.right and caught.status != COULD_NOT_RUN for caught in results):
        return VIOLATED
    return HELD if results and all(caught.right for caught in results) else COULD_NOT_RUN


def _chosen(names: Iterable[str]) -> list[Fault]:
    try:
        return [faults.ALL[name] for name in names] or list(faults.ALL.values())
    except KeyError as unknown:
        known = ", ".join(faults.ALL)
        raise CannotRun(f"there is no known bug {unknown.args[0]!r}; there are {known}") from None


def _controls(chosen: Iterable[Fault], seed: str) -> list[tuple[Fault, Settings]]:
    """Return the runs without their bugs, each different run once."""
    found: dict[str, tuple[Fault, Settings]] = {}
    for fault in chosen:
        if fault.where != faults.THIRD_PARTY:
            sound = fault.control.but(seconds=CONTROL_SECONDS, seed=seed)
            name = " ".join(faults.words(sound))
            found[name] = Fault(name, CONTROL, "nothing is wrong", sound), sound
    return list(found.values())


class _Packages:
    """The builds of all runs, compiled together when the first one is needed."""

    def __init__(self, stack: ExitStack, wanted: set[Build]) -> None:
        self._stack, self._wanted = stack, wanted
        self._made: dict[Build, Path] | None = None

    def of(self, build: Build) -> Path | None:
        """Return the folder of a build; None for the installed one.  Raises CannotRun: it cannot be compiled."""
        if build.ordinary:
            return None
        if self._made is None:
            self._made = builds.engines(self._wanted, self._stack.enter_context(own_folder()))
        return self._made[build]


def _play(fault: Fault, settings: Settings, packages: _Packages, watcher: Watcher) -> tuple[FaultResult, bool]:
    def result(status: int, settings: Settings, check: str = "", said: str = "") -> FaultResult:
        took = round(time.monotonic() - began, 3)
        return FaultResult(fault.name, fault.where, fault.text, settings, status, check, said, took)

    began = time.monotonic()
    try:
        package = packages.of(fault.build)
        began = time.monotonic()
        run = Run(settings, watcher, package)
        report: dict[str, Any] = run.run()
    except CannotRun as reason:
        return result(COULD_NOT_RUN, settings, said=str(reason)), False
    first = report["violations"][0] if report["violations"] else {"check": "", "text": report["unfit"]}
    return result(run.status, run.settings, first["check"], first["text"]), run.interrupted
