"""The report: what it says of a run, what a browser makes of it, and what is read from it for a replay.

Depends on charts, report and run, and on a browser.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mpcache._console import duration
from mpcache.stress import report
from mpcache.stress.errors import CannotRun
from mpcache.stress.latency import Latencies
from mpcache.stress.report import charts, page
from mpcache.stress.run import Run
from mpcache.stress.settings import Settings
from tests.stress.browser import Element, look, tree

CHARTS = ("latency", "timeline", "pulse")


# -- runs made by hand ---------------------------------------------------------------------------------------------


def hold(who: int, start: float, end: float, ended: bool = True) -> list[Any]:
    return [f"worker {who}", start, end, ended]


def timeline(*lanes: list[Any], violation: float | None = None, signals: Any = (), seconds: float = 0.25) -> Any:
    told = [{"key": key, "holds": holds} for key, holds in enumerate(lanes)]
    return {"seconds": seconds, "lanes": told, "signals": list(signals), "violation": violation}


def measured(**of: list[int]) -> dict[str, Any]:
    latencies = Latencies()
    for name, durations in of.items():
        latencies.add(name.replace("take_over", "take-over"), durations)
    return latencies.plain()


def entry(who: int, began: int, got: int, ended: int, **more: Any) -> dict[str, Any]:
    told = {"who": f"worker {who}", "did": "hold", "key": 1, "outcome": "done", "value": 0, "extra": 0, "times": 0}
    return {**told, "began": began, "got": got, "ended": ended, **more}


def violation(check: str = "two holders", text: str = "key 1: two", **more: Any) -> dict[str, Any]:
    evidence = [entry(1, 5_000_000, 5_500_000, 9_000_000), entry(2, 6_000_000, 7_000_000, 0)]
    return {"check": check, "text": text, "key": 1, "at": 7_000_000, "evidence": evidence} | more


def run(**changes: Any) -> dict[str, Any]:
    """What a trial reports that found nothing, and had no time to."""
    settings = Settings("exclusion", mutex="file", seed="x")
    told = Run(settings).report(0.0)
    told |= {"verdict": "held", "status": 0, "operations": 1000, "rounds": 1, "seconds": 2.0}
    return told | changes


def violated(*violations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": "violated", "status": 1, "violations": list(violations)}
    return run(**found, found=len(violations), **changes)


def rendered(*runs: dict[str, Any]) -> Element:
    return tree(page.render(runs))


def table(shown: Element) -> list[list[str]]:
    return [[cell.words() for cell in row.inside if cell.tag in ("th", "td")] for row in shown.all("tr")]


# -- real runs, in a browser ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a run of a sound mutex, and of one of none."""
    folder = tmp_path_factory.mktemp("reports")
    settings = Settings("exclusion", seconds=2.0, kills=8.0)
    runs = {name: Run(settings.but(mutex=mutex)).run() for name, mutex in (("held", "file"), ("violated", "null"))}
    return {name: report.write([told], folder / name) for name, told in runs.items()}


def colours(text: str, *, dark: bool = False) -> dict[str, tuple[int, ...]]:
    """What the page calls its colours."""
    light, _, other = text.partition("prefers-color-scheme: dark")
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    if dark:
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", other))
    return {name: tuple(bytes.fromhex(value[1:])) for name, value in found.items()}


def pixels(picture: Any, box: tuple[int, int, int, int] | None = None) -> Counter[tuple[int, ...]]:
    """How often each colour is there."""
    part = picture.crop(box) if box else picture
    return Counter({colour: count for count, colour in part.getcolors(1 << 24)})


def bars_of(timeline: Element) -> list[tuple[str, float]]:
    """Of each hold that is drawn: its colour's name, and how wide it is."""
    paths = [path for one in timeline.all("g") if "-hold-" in one.attributes.get("id", "") for path in one.all("path")]
    return [(_colour(path), _width(path)) for path in paths]


def _colour(path: Element) -> str:
    return path.attributes["style"].partition("fill: var(--")[2].partition(")")[0]


def _width(path: Element) -> float:
    across = [float(x) for x in re.findall(r"[ML] ([\d.]+) [\d.]+", path.attributes["d"])]
    return max(across) - min(across)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("verdict", ["held", "violated"])
