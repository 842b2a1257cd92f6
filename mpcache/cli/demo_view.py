"""The output of a demo: tables that grow while it runs, and the verdicts.

Depends on demo_checks and _console.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Protocol

import mpcache
from mpcache._console import Console, Line, Span
from mpcache.cli.demo_checks import (
    Invalidation,
    Kill,
    Load,
    Verdict,
    creations_by_key,
    in_ms,
    in_us,
)

DIM, STRONG, GOOD, BAD = "dim", "bold", "green", "bold red"

SHOW_EVERY, SAY_EVERY = 100_000_000, 1_000_000_000


class Show(Protocol):
    """Shows the loads after so many nanoseconds; None: at the end."""

    def __call__(self, loads: list[Load], elapsed: int | None = None, /) -> None: ...


_LOAD_HEAD = ("worker", "pid", "requests", "hits", "waits", "creations", "p50 hit", "p99 hit")
_LOAD_ROW = "  {:>6}  {:>7}  {:>10}  {:>10}  {:>5}  {:>9}  {:>8}  {:>8}"
_KILL_ROW = "  {:>7}   {:>13}   {:>8}   {:>16}   {:>18}"
_CALL_ROW = "  {:>9}   {:>10}   {:>17}   {:>10}"


class View:
    """Print the demo on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, name: str, workers: int, where: str) -> None:
        """Print the title: which processes share which region."""
        region = f"   {workers} processes share the region "
        self._console.line((f"mpcache {mpcache.__version__}", STRONG), region, (name, STRONG), (f" ({where})", DIM))

    def _act(self, number: int, title: str) -> None:
        self._console.line()
        self._console.line((f"{number}  {title}", STRONG))

    # -- 1 ----------------------------------------------------------------------------------------------

    @contextmanager
    def load(self, keys: Sequence[str], slow_ms: tuple[int, int]) -> Iterator[Show]:
        """Yield a function that shows the table of loads."""
        self._act(1, f"All request the same {len(keys)} values; each takes {slow_ms[0]} to {slow_ms[1]} ms to create")
        self._console.line()
        shown_at = 0
        with self._console.changing() as change:

            def show(loads: list[Load], elapsed: int | None = None) -> None:
                nonlocal shown_at
                if elapsed is None or (self._console.live and elapsed >= shown_at + SHOW_EVERY):
                    change(_load_lines(loads, keys))
                elif not self._console.live and elapsed >= shown_at + SAY_EVERY:
                    asked = sum(load.requests for load in loads)
                    self._console.line(f"  {elapsed / 1e9:.0f} s: {asked:,} requests; {_summary(loads, keys)}")
                else:
                    return
                shown_at = elapsed or 0

            yield show

    # -- 2 ----------------------------------------------------------------------------------------------

    def kills_begin(self) -> None:
        """Print the head of the table."""
        self._act(2, "A creator is killed in the middle of its work; the others wait for its value")
        self._console.line()
        head = ("SIGKILL", "taken over by", "after", "value made after", "last waiter has it")
        self._console.line((_KILL_ROW.format(*head), DIM))

    def kill(self, kill: Kill, replacement: int) -> None:
        """Print a row of the table."""
        made = min((one.at for one in kill.ended), default=None)
        last = max((one.at for one in kill.answers), default=None)
        cells = (
            str(kill.victim),
            str(kill.successors[0].pid) if kill.successors else "none",
            in_ms(kill.take_over) if kill.take_over is not None else "",
            in_ms(made - kill.killed_at) if made is not None else "never",
            f"+ {in_us(last - made)}" if made is not None and last is not None else "never",
        )
        self._console.line(_KILL_ROW.format(*cells))

    # -- 3 ----------------------------------------------------------------------------------------------

    def invalidations_begin(self) -> None:
        """Print the head of the table."""
        self._act(3, "Each calls invalidate() once, while the others poll an old value")
        self._console.line()
        head = ("called by", "which took", "first other knows", "last knows")
        self._console.line((_CALL_ROW.format(*head), DIM))

    def invalidation(self, one: Invalidation) -> None:
        """Print a row of the table."""
        known = [watch.gone_at - one.began_at for watch in one.watches if watch.gone_at is not None]
        cells = (
            str(one.by),
            in_us(one.returned_at - one.began_at),
            in_us(min(known)) if known else "never",
            in_us(one.last_after) if one.last_after is not None else "never",
        )
        self._console.line(_CALL_ROW.format(*cells))

    # -- the end ------------------------------------------------------------------------------------------

    def verdicts(self, checked: Sequence[Verdict], seconds: float) -> None:
        """Print each promise with its figures."""
        self._console.line()
        self._console.line((f"What is promised, and what was seen in {seconds:.1f} s", STRONG))
        self._console.line()
        width = max(len(verdict.promise) for verdict in checked)
        for verdict in checked:
            sign = (" ✓ ", GOOD) if verdict.held else (" ✗ ", BAD)
            figures = (verdict.figures, "" if verdict.held else BAD)
            self._console.line(sign, verdict.promise.ljust(width + 3), figures)
        broken = sum(not verdict.held for verdict in checked)
        if broken:
            self._console.line()
            self._console.line((f"{broken} of {len(checked)} promises did not hold.", BAD))


def _load_lines(loads: Sequence[Load], keys: Sequence[str]) -> list[Line]:
    made = creations_by_key(loads)
    clock = max(load.clock for load in loads)
    return [
        [(_LOAD_ROW.format(*_LOAD_HEAD), DIM)],
        *([_load_row(load)] for load in loads),
        [(_total_row(loads), STRONG)],
        [],
        [("  per key  ", DIM), *_signs(made[key] for key in keys)],
        [f"  {_summary(loads, keys)}"],
        [(f"  A hit: get_or_create returns a dict of 1 KiB; the clock takes {in_us(clock)} of it.", DIM)],
    ]


def _load_row(load: Load) -> str:
    counts = (load.requests, load.hits, load.waits, sum(load.creations.values()))
    times = ("" if time is None else in_us(time) for time in (load.p50, load.p99))
    return _LOAD_ROW.format(load.worker, load.pid, *(f"{count:,}" for count in counts), *times)


def _total_row(loads: Sequence[Load]) -> str:
    counts = [(load.requests, load.hits, load.waits, sum(load.creations.values())) for load in loads]
    return _LOAD_ROW.format("all", "", *(f"{sum(column):,}" for column in zip(*counts, strict=True)), "", "").rstrip()


def _signs(creations: Iterable[int]) -> Iterator[Span]:
    """Yield a digit for each count; neighbours of one style are one span."""
    for style, run in groupby(map(_sign, creations), key=lambda sign: sign[1]):
        yield "".join(sign for sign, _ in run), style


def _sign(creations: int) -> tuple[str, str]:
    if creations == 0:
        return "·", DIM
    return ("1", GOOD) if creations == 1 else (str(creations) if creations < 10 else "+", BAD)


def _summary(loads: Sequence[Load], keys: Sequence[str]) -> str:
    made = creations_by_key(loads)
    text = f"{len(keys)} keys, {made.total()} creations"
    again = sum(made[key] > 1 for key in keys)
    if again:
        return f"{text}: {again} MORE THAN ONCE"
    return f"{text}: exactly one each" if made.total() == len(keys) else f"{text} so far"
