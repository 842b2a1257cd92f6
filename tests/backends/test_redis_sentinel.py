"""The stores whose server sentinels guard: which one it is, and that it may be another one tomorrow."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import valkey

import mpcache
from mpcache.api import Outcome
from mpcache.backends import load_backend
from mpcache.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite
from mpcache.testing.helpers import PATIENCE
from tests.backends import farms
from tests.backends.farms import Guarded

pytestmark = pytest.mark.filterwarnings("ignore:.* ignores the argument 'arbitrary_arg")


@pytest.fixture(scope="module", autouse=True)
def guard() -> Iterator[Guarded]:
    with farms.guarded() as guard:
        arguments = {"sentinels": guard.addresses, "lock_timeout": 1}
        TestRedisSentinel.config_args = {"arguments": arguments}
        TestValkeySentinel.config_args = {"arguments": {**arguments, "namespace": "n", "on_error": "miss"}}
        yield guard


class TestRedisSentinel(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.redis_sentinel"


class TestValkeySentinel(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.valkey_sentinel"


@pytest.mark.parametrize("driver", ["redis", "valkey"])
def test_arguments(driver: str) -> None:
    store = load_backend(f"mpcache.{driver}_sentinel")(
        {
            "sentinels": [("one.example", 1), ["two.example", 2]],
            "service_name": "theirs",
            "username": "me",
            "password": "secret",
            "db": 3,
            "socket_timeout": 4.0,
            "sentinel_kwargs": {"password": "sentinels"},
        }
    )
    assert store.reader_client is store.writer_client
    pool = store.writer_client.connection_pool
    assert pool.service_name == "theirs"
    assert {
        "username": "me",
        "password": "secret",
        "db": 3,
        "socket_timeout": 4.0,
    }.items() <= pool.connection_kwargs.items()
    asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(how["host"], how["port"]) for how in asked] == [("one.example", 1), ("two.example", 2)]
    assert {(how["username"], how["password"], how["socket_timeout"], how.get("db", 0)) for how in asked} == {
        ("me", "sentinels", 4.0, 0)
    }
    assert "secret" not in repr(store)


def test_who_holds_a_key_does_not_look_at_a_replica(guard: Guarded) -> None:
    store = load_backend("mpcache.redis_sentinel")({"sentinels": guard.addresses, "read_from_replicas": True})
    store.set_serialized("k", b"v")
    assert store.writer_client.info("replication")["role"] == "master"
    assert store.reader_client.info("replication")["role"] == "slave"
    farms.come_about(lambda: store.get_serialized("k") == b"v")
    assert store._reader("k", "l") is store.reader_client
    with store.get_mutex("l"):
        assert store._reader("k") is store.reader_client
        assert store._reader("k", "l") is store.writer_client
    store.delete("k")


@pytest.mark.parametrize("driver", ["redis", "valkey"])
def test_who_waits_listens_on_the_master(guard: Guarded, driver: str) -> None:
    arguments = {"sentinels": guard.addresses, "lock_sleep": PATIENCE, "read_from_replicas": True}
    store = load_backend(f"mpcache.{driver}_sentinel")(arguments)
    mutex = store.get_mutex("k")
    mutex.acquire()
    lock = store.get_mutex("k")._process_lock()
    assert lock.acquire() is False
    assert lock.wait(PATIENCE) is None
    mutex.release()
    assert lock.wait(PATIENCE) is Outcome.RELEASED
    lock.stop_waiting()


def test_failing_over() -> None:
    """It takes its time, in which requests fail within theirs; then all goes on, with what was replicated."""
    with farms.guarded() as guard:
        how = {"sentinels": guard.addresses, "socket_timeout": 0.5, "socket_connect_timeout": 0.5, "lock_timeout": 1}
        strict, lenient, other = (
            mpcache.make_region().configure(f"mpcache.{name}_sentinel", arguments={**how, **more})
            for name, more in [("redis", {}), ("redis", {"on_error": "miss"}), ("valkey", {})]
        )
        for region in (strict, lenient, other):
            assert region.get_or_create("k", lambda: "kept") == "kept"
        farms.come_about(lambda: farms.raw(guard.replica).exists("k"))
        guard.master.kill()
        count = itertools.count()
        assert lenient.get_or_create("new", lambda: next(count)) == 0
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            strict.set("k", "lost")
        farms.come_about(lambda: farms.raw(guard.replica).info("replication")["role"] == "master")
        deadline = time.monotonic() + PATIENCE
        for region in (strict, other, lenient):
            while not _succeeds(region):
                assert time.monotonic() < deadline, "the new master is not found"
                time.sleep(0.05)
            assert region.get("k") == "kept"
        assert lenient.get("after") == strict.get("after")


MEANWHILE = tuple(
    getattr(driver.exceptions, name)
    for driver in (redis, valkey)
    for name in ("ConnectionError", "TimeoutError", "ReadOnlyError")
)


def _succeeds(region: Any) -> bool:
    try:
        region.set("after", "the failover")
        return bool(region.get("after") == "the failover")
    except MEANWHILE:
        return False
