"""The tables of docs/stress: the scenarios, the known bugs, and the figures of runs.

An extension of Sphinx, named in conf.py.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from tables import Made, duration, table

from mpcache.stress import faults, scenarios


def setup(app: Any) -> None:
    """Name the directives."""
    app.add_directive("stress-scenarios", Scenarios)
    app.add_directive("stress-faults", Faults)
    app.add_directive("stress-figures", Figures)


class Scenarios(Made):
    """``.. stress-scenarios::``: the questions, in the order of ``run all``."""

    required_arguments = 0

    def run(self) -> list[nodes.Node]:
        rows = [(f"``{name}``", scenarios.load(name).question()) for name in scenarios.names()]
        return self.parsed(table(("scenario", "question"), rows))


class Faults(Made):
    """``.. stress-faults:: seeded``, or ``third party``: what ``stress faults`` runs, and what finds it."""

    HEAD = "name", "in", "what is wrong", "what finds it"

    def run(self) -> list[nodes.Node]:
        wanted = self.arguments[0] == faults.THIRD_PARTY
        chosen = (row for row in faults.rows() if (row[1] == faults.THIRD_PARTY) == wanted)
        return self.parsed(
            table(self.HEAD, ((f"``{name}``", where, text, f"``{run}``") for name, where, text, run in chosen))
        )


class Figures(Made):
    """``.. stress-figures:: FILE``: a line for each run in a file of tools/stress_figures.py."""

    HEAD = "scenario", "store", "mutex", "seconds", "operations", "deaths", "stops", "violations", "take-over", "worst"

    def run(self) -> list[nodes.Node]:
        found = self.found(self.arguments[0])
        kills, seconds = (sum(one[what] for one in found["runs"]) for what in ("kills", "seconds"))
        violated = sum(one["found"] for one in found["runs"])
        said = f"{len(found['runs'])} runs, {seconds:,.0f} s, {kills:,} kills, {violated:,} violations."
        on = "Played on {date}: {system}, {machine}, {cores} cores, {python}.".format(**found["machine"])
        return self.parsed([said, "", *table(self.HEAD, map(_run, found["runs"])), on])


def _run(one: dict[str, Any]) -> tuple[str, ...]:
    took = one["take-over"]
    counts = (f"{one[what]:,}" for what in ("operations", "kills", "stops", "found"))
    times = (duration(took[which]) if took else "" for which in ("median", "max"))
    return (f"``{one['scenario']}``", one["backend"], one["mutex"], f"{one['seconds']:.0f}", *counts, *times)
