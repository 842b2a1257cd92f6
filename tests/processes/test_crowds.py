"""Eight processes of eight threads ask for many keys at once: whichever mutex elects, each key is created once.

Depends on crowds.
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
from mpcache.shm import segment
from mpcache.testing.servers import Memcached, Redis
from tests.processes.crowds import KEYS
from tests.processes.support import notes, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

GENERATIONS = 6
ONCE = {f"{generation} {key}": 1 for generation in range(GENERATIONS) for key in KEYS}


@pytest.fixture
def crowds(name: str, tmp_path: Path) -> Callable[..., Counter[str]]:
    """How often each key of each generation was created."""
    seed = os.environ.get("MPCACHE_TEST_SEED") or secrets.token_hex(4)

    def crowds(mutex: str, arguments: dict[str, Any], *how: Any) -> Counter[str]:
        print("seed", seed)  # pytest shows it when the test fails
        log = tmp_path / "log"
        told = (name, mutex, json.dumps(arguments), log, "--generations", GENERATIONS, "--seed", seed, *how)
        report = play("crowds", *told, folder=tmp_path, seconds=100)
        assert report["wrong"] == []
        assert set(report["ended"]) == {0}
        return Counter(notes(log))

    return crowds


@pytest.mark.parametrize("mutex", ["own", "shm", "file", "semaphore", "redis", "valkey", "memcached"])
def test_each_key_is_created_once_in_each_generation(
    crowds: Any, mutex: str, redis_server: Redis, memcached_server: Memcached, name: str, tmp_path: Path
) -> None:
    locks = str(tmp_path / "locks")
    servers = {"redis": redis_server, "valkey": redis_server, "memcached": memcached_server}
    segment_of_its_own = f"{name}-mutexes"
    where = {"own": {}, "shm": {"segment": segment_of_its_own}}
    server = servers.get(mutex)
    try:
        created = crowds(mutex, {"url": server.url} if server else where.get(mutex, {"directory": locks}))
    finally:
        SemaphoreMutex.unlink(locks)
        segment.unlink(segment_of_its_own)
    assert created == ONCE


def test_by_a_mutex_of_threads_in_one_process(crowds: Any) -> None:
    created = crowds("thread", {}, "--processes", 1)  # too few to ask for all, for certain
    assert set(created.values()) == {1}
    assert len(created) > 0.9 * len(ONCE)


def test_without_exclusion_there_would_be_more(crowds: Any) -> None:
    """The control: what is counted can be wrong."""
    assert crowds("null", {}).total() > len(ONCE)
