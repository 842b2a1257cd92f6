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


class MutexTable(SphinxDirective):
    """``.. mutex-table:: FILE``: what the classes guarantee, and what ``python -m bench --json FILE`` found.

    Any number of files, beside the page.  A mutex that no file knows has an empty cell.
    """

    required_arguments = 1
    final_argument_whitespace = True

    PROMISES = "name", "processes", "hosts", "survives death", "taken over within", "fair", "may lapse"
    COSTS = "name", "take and give back", "times the library alone", "hand-off to another process"

    def run(self) -> list[nodes.Node]:
        paths = [Path(self.env.doc2path(self.env.docname)).parent / name for name in self.arguments[0].split()]
        for path in paths:
            self.env.note_dependency(str(path))
        found = [json.loads(path.read_text()) for path in paths]
        measured = {name: one["contenders"] for each in found for name, one in each["benchmarks"].items()}
        lines = [
            *_table(self.PROMISES, map(_promises, mutexes.names())),
            *_table(self.COSTS, (_costs(name, measured) for name in mutexes.names())),
            "Measured on {date}: {processor}, {cores} cores, {system}, {python}.".format(**found[0]["machine"]),
        ]
        tables = nodes.Element()
        self.state.nested_parse(StringList(lines), 0, tables)
        return tables.children


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
