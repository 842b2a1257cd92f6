"""The stores on a cluster: each key with its lock on one node, the many spread over all."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis.cluster
import valkey.cluster

import mpcache
from mpcache._servers.redis.names import slot_of
from mpcache.api import NO_VALUE, Outcome
from mpcache.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite
from mpcache.testing.helpers import PATIENCE, child
from tests.backends import farms
from tests.backends.farms import Node

pytestmark = pytest.mark.filterwarnings("ignore:.* ignores the argument 'arbitrary_arg")

DRIVERS = {"redis": redis.cluster, "valkey": valkey.cluster}


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[list[Node]]:
    with farms.cluster() as nodes:
        arguments = {"startup_nodes": [("127.0.0.1", node.port) for node in nodes], "lock_timeout": 1}
        TestRedisCluster.config_args = {"arguments": arguments}
        TestValkeyCluster.config_args = {"arguments": {**arguments, "namespace": "n", "on_error": "miss"}}
        TestThreadsOnly.config_args = {"arguments": {"url": nodes[0].url, "distributed_lock": False}}
        yield nodes


class TestRedisCluster(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.redis_cluster"


class TestValkeyCluster(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.valkey_cluster"


class TestThreadsOnly(_GenericBackendTestSuite):
    backend = "mpcache.redis_cluster"


def on(nodes: list[Node], driver: str = "redis", **arguments: Any) -> mpcache.CacheRegion:
    where = {"startup_nodes": [("127.0.0.1", node.port) for node in nodes]}
    bounds = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    return mpcache.make_region().configure(f"mpcache.{driver}_cluster", arguments={**where, **bounds, **arguments})


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("namespace", [None, "decoded"])
def test_values_stay_bytes(nodes: list[Node], driver: str, namespace: str | None, keys: list[str]) -> None:
    decoding = {"decode_responses": True, "encoding": "latin-1"}
    region = on(nodes, driver, connection_kwargs=decoding, namespace=namespace)
    region.set_multi(dict.fromkeys(keys, b"\xff|"))
    assert region.get_multi([*keys, "not there"]) == [b"\xff|"] * len(keys) + [NO_VALUE]
    assert region.get_multi(keys[:1]) == [region.get(keys[0])] == [b"\xff|"]
    region.delete_multi(keys)


@pytest.fixture
def keys() -> list[str]:
    """Of all three nodes, some with braces."""
    return [f"{{{uuid.uuid4().hex}}}k" if odd else uuid.uuid4().hex for odd in (False, True) for _ in range(15)]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("how", ["url", "host", "nodes", "pairs"])
def test_ways_in(nodes: list[Node], driver: str, how: str) -> None:
    node = DRIVERS[driver].ClusterNode
    arguments: dict[str, Any] = {
        "url": {"url": nodes[0].url},
        "host": {"host": "127.0.0.1", "port": nodes[1].port},
        "nodes": {"startup_nodes": [node("127.0.0.1", one.port) for one in nodes]},
        "pairs": {"startup_nodes": [["127.0.0.1", nodes[2].port]], "connection_kwargs": {"client_name": "mine"}},
    }[how]
    region = mpcache.make_region().configure(
        f"mpcache.{driver}_cluster", arguments={**arguments, "socket_timeout": 4.0, "read_from_replicas": True}
    )
    region.set(how, 1)
    assert region.get(how) == 1
    store = region.backend
    assert store.reader_client is not store.writer_client
    (of_one,) = [one for one in store.writer_client.get_nodes() if one.port == nodes[0].port]
    known = of_one.redis_connection if driver == "redis" else of_one.valkey_connection
    assert known.connection_pool.connection_kwargs["socket_timeout"] == 4.0
    if how == "pairs":
        assert known.connection_pool.connection_kwargs["client_name"] == "mine"


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("namespace", [None, "n"])
def test_keys_of_all_nodes_at_once(nodes: list[Node], keys: list[str], driver: str, namespace: str | None) -> None:
    assert {slot_of(key.encode()) * 3 // 16384 for key in keys} == {0, 1, 2}
    region = (
        on(nodes, driver, redis_expiration_time=100) if driver == "redis" else on(nodes, driver, namespace=namespace)
    )
    assert region.get_or_create_multi(keys, lambda *missing: list(missing)) == keys
    assert region.get_multi(keys) == keys
    region.set_multi(dict.fromkeys(keys[:20], "new"))
    region.delete_multi(keys[10:])
    assert region.get_multi(keys) == ["new"] * 10 + [NO_VALUE] * 20
    for key in keys:
        assert region.get_or_create(key, lambda: "made") in ("new", "made")


def test_a_fill_is_refused_as_on_one_server(nodes: list[Node], keys: list[str]) -> None:
    region = on(nodes)
    for key in keys[::5]:

        def create() -> str:
            with child(lambda: on(nodes).delete(key)):  # noqa: B023
                pass
            return "made"

        assert region.get_or_create(key, create) == "made"
        assert region.get(key) is NO_VALUE


@pytest.mark.parametrize("driver", DRIVERS)
def test_who_waits_listens_on_the_cluster(nodes: list[Node], keys: list[str], driver: str) -> None:
    store = on(nodes, driver, lock_sleep=PATIENCE).backend
    for key in keys[::8]:
        mutex = store.get_mutex(key)
        mutex.acquire()
        lock = store.get_mutex(key)._process_lock()
        assert lock.acquire() is False
        assert lock.wait(PATIENCE) is None
        mutex.release(stored=False)
        assert lock.wait(PATIENCE) is Outcome.UNSTORED
        lock.stop_waiting()


def test_forks_with_traffic_on_both_sides(nodes: list[Node], keys: list[str]) -> None:
    region = on(nodes)

    def traffic(who: str) -> None:
        assert region.get_multi(keys) == keys
        for key in keys[::5]:
            region.set(key + who, who)
            assert region.get(key + who) == who

    region.set_multi({key: key for key in keys})
    for _ in range(10):
        with child(lambda: traffic("child")):
            traffic("parent")


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_signal_cut_short_leaves_its_answer_to_nobody(
    nodes: list[Node], keys: list[str], driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutShort(Exception):
        pass

    def cut_short(*args: Any, **kw: Any) -> Any:
        raise CutShort

    region = on(nodes, driver)
    region.set_multi({key: key for key in keys})
    for cut in (lambda: region.get(keys[0]), lambda: region.get_multi(keys)):
        for node in nodes:
            farms.raw(node).client_pause(50)
        with monkeypatch.context() as patch, pytest.raises(CutShort):
            patch.setattr(getattr(region.backend._module, region.backend.brand), "parse_response", cut_short)
            cut()
        assert [region.get(key) for key in reversed(keys)] == keys[::-1]


def test_down_at_the_start_and_a_node_that_is_down_later(keys: list[str]) -> None:
    with farms.cluster() as nodes:
        strict, lenient = on(nodes), on(nodes, on_error="miss")
        late, calm = on(nodes), on(nodes, on_error="miss")
        for region in (strict, lenient):
            region.set_multi({key: key for key in keys})
        for node in nodes:
            node.kill()
        began = time.monotonic()
        with pytest.raises(redis.cluster.RedisClusterException):
            late.get_or_create("k", lambda: 1)
        with pytest.raises((redis.ConnectionError, redis.cluster.RedisClusterException)):
            strict.get_or_create("k", lambda: 1)
        for region in (lenient, calm):
            assert region.get_or_create("k", lambda: 1) == 1
            assert region.get_or_create_multi(keys, lambda *missing: list(missing)) == keys
            assert region.get_multi(keys) == [NO_VALUE] * len(keys)
        assert time.monotonic() - began < PATIENCE * 2
        for node in nodes:
            node.restart()
        for node in nodes:
            farms.come_about(lambda: farms._whole(node))  # noqa: B023
        farms.come_about(lambda: late.get_or_create("k", lambda: 2) == 2 == strict.get("k"))
        farms.come_about(lambda: calm.get("k") == 2 == lenient.get("k"))
