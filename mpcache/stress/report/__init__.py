"""A report: the data of runs as JSON, for ``stress replay``, and the page that shows them.

Depends on page, settings and environment.  A later version of mpcache reads the reports of an earlier one, so the keys
of the JSON do not change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mpcache.stress.errors import CannotRun
from mpcache.stress.report.page import PAGE, RunData, render
from mpcache.stress.settings import Settings

DATA = "report.json"

_NEEDED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("verdict", "scenario", "question", "unfit", "mutex", "began"), str),
    **dict.fromkeys(("status", "rounds", "operations", "entries", "lives", "kills", "stops", "found"), int),
    **dict.fromkeys(("settings", "guarantees", "machine", "latencies", "figures", "timeline"), dict),
    **dict.fromkeys(("words", "violations", "pulse"), list),
    **dict.fromkeys(("took", "seconds"), (int, float)),
    **dict.fromkeys(("interrupted", "store"), bool),
}

_DEFAULTS = Settings("")


def write(reports: Sequence[RunData], folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` into a folder, which is made if it does not exist.

    :param reports: results of :meth:`~mpcache.stress.run.Run.report`, of one run or of several.
    :returns: the page's path.
    :raises OSError: the folder cannot be made, or cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / DATA, folder / PAGE
    data.write_text(json.dumps(list(reports)) + "\n")
    page.write_bytes(render(reports).encode("utf-8", "backslashreplace"))
    return page


def load(path: Path) -> list[dict[str, Any]]:
    """Read the runs of a report.

    :param path: of its folder, or of the ``report.json`` in it.
    :raises CannotRun: the file is missing or damaged, or not a report.
    """
    data = path / DATA if path.is_dir() else path
    try:
        runs = json.loads(data.read_bytes())
    except OSError as error:
        raise CannotRun(f"{data} cannot be read: {error.strerror}; 'stress run --report' writes one") from None
    except (ValueError, RecursionError) as error:  # not JSON, not text, or too deeply nested
        raise CannotRun(f"{data} is damaged, or not a report of stress: {error}") from None
    if not isinstance(runs, list) or not runs:
        raise CannotRun(f"{data} is JSON, but not a report of stress, which is a list of runs")
    for number, run in enumerate(runs, 1):
        if wrong := _wrong(run):
            raise CannotRun(f"{data} is damaged, or not a report of stress: run {number} {wrong}")
    return runs


def _wrong(run: Any) -> str:
    """Return what is wrong with the data of a run; empty: nothing."""
    if not isinstance(run, dict):
        return "is not an object"
    for name, kind in _NEEDED.items():
        if not isinstance(run.get(name), kind):
            return f"has no {name!r}" if name not in run else f"has a wrong {name!r}"
    try:
        settings = Settings(**run["settings"])
    except TypeError as error:
        return f"has settings that this mpcache does not know ({error})"
    for each in fields(settings):
        given, usual = getattr(settings, each.name), getattr(_DEFAULTS, each.name)
        if not isinstance(given, (int, float) if isinstance(usual, float) else type(usual)):
            return f"has a wrong setting: {each.name} is {given!r}"
    if min(settings.workers, settings.threads) < 1 or not (
        min(settings.kills, settings.stops) >= 0 and settings.seconds > 0
    ):
        return "has settings that cannot be run"
    return ""
