"""How Sphinx reads these pages: ``make docs``, or ``sphinx-build -W docs docs/_build/html``.

Nothing here asks the network.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import desc_signature
from sphinx.util.docutils import SphinxDirective

import mpcache
from mpcache import backends, mutexes
from mpcache.api import Keeping
from mpcache.stress import faults

project = "mpcache"
author = "mpcache authors"
version = release = mpcache.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"

highlight_language = "none"  # what follows a "::" is a drawing; code says that it is code
smartquotes = False  # they would turn what is to be typed into what cannot be typed

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}

nitpicky = True


def setup(app: Any) -> None:
    """Whatever a docstring or a page refers to has to be there; what stands in a signature is printed as it is."""
    app.connect("missing-reference", _printed_as_it_is)
    app.add_directive("mutex-table", MutexTable)
    app.add_directive("store-table", StoreTable)
    app.add_directive("fault-table", FaultTable)
    app.add_directive("bench-table", BenchTable)
    app.add_directive("bench-bounds", BenchBounds)


def _printed_as_it_is(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    if hasattr(builtins, node.get("reftarget", "")):
        return contnode
    above = node.parent
    while above is not None:
        if isinstance(above, desc_signature) or (isinstance(above, nodes.paragraph) and _is_made(above)):
            return contnode
        above = above.parent
    return None


def _is_made(paragraph: nodes.paragraph) -> bool:
    """Autodoc wrote it, and not we."""
    return paragraph.astext().startswith(("Bases: ", "alias of "))


class Measured(SphinxDirective):
    """Tables of what ``python -m bench --json FILE`` found; the file lies beside the page."""

    required_arguments = 1
    final_argument_whitespace = True

    def found(self, name: str) -> dict[str, Any]:
        path = Path(self.env.doc2path(self.env.docname)).parent / name
        self.env.note_dependency(str(path))
        read: dict[str, Any] = json.loads(path.read_text())
        return read

    def parsed(self, lines: Iterable[str]) -> list[nodes.Node]:
        here = nodes.Element()
        self.state.nested_parse(StringList(list(lines)), 0, here)
        return here.children


class MutexTable(Measured):
    """``.. mutex-table:: FILE``: what the classes guarantee, and what was measured of them.

    Any number of files.  A mutex that no file knows has an empty cell.
    """

    PROMISES = "name", "processes", "hosts", "survives death", "taken over within", "fair", "may lapse"
    COSTS = "name", "take and give back", "times the library alone", "hand-off to another process"

    def run(self) -> list[nodes.Node]:
        found = [self.found(name) for name in self.arguments[0].split()]
        measured = {name: one["contenders"] for each in found for name, one in each["benchmarks"].items()}
        lines = [
            *_table(self.PROMISES, map(_promises, mutexes.names())),
            *_table(self.COSTS, (_costs(name, measured) for name in mutexes.names())),
            "Measured on {date}: {processor}, {cores} cores, {system}, {python}.".format(**found[0]["machine"]),
        ]
        return self.parsed(lines)


class BenchTable(Measured):
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
        return self.parsed(_table(("", *head), rows))


class BenchBounds(Measured):
    """``.. bench-bounds:: FILE``: how many promises were kept, and of each what was found."""

    HEAD = "benchmark", "promised", "found", ""

    def run(self) -> list[nodes.Node]:
        found = self.found(self.arguments[0])["benchmarks"]
        bounds = [(name, one) for name in found for one in found[name]["bounds"]]
        missed = sum(not one["kept"] for _, one in bounds)
        said = f"Of {len(bounds)} promises {len(bounds) - missed} are kept and {missed} are missed."
        return self.parsed([said, "", *_table(self.HEAD, (_bound(name, one) for name, one in bounds))])


def _thrice(benchmark: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    return [(benchmark, figure) for figure in ("least", "median", "most")]


def _cell(benchmark: dict[str, Any], name: str, figure: str) -> str:
    figures = benchmark["contenders"].get(name)
    if figures is None:
        return ""
    unit = benchmark["unit"]
    return _time(figures[figure]) if unit == "ns" else f"{figures[figure]:,.{1 if unit == '%' else 0}f} {unit}"


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
        table = nodes.Element()
        self.state.nested_parse(StringList(list(_table(self.HEAD, rows))), 0, table)
        return table.children


class FaultTable(SphinxDirective):
    """``.. fault-table:: seeded`` or ``foreign``: what ``mpcache stress faults`` plays, and how."""

    required_arguments = 1
    HEAD = "name", "in", "what is wrong", "what finds it"

    def run(self) -> list[nodes.Node]:
        wanted = self.arguments[0] == faults.FOREIGN
        chosen = (row for row in faults.rows() if (row[1] == faults.FOREIGN) == wanted)
        rows = ((f"``{name}``", where, text, f"``{run}``") for name, where, text, run in chosen)
        table = nodes.Element()
        self.state.nested_parse(StringList(list(_table(self.HEAD, rows))), 0, table)
        return table.children


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
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
    alone = f"{taken['ratio']:.2g} ({taken['against']})" if taken and taken["ratio"] else ""
    return (f"``{name}``", _time(taken["least"]) if taken else "", alone, _time(handed["median"]) if handed else "")


def _time(nanoseconds: float) -> str:
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2g} {unit}"
    return f"{nanoseconds:.2g} ns"
