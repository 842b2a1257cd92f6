"""Finds the worst habits of prose in the source: actors without a name, docstrings without a verb, names that were
replaced, and numbers with an exponent.  For test_house.

Depends on keeper.  It never imports what it reads.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests import keeper

NAMELESS = re.compile(r"\b(whoever|nobody|anybody|somebody|anew|he|his)\b", re.I)
"""Words that hide which process, thread or program is meant."""

NOUNS = {
    *("The", "What", "Whatever", "Whether", "How", "A", "An", "As", "That", "Those", "This", "These", "Who", "Where"),
    *("When", "Why", "One", "Each", "Every", "Both", "Either", "All", "Many", "Of", "By", "For", "From", "In", "On"),
    *("To", "With", "Until", "If", "It", "Itself", "Its", "None", "No", "True", "False", "Seconds", "Same", "Likewise"),
}
"""First words of a docstring that describes a result instead of saying what the function does."""

VERBS_IN_S = re.compile(r"[A-Z][a-z]*[^s]s")
"""A verb in the third person, "Raises", instead of the imperative, "Raise"; or a plural."""

EXPONENT = re.compile(r"(?<![\w.])\d(?:\.\d+)?e[-+]?\d+(?!\w)", re.I)
"""A number such as 1.8e+02, as it is never shown to people."""

TO_EXPONENT = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[eEgG]\b|\{\w*:(?:[-+ #<>=^0-9.,_]|\{\w*\})*[eEgG]\}")
"""A format of ``%`` or ``str.format`` that writes some numbers with an exponent."""


def _strings() -> tuple[int, ...]:
    """Return the types of the tokens that hold strings; the text of an f-string has its own since Python 3.12."""
    return (tokenize.STRING, *([tokenize.FSTRING_MIDDLE] if hasattr(tokenize, "FSTRING_MIDDLE") else []))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a Python module or stub, and all of another file, with their lines."""
    text = path.read_text()
    if path.suffix not in (".py", ".pyi"):
        yield from enumerate(text.splitlines(), 1)
        return
    kinds = (tokenize.COMMENT, *_strings())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            yield token.start[0], token.string


def nameless(path: Path) -> Iterator[str]:
    """Yield the places of a file where an actor has no name."""
    for line, text in prose(path):
        for found in NAMELESS.finditer(text):
            yield f"{line + text.count(chr(10), 0, found.start())}: {found[0]}"


def nouns(path: Path) -> Iterator[str]:
    """Yield the functions of a module whose docstring begins with no verb."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = ((ast.get_docstring(node) or "Return").split() or ["Return"])[0].rstrip(",.:;")
            if first in NOUNS or VERBS_IN_S.fullmatch(first) or not first[0].isupper():
                yield f"{node.lineno}: {node.name}: {first} ..."


def replaced_modules(root: Path, left: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the files and folders that have a name which was replaced.

    :param left: each folder, and what none of its entries is called any more.
    """
    for folder, stems in left.items():
        for path in sorted((root / folder).glob("*")):
            if path.name.partition(".")[0] in stems:
                yield str(path.relative_to(root))


def replaced_names(path: Path, left: Iterable[str]) -> Iterator[str]:
    """Yield the classes and functions of a module, or the symbols of a C file, that match a replaced name.

    :param left: regular expressions, each for a whole name.
    """
    pattern = re.compile("|".join(left))
    for line, name in _c_names(path) if path.suffix in (".c", ".h") else _python_names(path):
        if pattern.fullmatch(name):
            yield f"{line}: {name}"


def _python_names(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def _c_names(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(keeper.c_code(path).splitlines(), 1):
        for name in re.findall(r"[A-Za-z_]\w*", line):
            yield number, name


def exponents(path: Path) -> Iterator[str]:
    """Yield the places of a file where a text for people has, or may get, a number with an exponent."""
    if path.suffix in (".c", ".h"):
        texts: Iterator[tuple[int, str]] = (
            (line, found) for line, text in prose(path) for found in re.findall(r'"(?:\\.|[^"\\])*"', text)
        )
    else:
        texts = _messages(ast.parse(path.read_text()))
    for line, text in texts:
        for pattern in (EXPONENT, TO_EXPONENT):
            if found := pattern.search(text):
                yield f"{line}: {found[0]}"


def _messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the strings of a module but its docstrings; a format in an f-string as ``str.format`` would write it."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            yield node.lineno, f"{{:{ast.unparse(node.format_spec)[2:-1]}}}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value
