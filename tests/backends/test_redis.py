"""The redis and valkey stores, against one server: what they keep, whom they let create, what trouble does to them."""

from __future__ import annotations

import itertools
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import valkey

import mpcache
from mpcache._region.creation import filling
from mpcache.api import NO_VALUE
from mpcache.backends import load_backend
from mpcache.backends import redis as room
from mpcache.exception import LockTimeout, NotHeld, ValidationError
from mpcache.testing.fixtures import (
    _GenericBackendFixture,
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)
from mpcache.testing.helpers import PATIENCE, Pipe, child
from mpcache.testing.servers import Redis
from tests.conftest import in_time

pytestmark = pytest.mark.filterwarnings("ignore:.* ignores the argument 'arbitrary_arg")

SHORT = 0.5
"""Seconds of a lease that a test sees the end of."""

OUTAGE = 0.3
"""Seconds for which a paused server is waited for."""


@pytest.fixture(scope="module", autouse=True)
def for_the_suites(redis_server: Redis) -> None:
    here = {"url": redis_server.url, "lock_timeout": 1}
    TestRedis.config_args = TestSerialized.config_args = {"arguments": here}
    TestValkey.config_args = {"arguments": {"host": "127.0.0.1", "port": redis_server.port, "db": 1, "lock_timeout": 1}}
    TestOnASocket.config_args = {"arguments": {"url": f"{redis_server.unix_url}?db=2"}}
    TestThreadsOnly.config_args = {"arguments": {"url": f"{redis_server.url}/3", "distributed_lock": False}}
    TestNamespace.config_args = {"arguments": {**here, "namespace": "suite"}}
    TestForgiving.config_args = {"arguments": {**here, "on_error": "miss"}}


