"""The report: machine and versions, a table, JSON, and whether the bounds were kept.

Depends on harness; on rich, for a terminal.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness import CANARY, Bound, Outcome
from mpcache._console import duration, significant

PACKAGES = (
    *("mpcache", "dogpile.cache", "filelock", "posix_ipc", "redis", "valkey", "pymemcache", "pylibmc"),
    *("lmdb", "diskcache", "cachetools", "UltraDict", "shared_memory_dict", "libcachesim"),
)
SERVERS = ("redis-server", "memcached")
HEAD = ("", "least", "median", "most", "spread", "ratio", "to")


def machine() -> dict[str, Any]:
    """Return the date, the machine and the installed versions."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": dict(_versions()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            if package == "mpcache":  # the benchmark runs from a checkout, where mpcache need not be installed
                import mpcache

                yield package, mpcache.__version__
    for server in SERVERS:
        if found := shutil.which(server):
            said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.split()
            numbers = [word.removeprefix("v=") for word in said if word.removeprefix("v=")[:1].isdigit()]
            yield server, numbers[0] if numbers else "?"


def header(where: dict[str, Any]) -> str:
    """Format the machine as a line of facts and a line of versions."""
    facts = f"{where['date']}, {where['processor']}, {where['cores']} cores (load {where['load']}), {where['system']}"
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{facts}, {where['python']}\n{versions}"


def text(number: float, unit: str) -> str:
    """Format a figure in the unit of its benchmark."""
    return duration(number) if unit == "ns" else f"{number:,.2f} %" if unit == "%" else f"{number:,.0f} {unit}"


def ratio(outcome: Outcome, name: str) -> float | None:
    """Return a contender's figure divided by that of the one it is compared with; None without such a one."""
    against = {one.name: one.against for one in outcome.benchmark.contenders}.get(name)
    mine, other = outcome.figures.get(name), outcome.figures.get(against or "")
    if mine is None or other is None or against == CANARY:
        return None
    figure = outcome.benchmark.figure
    return float(getattr(mine, figure) / getattr(other, figure))


def rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table, with the columns of HEAD."""
    for contender in outcome.benchmark.contenders:
        name = contender.name
        if name in outcome.figures:
            figures, compared = outcome.figures[name], ratio(outcome, name)
            unit = outcome.benchmark.unit
            times = *(text(one, unit) for one in figures[:3]), f"{figures.spread:+.0%}"
            yield (name, *times, *(("", "") if compared is None else (significant(compared), contender.against or "")))


class Verdict(NamedTuple):
    """Whether a bound was kept.

    :param found: the figure in the unit of the benchmark, or, if the bound names another contender, its ratio to that
        contender's figure; None: not measured.
    """

    bound: Bound
    found: float | None
    kept: bool
    text: str


def verdicts(outcome: Outcome, allowed: float) -> list[Verdict]:
    """Check each bound.  A bound whose figure was not measured was not kept.

    :param allowed: factor by which each limit is multiplied.
    """
    return [_verdict(outcome, bound, allowed) for bound in outcome.benchmark.bounds]


def _verdict(outcome: Outcome, bound: Bound, allowed: float) -> Verdict:
    times = bound.of is not None or bound.figure == "ratio"

    def said(number: float) -> str:
        return f"{significant(number)} x" if times else text(number, outcome.benchmark.unit)

    most = " ".join(filter(None, (said(bound.most * allowed), bound.of)))
    more = f" and {text(bound.more, outcome.benchmark.unit)}" if bound.more else ""
    promise = f"{bound.contender}: {bound.figure} at most {most}{more}"
    taken, other = _figure(outcome, bound.contender, bound.figure), _figure(outcome, bound.of, bound.figure)
    if taken is None or other is None:
        return Verdict(bound, None, False, f"{promise}, and it was not measured")
    found = taken / other
    kept = taken <= bound.most * allowed * other + bound.more
    return Verdict(bound, found, kept, f"{promise}, and it is {said(found)}")


def _figure(outcome: Outcome, name: str | None, figure: str) -> float | None:
    """Return a figure of a contender; 1 without a name, so that the result can be a divisor; None: not measured."""
    if name is None:
        return 1.0
    if figure == "ratio":
        return ratio(outcome, name)
    return float(getattr(outcome.figures[name], figure)) if name in outcome.figures else None


def notes(outcome: Outcome, allowed: float) -> Iterator[str]:
    """Yield the lines below a table."""
    if outcome.idle:
        yield f"The cost of an empty call is subtracted: {duration(outcome.idle)}."
    for name, why in outcome.skipped.items():
        yield f"{name} is skipped: {why}"
    for verdict in verdicts(outcome, allowed):
        yield f"{'kept' if verdict.kept else 'MISSED'}: {verdict.text}"


class Plain:
    """Prints the report as Markdown."""

    def header(self, where: dict[str, Any]) -> None:
        print(header(where), flush=True)

    def outcome(self, name: str, outcome: Outcome, allowed: float) -> None:
        print(f"\n## {name}: {outcome.benchmark.title}\n")
        print(_line(HEAD), _line(["---", *["---:"] * 5, "---"]), *map(_line, rows(outcome)), sep="\n")
        for note in notes(outcome, allowed):
            print(f"\n{note}")
        sys.stdout.flush()


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


class Rich:
    """Prints the report on a terminal, through rich."""

    def __init__(self, console: Any) -> None:
        self._console = console

    def header(self, where: dict[str, Any]) -> None:
        self._console.print(header(where), style="dim")

    def outcome(self, name: str, outcome: Outcome, allowed: float) -> None:
        from rich import box
        from rich.table import Table

        table = Table(title=f"{name}: {outcome.benchmark.title}", box=box.SIMPLE, title_justify="left")
        for at, head in enumerate(HEAD):
            table.add_column(head, justify="right" if 0 < at < 6 else "left")
        for row in rows(outcome):
            table.add_row(*row)
        self._console.print(table)
        for note in notes(outcome, allowed):
            self._console.print(note, style="bold red" if note.startswith("MISSED") else "dim", soft_wrap=True)


def printer() -> Plain | Rich:
    """Return the printer: rich's on a terminal if rich is installed, else Markdown."""
    if not sys.stdout.isatty():
        return Plain()
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return Plain()
    return Rich(Console(highlight=False))


def write_json(path: str, where: dict[str, Any], outcomes: dict[str, Outcome], allowed: float) -> None:
    """Write all outcomes as JSON, times in nanoseconds."""
    found = {
        name: {
            "title": outcome.benchmark.title,
            "figure": outcome.benchmark.figure,
            "unit": outcome.benchmark.unit,
            "call": outcome.idle,
            "contenders": {
                one.name: {
                    **outcome.figures[one.name]._asdict(),
                    "against": one.against,
                    "ratio": ratio(outcome, one.name),
                }
                for one in outcome.benchmark.contenders
                if one.name in outcome.figures
            },
            "skipped": outcome.skipped,
            "bounds": [
                {**one.bound._asdict(), "found": one.found, "kept": one.kept, "text": one.text}
                for one in verdicts(outcome, allowed)
            ],
        }
        for name, outcome in outcomes.items()
    }
    Path(path).write_text(json.dumps({"machine": where, "benchmarks": found}, indent=1) + "\n")