def test_a_browser_shows_the_verdict_and_the_charts(
    real: dict[str, Path], verdict: str, dark: bool, tmp_path: Path
) -> None:
    dom, picture = look(real[verdict], tmp_path, dark=dark)

    banner = dom.one(id="verdict")
    assert banner.attributes["data-verdict"] == verdict
    assert banner.words().split("?")[1].strip().startswith(verdict.capitalize())
    for name in CHARTS:
        assert dom.one("svg", id=f"run-1-{name}").one(id=f"run-1-{name}-axes_1").all("path"), name
    (curve,) = dom.one(id="run-1-latency-of-0").all("path")
    assert len(curve.attributes["d"].split()) > 30
    (columns,) = dom.one(id="run-1-pulse-operations").all("path")
    assert len(columns.attributes["d"].split()) > 30
    told = dom.one(id="run-1-timeline").words()
    assert re.search(r"worker \d+ held", told)
    assert ("the first violation" in told) is (verdict == "violated")

    named = colours(real[verdict].read_text(), dark=dark)
    wide, _ = picture.size
    top = pixels(picture, (wide // 2 - 400, 24, wide // 2 + 400, 80))
    assert top[named[verdict]] > 800 * 56 * 0.5
    assert pixels(picture)[named["page"]] > pixels(picture)[named["ink"]] > 300
    below = pixels(picture, (0, 150, *picture.size))
    assert len(below) > 200
    assert below[named["series-0"]] > 300, "the curve and the columns"
    bars = {worker for worker, width in bars_of(dom.one(id="run-1-timeline")) if width > 3}
    assert {worker for worker in bars if below[named[worker]] < 15} == set(), "who held what"
    assert (below[named["bad"]] > 50) is (verdict == "violated"), "the line of the violation"


@pytest.mark.slow
def test_a_page_needs_nothing_but_itself(real: dict[str, Path]) -> None:
    for path in real.values():
        text = path.read_text()
        dom = tree(text)
        policy = next(one.attributes["content"] for one in dom.all("meta") if "http-equiv" in one.attributes)
        assert policy.startswith("default-src 'none'")
        assert not dom.all("script") + dom.all("link") + dom.all("img") + dom.all("iframe")
        led = [value for one in dom.all() for name, value in one.attributes.items() if name in ("href", "src")]
        assert [one for one in led if one != "report.json"] == []
        assert set(re.findall(r"url\((.)", text)) == {"#"}
        assert set(re.findall(r"https?://[^\"' <]*", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }


@pytest.mark.slow
def test_what_was_played_is_read_back(real: dict[str, Path]) -> None:
    (told,) = report.load(real["violated"].parent)
    assert report.load(real["violated"].with_name("report.json")) == [told]
    assert told["verdict"] == "violated"
    assert Settings(**told["settings"]).words() == told["words"]
    assert {path.name for path in real["violated"].parent.iterdir()} == {"report.html", "report.json"}


STORED = {
    "": "began entries figures found guarantees interrupted kills latencies lives machine mutex operations pulse"
    " question rounds scenario seconds settings status stops store timeline took unfit verdict violations words",
    "settings": "backend backend_arguments delays fault kills mutex mutex_arguments scenario seconds seed stops threads"
    " workers",
    "violations": "at check evidence key text",
    "evidence": "began did ended extra got key outcome times value who",
    "timeline": "lanes seconds signals violation",
    "lanes": "holds key",
    "acquire": "count hdr max median p99 p99.9 percentiles",
}
"""The keys of a stored report, which later versions read."""


@pytest.mark.slow
def test_the_keys_of_a_stored_report_stay(real: dict[str, Path]) -> None:
    (told,) = report.load(real["violated"].parent)
    parts = told | {"": told, "evidence": told["violations"][0]["evidence"], "lanes": told["timeline"]["lanes"]}
    parts["acquire"] = told["latencies"]["acquire"]
    for name, keys in STORED.items():
        part = parts[name][0] if isinstance(parts[name], list) else parts[name]
        assert sorted(part) == keys.split(), name


@pytest.mark.slow
def test_a_page_is_small(real: dict[str, Path]) -> None:
    assert all(20_000 < path.stat().st_size < 600_000 for path in real.values())


# -- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (run(kills=20, operations=4440), "Held: no violation in 4,440 operations, 20 kills, 2.0 s"),
        (run(interrupted=True), "Held: no violation in 1,000 operations, interrupted after 2.0 s"),
        (violated(violation()), "Violated once in 1,000 operations, 2.0 s"),
        (violated(*[violation()] * 3), "Violated 3 times in 1,000 operations, 2.0 s"),
        (run(status=2, verdict="could not run"), "Could not run: no operation was finished"),
        (run(status=2, verdict="could not run", unfit="threads alone"), "Could not run: threads alone"),
        (run(status=2, verdict="could not run", interrupted=True), "Could not run: interrupted after 2.0 s"),
    ],
)
def test_the_verdict_is_one_line(told: dict[str, Any], line: str) -> None:
    banner = rendered(told).one(id="verdict")
    assert banner.one("h1").words() == line
    assert banner.attributes["class"] == f"verdict {told['verdict'].replace(' ', '-')}"


def test_several_runs_have_one_verdict_and_a_matrix() -> None:
    other = Settings("one_creator", mutex="shm")
    made = run(scenario="one_creator", mutex="shm", words=other.words())
    shown = rendered(run(mutex="file"), violated(violation(), mutex="null"), made, run(mutex="file"))
    assert shown.one(id="verdict").one("h1").words() == "Violated: of 4 runs 1 violated, 3 held."
    assert table(shown.one(id="matrix")) == [
        ["scenario", "file", "null", "shm"],
        ["exclusion", "✓ held ✓ held", "✗ violated", "·"],
        ["one_creator", "·", "·", "✓ held"],
    ]
    led = [one.attributes["href"] for one in shown.one(id="matrix").all("a")]
    assert led == ["#run-1", "#run-4", "#run-2", "#run-3"]
    assert [one.attributes["data-verdict"] for one in shown.all("details", class_="run")] == [
        "held",
        "violated",
        "held",
        "held",
    ]


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [((0, 0), "held"), ((0, 2), "held"), ((2, 2), "could not run"), ((2, 1, 0), "violated")],
)
def test_the_verdict_on_all(verdicts: tuple[int, ...], word: str) -> None:
    words = {0: "held", 1: "violated", 2: "could not run"}
    told = page.verdict([run(status=one, verdict=words[one]) for one in verdicts])
    assert told["word"] == word
    assert ("all 2 runs." in told["line"]) is (len(set(verdicts)) == 1)