class TestRedis(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.redis"


class TestSerialized(_GenericSerializerTestSuite, _GenericBackendFixture):
    backend = "mpcache.redis"


class TestValkey(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.valkey"


class TestOnASocket(_GenericBackendTestSuite):
    backend = "dogpile.cache.redis"


class TestThreadsOnly(_GenericBackendTestSuite):
    backend = "mpcache.redis"


class TestNamespace(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.redis"


class TestForgiving(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.valkey"


# -- what the rest stands on ---------------------------------------------------------------------------


@pytest.fixture
def raw(redis_server: Redis) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def region(redis_server: Redis) -> Callable[..., Any]:
    """``region(**arguments)``: another one on the same server."""

    def make(backend: str = "mpcache.redis", configure: Any = None, **arguments: Any) -> mpcache.CacheRegion:
        arguments = {"url": redis_server.url, **arguments}
        return mpcache.make_region().configure(backend, arguments=arguments, **(configure or {}))

    return make


@pytest.fixture
def frail() -> Iterator[Redis]:
    """A server to be maltreated."""
    with Redis() as server:
        yield server


def on(server: Redis, backend: str = "mpcache.redis", **arguments: Any) -> mpcache.CacheRegion:
    """A region on a frail server, with little patience."""
    timeouts = {"socket_timeout": OUTAGE, "socket_connect_timeout": OUTAGE}
    return mpcache.make_region().configure(backend, arguments={"url": server.url, **timeouts, **arguments})


class Heard(logging.Handler):
    """What was logged, in a forked child, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logging.getLogger("mpcache").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


# -- arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", [redis, valkey])
def test_arguments_of_a_connection(driver: Any) -> None:
    name = driver.__name__
    arguments = {
        "host": "db.example",
        "port": 1,
        "db": 2,
        "username": "me",
        "password": "secret",
        "socket_timeout": 4.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        "socket_keepalive_options": {1: 2},
        "connection_kwargs": {"client_name": "mine", "health_check_interval": 30, "socket_timeout": 99.0},
    }
    store = load_backend(f"mpcache.{name}")(arguments)
    for client in (store.writer_client, store.reader_client):
        how = client.connection_pool.connection_kwargs
        expected = {known: value for known, value in arguments.items() if known != "connection_kwargs"}
        assert {known: how[known] for known in expected} == expected
        assert (how["client_name"], how["health_check_interval"]) == ("mine", 30)
    assert repr(store) == f"<{type(store).__name__} host='db.example' port=1 db=2>"


def test_a_url_goes_before_the_rest_and_its_password_is_not_shown() -> None:
    store = load_backend("mpcache.redis")(
        {"url": "redis://me:secret@db.example:7/3", "host": "x", "db": 1, "ssl": True}
    )
    how = store.writer_client.connection_pool.connection_kwargs
    assert (how["host"], how["port"], how["db"], how["password"]) == ("db.example", 7, 3, "secret")
    assert issubclass(store.writer_client.connection_pool.connection_class, redis.SSLConnection)
    assert "secret" not in repr(store)
    assert "db.example:7/3" in repr(store)


@pytest.mark.parametrize("backend", ["mpcache.redis", "mpcache.valkey"])
@pytest.mark.parametrize("namespace", [None, "decoded"])
def test_values_stay_bytes_whatever_the_client_makes_of_other_replies(
    region: Callable[..., Any], backend: str, namespace: str | None
) -> None:
    decoding = {"decode_responses": True, "encoding": "latin-1"}
    one = region(backend, connection_kwargs=decoding, namespace=namespace)
    one.set("decoded", b"\xff|")
    assert one.get("decoded") == b"\xff|"
    assert one.get_multi(["decoded", "not there"]) == [b"\xff|", NO_VALUE]
    assert one.get_or_create("decoded and made", lambda: "ü") == "ü"
    one.delete_multi(["decoded", "decoded and made"])


def test_timeouts_are_finite_unless_they_are_given() -> None:
    def timeouts(**arguments: Any) -> tuple[Any, Any]:
        how = load_backend("mpcache.redis")(arguments).writer_client.connection_pool.connection_kwargs
        return how["socket_timeout"], how["socket_connect_timeout"]

    assert timeouts() == (room.TIMEOUT, room.TIMEOUT)
    assert timeouts(socket_timeout=None) == (None, room.TIMEOUT)


def test_a_pool_of_the_users(redis_server: Redis, key: str) -> None:
    pool = redis.ConnectionPool.from_url(redis_server.url, max_connections=2)
    region = mpcache.make_region().configure("mpcache.redis", arguments={"connection_pool": pool, "host": "x"})
    assert region.backend.writer_client.connection_pool is pool
    assert region.get_or_create(key, lambda: 1) == 1


def test_passwords(key: str) -> None:
    with Redis("--requirepass", "secret") as server:
        with pytest.raises(redis.AuthenticationError):
            on(server).get(key)
        for arguments in ({"password": "secret"}, {"username": "default", "password": "secret"}):
            region = on(server, url=None, host="127.0.0.1", port=server.port, **arguments)
            assert region.get_or_create(key, lambda: 1) == 1


@pytest.mark.parametrize("driver", ["redis", "valkey"])
def test_tls(tmp_path: Path, driver: str, key: str) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    files = {name: str(tmp_path / f"{name}.pem") for name in ("key", "cert")}
    words = ["--tls-cert-file", files["cert"], "--tls-key-file", files["key"], "--tls-auth-clients", "no"]
    with Redis(*words, "--tls-cluster", "no") as server:
        with redis.Redis(unix_socket_path=server.socket) as raw:
            raw.config_set("port", 0)
            raw.config_set("tls-port", server.port)
        trust = {"ssl": True, "connection_kwargs": {"ssl_ca_certs": files["cert"]}}
        url = server.url.replace("redis://", f"{driver}://")
        for where in ({"url": url}, {"url": None, "host": "127.0.0.1", "port": server.port}):
            region = on(server, f"mpcache.{driver}", **where, **trust)
            region.set(key, 1)
            assert region.get(key) == 1
        with pytest.raises(Exception, match=r"(?i)certificate"):
            on(server, f"mpcache.{driver}", ssl=True, url=url).get(key)


def test_an_argument_that_is_not_there() -> None:
    for name, hint in [
        ("socket_timout", "did you mean 'socket_timeout'"),
        ("redis_expiration_tme", "did you mean 'redis_expiration_time'"),
        ("sentinels", "it knows .*'?connection_pool"),
    ]:
        with pytest.warns(UserWarning, match=rf"RedisBackend ignores .* '{name}'.*{hint}"):
            load_backend("mpcache.redis")({name: 1})


@pytest.mark.parametrize("wrong", ["x", "much_too_long", "a/b", 7])
def test_a_lock_prefix_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(ValueError, match="Invalid `lock_prefix` submitted"):
        load_backend("mpcache.redis")({"lock_prefix": wrong})


@pytest.mark.parametrize("name", ["socket_timeout", "socket_connect_timeout", "lock_timeout", "lock_sleep"])
def test_a_limit_that_cannot_be(name: str) -> None:
    """It is refused when the region is configured, and not when the first value is created."""
    for wrong in ("x", -1, math.inf, math.nan):
        with pytest.raises(ValidationError, match=name):
            load_backend("mpcache.redis")({name: wrong})
    load_backend("mpcache.redis")({name: None})


@pytest.mark.parametrize("wrong", ["x", -5, math.nan])
def test_an_expiration_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="redis_expiration_time"):
        load_backend("mpcache.redis")({"redis_expiration_time": wrong})


def test_an_on_error_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="on_error is 'mis'; it must be 'raise' or 'miss'"):
        load_backend("mpcache.redis")({"on_error": "mis"})


def test_arguments_of_the_lock(region: Any, raw: Any, key: str) -> None:
    how = {"lock_timeout": 77, "lock_sleep": 0.5, "lock_prefix": "mine-", "thread_local_lock": False}
    store = region(**how).backend
    with store.get_mutex(key):
        assert 70_000 < raw.pttl(f"mine-{key}") <= 77_000
        lock = store.get_mutex(key)._process_lock()
        assert (lock._poll, lock.lease) == (0.5, 77)
        for impatient in ({"lock_blocking": False}, {"lock_blocking_timeout": 0.01}):
            waiting = region(**how, **impatient)
            with ThreadPoolExecutor(1) as threads, pytest.raises(LockTimeout):
                threads.submit(waiting.get_or_create, key, lambda: 1).result(PATIENCE)
    assert region(distributed_lock=False).backend.get_mutex(key) is None


# -- what is kept --------------------------------------------------------------------------------------


def test_the_server_lets_go_of_what_has_expired(region: Any, raw: Any, key: str) -> None:
    for arguments in ({}, {"distributed_lock": False}, {"namespace": "n"}):
        kept = region(redis_expiration_time=100, **arguments)
        kept.set(key, 1)
        assert 90_000 < raw.pttl(key) <= 100_000
        kept.set_multi({key: 2, key + "2": 2}, ttl=50)
        assert 40_000 < raw.pttl(key) <= 50_000
        kept.set(key, 3, ttl=200)
        assert 90_000 < raw.pttl(key) <= 100_000
        kept.delete(key)
        kept.get_or_create(key, lambda: 4)
        assert 90_000 < raw.pttl(key) <= 100_000
        assert kept.get_multi([key, key + "2"]) == [4, 2]
    for for_ever in (None, 0, -1):
        region(redis_expiration_time=for_ever).set(key, 5)
        assert raw.pttl(key) == -1
    for ages in (1e12, 1e300, float("inf")):
        region(redis_expiration_time=ages).set(key, 5)
        region().set(key + "2", 6, ttl=ages)
        assert region().get_multi([key, key + "2"]) == [5, 6]
    for given, most in [(1.5, 1500), (timedelta(minutes=1), 60_000)]:
        region("mpcache.valkey", valkey_expiration_time=given).set(key, 5)
        assert 0 < raw.pttl(key) <= most
    region(redis_expiration_time=0.0001).set(key, 5)
    assert raw.pttl(key) in (0, 1, -2)
    with pytest.raises(ValidationError, match="redis_expiration_time is not a number or timedelta"):
        region(redis_expiration_time="an hour")


@pytest.mark.parametrize("driver", ["redis", "valkey"])
@pytest.mark.parametrize("arguments", [{}, {"distributed_lock": False}])
def test_dogpile_cache_reads_what_we_write_and_we_what_it_writes(
    redis_server: Redis, region: Any, key: str, driver: str, arguments: Any
) -> None:
    from dogpile.cache import make_region

    theirs = make_region().configure(f"dogpile.cache.{driver}", arguments={"url": redis_server.url})
    ours = region(f"mpcache.{driver}", **arguments)
    values = {f"{key}-{number}": value for number, value in enumerate([None, 0, "ü", b"|", {"a": [1]}])}
    ours.set_multi(values)
    assert theirs.get_multi(list(values)) == list(values.values())
    theirs.set(key, "theirs")
    assert ours.get(key) == "theirs"
    ours.set(key, "ours", ttl=100)
    assert theirs.get_or_create(key, lambda: "not made") == "ours"
    namespaced = region(f"mpcache.{driver}", namespace="n")
    namespaced.set(key, "with a generation")
    assert theirs.get(key) == "with a generation"
    theirs.set(key, "theirs")
    assert namespaced.get(key) is NO_VALUE  # it is unknown before which invalidation it was begun


def test_a_deserializer_of_the_users_and_a_key_of_any_text(region: Any) -> None:
    odd = region()
    for key in ("with space", "ü" * 200, "line\nfeed", "{a}{b", "x" * 1000):
        assert odd.get_or_create(key, lambda: "v") == "v"
        assert odd.get(key) == "v"
        odd.delete(key)
        assert odd.get(key) is NO_VALUE


# -- who creates, and what of it is stored -------------------------------------------------------------


@pytest.mark.parametrize("namespace", [None, "fills"])
def test_what_was_changed_while_it_was_created_is_not_overwritten(region: Any, key: str, namespace: str | None) -> None:
    ours = region(namespace=namespace)

    def change(how: Callable[[], None]) -> Any:
        def create() -> str:
            with child(how):  # another process
                pass
            return "made"

        return create

    assert ours.get_or_create(key, change(lambda: ours.delete(key))) == "made"
    assert ours.get(key) is NO_VALUE
    assert ours.get_or_create(key, change(lambda: ours.set(key, "newer"))) == "made"
    assert ours.get(key) == "newer"
    ours.delete(key)
    changed, other = sorted([key, key + "-other"])
    made = ours.get_or_create_multi([changed, other], lambda *_: [change(lambda: ours.delete_multi([changed]))()] * 2)
    assert made == ["made"] * 2
    assert ours.get_multi([changed, other]) == [NO_VALUE, "made"]
    assert ours.get_or_create(changed, lambda: "again") == "again"
    assert ours.get(changed) == "again"


def test_a_creator_that_was_stopped_has_its_value_and_stores_none(region: Any, key: str) -> None:
    ours = region(lock_timeout=SHORT)
    with Pipe() as creating, Pipe() as go_on:

        def create() -> str:
            creating.tell()
            go_on.wait()
            return "old"

        def work() -> None:
            heard = Heard()
            assert ours.get_or_create(key, create) == "old"
            assert any("was lost while its value was created" in line for line in heard.lines), heard.lines

        with child(work) as pid:
            creating.wait()
            os.kill(pid, signal.SIGSTOP)
            assert ours.get_or_create(key, lambda: "new") == "new"
            os.kill(pid, signal.SIGCONT)
            go_on.tell()
        assert ours.get(key) == "new"


def test_the_token_refuses_what_comes_after_the_last_question(region: Any, raw: Any, key: str, caplog: Any) -> None:
    """A hold that is lost between owned() and the write: here it is taken away under the guard."""
    store = region().backend
    mutex = store.get_mutex(key)
    mutex.acquire()
    guard = store.begin_fill(key)
    raw.delete(f"_lock{key}")
    guard.end(key, store._fill(key, b"late", guard).run(store.writer_client))
    with pytest.raises(NotHeld):
        mutex.release()
    assert guard.outcome is False
    assert "its mutex was lost meanwhile" in caplog.text
    assert raw.get(key) is None


def test_what_is_created_under_another_mutex_is_stored(region: Any, key: str) -> None:
    for arguments in ({}, {"distributed_lock": False}, {"namespace": "n"}):
        ours = region(**arguments, configure={"mutex": "shm"})
        guard = ours.backend.begin_fill(key)
        with filling(ours.binding, {key: guard}):
            ours.set(key, "made")
        assert guard.outcome is True
        assert ours.get_or_create(key, lambda: "again") == "made"
        ours.delete(key)


def test_eight_processes_make_one_value(region: Any, key: str) -> None:
    with Pipe() as come, Pipe() as go, Pipe() as created:

        def ask() -> None:
            ours = region()
            ours.get("warm")
            come.tell()
            go.wait()
            assert ours.get_or_create(key, create) == "value"

        def create() -> str:
            created.tell()
            time.sleep(0.05)  # for a second creator, which must not come
            return "value"

        crew = [child(ask) for _ in range(8)]
        for one in crew:
            one.__enter__()
        for _ in crew:
            come.wait()
        for _ in crew:
            go.tell()
        for one in crew:
            one.__exit__(None, None, None)
        os.set_blocking(created._ends[0], False)
        assert os.read(created._ends[0], 100) == b"."


# -- invalidation --------------------------------------------------------------------------------------


def test_an_invalidation_reaches_other_processes_and_no_other_namespace(region: Any, key: str) -> None:
    ours, theirs = region(namespace=key), region(namespace=key, configure={"expiration_time": 1000})
    foreign = region(namespace=f"other {key}")
    foreign.set(f"f{key}", 1)
    for hard in (True, False, False, True, False):
        ours.set(key, "old")
        assert theirs.get(key) == "old"
        with child(lambda: region(namespace=key).invalidate(hard)):  # noqa: B023
            pass
        assert [ours.get(key), theirs.get(key)] == [NO_VALUE] * 2
        assert theirs.get(key, ignore_expiration=True) in (NO_VALUE, "old")
        count = itertools.count()
        assert [theirs.get_or_create(key, lambda: next(count)) for _ in range(2)] == [0, 0]  # noqa: B023
        assert ours.get(key) == 0
        assert ours.get_multi([key, key + "2"]) == [0, NO_VALUE]
    assert foreign.get(f"f{key}") == 1


def test_a_soft_invalidation_serves_the_old_value_meanwhile(region: Any, key: str) -> None:
    ours = region(namespace=key, configure={"expiration_time": 1000})
    ours.set(key, "old")
    ours.invalidate(hard=False)
    with ThreadPoolExecutor(1) as threads:
        made = ours.get_or_create(
            key, lambda: threads.submit(ours.get_or_create, key, lambda: "never").result(PATIENCE)
        )
    assert made == "old"


def test_a_creation_that_began_before_an_invalidation_is_as_old_as_that(region: Any, key: str) -> None:
    ours = region(namespace=key)

    def create() -> str:
        region(namespace=key).invalidate()
        return "made of what was there before"

    assert ours.get_or_create(key, create) == "made of what was there before"
    assert ours.get(key) is NO_VALUE


def test_a_generation_that_was_lost_counts_as_an_invalidation(region: Any, raw: Any, key: str) -> None:
    ours = region(namespace=key)
    ours.set(key, "old")
    before = raw.get(f"mpcache:generation:{key}")
    raw.delete(f"mpcache:generation:{key}")
    assert ours.get(key) is NO_VALUE
    assert raw.get(f"mpcache:generation:{key}") not in (None, before)
    ours.set(key, "new")
    assert [ours.get(key), region(namespace=key).get(key)] == ["new"] * 2


@pytest.mark.parametrize("junk", ["", "junk", "1", "1 2 3", "-1 0"])
def test_a_generation_that_makes_no_sense_counts_as_lost(region: Any, raw: Any, key: str, junk: str) -> None:
    ours, theirs = region(namespace=key), region(namespace=key)
    ours.set(key, 1)
    raw.set(f"mpcache:generation:{key}", junk)
    assert ours.get(key) is NO_VALUE
    assert theirs.get_or_create(key, lambda: 2) == ours.get(key) == 2


def test_without_a_namespace_an_invalidation_stays_at_home(region: Any, key: str) -> None:
    ours, theirs = region(), region()
    ours.set(key, 1)
    ours.invalidate()
    assert [ours.get(key), theirs.get(key)] == [NO_VALUE, 1]
    with pytest.raises(ValidationError, match="no namespace"):
        ours.backend.invalidate()


# -- trouble -------------------------------------------------------------------------------------------


def unreachable(backend: str) -> tuple[type[Exception], ...]:
    driver = valkey if "valkey" in backend else redis
    return driver.ConnectionError, driver.TimeoutError


@pytest.mark.parametrize("backend", ["mpcache.redis", "mpcache.valkey"])
def test_down_at_the_start_and_up_later(frail: Redis, backend: str) -> None:
    frail.kill()
    region = on(frail, backend)
    for ask in (
        lambda: region.get("k"),
        lambda: region.set("k", 1),
        lambda: region.delete("k"),
        lambda: region.get_or_create("k", lambda: 1),
    ):
        with pytest.raises(unreachable(backend)):
            ask()
    frail.restart()
    assert region.get_or_create("k", lambda: 1) == 1
    assert region.get("k") == 1


@pytest.mark.parametrize("backend", ["mpcache.redis", "mpcache.valkey"])
@pytest.mark.parametrize("trouble", ["kill", "pause"])
def test_later_in_trouble(frail: Redis, backend: str, trouble: str) -> None:
    region = on(frail, backend)
    region.set("k", "kept")
    getattr(frail, trouble)()
    for ask in (
        lambda: region.get("k"),
        lambda: region.get_multi(["k"]),
        lambda: region.set("k", 1),
        lambda: region.delete("k"),
        lambda: region.get_or_create("absent", lambda: 1),
    ):
        began = time.monotonic()
        with pytest.raises(unreachable(backend)):
            ask()
        assert time.monotonic() - began < PATIENCE / 2
    frail.restart() if trouble == "kill" else frail.resume()
    assert region.get("k") in (NO_VALUE, "kept")  # the first request finds out by itself
    assert region.get_or_create("absent", lambda: 2) == 2


@pytest.mark.parametrize("backend", ["mpcache.redis", "mpcache.valkey"])
@pytest.mark.parametrize("what", ["kill", "pause"])
def test_trouble_that_counts_as_a_miss(frail: Redis, backend: str, what: str, caplog: Any, monkeypatch: Any) -> None:
    region = on(frail, backend, on_error="miss", namespace="n")
    region.set("k", "kept")
    getattr(frail, what)()
    count = itertools.count()
    began = time.monotonic()
    assert [region.get_or_create(key, lambda: next(count)) for key in ("k", "k", "l")] == [0, 1, 2]
    assert region.get_or_create_multi(["k", "m"], lambda *keys: list(keys)) == ["k", "m"]
    assert [region.get("k"), *region.get_multi(["k", "l"])] == [NO_VALUE] * 3
    assert time.monotonic() - began < PATIENCE
    assert sum(region.backend.errors.values()) >= 10
    assert [line for line in caplog.messages if "is in trouble, which counts as a miss" in line][1:] == []
    for write in (lambda: region.set("k", 1), lambda: region.delete("k"), region.invalidate):
        with pytest.raises(unreachable(backend)):
            write()
    frail.restart() if what == "kill" else frail.resume()
    monkeypatch.setattr(region.backend._outage, "_asks_again", 0.0)  # as if a second had passed
    assert region.get("k") in (NO_VALUE, "kept")
    assert region.get_or_create("l", lambda: "new") == "new"
    assert region.get("l") == "new"


def test_missed_from_the_start(frail: Redis) -> None:
    frail.kill()
    region = on(frail, on_error="miss", namespace="n")
    assert region.get_or_create("k", lambda: 1) == 1
    assert region.get_or_create_multi(["k", "l"], lambda *keys: list(keys)) == ["k", "l"]
    assert region.get("k") is NO_VALUE
    assert region.key_is_locked("k") is False


def test_all_threads_have_a_value_while_a_server_is_missed(frail: Redis) -> None:
    region = on(frail, on_error="miss")
    frail.kill()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: region.get_or_create("k", lambda: 1), range(40))) == [1] * 40


def test_what_was_created_while_the_server_was_missed_is_not_stored(frail: Redis, monkeypatch: Any) -> None:
    region = on(frail, on_error="miss")
    frail.kill()

    def create() -> str:
        frail.restart()
        monkeypatch.setattr(region.backend._outage, "_asks_again", 0.0)
        on(frail).set("k", "newer")
        return "made"

    assert region.get_or_create("k", create) == "made"
    assert region.get("k") == "newer"


def test_restarted_while_many_wait(frail: Redis) -> None:
    """The lock and its holder's right are gone with the server; every caller gets a value all the same."""
    with Pipe() as creating, Pipe() as go_on:

        def slow() -> str:
            creating.tell()
            go_on.wait()
            return "first"

        def ask() -> None:
            ours = on(frail)

            def has_a_value() -> bool:
                try:
                    return ours.get_or_create("k", lambda: "second") in ("first", "second")
                except (redis.ConnectionError, redis.TimeoutError):
                    return False

            assert in_time(has_a_value)

        def first() -> None:
            assert on(frail).get_or_create("k", slow) == "first"

        with child(first):
            creating.wait()
            crew = [child(ask) for _ in range(3)]
            for one in crew:
                one.__enter__()
            with redis.Redis.from_url(frail.url) as raw:
                assert in_time(lambda: raw.pubsub_numsub("_lockk")[0][1] == 3)
            frail.restart()
            for one in crew:
                one.__exit__(None, None, None)
            go_on.tell()
        assert on(frail).get("k") == "second"


def test_full_and_evicting(caplog: Any) -> None:
    with Redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as server:
        region = on(server, namespace="n")
        for number in range(2000):
            assert region.get_or_create(f"k{number}", lambda number=number: f"{number}" * 1000) == f"{number}" * 1000
        assert any(region.get(f"k{number}") is NO_VALUE for number in range(2000))
        for number in range(2000):
            assert region.get(f"k{number}") in (NO_VALUE, f"{number}" * 1000)


def test_full_and_refusing(frail: Redis) -> None:
    with redis.Redis.from_url(frail.url) as raw:
        on(frail).set("k", "kept")
        raw.config_set("maxmemory", 1)
        strict, lenient = on(frail), on(frail, on_error="miss")
        with pytest.raises(redis.OutOfMemoryError):
            strict.get_or_create("new", lambda: 1)
        assert [lenient.get_or_create("new", lambda: number) for number in range(2)] == [0, 1]  # noqa: B023
        assert lenient.get_or_create_multi(["new", "too"], lambda *keys: list(keys)) == ["new", "too"]
        assert lenient.get("k") == "kept"  # it can be asked
        assert lenient.backend.errors["OutOfMemoryError"] >= 2
        strict.delete("k")
        assert strict.get("k") is NO_VALUE


@pytest.mark.parametrize("backend", ["mpcache.redis", "mpcache.valkey"])
def test_a_hundred_forks_with_traffic_on_both_sides(region: Any, backend: str, key: str) -> None:
    ours = region(backend)
    ours.set_multi({f"{key}{number}": number for number in range(20)})

    def traffic(who: str) -> None:
        for number in range(20):
            assert ours.get(f"{key}{number}") == number
        assert ours.get_multi([f"{key}{number}" for number in range(20)]) == list(range(20))
        ours.set(key + who, who)
        assert ours.get(key + who) == who

    clients = set()
    for _ in range(100):
        with child(lambda: traffic("child")):
            traffic("parent")
            clients.add(ours.backend.writer_client.client_id())
    assert len(clients) == 1  # the children have not closed the parent's


class CutShort(Exception):
    """What a signal's handler raises."""


@pytest.mark.parametrize("backend", ["mpcache.redis", "mpcache.valkey"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda region, a, b: region.get(a),
        lambda region, a, b: region.get_multi([a, b]),
        lambda region, a, b: region.set_multi({a: "a", b: "b"}),
        lambda region, a, b: region.backend.get_mutex(a).acquire(),
    ],
    ids=["get", "get_multi", "set_multi", "acquire"],
)
def test_what_a_signal_cut_short_leaves_its_answer_to_nobody(
    region: Any, raw: Any, key: str, backend: str, cut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drivers put a connection back that waits for an answer, and the next command takes that for its own."""

    def parse_response(*args: Any, **kw: Any) -> Any:
        raise CutShort

    ours, (a, b) = region(backend), (key + "a", key + "b")
    ours.set_multi({a: "a", b: "b"})
    raw.client_pause(50)  # so the answer is not there when the driver looks whether there is one
    try:
        with monkeypatch.context() as patch:
            patch.setattr(getattr(ours.backend._module, ours.backend.brand), "parse_response", parse_response)
            cut(ours, a, b)
    except CutShort:
        assert [ours.get(b), ours.get(a), ours.get_multi([b, a])] == ["b", "a", ["b", "a"]]
    else:
        raise AssertionError("it was not cut short")


def test_an_exception_that_is_being_handled_costs_no_connection(region: Any, key: str) -> None:
    ours = region()
    before = ours.backend.writer_client.client_id()
    try:
        raise CutShort
    except CutShort:
        ours.set(key, 1)
        assert ours.get(key) == 1
    with pytest.raises(redis.ResponseError):  # nor does one that is the server's answer
        ours.backend.writer_client.incr(key)
    assert ours.backend.writer_client.client_id() == before


def test_after_a_fork_the_clients_are_others(region: Any, key: str) -> None:
    ours = region()
    mine = ours.backend.writer_client
    mine.client_id()

    def work() -> None:
        assert ours.backend.writer_client is not mine

    with child(work):
        pass
    assert ours.backend.writer_client is mine
