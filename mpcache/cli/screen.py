"""What the commands print: lines of spans, in colour where a terminal and rich are there, plain elsewhere.

Leans on nothing of mpcache.  A span is a text, or a text and a style of rich's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

Span = str | tuple[str, str]
Line = Sequence[Span]


def text_of(line: Line) -> str:
    """The line without its styles."""
    return "".join(span if isinstance(span, str) else span[0] for span in line)


def columns(rows: Iterable[Sequence[str]], left: int = 1, gap: int = 2) -> list[str]:
    """Rows of cells as lines; the first ``left`` columns are aligned left, the others right."""
    table = [[*row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    styles = [f"{'<' if i < left else '>'}{width}" for i, width in enumerate(widths)]
    return [(" " * gap).join(map(format, row, styles)).rstrip() for row in table]


class Screen:
    """Plain text: each line is written once.

    :ivar live: whether what changes is shown while it does.
    """

    live = False

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._ascii = not _can_say(self._out, "✓✗µ·")

    def line(self, *spans: Span) -> None:
        """Write a line."""
        print(self._spelled(text_of(spans)), file=self._out, flush=True)

    @contextmanager
    def changing(self) -> Iterator[Any]:
        """Lines that change, until the end of the ``with``: yields ``show(lines)``, the last of which stay."""
        last: list[Line] = []

        def show(lines: list[Line]) -> None:
            last[:] = lines

        yield show
        for line in last:
            self.line(*line)

    def _spelled(self, text: str) -> str:
        if not self._ascii:
            return text
        for sign, spelling in (("✓", "ok"), ("✗", "NO"), ("µ", "u"), ("·", ".")):
            text = text.replace(sign, spelling)
        return text.encode("ascii", "replace").decode()


class ColourScreen(Screen):
    """A terminal, by way of rich."""

    live = True

    def __init__(self, console: Any) -> None:
        super().__init__(console.file)
        self._console = console

    def line(self, *spans: Span) -> None:
        self._console.print(self._styled(spans), soft_wrap=True)

    def _styled(self, spans: Line) -> Any:
        from rich.text import Text

        spelled = [(span, "") if isinstance(span, str) else span for span in spans]
        parts = [(self._spelled(text), style) for text, style in spelled]
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")

    @contextmanager
    def changing(self) -> Iterator[Any]:
        from rich.console import Group
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda lines: live.update(Group(*map(self._styled, lines)), refresh=True)


def screen(plain: bool = False) -> Screen:
    """The screen for this process's standard output."""
    if plain or not sys.stdout.isatty():
        return Screen()
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return Screen()
    console = Console(highlight=False)
    return Screen() if console.is_dumb_terminal else ColourScreen(console)


def _can_say(out: TextIO, signs: str) -> bool:
    try:
        signs.encode(getattr(out, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
