"""Creators that call for one another's keys, in two processes and in every order: none hangs, and a cycle is reported.

Depends on nestings.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcache.mutexes.semaphore import SemaphoreMutex
from mpcache.testing.servers import Memcached, Redis
from tests.processes.support import play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NESTINGS, SOME = 10_000, 150
WAIT = 0.5
"""Seconds: creation_wait of those that see no cycle."""


@pytest.fixture
def nestings(name: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    seed = os.environ.get("MPCACHE_TEST_SEED") or secrets.token_hex(4)

    def nestings(mutex: str, arguments: dict[str, Any], *how: Any) -> dict[str, Any]:
        told = (name, mutex, json.dumps(arguments), tmp_path / "findings", "--seed", seed, *how)
        report = play("nestings", *told, folder=tmp_path, seconds=110)
        print(report)  # with its seed; pytest shows it when the test fails
        assert report["ended"] == [0, 0]
        return report

    return nestings


def counts(report: dict[str, Any]) -> Counter[str]:
    return sum((Counter(found["counts"]) for found in report["found"]), Counter())


def slowest(report: dict[str, Any], what: str) -> float:
    return max(found["slowest"].get(what, 0.0) for found in report["found"])


def test_shm_tells_of_each_cycle_within_a_second(nestings: Any) -> None:
    report = nestings("own", {}, "--nestings", NESTINGS)
    found = counts(report)
    assert found.keys() == {"values", "DeadlockError"}
    assert found.total() == 2 * NESTINGS
    assert slowest(report, "DeadlockError") < 1.0
    assert slowest(report, "values") < 1.0


def test_shm_tells_one_of_the_two(nestings: Any) -> None:
    report = nestings("own", {}, "--cycle")
    assert counts(report) == {"values": 1, "DeadlockError": 1}
    assert slowest(report, "DeadlockError") < 1.0


@pytest.mark.parametrize("mutex", ["file", "semaphore", "redis", "valkey", "memcached"])
def test_the_others_end_a_cycle_by_the_limit_of_the_wait(
    nestings: Any, mutex: str, redis_server: Redis, memcached_server: Memcached, tmp_path: Path
) -> None:
    servers = {"redis": redis_server, "valkey": redis_server, "memcached": memcached_server}
    arguments = {"url": servers[mutex].url} if mutex in servers else {"directory": str(tmp_path / "locks")}
    try:
        report = nestings(mutex, arguments, "--nestings", SOME, "--cycle", "--wait", WAIT)
    finally:
        SemaphoreMutex.unlink(str(tmp_path / "locks"))
    found = counts(report)
    assert found.keys() == {"values", "LockTimeout"}
    assert found.total() == 2 * (SOME + 1)
    assert slowest(report, "LockTimeout") < WAIT + 1.0
    assert slowest(report, "values") < 2 * (WAIT + 1.0)
