"""The HTML page of a report: one file without references to others.

Depends on charts and settings, and on jinja2, which is imported only to render.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpcache._console import duration, significant
from mpcache.stress.report import charts
from mpcache.stress.settings import PROGRAM, command

PAGE = "report.html"

_MEANS = {
    "acquire": "from the call of acquire() until the mutex was held",
    "take-over": "from the death of a holder until a waiter held the mutex",
    "hand-off": "from a release until a waiter held the mutex",
    "stampede": "from the end of a creator until a waiter had its value",
}

_PROMISES = {
    "leased": "it leases",
    "processes": "it excludes processes",
    "survives_death": "it survives a holder's death",
    "fair": "it is fair",
}

RunData = Mapping[str, Any]
"""The data of a run, as :meth:`mpcache.stress.run.Run.report` returns it."""


def render(reports: Sequence[RunData]) -> str:
    """Return the text of the page."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "number": number, "significant": significant, "colour": colour}
    template = environment.from_string(Path(__file__).with_name(PAGE).read_text())
    runs = [shown(run, f"run-{at}", markupsafe.Markup) for at, run in enumerate(reports, 1)]
    tables = {"matrix": matrix(runs), "means": _MEANS, "promises": _PROMISES, "program": PROGRAM}
    return template.render(runs=runs, verdict=verdict(reports), **tables)


def shown(run: RunData, name: str, markup: Any) -> dict[str, Any]:
    """Return the variables of the page for a run: its data, and what is derived from them."""
    draw = {"latency": charts.latency, "timeline": charts.timeline, "pulse": charts.pulse}
    checks: dict[str, list[Any]] = {}
    for violation in run["violations"]:
        checks.setdefault(violation["check"], []).append({**violation, **evidence(violation)})
    return {
        **run,
        "id": name,
        "colour": colour(run["verdict"]),
        "title": title(run),
        "line": line(run),
        "command": command(run["words"]),
        "charts": {what: markup(chart(run, f"{name}-{what}")) for what, chart in draw.items()},
        "checks": checks,
    }


def colour(verdict: str) -> str:
    """Return the CSS class of a verdict."""
    return verdict.replace(" ", "-")


def title(run: RunData) -> str:
    """Return the title of a run."""
    settings = run["settings"]
    store = f", store {settings['backend']}" if run["store"] and settings["backend"] != run["mutex"] else ""
    fault = f", with the fault {settings['fault']}" if settings["fault"] else ""
    return f"{settings['scenario']} on {run['mutex'] or 'no mutex'}{store}{fault}"


def line(run: RunData) -> str:
    """Return the verdict of a run, and the counts behind it, as a line."""
    if run["status"] not in (0, 1):
        cut = f"interrupted after {run['seconds']:.1f} s" if run["interrupted"] else "no operation was finished"
        return f"{run['verdict'].capitalize()}: {run['unfit'] or cut}"
    counts = [f"{run[what]:,} {what}" for what in ("operations", "kills", "stops") if run[what]]
    rests = f"{', '.join(counts)}, {'interrupted after ' if run['interrupted'] else ''}{run['seconds']:.1f} s"
    often = "once" if run["found"] == 1 else f"{run['found']:,} times"
    return f"Violated {often} in {rests}" if run["found"] else f"Held: no violation in {rests}"


def verdict(reports: Sequence[RunData]) -> dict[str, str]:
    """Return the verdict of all runs, as a word and as a line."""
    counts = Counter(run["verdict"] for run in reports)
    word = next((one for one in ("violated", "held") if counts[one]), "could not run")
    if len(reports) == 1:
        return {"word": word, "line": line(reports[0])}
    parts = [f"{counts[one]} {one}" for one in ("violated", "held", "could not run") if counts[one]]
    cut = " Interrupted: some runs are missing." if any(run["interrupted"] for run in reports) else ""
    told = f"of {len(reports)} runs {', '.join(parts)}" if len(parts) > 1 else f"all {len(reports)} runs"
    return {"word": word, "line": f"{word.capitalize()}: {told}.{cut}"}


def matrix(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return the table of scenarios by mutexes: the runs of each pair."""
    mutexes = list(dict.fromkeys(run["mutex"] for run in runs))
    rows: dict[str, list[list[RunData]]] = {}
    for run in runs:
        row = rows.setdefault(run["scenario"], [[] for _ in mutexes])
        row[mutexes.index(run["mutex"])].append(run)
    return {"mutexes": mutexes, "rows": rows}


def evidence(violation: RunData) -> dict[str, Any]:
    """Return the entries that prove a violation, with times in ms since the first one began; and the span in ms."""
    entries = violation["evidence"]
    first = min((entry["began"] for entry in entries), default=0)

    def since(ns: int) -> float | None:
        return (ns - first) / 1e6 if ns else None

    told = [
        {**entry, **{when: since(entry[when]) for when in ("began", "got", "ended")}, "value": value(entry)}
        for entry in entries
    ]
    span = max((entry[when] or 0 for entry in told for when in ("began", "got", "ended")), default=0)
    return {"evidence": told, "span": max(span, 1e-6) * 1.02}


def value(entry: RunData) -> str:
    """Describe the value of an entry: of a hold its fence and which worker it found, else the number of the value."""
    if entry["did"] == "hold":
        fence = f"fence {entry['value']}" if entry["value"] else "no fence"
        return f"{fence}, count {entry['times']}" + (f", found worker {entry['extra'] >> 8}" if entry["extra"] else "")
    return f"{entry['value']:#x}" if entry["value"] else {"write": "a delete"}.get(entry["did"], "none")


def number(value: float) -> str:
    """Write a number with commas and at most six digits after the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6f}".rstrip("0").rstrip(".")
