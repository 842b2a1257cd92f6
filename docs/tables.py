"""Tables that are made from data: what the classes say of themselves, and what the bench measured.

An extension of Sphinx, named in conf.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from mpcache import backends, mutexes
from mpcache._region import stat_names
from mpcache.api import Keeping


def setup(app: Any) -> None:
    """Name the directives."""
    app.add_directive("mutex-table", MutexTable)
    app.add_directive("store-table", StoreTable)
    app.add_directive("count-names", CountNames)
    app.add_directive("bench-table", BenchTable)
    app.add_directive("bench-bounds", BenchBounds)


class Made(SphinxDirective):
    """Tables that are made from a file beside the page."""

    required_arguments = 1
    final_argument_whitespace = True

    def found(self, name: str) -> Any:
        path = Path(self.env.doc2path(self.env.docname)).parent / name
        self.env.note_dependency(str(path))
        read: Any = json.loads(path.read_text())
        return read

    def parsed(self, lines: Iterable[str]) -> list[nodes.Node]:
        here = nodes.Element()
        self.state.nested_parse(StringList(list(lines)), 0, here)
        return here.children


class MutexTable(Made):
    """``.. mutex-table:: FILE``: what the classes guarantee, and what was measured of them.

    Any number of files.  A mutex that no file knows has an empty cell.
    """

    PROMISES = "name", "processes", "hosts", "survives death", "taken over within", "fair", "may lapse"
    COSTS = "name", "take and give back", "times the library alone", "hand-off to another process"

    def run(self) -> list[nodes.Node]:
        found = [self.found(name) for name in self.arguments[0].split()]
        measured = {name: one["contenders"] for each in found for name, one in each["benchmarks"].items()}
        lines = [
            *table(self.PROMISES, map(_promises, mutexes.names())),
            *table(self.COSTS, (_costs(name, measured) for name in mutexes.names())),
            "Measured on {date}: {processor}, {cores} cores, {system}, {python}.".format(**found[0]["machine"]),
        ]
        return self.parsed(lines)


class BenchTable(Made):
    """``.. bench-table:: FILE BENCHMARK...``: a line for each contender, a column for each benchmark.

    One benchmark alone has columns for what is least, usual and most.  Without a benchmark: where it was run.
    """

    def run(self) -> list[nodes.Node]:
        file, *names = self.arguments[0].split()
        found = self.found(file)
        if not names:
            return self.parsed(_machine(found["machine"]))
        chosen = [found["benchmarks"][name] for name in names]
        cells = [(one, one["figure"]) for one in chosen] if len(chosen) > 1 else _thrice(chosen[0])
        head = names if len(chosen) > 1 else [figure for _, figure in cells]
        every = dict.fromkeys(name for one in chosen for name in one["contenders"] if name != "nothing")
        rows = ((name, *(_cell(one, name, figure) for one, figure in cells)) for name in every)
        return self.parsed(table(("", *head), rows))


class BenchBounds(Made):
    """``.. bench-bounds:: FILE``: how many targets were met, and for each of them the figure that was found."""

    HEAD = "benchmark", "target", "found", ""

    def run(self) -> list[nodes.Node]:
        found = self.found(self.arguments[0])["benchmarks"]
        bounds = [(name, one) for name in found for one in found[name]["bounds"]]
        missed = sum(not one["kept"] for _, one in bounds)
        said = f"Of {len(bounds)} targets {len(bounds) - missed} are met and {missed} are missed."
        return self.parsed([said, "", *table(self.HEAD, (_bound(name, one) for name, one in bounds))])


def _thrice(benchmark: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    return [(benchmark, figure) for figure in ("least", "median", "most")]


def _cell(benchmark: dict[str, Any], name: str, figure: str) -> str:
    figures = benchmark["contenders"].get(name)
    if figures is None:
        return ""
    unit = benchmark["unit"]
    return duration(figures[figure]) if unit == "ns" else f"{figures[figure]:,.{1 if unit == '%' else 0}f} {unit}"


def _bound(benchmark: str, bound: dict[str, Any]) -> tuple[str, ...]:
    promised, _, found = bound["text"].partition(", and it ")
    return (f"``{benchmark}``", promised, found, "" if bound["kept"] else "**missed**")


def _machine(machine: dict[str, Any]) -> Iterator[str]:
    yield "{date}: {processor}, {cores} cores (load {load} at the begin), {system}, {python}.".format(**machine)
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items()) + "."


class StoreTable(SphinxDirective):
    """``.. store-table::``: what the stores say of themselves, one line for all that say the same."""

    HEAD = "name", "shared by", "outlives", "bounded by", "a hit costs", "its own mutex"

    def run(self) -> list[nodes.Node]:
        names: dict[Keeping, list[str]] = {}
        for name in backends.names():
            keeping = backends.load_backend(name).keeping
            if keeping is not None:  # those for tests, which autodoc has imported, say nothing
                names.setdefault(keeping, []).append(f"``{name}``")
        rows = ((", ".join(those), *keeping[:-1], f"``{keeping.mutex}``") for keeping, those in names.items())
        here = nodes.Element()
        self.state.nested_parse(StringList(list(table(self.HEAD, rows))), 0, here)
        return here.children


class CountNames(SphinxDirective):
    """``.. count-names:: GROUP``: the names of a group of stat_names, with their lines of help."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        names: dict[str, str] = getattr(stat_names, self.arguments[0])
        here = nodes.Element()
        rows = ((f"``{name}``", text) for name, text in names.items())
        self.state.nested_parse(StringList(list(table(("name", "meaning"), rows))), 0, here)
        return here.children


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in (head, *rows):
        yield from (f"   {'-' if at else '* -'} {cell}".replace("   - ", "     - ") for at, cell in enumerate(row))
    yield ""


def _promises(name: str) -> tuple[str, ...]:
    all_of_it = mutexes.resolve(name).guarantees
    said = ["yes" if yes else "no" for yes in all_of_it]
    promised = dict(zip(all_of_it._fields, said, strict=True))
    within = "at once" if all_of_it.takeover == 0 else f"{all_of_it.takeover:g} s"
    first = (promised[what] for what in ("processes", "hosts", "survives_death"))
    return (f"``{name}``", *first, within, promised["fair"], promised["leased"])


def _costs(name: str, measured: dict[str, Any]) -> tuple[str, ...]:
    taken, handed = (measured.get(what, {}).get(name) for what in ("acquire", "handoff"))
    alone = f"{number(taken['ratio'])} ({taken['against']})" if taken and taken["ratio"] else ""
    return (
        f"``{name}``",
        duration(taken["least"]) if taken else "",
        alone,
        duration(handed["median"]) if handed else "",
    )


def duration(nanoseconds: float) -> str:
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{number(nanoseconds / size)} {unit}"
    return f"{number(nanoseconds)} ns"


def number(value: float) -> str:
    """Return two digits of a number as people write it: 180, 1.8, 0.018."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:.6g}"