def test_it_says_how_to_play_it_again() -> None:
    told = run(words=["exclusion", "--mutex-arguments", '{"lease": 2}', "--seed", "x"])
    said = [one.words() for one in rendered(told).all("code")]
    assert said == [
        "mpcache stress replay report.json",
        "mpcache stress run exclusion --mutex-arguments '{\"lease\": 2}' --seed x",
    ]


def test_evidence_is_told_from_its_first_moment_on() -> None:
    shown = rendered(violated(violation())).one("table", class_="evidence")
    assert [row[:5] for row in table(shown)[1:]] == [
        ["worker 1", "hold, key 1", "0.000", "0.500", "4.000"],
        ["worker 2", "hold, key 1", "1.000", "2.000", "never"],
    ]
    bars = [bar.attributes for bar in shown.all("rect", class_="had")]
    assert float(bars[0]["x"]) + float(bars[0]["width"]) > float(bars[1]["x"]) > float(bars[0]["x"])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (entry(1, 1, 2, 3, value=7, times=3, extra=2 << 8), "fence 7, count 3, found worker 2"),
        (entry(1, 1, 2, 3), "no fence, count 0"),
        (entry(1, 1, 0, 3, did="read", value=255), "0xff"),
        (entry(1, 1, 0, 3, did="read"), "none"),
        (entry(1, 1, 0, 3, did="write"), "a delete"),
    ],
)
def test_a_value_is_told_by_its_kind(told: dict[str, Any], said: str) -> None:
    assert page.value(told) == said


def test_other_figures_are_told() -> None:
    shown = rendered(run(figures={"longest wait, s": 1.23456, "<b>": 7})).words()
    assert "longest wait, s 1.23" in shown
    assert "<b> 7" in shown


