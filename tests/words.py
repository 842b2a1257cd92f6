"""Finds the worst habits of prose in the source: actors without a name, docstrings without a verb.  For test_house."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

NAMELESS = re.compile(r"\b(whoever|nobody|anybody|somebody|anew)\b", re.I)
"""Words that hide which process, thread or program is meant."""

NOUNS = {"The", "What", "Whether", "How", "A", "An", "As", "Those", "Who", "Where", "Seconds"}
"""First words of a docstring that describes a result instead of saying what the function does."""


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The comments and strings of a Python module, all of another file, with their lines."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def nameless(path: Path) -> Iterator[str]:
    """The places of a file where an actor has no name."""
    for line, text in prose(path):
        for found in NAMELESS.finditer(text):
            yield f"{line + text.count(chr(10), 0, found.start())}: {found[0]}"


def nouns(path: Path) -> Iterator[str]:
    """The functions of a module whose docstring begins with no verb."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").split(" ")[0].rstrip(",.:;")
            if first in NOUNS:
                yield f"{node.lineno}: {node.name}: {first} ..."
