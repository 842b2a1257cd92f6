"""A picture of each benchmark: bars, on a logarithmic scale.

Depends on report, and on matplotlib, which is imported only to draw.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from bench.harness import CANARY, Outcome
from bench.report import text

OURS, OTHERS = "#1f6f8b", "#b8b8b8"


def can() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(folder: str, outcomes: dict[str, Outcome]) -> None:
    """Draw ``NAME.png`` for each outcome; make the folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, outcome in outcomes.items():
        figures = {one: taken for one, taken in outcome.figures.items() if one != CANARY}
        if figures:
            _bars(outcome, figures).savefig(Path(folder) / f"{name}.png", dpi=110)


def _bars(outcome: Outcome, figures: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure  # not pyplot, which needs a display

    benchmark = outcome.benchmark
    names = sorted(figures, key=lambda one: -getattr(figures[one], benchmark.figure))
    lengths = [getattr(figures[one], benchmark.figure) for one in names]
    picture = Figure(figsize=(8, 1 + 0.3 * len(names)), layout="constrained")
    axes = picture.add_subplot(xscale="log" if benchmark.unit == "ns" else "linear")
    colours = [OURS if one.startswith(("mpcache", "engine", "shm")) else OTHERS for one in names]
    bars = axes.barh(names, lengths, color=colours)
    axes.bar_label(bars, [text(one, benchmark.unit) for one in lengths], padding=3)
    axes.margins(x=0.15)
    axes.set_title(benchmark.title, loc="left", fontsize=11)
    axes.set_xlabel(f"{benchmark.figure}, {benchmark.unit}; less is better")
    axes.spines[["top", "right"]].set_visible(False)
    return picture
