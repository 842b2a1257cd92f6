"""A thousand SIGKILLs at random moments do no harm: no value is corrupt, no process hangs, the segment stays sound.

Depends on storm; and on four builds and situations in which the storm must find an error, or it proves nothing.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from tests.processes.storm import HANG, KEYS
from tests.processes.support import LONG, PACKAGE, Sign, build_with_delays, play, prove, proven

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL = ("--size", "2600KB", "--largest", 30_000)
"""A ring that is lapped within moments."""


@pytest.fixture
def storm(name: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run one.  MPCACHE_TEST_SEED repeats its choices, though not the moments at which its kills arrive."""
    seed = os.environ.get("MPCACHE_TEST_SEED") or secrets.token_hex(4)

    def storm(*arguments: Any, package: Path = PACKAGE) -> dict[str, Any]:
        told = (name, tmp_path / "findings", "--seed", seed, *arguments)
        report = play("storm", *told, folder=tmp_path, package=package, seconds=200)
        assert Path(report["engine"]).is_relative_to(package), "another engine was tried than was meant"
        print(report)  # with its seed; pytest shows it when the test fails
        return report

    return storm


@pytest.fixture
def delayed(tmp_path: Path) -> Callable[..., Path]:
    def delayed(fault: str = "") -> Path:
        folder = tmp_path / "build"
        folder.mkdir()
        return build_with_delays(folder, fault)

    return delayed


def found(report: dict[str, Any]) -> set[str]:
    return {what for what, _ in report["findings"]}


def assert_sound(report: dict[str, Any], kills: int) -> None:
    assert report["findings"] == []
    assert report["kills"] == kills
    assert report["slowest"] < HANG
    assert report["checks"] >= kills // 50


def assert_it_was_a_storm(stats: dict[str, int], within: bool = True) -> None:
    """Kills between two operations would prove little.

    :param within: whether there were enough kills for one to hit a process that has a shard locked; of 300, two or
        three do.
    """
    assert stats["owner_deaths"] > 0 or not within, "no process was killed with the shard locked"
    assert stats["takeovers"] > 0, "no process was killed while it created"
    assert min(stats["evictions"], stats["moved"], stats["hits"], stats["fills"], stats["deletes"]) > 0


@pytest.mark.engine
def test_kills_harm_nobody(storm: Callable[..., dict[str, Any]], name: str) -> None:
    kills = 1000 if LONG else 200
    report = storm("--kills", kills, "--size", "8MB")
    assert_sound(report, kills)
    assert_it_was_a_storm(report["stats"], within=LONG)
    assert_usable(name, "8MB")


def test_no_more_do_they_where_every_shared_store_is_delayed(
    storm: Callable[..., dict[str, Any]], delayed: Callable[..., Path], name: str
) -> None:
    kills = 400 if LONG else 150
    report = storm("--kills", kills, *SMALL, "--hot", 0.2, package=delayed())
    assert_sound(report, kills)
    assert_it_was_a_storm(report["stats"])
    assert_usable(name, "2600KB")


def assert_usable(name: str, size: str) -> None:
    """Of what the dead left, every value is whole, and no key is held by a ghost."""
    region = mpcache.shared(name, size, serializer=bytes, deserializer=bytes)
    survivors = region.actual_backend.keys()
    assert survivors
    for key in KEYS:
        began = time.monotonic()
        proven(key, region.get_or_create(key, lambda key=key: prove(key, Sign(0, 0), 10)))
        region.delete(key)
        assert region.get_or_create(key, lambda key=key: prove(key, Sign(0, 1), 10)) == prove(key, Sign(0, 1), 10)
        assert time.monotonic() - began < HANG
    region.actual_backend.check()
    stats = region.actual_backend.stats()
    assert (stats["processes"], stats["leases"]) == (1, 0)


# -- the storm finds what is wrong ---------------------------------------------------------------------------------


def test_it_finds_readers_that_do_not_look_again(
    storm: Callable[..., dict[str, Any]], delayed: Callable[..., Path]
) -> None:
    report = storm("--seconds", 20, *SMALL, "--hot", 0, package=delayed("NO_RECHECK"))
    assert report["kills"] == 0
    assert "corrupt" in found(report)


def test_it_finds_a_head_that_passes_a_record_before_it_is_whole(
    storm: Callable[..., dict[str, Any]], delayed: Callable[..., Path]
) -> None:
    report = storm("--kills", 2000, "--seconds", 30, *SMALL, package=delayed("HEAD_FIRST"))
    assert found(report) & {"damaged", "corrupt", "ended"}


@pytest.mark.skipif(not LONG, reason="chance takes 10 to 100 s to find it (make long); test_pauses finds it each time")
def test_it_finds_two_who_take_over_from_one_dead_creator(
    storm: Callable[..., dict[str, Any]], delayed: Callable[..., Path]
) -> None:
    crowded = ("--hot", 0.9, "--aim", "creator")
    report = storm("--kills", 10_000, "--seconds", 120, *SMALL, *crowded, package=delayed("STALE_VERDICT"))
    assert "two" in found(report)


def test_it_finds_one_that_hangs(storm: Callable[..., dict[str, Any]]) -> None:
    report = storm("--kills", 10_000, "--seconds", 20, "--freeze")
    assert found(report) == {"hang"}
    assert report["slowest"] > HANG
