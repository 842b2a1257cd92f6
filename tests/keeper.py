"""Reads source code for test_house: imports, calls and sizes.  It knows none of the house's rules.

Depends on nothing of mpcache: it never imports what it reads.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Sizes = Iterable[tuple[str, int]]
"""Pairs of a name and its number of lines."""

Table = dict[str, tuple[str, ...]]
"""Each row and the rows just below it.

``x`` is a module or a whole folder, whose modules may import each other without a cycle; in ``x.*`` each module stands
for itself, and the modules do not import each other.  The package itself is ``""``.
"""


@dataclass(frozen=True)
class Import:
    """An imported module.  ``typing``: only a type checker sees it; ``late``: inside a function."""

    target: str
    line: int
    typing: bool
    late: bool


class _Imports(ast.NodeVisitor):
    def __init__(self, module: str, is_package: bool) -> None:
        self.here = module.split(".") if is_package else module.split(".")[:-1]
        self.found: list[Import] = []
        self.typing = self.late = False

    def _add(self, target: str, node: ast.stmt) -> None:
        self.found.append(Import(target, node.lineno, self.typing, self.late))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self.here[: len(self.here) - node.level + 1] if node.level else []
        origin = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            self._add(f"{origin}.{alias.name}", node)

    def visit_If(self, node: ast.If) -> None:
        before = self.typing
        self.typing = before or "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body:
            self.visit(child)
        self.typing = before
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        before, self.late = self.late, True
        self.generic_visit(node)
        self.late = before

    visit_AsyncFunctionDef = visit_FunctionDef


def modules(package: Path) -> dict[str, Path]:
    """Return each module of a package by its dotted name, including the package itself."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(package: Path) -> Iterator[tuple[str, Import]]:
    """Yield each import of each module of a package; a name imported from a module counts as that module."""
    known = modules(package)
    for name, path in known.items():
        visitor = _Imports(name, path.name == "__init__.py")
        visitor.visit(ast.parse(path.read_text()))
        for found in visitor.found:
            holder = found.target.rpartition(".")[0]
            target = holder if found.target not in known and holder in known else found.target
            yield name, Import(target, found.line, found.typing, found.late)


def room(name: str, table: Table) -> tuple[str, str]:
    """Return the row of a module, and its room: two modules of a room may depend on each other.

    :param name: relative to the package, "" for the package itself.
    :raises LookupError: the module has no row.
    """
    if name in table:
        return name, name
    parent = name.rpartition(".")[0]
    while parent:
        if f"{parent}.*" in table:
            return f"{parent}.*", name
        if parent in table:
            return parent, parent
        parent = parent.rpartition(".")[0]
    raise LookupError(f"{name} stands in no room: give it a row in the table")


def below(row: str, table: Table) -> set[str]:
    """Return all rows that a row may depend on."""
    return set(table[row]).union(*(below(under, table) for under in table[row]))


def upward(package: Path, table: Table) -> list[str]:
    """Return the imports that do not go down, each as a sentence; imports for a type checker alone count, too.

    :raises LookupError: a module has no row.
    """
    wrong = []
    inside = package.name + "."
    for name, found in imports(package):
        if not (found.target + ".").startswith(inside):
            continue
        (row, here), (under, there) = (room(full[len(inside) :], table) for full in (name, found.target))
        if here != there and under not in below(row, table):
            wrong.append(f"{name}:{found.line} depends on {found.target}, which is not below it")
    return wrong


def cycle(package: Path) -> list[str]:
    """Return a cycle of imports, including late imports and those for a type checker; [] if there is none."""
    edges: dict[str, set[str]] = {name: set() for name in modules(package)}
    for name, found in imports(package):
        if found.target in edges:
            edges[name].add(found.target)
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        circles = (walk(target, [*path, name]) for target in sorted(edges[name]))
        found = next((circle for circle in circles if circle), [])
        done.add(name)
        return found

    return next((circle for circle in (walk(name, []) for name in edges) if circle), [])


