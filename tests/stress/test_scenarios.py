"""Each scenario, for a second or two: a sound mutex holds, and one that is wrong in what it asks is found.

Depends on run, and on wrong for mutexes and stores with a fault.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpcache.shm import segment
from mpcache.stress import environment, run_folder, scenarios
from mpcache.stress.run import HELD, VIOLATED, Run
from mpcache.stress.settings import Settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
MUTEXES = ("Existing", "Impatient", "Inherited", "Deaf", "Unfair")
STORES = ("Forgetful", "Aged", "Alone", "Unguarded")


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is wrong is known by entry points; runs have a directory of their own, and leave nothing in it."""
    package = tmp_path / "other" / "wrong-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1\n")
    groups = {"mpcache.mutexes": MUTEXES, "mpcache.backends": STORES}
    lines = [
        line
        for group, names in groups.items()
        for line in (f"[{group}]", *(f"{name.lower()} = tests.stress.wrong:{name}" for name in names))
    ]
    (package / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parent), str(ROOT)])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert list(run_folder.base().iterdir()) == []
    assert [name for name in segment.names() if name.startswith(f"stress-{os.getpid()}-")] == []


def played(scenario: str, seconds: float, **settings: Any) -> dict[str, Any]:
    """Run a scenario; return the report.  A run ends with the first round in which a violation is found."""
    kind = scenarios.load(scenario)
    suits = {"workers": kind.workers, **kind.signal_rates(environment.PROMISED)}
    return Run(Settings(scenario, seconds=seconds, **{**suits, **settings})).run()


@pytest.mark.parametrize("scenario", scenarios.names())
def test_shm_holds(scenario: str) -> None:
    report = played(scenario, 1.0)
    assert (report["verdict"], report["violations"], report["unfit"]) == ("held", [], "")
    assert report["operations"] > 0
    assert (report["kills"] > 0) == (scenarios.load(scenario).kills > 0)


@pytest.mark.parametrize(
    ("scenario", "settings"),
    [
        ("survives_kill", {"mutex": "file"}),
        ("nested", {"mutex": "semaphore"}),
        ("invalidate", {"backend": "dbm"}),
        ("frozen_holder", {"backend": "redis", "seconds": 2.5, "stops": 3.0, "kills": 0.0}),
        ("fork_and_exec", {"mutex": "thread", "workers": 1}),
    ],
)
def test_others_hold(scenario: str, settings: dict[str, Any]) -> None:
    report = played(scenario, **{"seconds": 1.2, **settings})
    assert (report["status"], report["violations"]) == (HELD, [])
    assert report["operations"] > 0


@pytest.mark.parametrize(
    ("scenario", "settings", "checks"),
    [
        ("exclusion", {"mutex": "null"}, {"two holders", "intruder", "found occupied", "lost increment"}),
        ("one_creator", {"mutex": "null"}, {"two creators"}),
        ("many_keys", {"mutex": "null"}, {"two creators"}),
        ("whole_values", {"backend": "aged"}, {"aged"}),
        ("survives_kill", {"mutex": "existing"}, {"hang"}),
        ("frozen_holder", {"mutex": "impatient", "seconds": 1.5}, {"two holders"}),
        ("fork_and_exec", {"mutex": "inherited", "kills": 0.0}, {"child"}),
        ("eviction", {"backend": "forgetful"}, {"forgetful"}),
        ("invalidate", {"backend": "alone"}, {"invalidated"}),
        ("invalidate", {"backend": "unguarded"}, {"late fill", "aged", "invalidated"}),
        ("nested", {"mutex": "deaf", "kills": 0.0, "seconds": 2.0}, {"hang"}),
        ("handoff", {"mutex": "null"}, {"two holders", "two creators"}),
        ("fairness", {"mutex": "unfair", "seconds": 3.0}, {"out of turn"}),
        ("soak", {"mutex": "null"}, {"two holders", "two creators"}),
    ],
)
def test_what_is_wrong_is_found(
    scenario: str, settings: dict[str, Any], checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcache.stress.run.ROUND", settings.get("seconds", 0.7))
    report = played(scenario, **{**settings, "seconds": 20.0})
    assert report["status"] == VIOLATED
    assert checks & {violation["check"] for violation in report["violations"]}, report["violations"]


@pytest.mark.parametrize(
    ("scenario", "settings", "why"),
    [
        ("eviction", {"backend": "dbm"}, "evicts nothing"),
        ("invalidate", {"backend": "dogpile.cache.dbm"}, "own process only"),
        ("frozen_holder", {"workers": 1}, "use two workers"),
        ("one_creator", {"backend": "memory"}, "use --workers 1 --kills 0"),
        ("one_creator", {"backend": "null", "workers": 1, "kills": 0.0}, "stores nothing"),
    ],
)
def test_what_would_prove_nothing_is_not_played(scenario: str, settings: dict[str, Any], why: str) -> None:
    report = played(scenario, 1.0, **settings)
    assert why in report["unfit"]
    assert (report["rounds"], report["verdict"]) == (0, "could not run")


def test_every_scenario_asks_a_question() -> None:
    for name in scenarios.names():
        assert scenarios.load(name).question().endswith("?")
