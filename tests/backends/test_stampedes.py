"""Eight processes ask one server for the same missing keys at once: one creates each; also while the server dies.

Depends on tests.processes.stampede for the hand-off.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import mpcache
from mpcache._servers import outage
from mpcache.testing.helpers import PATIENCE, Pipe, at_once, child
from mpcache.testing.servers import Memcached, Redis, Server
from tests.processes.stampede import ASKERS
from tests.processes.support import note, notes, play

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CLIENTS = ("redis", "valkey", "pymemcache", "pylibmc", "memcached", "bmemcached")

ROUNDS = 25

TIMEOUT = 3.0
"""Seconds for which the server is waited for."""

WAIT = 10.0
"""Seconds of creation_wait."""

KEYS = [f"key {number}" for number in range(4)]

# So that processes that have seen the server die ask it again when it is back, and not a minute later.
RETRYING = {
    "memcached": {"dead_retry": 0.2},
    "pymemcache": {"hashclient_retry_timeout": 0.2, "hashclient_dead_timeout": 0.4},
    "pylibmc": {"behaviors": {"retry_timeout": 1}},
}


def server_for(client: str) -> Server:
    return Redis() if client in ("redis", "valkey") else Memcached()


def arguments_for(client: str, server: Any) -> dict[str, Any]:
    return {"url": server.url, "socket_timeout": TIMEOUT, **RETRYING.get(client, {})}


@pytest.mark.parametrize("client", CLIENTS)
def test_one_creates_and_hands_it_on(client: str, tmp_path: Path) -> None:
    with server_for(client) as server:
        told = json.dumps(arguments_for(client, server))
        options = ["--backend", f"mpcache.{client}", "--spare", "--rounds", ROUNDS, "--seed", 1]
        rounds = play("stampede", told, *options, folder=tmp_path, seconds=100)["rounds"]
    assert [(it["creators"], it["makers"], len(it["waits"])) for it in rounds] == [(1, 1, ASKERS - 1)] * ROUNDS
    clocks, own = zip(*(wait for it in rounds for wait in it["waits"]), strict=True)
    print(f"hand-off by {client}: {1000 * median(clocks):.1f} ms in the median, {1000 * max(clocks):.1f} at most")
    # Without the time in the queue for a core, as in test_stampede of tests.processes.
    assert median(own) <= (0.020 if client in ("redis", "valkey") else 0.100)


class Outage:
    """One of the processes: asks for all keys at once, each in a thread, and again after each error.

    :param who: its number.
    :param shared: where all of them note what happens: a creation; and an attempt that took too long.
    """

    def __init__(self, who: int, client: str, on_error: str, server: Server, shared: Path) -> None:
        self._who, self._shared = who, shared
        arguments = {**arguments_for(client, server), "on_error": on_error}
        self._make = lambda: mpcache.make_region().configure(
            f"mpcache.{client}", arguments=arguments, creation_wait=WAIT
        )

    def live(self, asks: Pipe) -> None:
        outage.SLOW = PATIENCE  # for on a busy machine a server that is there may seem not to be
        region, keys = self._make(), random.Random(self._who).sample(KEYS, len(KEYS))
        told = threading.Barrier(len(keys), action=asks.tell)
        at_once(len(keys), lambda number: self._ask(region, keys[number], told))

    def _ask(self, region: mpcache.CacheRegion, key: str, told: threading.Barrier) -> None:
        told.wait()
        deadline = time.monotonic() + PATIENCE
        while True:
            began, made = time.monotonic(), notes(self._shared / f"by {self._who}").count(key)
            try:
                value = region.get_or_create(key, lambda: self._create(key))
            except region.actual_backend._outage.errors:  # and nothing else
                assert time.monotonic() < deadline, "the server is back, and errors go on"
                if notes(self._shared / f"by {self._who}").count(key) > made:
                    note(self._shared / "not stored", key)
                time.sleep(0.01)
            else:
                assert value in (f"{key} before", f"{key} after"), value
                return
            finally:
                assert time.monotonic() - began < WAIT + 4 * TIMEOUT, "it hangs"

    def _create(self, key: str) -> str:
        if (self._shared / "killed").exists():
            note(self._shared / "after", key)
            note(self._shared / f"by {self._who}", key)
            time.sleep(0.1)  # for a second creator, which must not come
            return f"{key} after"
        note(self._shared / "before", key)
        deadline = time.monotonic() + PATIENCE
        while not (self._shared / "restarted").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return f"{key} before"


@pytest.mark.parametrize("on_error", ["raise", "miss"])
@pytest.mark.parametrize("client", CLIENTS)
def test_the_server_is_killed_in_the_midst_and_started_again(client: str, on_error: str, tmp_path: Path) -> None:
    with server_for(client) as server, Pipe() as asks, ExitStack() as crew:
        for who in range(ASKERS):
            one = Outage(who, client, on_error, server, tmp_path)
            crew.enter_context(child(lambda one=one: one.live(asks)))  # type: ignore[misc]
        for _ in range(ASKERS):
            asks.wait()
        deadline = time.monotonic() + PATIENCE
        while len(notes(tmp_path / "before")) < len(KEYS):
            assert time.monotonic() < deadline, "not all are being created"
            time.sleep(0.005)
        assert sorted(notes(tmp_path / "before")) == KEYS
        server.kill()
        (tmp_path / "killed").touch()
        server.restart()
        (tmp_path / "restarted").touch()
        crew.close()  # all of them end well
        after, not_stored = notes(tmp_path / "after"), notes(tmp_path / "not stored")
        if on_error == "raise":  # where errors are misses, processes that do not ask the server create for themselves
            assert {key: after.count(key) for key in KEYS if key not in not_stored} == {
                key: 1 for key in KEYS if key not in not_stored
            }, not_stored
            assert len(set(not_stored)) < len(KEYS), "by a connection that had not noticed yet, but not all of them"
        region = mpcache.make_region().configure(f"mpcache.{client}", arguments=arguments_for(client, server))
        for key in KEYS:
            assert region.get_or_create(key, lambda key=key: f"{key} after") == f"{key} after"