def functions(path: Path) -> Sizes:
    """Yield each function of a module with its lines, not counting decorators and the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield f"{path.name}:{node.name}", lines


def c_functions(path: Path) -> Sizes:
    """Yield each function of a C file with its lines: from a name in column 0 to the closing brace in column 0."""
    name, start, opened = "", 0, False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if opened:
            if line.startswith("}"):
                yield f"{path.name}:{name}", number - start + 1
                name, opened = "", False
        elif match := re.match(r"(?:[A-Za-z_][^;=(]*?[\s*])?(\w+)\(", line):
            name, start = match[1], number
        if line.endswith(";") and not opened:
            name = ""
        opened = opened or (bool(name) and line.endswith("{"))


def c_code(path: Path) -> str:
    """Return the text of a C file without comments and strings; the names in #include lines stay."""
    text = re.sub(r"/\*.*?\*/", " ", path.read_text(), flags=re.S)
    return re.sub(r"^(?!#include)(.*)$", lambda line: re.sub(r'"(?:\\.|[^"\\])*"', '""', line[1]), text, flags=re.M)


def _c_uses(paths: Iterable[Path]) -> Iterator[tuple[Path, int, str, str]]:
    """Yield each use of another file of a folder: the file, the line, the stem of the other file, the used name.

    A use is an ``#include "..."``, or a call of a function that the other file defines: function names are unique.
    """
    paths = list(paths)
    homes = {what.partition(":")[2]: path.stem for path in paths for what, _ in c_functions(path)}
    for path in paths:
        for number, line in enumerate(c_code(path).splitlines(), 1):
            if match := re.match(r'#include "(.*)\.h"', line):
                yield path, number, match[1], line
                continue
            for name in re.findall(r"\b[a-z]\w+(?=\b)", line):
                if homes.get(name, path.stem) != path.stem and path.suffix == ".c":
                    yield path, number, homes[name], name


def c_upward(paths: Iterable[Path], table: Table, shared: frozenset[str] = frozenset()) -> list[str]:
    """Return the uses between C files that do not go down, each as a sentence.

    :param table: each file's stem, and the stems of those just below it.
    :param shared: stems of headers that every file may include.
    :raises LookupError: a file has no row.
    """
    paths = list(paths)
    if strangers := sorted({path.stem for path in paths} - set(table) - shared):
        raise LookupError(f"{strangers[0]} has no floor: give it a row in the table")
    return [
        f"{path.name}:{line} uses {what} of {other}, which is not below it"
        for path, line, other, what in _c_uses(path for path in paths if path.stem not in shared)
        if other not in {path.stem, *shared, *below(path.stem, table)}
    ]


def too_long(sizes: Sizes, limit: int, may_be_longer: dict[str, tuple[int, str]]) -> list[str]:
    """Return the names over the limit, or over their own limit in ``may_be_longer``, each as a sentence."""
    return [
        f"{what} has {lines} lines, the most is {most}: look for the second idea in it"
        for what, lines in sizes
        for most in [may_be_longer.get(what, (limit, ""))[0]]
        if lines > most
    ]


def foreign_privates(package: Path) -> list[str]:
    """Return the private attributes (``x._name``) of a package that are read in a module which does not define them.

    Inherited attributes (``self._name``) do not count, nor do the names that Python documents.
    """
    wrong = []
    for name, path in modules(package).items():
        tree = ast.parse(path.read_text())
        own = _defined(tree)
        wrong += [
            f"{name}:{node.lineno} reads {ast.unparse(node)}, which it does not define"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own
            if ast.unparse(node.value) not in ("self", "cls", "super()")
        ]
    return wrong


OF_PYTHON = {"_exit", "_getframe", "_replace", "_asdict", "_fields", "_get_running_loop"}
"""Names with an underscore that Python documents."""


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_PYTHON


def _defined(tree: ast.Module) -> set[str]:
    """Return all names that a module defines: functions, assigned attributes, slots, fields, imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).rpartition(".")[2])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # __slots__
            names.add(node.value)
    return names
