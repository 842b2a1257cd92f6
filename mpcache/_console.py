"""Standard output and standard error of the ``mpcache`` and ``stress`` commands; nothing else there prints.

Depends on nothing of mpcache.  A line is a sequence of spans; a span is a text, or a text and a style of rich's.
Styles and lines that change need a terminal and rich; elsewhere each line is written once, as plain text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

Span = str | tuple[str, str]
Line = Sequence[Span]


# -- results and errors ---------------------------------------------------------------------------------------------


def out(text: str = "") -> None:
    """Write a result to standard output, as it is, and a line end."""
    print(text)


def out_bytes(data: bytes) -> None:
    """Write bytes to standard output, as they are, without a line end."""
    sys.stdout.buffer.write(data)


def error(program: str, text: str) -> None:
    """Write an error of a program to standard error."""
    print(f"{program}: {text}", file=sys.stderr)


def flush() -> None:
    """Write what standard output has buffered.  Raises BrokenPipeError if the reader has closed the pipe."""
    sys.stdout.flush()


def discard_output() -> None:
    """Send standard output to /dev/null, so that the interpreter's flush at exit does not fail in a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def columns(rows: Iterable[Sequence[str]], left: int = 1, gap: int = 2) -> list[str]:
    """Format rows of cells as lines; the first ``left`` columns are aligned left, the others right."""
    table = [[*row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    styles = [f"{'<' if i < left else '>'}{width}" for i, width in enumerate(widths)]
    return [(" " * gap).join(map(format, row, styles)).rstrip() for row in table]


# -- styled lines and progress --------------------------------------------------------------------------------------


def text_of(line: Line) -> str:
    """Return the text of a line without its styles."""
    return "".join(span if isinstance(span, str) else span[0] for span in line)


class Console:
    """Output as plain text: each line is written once.

    :ivar live: whether :meth:`changing` shows each change at once, instead of the last state only.
    """

    live = False

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._ascii = not _can_encode(self._stream, "✓✗µ·")

    def line(self, *spans: Span) -> None:
        """Write a line."""
        print(self._spelled(text_of(spans)), file=self._stream, flush=True)

    @contextmanager
    def changing(self) -> Iterator[Any]:
        """Yield ``show(lines)``, which replaces what it showed before; the last lines stay after the ``with``."""
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


class ColourConsole(Console):
    """Output to a terminal with colours and lines that change, through rich.

    :param terminal: a ``rich.console.Console``.
    """

    live = True

    def __init__(self, terminal: Any) -> None:
        super().__init__(terminal.file)
        self._terminal = terminal

    def line(self, *spans: Span) -> None:
        self._terminal.print(self._styled(spans), soft_wrap=True)

    def _styled(self, spans: Line) -> Any:
        from rich.text import Text

        spelled = [(span, "") if isinstance(span, str) else span for span in spans]
        parts = [(self._spelled(text), style) for text, style in spelled]
        return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")

    @contextmanager
    def changing(self) -> Iterator[Any]:
        from rich.console import Group
        from rich.live import Live

        with Live(console=self._terminal, auto_refresh=False) as live:
            yield lambda lines: live.update(Group(*map(self._styled, lines)), refresh=True)


def open_console(plain: bool = False) -> Console:
    """Return the console of this process's standard output.

    :param plain: no colours and no lines that change, even on a terminal.
    """
    if plain or not sys.stdout.isatty():
        return Console()
    try:
        import rich.console
    except ModuleNotFoundError:
        return Console()
    terminal = rich.console.Console(highlight=False)
    return Console() if terminal.is_dumb_terminal else ColourConsole(terminal)


def _can_encode(stream: TextIO, signs: str) -> bool:
    try:
        signs.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# -- numbers --------------------------------------------------------------------------------------------------------

_UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))


def duration(ns: float) -> str:
    """Return a duration as a text of three significant digits with a suitable unit, such as ``180 ns``."""
    for unit, length in _UNITS:
        value = ns / length
        if value >= 0.9995 or unit == "ns":
            return f"{significant(value)} {unit}"
    raise AssertionError("the last unit takes every value")


def significant(value: float) -> str:
    """Return a number as a text of three significant digits, with commas and never with an exponent."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:.10f}".rstrip("0").rstrip(".")