def test_a_hundred_violations_stay_readable() -> None:
    many = [violation(check, f"number {number}") for number in range(50) for check in ("two holders", "fence")]
    shown = rendered(violated(*many, kills=3) | {"found": 240})
    open_ones = [one for one in shown.all("details", class_="violation") if "open" in one.attributes]
    assert len(open_ones) == 2
    assert "open" not in shown.all("details", class_="more")[0].attributes
    words = shown.words()
    assert all(f"number {number}" in words for number in range(50))
    assert "two holders , 50 times" in words
    assert "100 of 240 violations are kept" in words
    assert len(page.render([violated(*many)])) < 400_000


def test_a_violation_may_say_anything() -> None:
    nasty = "<script>alert(1)</script> $x_{1$ \0 \udcff </svg> ü"
    evidence = [entry(1, 1, 2, 3) | {"who": nasty, "outcome": nasty}]
    told = violated(violation(nasty, nasty, evidence=evidence), question=nasty, unfit=nasty)
    told["timeline"] = timeline([[nasty, 0.0, 0.1, True]], violation=0.05)
    text = page.render([told])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 4


def test_what_says_anything_can_be_written_and_read(tmp_path: Path) -> None:
    told = violated(violation(text="\udcff \0 <b>"))
    written = report.write([told], tmp_path / "deep" / "folder")
    assert written == tmp_path / "deep" / "folder" / "report.html"
    assert report.load(written.parent) == json.loads(json.dumps([told]))
    assert "<b>" not in written.read_text(encoding="utf-8")


# -- what there is nothing of --------------------------------------------------------------------------------------


def test_nothing_was_played() -> None:
    shown = rendered(run(status=2, verdict="could not run", rounds=0, operations=0, seconds=0.0))
    words = shown.words()
    for said in ("Nothing was measured.", "No mutex was held", "No round ran."):
        assert said in words
    assert not [one for one in shown.all("svg") if one.attributes.get("role") == "img"]


def test_nobody_was_killed_and_nobody_waited() -> None:
    told = run(latencies=measured(acquire=[1000]), timeline=timeline([hold(1, 0.1, 0.2)]), pulse=[[0.1, 5, 0, 0]])
    shown = rendered(told)
    for name in CHARTS:
        assert shown.one("svg", id=f"run-1-{name}").all("path")
    assert "take-over" not in shown.one(id="run-1-latency").words()
    assert "Acquire: from the call of acquire() until the mutex was held." in shown.words()
    assert "Take-over" not in shown.words()
    assert "killed" not in shown.one(id="run-1-timeline").words()


def test_a_lane_may_be_empty() -> None:
    assert charts.timeline(run(timeline=timeline([], [])), "x") == ""
    assert charts.timeline(run(timeline=timeline([], [hold(1, 0.1, 0.2)])), "x")


def test_an_error_without_entries() -> None:
    assert "No entries" in rendered(violated(violation("hang", "pid 7 hangs", key=None, at=0, evidence=[]))).words()


# -- the pictures --------------------------------------------------------------------------------------------------


def test_ids_are_no_other_pictures() -> None:
    told = run(
        latencies=measured(acquire=[1000, 2000], take_over=[5_000_000]),
        timeline=timeline([hold(1, 0.1, 0.2, False)], violation=0.15, signals=[[0.2, "kill", "worker 1"]]),
        pulse=[[0.1, 5, 0, 0], [0.2, 7, 1, 1]],
    )
    text = page.render([told, told])
    ids = Counter(re.findall(r'\sid="([^"]*)"', text))
    assert [name for name, count in ids.items() if count > 1] == []
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', text)) <= set(ids)


def test_pictures_have_titles_and_the_colours_of_the_page() -> None:
    svg = charts.latency(run(latencies=measured(acquire=[1000, 1000])), "x")
    top = tree(svg).one("svg")
    told = [top.one(id=name).words() for name in top.attributes["aria-labelledby"].split()]
    assert told[0] == "How long it took"
    assert "acquire: 2 times, median 1 µs" in told[1]
    assert re.findall(r"#[0-9a-f]{3,8}\b", svg) == []
    assert set(re.findall(r"var\(--([\w-]+)\)", svg)) <= {*colours(page.render([run()])), "face"}
    assert [text.words() for text in top.all("text")].count("acquire, at most 1 µs") == 1
    assert "font-family" not in svg


