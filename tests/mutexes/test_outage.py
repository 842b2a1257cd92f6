"""The mutexes of stores that count their server's errors as misses: the same answers at redis and at memcached.

A hold that the server cannot confirm counts as lost.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mpcache
from mpcache._servers.outage import OutagePolicy, silent_servers
from mpcache.api import NO_VALUE
from mpcache.exception import NotHeld
from mpcache.mutexes import leased
from mpcache.mutexes.leased import LeasedLock
from mpcache.mutexes.leased_mutex import OutageTolerantLock
from mpcache.testing.helpers import child
from mpcache.testing.servers import Memcached, Redis

STORES = {
    "redis": (Redis, "mpcache.redis", {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}),
    "valkey": (Redis, "mpcache.valkey", {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}),
    "memcached": (Memcached, "mpcache.pymemcache", {"socket_timeout": 0.3, "hashclient_retry_timeout": 0}),
}


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> Any:
    return STORES[request.param]


@pytest.fixture
def server(kind: Any) -> Iterator[Any]:
    """A server to be maltreated."""
    with kind[0]() as server:
        yield server


@pytest.fixture
def region(kind: Any, server: Any) -> mpcache.CacheRegion:
    _, backend, arguments = kind
    return mpcache.make_region().configure(
        backend, arguments={"url": server.url, "lock_timeout": 5, "on_error": "miss", **arguments}
    )


@pytest.fixture
def asks_again(region: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As if a second had passed: the server is asked again."""

    def forget() -> None:
        monkeypatch.setattr(region.actual_backend._outage, "_asks_again", 0.0)
        monkeypatch.setattr(silent_servers, "_until", {})

    return forget


def mutex(region: mpcache.CacheRegion, key: str = "k") -> Any:
    return region.actual_backend.get_mutex(key)


@pytest.mark.parametrize("outage", ["kill", "pause"])
def test_a_hold_that_the_server_cannot_confirm_is_not_owned(region: Any, server: Any, outage: str) -> None:
    """It may have lapsed, and another process may create by now: to say "still mine" is to guess."""
    held = mutex(region)
    held.acquire()
    assert held.owned()
    assert not held.unconfirmed
    getattr(server, outage)()
    assert held.owned() is False
    if outage == "pause":
        server.resume()
    held.release()


def test_it_is_owned_again_when_the_server_says_so(region: Any, server: Any, asks_again: Any) -> None:
    """After a silence the lease is still there."""
    held = mutex(region)
    held.acquire()
    server.pause()
    assert held.owned() is False
    server.resume()
    asks_again()
    assert held.owned() is True
    held.release()
    assert mutex(region).acquire(False)


def test_what_is_acquired_without_the_server_is_never_owned(region: Any, server: Any, asks_again: Any) -> None:
    server.kill()
    alone = mutex(region)
    assert alone.acquire(False)
    assert alone.unconfirmed
    assert [alone.owned(), alone.fence] == [False, None]
    assert mutex(region).acquire(False) is False  # it excludes the threads of this process
    assert mutex(region).locked() is False
    server.restart()
    asks_again()
    assert alone.owned() is False
    alone.release()  # and the server's "you do not hold it" is no error of the user's
    with mutex(region) as held:
        assert held.owned()


def test_a_loss_that_the_server_confirms_is_an_error(region: Any, server: Any, asks_again: Any) -> None:
    held = mutex(region)
    held.acquire()
    server.restart()  # which forgets
    asks_again()
    with pytest.raises(NotHeld):
        held.release()


def test_a_release_without_the_server_ends_the_renewals(region: Any, server: Any) -> None:
    """Otherwise the key would stay taken when the server is back, for as long as the process lives."""
    held = mutex(region)
    held.acquire()
    lock: LeasedLock = held._hold.token.lock._lock
    assert id(lock) in leased._renewer._leases
    server.pause()
    held.owned()
    held.release()
    assert id(lock) not in leased._renewer._leases
    server.resume()


def test_a_value_created_in_an_outage_is_served_and_not_stored(
    region: Any, server: Any, asks_again: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()

    def create() -> str:
        server.restart()
        asks_again()
        return "made without the mutex"

    with caplog.at_level(logging.INFO):
        assert region.get_or_create("k", create) == "made without the mutex"
    assert region.get("k") is NO_VALUE
    assert not [text for text in caplog.messages if "was lost while its value was created" in text]


def test_a_server_that_is_lost_during_a_creation(region: Any, server: Any, asks_again: Any) -> None:
    def create() -> str:
        server.pause()
        return "made"

    assert region.get_or_create("k", create) == "made"
    server.resume()
    asks_again()
    assert region.get("k") is NO_VALUE


def test_a_child_owns_nothing(region: Any) -> None:
    held = mutex(region)
    held.acquire()

    def look() -> None:
        assert not held.owned()
        assert held.fence is None

    with child(look):
        pass
    assert held.owned()
    held.release()


class Interrupted(LeasedLock):
    """A lease whose server answers after the process was interrupted, so that the answer is lost."""

    def __init__(self) -> None:
        super().__init__(60.0, "a test's", os.getpid())
        self.at_server = False

    def _acquire_at_server(self) -> bool:
        self.at_server = True
        raise ConnectionResetError

    def _release_at_server(self, stored: bool) -> bool:
        held, self.at_server = self.at_server, False
        return held


def test_what_a_lost_answer_may_have_taken_is_released() -> None:
    lease = Interrupted()
    lock = OutageTolerantLock(lease, OutagePolicy("a store", "miss", (ConnectionResetError,), ()))
    assert lock.acquire()
    assert lease.at_server
    assert not lock.owned()
    lock.release(True)
    assert not lease.at_server
    lock.release(True)  # may be called again
