"""Three charts of a run, as SVG in the page: text stays text, colours are the page's CSS variables.

Depends on _console for durations, and on matplotlib, which is imported only to draw.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from mpcache._console import duration

WIDTH = 9.6
"""Width of a chart in inches of 72 units."""

MOST_HOLDS = 240
"""Holds of a timeline at most: more would be a grey bar."""

_MOST_LANES, _DEEPEST, _MOST_BINS = 12, 6, 200

CURVES = ("acquire", "take-over", "hand-off", "stampede", "get", "set", "get_or_create")
"""The curves; each has the same colour and dashes in every chart."""

_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (2, 1.2)))

# The colours for matplotlib and their names in the page: one chart serves a light page, a dark page and paper.
INK, FAINT, PAPER, BAD = "#101112", "#a0a1a2", "#fdfcfb", "#c01313"
SERIES = ("#0173b1", "#de8f04", "#029d72", "#cc78bb", "#56b3e8", "#949493", "#8c5a1d")
WORKERS = ("#8fc7f0", "#f3bd5c", "#6fd0b0", "#e6a8d0", "#efe57a", "#b9b6f2")
_NAMES = {INK: "ink", FAINT: "faint", PAPER: "paper", BAD: "bad"}
_NAMES |= {colour: f"series-{number}" for number, colour in enumerate(SERIES)}
_NAMES |= {colour: f"worker-{number}" for number, colour in enumerate(WORKERS)}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

RunData = Mapping[str, Any]


class Words(NamedTuple):
    """Alternative text of a chart."""

    title: str
    told: str


def _picture(name: str, height: float, words: Words, paint: Callable[[Any], Mapping[str, str]]) -> str:
    """Return the SVG of what ``paint`` draws into a figure; ``paint`` returns tooltips by the ids of its parts."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which needs a display

    style: Any = _STYLE | {"svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        tips = paint(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _within_a_page(file.getvalue(), name, words, tips)


def _within_a_page(svg: str, name: str, words: Words, tips: Mapping[str, str]) -> str:
    """Adapt an SVG to the page: CSS colours and font, ids that are unique in the page, fewer bytes."""
    svg = re.sub(r"(?s)<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg[svg.index("<svg") :])
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", svg)
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0]), svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    svg = re.sub(r"font: ([^;\"]*?px)[^;\"]*", r"font: \1 var(--face)", svg)  # the form before matplotlib 3.11
    for part, told in tips.items():
        svg = svg.replace(f'<g id="{part}">', f'<g id="{part}"><title>{escape(told)}</title>')
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    head = f'<svg id="{name}" role="img" aria-labelledby="{name}-title {name}-told" {box[0] if box else ""}'
    head += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    told = f'<title id="{name}-title">{escape(words.title)}</title><desc id="{name}-told">{escape(words.told)}</desc>'
    return re.sub(r"\n\s*", "\n", head + told + svg[svg.index(">") + 1 :].rstrip())


def _variable(colour: str) -> str:
    return f"var(--{_NAMES[colour]})" if colour in _NAMES else colour


# -- how long it took ---------------------------------------------------------------------------------------------


def latency(run: RunData, name: str) -> str:
    """Draw latency over percentile, as HdrHistogram does: each further nine of a percentile takes the same width.

    :returns: empty if nothing was measured.
    """
    curves = {one: told for one, told in run["latencies"].items() if told["count"]}
    if not curves:
        return ""
    parts = [f"{one}: {told['count']:,} times, median {duration(told['median'])}" for one, told in curves.items()]
    words = Words("How long it took", f"Latency over percentile, both logarithmic. {'; '.join(parts)}.")
    promised = run["guarantees"].get("takeover") if run["guarantees"].get("survives_death") else None
    promised = promised if "take-over" in curves else None
    return _picture(name, 3.9, words, lambda figure: _paint_latency(figure, curves, promised))


def nines(percentile: float, count: int) -> float:
    """Return the x position of a percentile: its nines, limited to what so many measurements can resolve."""
    return -math.log10(max(1 - percentile / 100, 1 / max(count, 1)))


