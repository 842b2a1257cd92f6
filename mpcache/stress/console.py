"""What a run prints: its progress and its verdict.  Progress is lines that change on a terminal, else a line at times.

Depends on run, faults and _console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mpcache._console import Console, Line, duration
from mpcache.stress import scenarios
from mpcache.stress.environment import own_mutex
from mpcache.stress.faults.fault_check import CONTROL, FaultResult
from mpcache.stress.latency import Latencies
from mpcache.stress.progress import Progress, Watcher
from mpcache.stress.run import COULD_NOT_RUN, VERDICTS
from mpcache.stress.settings import Settings

_PLAIN_EVERY = 5.0
"""Seconds between two lines of progress, where lines cannot change."""

_BAR = 24
_SIGNS = {"held": ("✓", "green"), "violated": ("✗", "bold red"), "could not run": ("-", "yellow")}


class StressConsole:
    """The output of one command, on a screen."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def watching(self, title: str) -> Iterator[Watcher]:
        """Yield a watcher that shows the progress of one run."""
        if not self._console.live:
            yield _Plain(title, self._console)
            return
        with self._console.changing() as show:
            yield _Live(title, show)
            show([])

    def line(self, *spans: Any) -> None:
        """Print a line."""
        self._console.line(*spans)

    def verdict(self, report: Mapping[str, Any]) -> None:
        """Print the verdict of a run."""
        sign, style = _SIGNS[report["verdict"]]
        title = title_of(settings_of(report))
        self._console.line((f"{sign} {report['verdict']:<9}", style), f"  {title:<38}  ", _figures(report))
        if report["unfit"]:
            self._console.line("             ", (report["unfit"], "dim"))
        for violation in report["violations"][:3]:
            self._console.line("    ", (f"{violation['check']}: ", "red"), violation["text"].strip())
        if report["found"] > 3:
            self._console.line(f"    and {report['found'] - 3:,} more")

    def caught(self, one: FaultResult) -> None:
        """Print whether a known bug was caught."""
        missed = "could not run" if one.status == COULD_NOT_RUN else "violated"
        sign, style = _SIGNS["held" if one.right else missed]
        how = f"{one.check or VERDICTS[one.status]}, {one.seconds:.1f} s"
        self._console.line((f"{sign} {one.name:<26}", style), f" {one.where:<13}", f"{how:<28}", (one.text, "dim"))
        if not one.right and one.said:
            self._console.line("    ", one.said.strip())

    def summary(self, results: Sequence[FaultResult]) -> None:
        """Print how many known bugs were caught."""
        sound = [one for one in results if one.where == CONTROL]
        seeded = [one for one in results if one.where != CONTROL]
        said = f"{sum(one.right for one in seeded)} of {len(seeded)} caught"
        more = f", {sum(one.right for one in sound)} of {len(sound)} controls held" if sound else ""
        slowest = max((one.seconds for one in seeded), default=0.0)
        self._console.line(f"{said}{more}; the slowest took {slowest:.1f} s")


def title_of(settings: Settings) -> str:
    """Return the name of a run: the scenario, the store if the scenario tests it, and the mutex."""
    mutex = settings.mutex or own_mutex(settings.backend)
    store = scenarios.load(settings.scenario).store and settings.backend != mutex
    fault = f" --fault {settings.fault}" if settings.fault else ""
    return f"{settings.scenario} on {f'{settings.backend}, ' if store else ''}{mutex}{fault}"


def _figures(report: Mapping[str, Any]) -> str:
    interrupted = ", interrupted" if report["interrupted"] else ""
    parts = [f"{report['seconds']:.0f} s{interrupted}", f"{report['operations']:,} operations"]
    parts += [f"{report[what]:,} {what}" for what in ("kills", "stops") if report[what]]
    took = report["latencies"].get("take-over")
    if took:
        parts.append(f"take-over {duration(took['median'])}, at most {duration(took['max'])}")
    return " · ".join(parts)


class _Live:
    """Shows progress in three lines that change."""

    def __init__(self, title: str, show: Callable[[list[Line]], None]) -> None:
        self._title, self._show = title, show

    def __call__(self, progress: Progress) -> None:
        done = min(progress.seconds / progress.of, 1.0) if progress.of else 1.0
        bar = "━" * round(done * _BAR)
        rest = "╌" * (_BAR - len(bar))
        left = max(progress.of - progress.seconds, 0.0)
        style = "bold red" if progress.violations else "green"
        self._show(
            [
                [(self._title, "bold"), "  ", (bar, "cyan"), (rest, "dim"), f"  {left:.0f} s left"],
                ["  ", _now(progress), "  ", (f"{progress.violations:,} violations", style)],
                ["  ", (_waits(progress.latencies), "dim")],
            ]
        )


class _Plain:
    """Prints a line of progress every few seconds."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console, self._next = title, console, _PLAIN_EVERY

    def __call__(self, progress: Progress) -> None:
        if progress.seconds >= self._next and progress.seconds < progress.of:
            self._next = progress.seconds + _PLAIN_EVERY
            left = progress.of - progress.seconds
            found = f"{progress.violations:,} violations"
            self._console.line(f"{self._title}: {_now(progress)} · {found} · {left:.0f} s left")


def _now(progress: Progress) -> str:
    parts = [f"{progress.rate:,.0f} operations/s", f"{progress.holders} hold", f"{progress.kills:,} kills"]
    return " · ".join([*parts, f"{progress.stops:,} stops"] if progress.stops else parts)


def _waits(latencies: Latencies) -> str:
    parts = [
        f"{name}  median {duration(latencies.at(name, 50))}, 99 % {duration(latencies.at(name, 99))},"
        f" max {duration(latencies.at(name, 100))}"
        for name in ("acquire", "take-over")
        if latencies.count(name)
    ]
    return "   ".join(parts)


def settings_of(report: Mapping[str, Any]) -> Settings:
    """Return the settings of a report, for a replay."""
    return Settings(**report["settings"])
