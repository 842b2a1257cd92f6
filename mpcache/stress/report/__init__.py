"""What came of runs, for people and for replay: a page that needs nothing but itself, and the same as JSON.

Leans on charts, checker, settings and environment, and on jinja2, which is asked for only where a page is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mpcache._console import duration
from mpcache.stress.environment import CannotRun
from mpcache.stress.report import charts
from mpcache.stress.settings import PROGRAM, Settings, command

PAGE, DATA = "report.html", "report.json"

_MEANS = {
    "acquire": "from the call until it was held",
    "take-over": "from the death of a holder until one who waited held it",
    "hand-off": "from a release until one who waited held it",
    "stampede": "from the end of a creator until one who waited had its value",
}

_PROMISES = {
    "leased": "it leases",
    "processes": "it excludes processes",
    "survives_death": "it survives a holder's death",
    "fair": "it is fair",
}

_NEEDED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("verdict", "scenario", "question", "unfit", "mutex", "began"), str),
    **dict.fromkeys(("status", "rounds", "operations", "entries", "lives", "kills", "stops", "found"), int),
    **dict.fromkeys(("settings", "guarantees", "machine", "latencies", "figures", "timeline"), dict),
    **dict.fromkeys(("words", "violations", "pulse"), list),
    **dict.fromkeys(("took", "seconds"), (int, float)),
    **dict.fromkeys(("interrupted", "store"), bool),
}

_USUAL = Settings("")

RunData = Mapping[str, Any]


# -- as data -------------------------------------------------------------------------------------------------------


def write(reports: Sequence[RunData], folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` into a folder, which is made if there is none.

    :param reports: what :meth:`~mpcache.stress.run.RunData.report` returned, of one run or of several.
    :returns: the page's path.
    :raises OSError: the folder cannot be made, or not be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / DATA, folder / PAGE
    data.write_text(json.dumps(list(reports)) + "\n")
    page.write_bytes(render(reports).encode("utf-8", "backslashreplace"))
    return page


def load(path: Path) -> list[dict[str, Any]]:
    """The runs of a report.

    :param path: of its folder, or of the ``report.json`` in it.
    :raises CannotRun: there is none, or it is no such report, or it is damaged.
    """
    data = path / DATA if path.is_dir() else path
    try:
        told = json.loads(data.read_bytes())
    except OSError as error:
        raise CannotRun(f"{data} cannot be read: {error.strerror}; 'stress run --report' writes one") from None
    except (ValueError, RecursionError) as error:  # no JSON, no text, or brackets without end
        raise CannotRun(f"{data} is damaged, or no report of stress: {error}") from None
    if not isinstance(told, list) or not told:
        raise CannotRun(f"{data} is JSON, but no report of stress: that is a list of runs")
    for number, run in enumerate(told, 1):
        if wrong := _wrong(run):
            raise CannotRun(f"{data} is damaged, or no report of stress: run {number} {wrong}")
    return told


def _wrong(run: Any) -> str:
    """What a run lacks; empty: nothing."""
    if not isinstance(run, dict):
        return "is no object"
    for name, kind in _NEEDED.items():
        if not isinstance(run.get(name), kind):
            return f"has no {name!r}" if name not in run else f"has a strange {name!r}"
    try:
        settings = Settings(**run["settings"])
    except TypeError as error:
        return f"has settings that this mpcache does not know ({error})"
    for each in fields(settings):
        given, usual = getattr(settings, each.name), getattr(_USUAL, each.name)
        if not isinstance(given, (int, float) if isinstance(usual, float) else type(usual)):
            return f"has a strange setting: {each.name} is {given!r}"
    if min(settings.workers, settings.threads) < 1 or not (
        min(settings.kills, settings.stops) >= 0 and settings.seconds > 0
    ):
        return "has settings that cannot be played"
    return ""


# -- as a page -----------------------------------------------------------------------------------------------------


def render(reports: Sequence[RunData]) -> str:
    """The page's text."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "number": number, "colour": colour}
    template = environment.from_string(Path(__file__).with_name(PAGE).read_text())
    runs = [shown(run, f"run-{at}", markupsafe.Markup) for at, run in enumerate(reports, 1)]
    tables = {"matrix": matrix(runs), "means": _MEANS, "promises": _PROMISES, "program": PROGRAM}
    return template.render(runs=runs, verdict=verdict(reports), **tables)


def shown(run: RunData, name: str, markup: Any) -> dict[str, Any]:
    """What the page shows of a run: what it reports, and what follows from it."""
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
    """The page's name of a verdict's colour."""
    return verdict.replace(" ", "-")


def title(run: RunData) -> str:
    """Which run it is."""
    settings = run["settings"]
    store = f", store {settings['backend']}" if run["store"] and settings["backend"] != run["mutex"] else ""
    fault = f", with the fault {settings['fault']}" if settings["fault"] else ""
    return f"{settings['scenario']} on {run['mutex'] or 'no mutex'}{store}{fault}"


def line(run: RunData) -> str:
    """Of one run: its verdict, and on what it rests."""
    if run["status"] not in (0, 1):
        cut = f"interrupted after {run['seconds']:.1f} s" if run["interrupted"] else "no operation was finished"
        return f"{run['verdict'].capitalize()}: {run['unfit'] or cut}"
    counts = [f"{run[what]:,} {what}" for what in ("operations", "kills", "stops") if run[what]]
    rests = f"{', '.join(counts)}, {'interrupted after ' if run['interrupted'] else ''}{run['seconds']:.1f} s"
    often = "once" if run["found"] == 1 else f"{run['found']:,} times"
    return f"Violated {often} in {rests}" if run["found"] else f"Held: no violation in {rests}"


def verdict(reports: Sequence[RunData]) -> dict[str, str]:
    """Of all runs: the verdict's word, and a line."""
    counts = Counter(run["verdict"] for run in reports)
    word = next((one for one in ("violated", "held") if counts[one]), "could not run")
    if len(reports) == 1:
        return {"word": word, "line": line(reports[0])}
    parts = [f"{counts[one]} {one}" for one in ("violated", "held", "could not run") if counts[one]]
    cut = " Interrupted: more was to be played." if any(run["interrupted"] for run in reports) else ""
    told = f"of {len(reports)} runs {', '.join(parts)}" if len(parts) > 1 else f"all {len(reports)} runs"
    return {"word": word, "line": f"{word.capitalize()}: {told}.{cut}"}


def matrix(runs: Sequence[RunData]) -> dict[str, Any]:
    """Scenario by mutex: which runs there are of each pair."""
    mutexes = list(dict.fromkeys(run["mutex"] for run in runs))
    rows: dict[str, list[list[RunData]]] = {}
    for run in runs:
        row = rows.setdefault(run["scenario"], [[] for _ in mutexes])
        row[mutexes.index(run["mutex"])].append(run)
    return {"mutexes": mutexes, "rows": rows}


def evidence(violation: RunData) -> dict[str, Any]:
    """The entries that prove it, with times in ms since the first of them began; and its picture's width, in ms."""
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
    """What an entry was about: a fence, and whom it found; or a value."""
    if entry["did"] == "hold":
        fence = f"fence {entry['value']}" if entry["value"] else "no fence"
        return f"{fence}, count {entry['times']}" + (f", found worker {entry['extra'] >> 8}" if entry["extra"] else "")
    return f"{entry['value']:#x}" if entry["value"] else {"write": "a delete"}.get(entry["did"], "none")


def number(value: float) -> str:
    """With commas, and three digits of a fraction."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