def _paint_latency(figure: Any, curves: Mapping[str, Any], promised: float | None) -> Mapping[str, str]:
    from matplotlib.ticker import NullLocator

    axes = figure.add_subplot(yscale="log")
    for number, (one, told) in enumerate(curves.items()):
        points = [(nines(percentile, told["count"]), max(ns, 1)) for percentile, ns in told["percentiles"]]
        place = CURVES.index(one) if one in CURVES else number
        looks = {"color": SERIES[place % len(SERIES)], "linestyle": _DASHES[place % len(_DASHES)]}
        label = f"{one}, at most {duration(told['max'])}"
        axes.plot(*zip(*points, strict=True), **looks, label=label, gid=f"of-{number}")
        axes.plot(*points[-1], "o", color=looks["color"], markersize=4)
    most = max(nines(100, told["count"]) for told in curves.values())
    if promised:  # as wide as the curve of take-overs, and in its colour
        end = nines(100, curves["take-over"]["count"])
        colour = SERIES[CURVES.index("take-over") % len(SERIES)]
        axes.plot((0, end), [promised * 1e9] * 2, color=colour, linewidth=1, linestyle=(0, (1, 2)), gid="promised")
        said = f"take-over after a death: {duration(promised * 1e9)}"
        axes.annotate(said, (end, promised * 1e9), (-4, 3), textcoords="offset points", ha="right", color=colour)
    ticks = [0, *range(1, max(int(most), 1) + 1)]
    axes.set_xticks(ticks, ["0 %", *(_percent(tick) for tick in ticks[1:])])
    axes.set_xlim(0, max(most, 1) * 1.02)
    low, high = axes.get_ylim()
    decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    axes.set_yticks([10.0**power for power in decades], [duration(10.0**power) for power in decades])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True)
    axes.set_xlabel("percentile: as many were at least as fast")
    axes.legend(loc="lower left", ncols=3, bbox_to_anchor=(0, 1.0), handlelength=2.6, borderaxespad=0)
    return {f"of-{number}": one for number, one in enumerate(curves)}


def _percent(nines_: int) -> str:
    return f"{100 - 10.0 ** (2 - nines_):.{max(nines_ - 2, 0)}f} %"


# -- who held what -------------------------------------------------------------------------------------------------


class Bar(NamedTuple):
    """One hold in a timeline; ``row`` counts within its lane, seconds count from the timeline's beginning."""

    lane: int
    row: int
    who: str
    key: int
    start: float
    end: float
    ended: bool

    @property
    def number(self) -> int:
        """Return the number of the worker."""
        found = re.search(r"\d+", self.who)
        return int(found[0]) if found else 0


class Lanes(NamedTuple):
    """The part of a timeline that is drawn: the holds around the most important moment, and no more than MOST_HOLDS."""

    names: list[str]
    depths: list[int]
    bars: list[Bar]
    left: float
    right: float

    def span(self, bar: Bar) -> tuple[float, float]:
        """Return the y position of a bar's top, and its height."""
        height = _height(self.depths[bar.lane])
        return self.middle(bar.lane) + (bar.row - self.depths[bar.lane] / 2) * height, 0.9 * height

    def middle(self, lane: int) -> float:
        """Return the y position of the middle of a lane."""
        above = sum(_GAP + depth * _height(depth) for depth in self.depths[:lane])
        return above + self.depths[lane] * _height(self.depths[lane]) / 2

    def bottom(self) -> float:
        """Return the y position of the end of the last lane."""
        return self.middle(len(self.depths) - 1) + self.depths[-1] * _height(self.depths[-1]) / 2


def _height(depth: int) -> float:
    """Return the height of a bar in a lane of so many rows; 1 in a lane of one row."""
    return 1.0 if depth == 1 else 0.66


_GAP = 0.4


def timeline(run: RunData, name: str) -> str:
    """Draw which worker held what, around the first violation, else around the last kill, else at the end.

    :returns: empty if no key was held.
    """
    told = run["timeline"]
    if not told or not any(lane["holds"] for lane in told["lanes"]):
        return ""
    lanes = choose(told)
    said = f"{len(lanes.bars)} holds of {len(lanes.names)} lanes within {duration((lanes.right - lanes.left) * 1e9)}"
    words = Words("Who held what", said + ("." if told["violation"] is None else "; a violation is marked."))
    return _picture(name, 1.2 + 0.4 * lanes.bottom(), words, lambda figure: _lay(figure, told, lanes))


