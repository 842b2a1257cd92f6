"""What is said of it: where it was run, a table, JSON, and whether the bounds were kept.

Leans on harness; on rich, for a terminal.
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

PACKAGES = (
    *("mpcache", "dogpile.cache", "filelock", "posix_ipc", "redis", "valkey", "pymemcache", "pylibmc"),
    *("lmdb", "diskcache", "cachetools", "UltraDict", "shared_memory_dict", "libcachesim"),
)
SERVERS = ("redis-server", "memcached")
HEAD = ("", "least", "median", "most", "spread", "ratio", "to")


def machine() -> dict[str, Any]:
    """Where and when, and what is installed."""
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
            if package == "mpcache":  # it is run from the checkout, and need not be installed
                import mpcache

                yield package, mpcache.__version__
    for server in SERVERS:
        if found := shutil.which(server):
            said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.split()
            numbers = [word.removeprefix("v=") for word in said if word.removeprefix("v=")[:1].isdigit()]
            yield server, numbers[0] if numbers else "?"


def header(where: dict[str, Any]) -> str:
    """One line of facts and one of versions."""
    facts = f"{where['date']}, {where['processor']}, {where['cores']} cores (load {where['load']}), {where['system']}"
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{facts}, {where['python']}\n{versions}"


def time_text(nanoseconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:#.3g} {unit}".replace(". ", " ")
    return f"{nanoseconds:.3g} ns"


def text(number: float, unit: str) -> str:
    """A figure of a benchmark."""
    return time_text(number) if unit == "ns" else f"{number:,.2f} %" if unit == "%" else f"{number:,.0f} {unit}"


def ratio(outcome: Outcome, name: str) -> float | None:
    """Of a contender to the one that it is compared with; None: there is no such one."""
    against = {one.name: one.against for one in outcome.benchmark.contenders}.get(name)
    mine, other = outcome.figures.get(name), outcome.figures.get(against or "")
    if mine is None or other is None or against == CANARY:
        return None
    figure = outcome.benchmark.figure
    return float(getattr(mine, figure) / getattr(other, figure))


def rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """The cells of a table, by HEAD."""
    for contender in outcome.benchmark.contenders:
        name = contender.name
        if name in outcome.figures:
            figures, compared = outcome.figures[name], ratio(outcome, name)
            unit = outcome.benchmark.unit
            times = *(text(one, unit) for one in figures[:3]), f"{figures.spread:+.0%}"
            yield (name, *times, *(("", "") if compared is None else (f"{compared:.3g}", contender.against or "")))


class Verdict(NamedTuple):
    """What became of a bound.

    :param found: in the unit of the benchmark, or, of a bound that names another contender, how many times that one's
        figure; None: not measured.
    """

    bound: Bound
    found: float | None
    kept: bool
    text: str


def verdicts(outcome: Outcome, allowed: float) -> list[Verdict]:
    """Each bound, whether it was kept, and that in words; what was not measured was not kept.

    :param allowed: how many times its limit a figure may be.
    """
    return [_verdict(outcome, bound, allowed) for bound in outcome.benchmark.bounds]


def _verdict(outcome: Outcome, bound: Bound, allowed: float) -> Verdict:
    times = bound.of is not None or bound.figure == "ratio"

    def said(number: float) -> str:
        return f"{number:.3g} x" if times else text(number, outcome.benchmark.unit)

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
    """Of nobody it is 1, so that one can divide by it."""
    if name is None:
        return 1.0
    if figure == "ratio":
        return ratio(outcome, name)
    return float(getattr(outcome.figures[name], figure)) if name in outcome.figures else None


def notes(outcome: Outcome, allowed: float) -> Iterator[str]:
    """What stands below a table."""
    if outcome.idle:
        yield f"Without the call itself, which takes {time_text(outcome.idle)}."
    for name, why in outcome.skipped.items():
        yield f"{name} is skipped: {why}"
    for verdict in verdicts(outcome, allowed):
        yield f"{'kept' if verdict.kept else 'MISSED'}: {verdict.text}"


class Plain:
    """Markdown."""

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
    """A terminal."""

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
    """Rich's, on a terminal where it is installed."""
    if not sys.stdout.isatty():
        return Plain()
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return Plain()
    return Rich(Console(highlight=False))


def write_json(path: str, where: dict[str, Any], outcomes: dict[str, Outcome], allowed: float) -> None:
    """Times in nanoseconds."""
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