def test_each_nine_is_one_step() -> None:
    assert [charts.nines(percentile, 10_000) for percentile in (0, 90, 99, 99.9)] == pytest.approx([0, 1, 2, 3])
    assert charts.nines(100, 1000) == pytest.approx(3), "as far as a thousand can tell"
    assert charts.nines(100, 0) == 0


def test_a_curve_has_its_colour_in_every_picture() -> None:
    def style(name: str, **of: list[int]) -> str:
        shown = tree(charts.latency(run(latencies=measured(**of)), "x"))
        (curve,) = shown.one(id=f"x-of-{list(of).index(name)}").all("path")
        return curve.attributes["style"]

    assert style("get", get=[7]) == style("get", acquire=[5], get=[7]) != style("set", set=[7])
    every = measured(**{name: [7, 9] for name in (*charts.CURVES, "another")})
    drawn = tree(charts.latency(run(latencies=every), "x"))
    styles = [drawn.one(id=f"x-of-{number}").all("path")[0].attributes["style"] for number in range(7)]
    assert len(set(styles)) == 7


@pytest.mark.parametrize("most", [1, 2, 50_000_000, 3_600_000_000_000])
def test_distributions_of_any_width(most: int) -> None:
    svg = charts.latency(run(latencies=measured(get=[1, most])), "x")
    ticks = [text.words() for text in tree(svg).all("text") if re.fullmatch(r"[\d,]+ (ns|µs|ms|s)", text.words())]
    assert ticks, "the scale is told"


def test_only_the_promise_of_who_survives_is_shown() -> None:
    told = run(latencies=measured(acquire=[1000], take_over=[2000]))
    for survives in (True, False):
        told["guarantees"] = {"survives_death": survives, "takeover": 0.1}
        assert ("take-over after a death: 100 ms" in charts.latency(told, "x")) is survives


def crowd(holds: int, keys: int = 3) -> list[list[Any]]:
    """Holds that follow each other through a quarter of a second."""
    step = 0.25 / holds
    return [[hold(at % 7, at * step, (at + 0.9) * step) for at in range(key, holds, keys)] for key in range(keys)]


def test_a_timeline_shows_what_is_near_the_violation() -> None:
    lanes = charts.choose(timeline(*crowd(15_000), violation=0.125))
    assert len(lanes.bars) == charts.MOST_HOLDS
    assert lanes.names == ["key 0", "key 1", "key 2"]
    assert lanes.left < 0.125 < lanes.right
    assert 0.003 < lanes.right - lanes.left < 0.005
    assert all(bar.end >= lanes.left and bar.start <= lanes.right for bar in lanes.bars)


def test_a_timeline_shows_all_if_it_is_little() -> None:
    lanes = charts.choose(timeline(*crowd(100), violation=0.125))
    assert (lanes.left, lanes.right) == pytest.approx((0, 0.25), abs=0.003)
    assert len(lanes.bars) == 100


def test_a_timeline_shows_a_holders_death_if_nothing_is_wrong() -> None:
    lanes = crowd(3000)
    lanes[0][100][3] = False
    chosen = charts.choose(timeline(*lanes))
    assert chosen.left < lanes[0][100][2] < chosen.right
    assert charts.choose(timeline(*crowd(3000))).right == pytest.approx(0.25, abs=0.001)


def test_holds_that_overlap_lie_below_each_other() -> None:
    chosen = charts.choose(timeline([hold(1, 0.0, 0.2), hold(2, 0.1, 0.15), hold(3, 0.16, 0.2), hold(4, 0.2, 0.25)]))
    assert [(bar.number, bar.row) for bar in chosen.bars] == [(1, 0), (2, 1), (3, 1), (4, 0)]
    tops = [chosen.span(bar)[0] for bar in chosen.bars]
    assert tops[0] + chosen.span(chosen.bars[0])[1] <= tops[1]


