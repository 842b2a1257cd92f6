"""Whether the scenarios find what they must: known bugs, each of them played; and nothing where there is none.

Leans on builds, faults and run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mpcache.stress import builds, faults
from mpcache.stress.builds import Build
from mpcache.stress.environment import Unplayable, own_folder
from mpcache.stress.faults import Fault
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED, Trial, Watcher
from mpcache.stress.settings import Settings

CONTROL = "control"
"""Where a run without a bug says that it is."""

CONTROL_SECONDS = 5.0


class Caught(NamedTuple):
    """What came of one of them.

    :ivar where: as :class:`.Fault` has it, or CONTROL.
    :ivar settings: of the run, with its seed.
    :ivar status: HELD, VIOLATED or COULD_NOT_RUN.
    :ivar check: which found it first; empty: none.
    :ivar said: what that said; or why it could not be run.
    :ivar seconds: that it took, all in all, without the build.
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
        """Whether a bug was caught, or nothing was found where there is none."""
        return self.status == (HELD if self.where == CONTROL else VIOLATED)


def play_all(
    names: Iterable[str] = (),
    seconds: float | None = None,
    on_result: Callable[[Caught], None] = lambda caught: None,
    *,
    controls: bool = False,
    seed: str = "",
    watcher: Watcher = lambda progress: None,
) -> list[Caught]:
    """Play known bugs, one after the other; what came of each.

    :param names: keys of :data:`.faults.ALL`; none: all of them.
    :param seconds: of play for each, at most; None: as long as each may take.
    :param on_result: is called with each as soon as it is known.
    :param controls: play each run without its bug, too, for some seconds.
    :param seed: of all runs; empty: each has its own.
    :param watcher: as in :class:`.Trial`.
    :raises Unplayable: a name that there is not.
    """
    chosen, results = _chosen(names), list[Caught]()
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
        except KeyboardInterrupt:  # between two of them, or while a server starts for the next
            if not results:
                raise
    return results


def status(results: Sequence[Caught]) -> int:
    """The exit status: HELD if all is as it should be; VIOLATED if a bug was not caught, or one where there is none."""
    if any(not caught.right and caught.status != COULD_NOT_RUN for caught in results):
        return VIOLATED
    return HELD if results and all(caught.right for caught in results) else COULD_NOT_RUN


def _chosen(names: Iterable[str]) -> list[Fault]:
    try:
        return [faults.ALL[name] for name in names] or list(faults.ALL.values())
    except KeyError as unknown:
        known = ", ".join(faults.ALL)
        raise Unplayable(f"there is no known bug {unknown.args[0]!r}; there are {known}") from None


def _controls(chosen: Iterable[Fault], seed: str) -> list[tuple[Fault, Settings]]:
    """Each run that differs from all others by more than its bug, without it."""
    found: dict[str, tuple[Fault, Settings]] = {}
    for fault in chosen:
        if fault.where != faults.FOREIGN:
            sound = fault.control.but(seconds=CONTROL_SECONDS, seed=seed)
            name = " ".join(faults.words(sound))
            found[name] = Fault(name, CONTROL, "nothing is wrong", sound), sound
    return list(found.values())


class _Packages:
    """The builds that are needed, all made when the first one is."""

    def __init__(self, stack: ExitStack, wanted: set[Build]) -> None:
        self._stack, self._wanted = stack, wanted
        self._made: dict[Build, Path] | None = None

    def of(self, build: Build) -> Path | None:
        """Where it is; None: it is the one that everybody has.  Raises Unplayable."""
        if build.ordinary:
            return None
        if self._made is None:
            self._made = builds.engines(self._wanted, self._stack.enter_context(own_folder()))
        return self._made[build]


def _play(fault: Fault, settings: Settings, packages: _Packages, watcher: Watcher) -> tuple[Caught, bool]:
    def came_to(status: int, settings: Settings, check: str = "", said: str = "") -> Caught:
        took = round(time.monotonic() - began, 3)
        return Caught(fault.name, fault.where, fault.text, settings, status, check, said, took)

    began = time.monotonic()
    try:
        package = packages.of(fault.build)
        began = time.monotonic()
        trial = Trial(settings, watcher, package)
        report: dict[str, Any] = trial.run()
    except Unplayable as reason:
        return came_to(COULD_NOT_RUN, settings, said=str(reason)), False
    first = report["violations"][0] if report["violations"] else {"check": "", "text": report["unfit"]}
    return came_to(trial.status, trial.settings, first["check"], first["text"]), trial.interrupted
