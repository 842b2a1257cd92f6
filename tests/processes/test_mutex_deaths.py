"""Holders of each mutex that survives death are killed: no two tasks hold it, and a waiter acquires it in time.

MPCACHE_LONG=1 kills two hundred of each (``make long``).

Depends on deaths.  The time for which an heir was runnable and had no core is left out, as in test_stampede.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from mpcache.mutexes import names, resolve
from mpcache.mutexes.semaphore import SemaphoreMutex
from mpcache.testing.servers import Memcached, Redis
from tests.processes.support import LONG, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KILLS = 200 if LONG else 60
LEASE = 1.0
POLL = 0.25
"""Seconds: an heir by lease looks each 0.1 s at most, and the server answers."""

CROWDED, SPREAD = ("--lanes", 2), ("--lanes", 50, "--contenders", 2, "--work", 60)
"""Where an heir comes at once, holders let go now and then; where leases must lapse first, many lapse at once."""


@pytest.fixture
def deaths(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    seed = os.environ.get("MPCACHE_TEST_SEED") or secrets.token_hex(4)

    def deaths(kind: str, arguments: dict[str, Any], *how: Any) -> dict[str, Any]:
        told = (kind, json.dumps(arguments), "--kills", KILLS, "--seed", seed, *how)
        report = play("deaths", *told, folder=tmp_path, seconds=100)
        takeovers = [own for _, own in report["takeovers"]]
        facts = [f"{1000 * time:.1f} ms" for time in (median(takeovers), max(takeovers))] if takeovers else []
        print(kind, "seed", report["seed"], "kills", report["kills"], *facts)  # pytest shows it when the test fails
        return report

    return deaths


def assert_inherited(report: dict[str, Any], bound: float) -> None:
    assert report["doubles"] == []
    assert report["kills"] >= KILLS
    assert len(report["takeovers"]) == KILLS
    own = sorted(own for _, own in report["takeovers"])
    assert own[len(own) * 98 // 100 - 1] <= bound
    assert own[-1] <= 5 * bound, "a disk or a scheduler may delay one in a hundred, but not for so long"


@pytest.mark.parametrize("kind", ["shm", "file", "semaphore"])
def test_what_the_kernel_or_the_segment_frees(deaths: Any, kind: str, name: str, tmp_path: Path) -> None:
    where = {"segment": name} if kind == "shm" else {"directory": str(tmp_path / "locks")}
    try:
        report = deaths(kind, where, *CROWDED)
    finally:
        SemaphoreMutex.unlink(str(tmp_path / "locks"))
    assert_inherited(report, 0.100)
    assert report["handed_on"] > 0


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_lease_at_redis(deaths: Any, kind: str, redis_server: Redis) -> None:
    report = deaths(kind, {"url": redis_server.url, "lease": LEASE}, *SPREAD)
    assert_inherited(report, LEASE + 1)


def test_a_lease_at_memcached(deaths: Any, memcached_server: Memcached) -> None:
    """It counts in whole seconds, and adds one, lest a lease ends before its time."""
    report = deaths("memcached", {"url": memcached_server.url, "lease": LEASE}, *SPREAD)
    assert_inherited(report, LEASE + 1 + POLL)


def test_without_exclusion_two_would_hold(deaths: Any) -> None:
    """The control: what is counted can be wrong."""
    assert deaths("null", {}, *CROWDED)["doubles"] != []


def test_none_is_left_out() -> None:
    promises = {name: resolve(name).guarantees for name in names()}  # type: ignore[attr-defined]
    surviving = {name for name, promise in promises.items() if promise.processes and promise.survives_death}
    assert surviving == {"shm", "file", "semaphore", "redis", "valkey", "memcached"}