def test_keys_of_one_hold_share_a_lane() -> None:
    often = [hold(1, 0.0, 0.1), hold(2, 0.1, 0.2)]
    lanes = [[hold(3, key / 1000, (key + 1) / 1000)] for key in range(100)]
    chosen = charts.choose(timeline(*lanes, often))
    assert chosen.names == ["key 100", "other keys"]
    assert charts.choose(timeline(*lanes)).names == ["all keys"]


def test_kills_are_marked_on_whom_they_met() -> None:
    told = timeline(
        [hold(1, 0.0, 0.1, False), hold(2, 0.11, 0.2)],
        signals=[[0.1, "kill", "worker 1"], [0.15, "stop", "worker 2"], [0.05, "kill", "worker 9"]],
        violation=0.12,
    )
    svg = tree(charts.timeline(run(timeline=told), "x"))
    assert [colour for colour, _ in bars_of(svg)] == ["worker-1", "worker-2"]
    titles = [one.words() for one in svg.all("title")]
    assert titles[1:3] == ["worker 1 held, until it was killed, key 0 for 100 ms", "worker 2 held key 0 for 90 ms"]
    assert titles[3:] == ["worker 1 was killed", "worker 9 was killed", "worker 2 was stopped", "the first violation"]
    (met,), (missed,) = (svg.one(id=f"x-kill-{number}").all("use") for number in (0, 1))
    assert float(met.attributes["y"]) > float(missed.attributes["y"]), "who held nothing is marked above all lanes"
    assert float(met.attributes["x"]) > float(missed.attributes["x"])


def test_rates_are_of_what_came_between() -> None:
    looks = [[0.1, 10, 0, 0], [0.2, 30, 2, 1], [0.2, 5, 2, 1], [0.3, 15, 3, 1]]
    assert [tuple(round(one, 6) for one in each) for each in charts.rates(looks)] == [
        (0.0, 0.1, 100, 0, 0),
        (0.1, 0.2, 300, 20, 10),
        (0.2, 0.3, 200, 10, 0),
    ]
    assert charts.rates([]) == charts.rates([[0.0, 7, 0, 0]]) == []


def test_an_hour_has_no_more_columns_than_a_minute() -> None:
    looks = [[(at + 1) / 10, 50, at // 2, 0] for at in range(36_000)]
    bins = charts.rates(looks)
    assert 150 < len(bins) <= 200
    assert all(one.operations == pytest.approx(500) and one.kills == pytest.approx(5, rel=0.1) for one in bins)


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        *((0, "0 ns"), (0.25, "0.25 ns"), (180, "180 ns"), (999, "999 ns"), (1500, "1.5 µs"), (2_345_678, "2.35 ms")),
        *((999_499, "999 µs"), (999_900, "1 ms"), (999.9e6, "1 s"), (9e9, "9 s"), (999.9e9, "1,000 s")),
        *((3_600e9, "3,600 s"), (1e17, "100,000,000 s")),
    ],
)
def test_a_duration_has_three_digits(ns: float, said: str) -> None:
    assert duration(ns) == said


# -- what can be replayed ------------------------------------------------------------------------------------------


def test_what_is_no_report_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "report.json"
    for path in (tmp_path, data, tmp_path / "elsewhere"):
        with pytest.raises(CannotRun, match=r"cannot be read: No such file.*stress run --report"):
            report.load(path)
    wrong = [
        (b"[{", "damaged"),
        (b"\xff\xfe\0", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"{}", "a list of runs"),
        (b"[]", "a list of runs"),
        (b"[7]", "run 1 is not an object"),
        (b'[{"verdict": "held"}]', "run 1 has no 'scenario'"),
        (json.dumps([run(), run(pulse="")]).encode(), "run 2 has a wrong 'pulse'"),
        (json.dumps([run(settings={"moon": "full"})]).encode(), "does not know .*moon"),
        (json.dumps([run(settings={"scenario": "exclusion", "kills": "x"})]).encode(), "kills is 'x'"),
        (json.dumps([run(settings={"scenario": "exclusion", "workers": -1})]).encode(), "cannot be run"),
        (json.dumps([run()]).encode()[:-40], "damaged"),
    ]
    for text, match in wrong:
        data.write_bytes(text)
        with pytest.raises(CannotRun, match=f"report.json .*{match}"):
            report.load(tmp_path)