def choose(told: Mapping[str, Any]) -> Lanes:
    """Choose the MOST_HOLDS holds nearest to the most important moment, and lay them in lanes without overlaps."""
    holds = [(lane["key"], *hold) for lane in told["lanes"] for hold in lane["holds"]]
    deaths = [end for *_, end, ended in holds if not ended and end < told["seconds"]]
    centre = told["violation"] if told["violation"] is not None else max(deaths, default=told["seconds"])

    def away(hold: Any) -> float:
        return float(max(hold[2] - centre, centre - hold[3], 0))

    near = sorted(holds, key=away)[:MOST_HOLDS]
    reach = away(near[-1]) if len(near) < len(holds) else told["seconds"]
    left = max(min(centre, *(hold[2] for hold in near)), centre - reach)
    right = min(max(centre, *(hold[3] for hold in near)), centre + reach)
    of_lanes: dict[str, list[Any]] = {}
    own = _own_lanes([hold[0] for hold in near])
    for hold in sorted(near, key=lambda hold: (hold[0] not in own, hold[0])):
        lane = f"key {hold[0]}" if hold[0] in own else "other keys" if own else "all keys"
        of_lanes.setdefault(lane, []).append(hold)
    laid = [list(_rows(number, of_lane)) for number, of_lane in enumerate(of_lanes.values())]
    depths = [min(max(bar.row for bar in bars) + 1, _DEEPEST) for bars in laid]
    bars = [bar for bars in laid for bar in bars if bar.row < _DEEPEST]
    return Lanes(list(of_lanes), depths, bars, left, right)


def _own_lanes(held: Sequence[int]) -> set[int]:
    """Return the keys that get a lane of their own: all if they are few, else those that were held most often."""
    often = Counter(held)
    if len(often) <= _MOST_LANES:
        return set(often)
    return {key for key, times in often.most_common(_MOST_LANES - 1) if times > 1}


def _rows(lane: int, holds: Sequence[Any]) -> Iterator[Bar]:
    """Yield each hold as a bar, in the first row that is free when it begins."""
    free: list[float] = []
    for key, who, start, end, ended in sorted(holds, key=lambda hold: float(hold[2])):
        row = next((row for row, until in enumerate(free) if until <= start), len(free))
        free[row : row + 1] = [end]
        yield Bar(lane, row, who, key, start, end, ended)


def _lay(figure: Any, told: Mapping[str, Any], lanes: Lanes) -> Mapping[str, str]:
    from matplotlib.patches import Rectangle

    axes, tips = figure.add_subplot(), {}
    span = lanes.right - lanes.left or 1e-6
    for number, bar in enumerate(lanes.bars):
        top, height = lanes.span(bar)
        start, end = max(bar.start, lanes.left), min(bar.end, lanes.right)
        corner = ((start - lanes.left) * 1e3, top)
        width = max(end - start, span / 2000) * 1e3
        colour = WORKERS[bar.number % len(WORKERS)]
        looks: dict[str, Any] = {"facecolor": colour, "edgecolor": INK, "linewidth": 0.3, "in_layout": False}
        axes.add_artist(Rectangle(corner, width, height, gid=f"hold-{number}", **looks))
        what = "held" if bar.ended else "held, until it was killed,"
        tips[f"hold-{number}"] = f"{bar.who} {what} key {bar.key} for {duration((bar.end - bar.start) * 1e9)}"
        if width > span * 1e3 * 0.008 * (1 + len(str(bar.number))):
            middle = (corner[0] + width / 2, corner[1] + height / 2)
            looks = {"fontsize": 7, "color": "black", "in_layout": False}
            axes.text(*middle, str(bar.number), ha="center", va="center", **looks)
    _mark(axes, told, lanes, tips)
    axes.set_xlim(0, span * 1e3)
    axes.set_ylim(lanes.bottom() + 0.3, -0.9)
    axes.set_yticks([lanes.middle(lane) for lane in range(len(lanes.names))], lanes.names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")
    axes.set_xlabel("ms")
    if axes.lines:
        axes.legend(loc="lower right", ncols=3, bbox_to_anchor=(1, 1.0), handlelength=1.2, borderaxespad=0)
    return tips


def _mark(axes: Any, told: Mapping[str, Any], lanes: Lanes, tips: dict[str, str]) -> None:
    """Draw kills and stops, on the bar of their worker or above all bars; and the violation, through all lanes."""
    from matplotlib.path import Path

    bars = Path([(-0.5, -1), (-0.5, 1), (0.5, -1), (0.5, 1)], [Path.MOVETO, Path.LINETO] * 2)
    for kind, marker, label in (("kill", "x", "killed"), ("stop", bars, "stopped")):
        met = [(sent, who) for sent, one, who in told["signals"] if one == kind and lanes.left <= sent <= lanes.right]
        for number, (sent, who) in enumerate(met):
            at = ((sent - lanes.left) * 1e3, _where(lanes, sent, who))
            looks = {"marker": marker, "markersize": 8, "linestyle": "", "fillstyle": "none"}
            axes.plot(*at, markeredgewidth=5, markeredgecolor=PAPER, **looks)
            gid, named = f"{kind}-{number}", label if not number else "_"
            axes.plot(*at, markeredgewidth=1.8, markeredgecolor=INK, gid=gid, label=named, **looks)
            tips[gid] = f"{who} was {label}"
    if told["violation"] is not None:
        at_once = (told["violation"] - lanes.left) * 1e3
        axes.axvline(at_once, color=BAD, linewidth=1.6, gid="violation", label="violation", zorder=3)
        tips["violation"] = "the first violation"


def _where(lanes: Lanes, sent: float, who: str) -> float:
    for bar in lanes.bars:
        if bar.who.partition(",")[0] == who and bar.start <= sent <= bar.end + 1e-6:
            top, height = lanes.span(bar)
            return top + height / 2
    return -0.45


# -- over time -----------------------------------------------------------------------------------------------------


class Bin(NamedTuple):
    """A stretch of a run: seconds, and what there was a second in it."""

    start: float
    end: float
    operations: float
    kills: float
    stops: float


def pulse(run: RunData, name: str) -> str:
    """Draw the operations over time, and below them the kills and stops.

    :returns: the picture as SVG, or an empty text if the run has no data for it.
    """
    bins = rates(run["pulse"])
    if not bins:
        return ""
    most = max(one.operations for one in bins)
    told = f"Up to {most:,.0f} operations a second over {bins[-1].end:.1f} s; {run['kills']:,} kills, "
    words = Words("Operations over time", told + f"{run['stops']:,} stops.")
    return _picture(name, 3.3, words, lambda figure: _paint_pulse(figure, bins))


def rates(looks: Sequence[Sequence[float]]) -> list[Bin]:
    """Return the rates in at most ``_MOST_BINS`` bins.

    :param looks: what was read off the scoreboard during a run, each ``[seconds since the start, operations since the
        look before, kills so far, stops so far]``.
    """
    bins: list[Bin] = []
    apart = max((looks[-1][0] / _MOST_BINS) if looks else 0.0, 0.05)
    last, operations = (0.0, 0.0, 0.0), 0.0
    for seconds, done, kills, stops in looks:
        operations += done
        width = seconds - last[0]
        if width >= apart:
            per_second = (operations / width, (kills - last[1]) / width, (stops - last[2]) / width)
            bins.append(Bin(last[0], seconds, *per_second))
            last, operations = (seconds, kills, stops), 0.0
    return bins


def _paint_pulse(figure: Any, bins: Sequence[Bin]) -> Mapping[str, str]:
    rate, trouble = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    edges = [bins[0].start, *(one.end for one in bins)]
    looks = {"fill": True, "alpha": 0.35, "linewidth": 0}
    operations = [one.operations for one in bins]
    rate.stairs(operations, edges, color=SERIES[0], **looks)
    rate.stairs(operations, edges, color=SERIES[0], linewidth=1.4, gid="operations", baseline=None)
    rate.set_ylim(0, max(max(operations), 1) * 1.08)
    rate.set_ylabel("operations/s")
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    kills, stops = [one.kills for one in bins], [one.stops for one in bins]
    trouble.stairs(kills, edges, color=SERIES[1], fill=True, label="kills", gid="kills")
    both = [kill + stop for kill, stop in zip(kills, stops, strict=True)]
    label = "stops" if any(stops) else None
    trouble.stairs(both, edges, baseline=kills, color=SERIES[3], fill=True, label=label, gid="stops")
    trouble.set_ylim(0, max(*both, 1) * 1.1)
    trouble.set_ylabel("signals/s")
    trouble.set_xlabel("seconds")
    trouble.set_xlim(0, edges[-1])
    trouble.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 1.0), handlelength=1, borderaxespad=0)
    for axes in (rate, trouble):
        axes.grid(True, axis="y")
    return {"operations": "operations a second", "kills": "kills a second", "stops": "stops a second"}
