"""The memcached stores by their four libraries, against servers that are stopped, killed, full, and started again."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dogpile.cache import make_region as dogpile_region
from pymemcache import serde
from pymemcache.client.base import Client

import mpcache
from mpcache.api import NO_VALUE
from mpcache.backends import load_backend, memcached
from mpcache.exception import ValidationError, ValueTooLarge
from mpcache.mutexes.memcached import MemcachedMutex
from mpcache.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite, _GenericSerializerTestSuite
from mpcache.testing.helpers import PATIENCE, Pipe, at_once, child
from mpcache.testing.servers import Memcached

LIBRARIES = ("pymemcache", "pylibmc", "memcached", "bmemcached")

BRIEF = 0.3
"""Seconds for which a server that is stopped is waited for."""


@pytest.fixture(scope="module", autouse=True)
def _served(memcached_server: Memcached) -> None:
    for suite in (TestPymemcache, TestPylibmc, TestMemcached, TestBmemcached):
        suite.config_args = {"arguments": {"url": memcached_server.url, "lock_timeout": 1}}


class TestPymemcache(_GenericSerializerTestSuite, _GenericBackendTestSuite):
    backend = "mpcache.pymemcache"


class TestPylibmc(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.pylibmc"


class TestMemcached(_GenericBackendTestSuite):
    backend = "mpcache.memcached"


class TestBmemcached(_GenericBackendTestSuite):
    backend = "mpcache.bmemcached"


Make = Callable[..., mpcache.CacheRegion]


@pytest.fixture
def make(memcached_server: Memcached) -> Make:
    """``make(library, expiration_time, **arguments)``: a region of the server for all tests, or of another url."""

    def region(library: str = "pymemcache", expiration_time: Any = None, **arguments: Any) -> mpcache.CacheRegion:
        arguments = {"url": memcached_server.url, **arguments}
        return mpcache.make_region().configure(f"mpcache.{library}", expiration_time, arguments)

    return region


@pytest.fixture
def raw(memcached_server: Memcached) -> Iterator[Client]:
    """The server itself."""
    client = Client(memcached_server.url, default_noreply=False)
    yield client
    client.close()


@pytest.fixture
def frail() -> Iterator[Memcached]:
    """A server to be maltreated."""
    with Memcached() as server:
        yield server


def ends_in(raw: Client, key: str) -> int | None:
    """Seconds until the server forgets a key; None: it never does."""
    said = dict(word.split(b"=") for word in raw.raw_command(b"me " + key.encode()).split()[2:])
    return None if said[b"exp"] == b"-1" else abs(int(said[b"exp"]))


# -- what is stored ------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", LIBRARIES)
def test_the_libraries_read_each_other(make: Make, key: str, writer: str) -> None:
    values = {f"{key}-{size}": os.urandom(1) * size for size in (0, 1, 1000, 100_000)}
    make(writer).set_multi(values)
    for reader in LIBRARIES:
        assert make(reader).get_multi(list(values)) == list(values.values())
        for each, value in values.items():
            assert make(reader).get(each) == value


@pytest.mark.parametrize("library", ["pymemcache", "pylibmc", "memcached"])
def test_dogpile_reads_it_if_it_has_a_serializer_and_is_read(
    make: Make, memcached_server: Memcached, key: str, library: str
) -> None:
    theirs = dogpile_region(serializer=pickle.dumps, deserializer=pickle.loads).configure(
        f"dogpile.cache.{library}", arguments={"url": memcached_server.url}
    )
    ours = make(library)
    ours.set(key, {"by": "mpcache"})
    assert theirs.get(key) == {"by": "mpcache"}
    theirs.set(key, {"by": "dogpile"})
    assert ours.get(key) == {"by": "dogpile"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_dogpile_has_pickled_is_absent_and_not_unpickled(
    make: Make, memcached_server: Memcached, key: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = dogpile_region().configure(f"dogpile.cache.{library}", arguments={"url": memcached_server.url})
    theirs.set_multi({key: 1, f"{key}2": "x" * 500})
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("it is unpickled"))
    for reader in LIBRARIES:
        assert make(reader).get_multi([key, f"{key}2"]) == [NO_VALUE] * 2
    monkeypatch.undo()
    assert make(library).get_or_create(key, lambda: 2) == 2
    assert make(library).get(key) == 2


@pytest.mark.parametrize("library", ["pymemcache", "memcached", "bmemcached"])
def test_what_is_said_to_be_compressed_and_is_not_is_absent(make: Make, raw: Client, key: str, library: str) -> None:
    raw.set(key, b"damaged", flags=8)
    region = make(library)
    assert region.get_multi([key, f"{key}2"]) == [NO_VALUE] * 2
    assert region.get_or_create(key, lambda: 2) == region.get(key) == 2


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("odd", ["a b", "line\nbreak", "x" * 251, "é" * 200, "\x7f", "\0", " "])
def test_keys_that_memcached_does_not_take(make: Make, key: str, library: str, odd: str) -> None:
    region = make(library)
    keys = [f"{odd}{key}", f"{key}{odd}", key + "x", ""]
    region.set_multi({each: number for number, each in enumerate(keys)})
    assert region.get_multi(keys) == [0, 1, 2, 3]
    assert [make("pymemcache").get(each) for each in keys] == [0, 1, 2, 3]
    region.delete_multi(keys[:1])
    region.delete(keys[1])
    region.delete_multi([])
    assert region.get_multi(keys) == [NO_VALUE, NO_VALUE, 2, 3]
    assert region.get_or_create(keys[0], lambda: "made") == "made"
    assert not region.key_is_locked(keys[0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_values_that_are_too_large(make: Make, key: str, library: str) -> None:
    region, large = make(library), os.urandom(1_100_000)
    for attempt in (region.set, lambda key, value: region.set_multi({key: value})):
        with pytest.raises(ValueTooLarge, match=r"takes 11\d{5} bytes, more than the server's largest item"):
            attempt(key, large)
    with pytest.raises(ValueTooLarge, match=key):
        region.set_multi({f"{key}1": 1, key: large, f"{key}2": 2})
    assert region.get_multi([f"{key}1", key, f"{key}2"]) == [1, NO_VALUE, 2]
    assert region.get_or_create(key, lambda: large) == large
    assert region.get_or_create_multi([key, f"{key}3"], lambda *keys: [large, 3]) == [large, 3]
    assert region.mishaps.counts["too_large"] == 2
    assert region.get_multi([key, f"{key}3"]) == [NO_VALUE, 3]
    assert not region.key_is_locked(key)


def test_how_large_is_for_the_server_to_say() -> None:
    with Memcached("-I", "4m") as server:
        for library in LIBRARIES:
            region = mpcache.make_region().configure(f"mpcache.{library}", arguments={"url": server.url})
            value = os.urandom(3_000_000)
            region.set(library, value)
            assert region.get(library) == value


# -- how long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_server_forgets(make: Make, raw: Client, key: str, library: str) -> None:
    region = make(library)
    region.set(key, 1)
    assert ends_in(raw, key) is None
    region.set(key, 1, ttl=50)
    assert 50 <= (ends_in(raw, key) or 0) <= 52
    region = make(library, memcached_expire_time=100)
    for store in (
        lambda: region.set(key, 1),
        lambda: region.set(key, 1, ttl=200),
        lambda: region.set_multi({key: 1, f"{key}2": 2}),
        lambda: (region.delete(key), region.get_or_create(key, lambda: 1)),
    ):
        store()
        assert 98 <= (ends_in(raw, key) or 0) <= 100
    region.set(key, 1, ttl=50)
    assert 50 <= (ends_in(raw, key) or 0) <= 52
    region.set_multi({key: 1, f"{key}2": 2}, ttl=0.5)
    assert 1 <= (ends_in(raw, key) or 0) <= 2


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("long", [1e9, 1e12, 1e300, float("inf")])
def test_a_time_that_the_server_cannot_count_to_is_for_ever(
    make: Make, raw: Client, key: str, library: str, long: float
) -> None:
    """It counts seconds since 1970 in 32 bits, and what is more would be over at once."""
    region, other = make(library), make(library, memcached_expire_time=long)
    region.set(key, 1, ttl=long)
    other.set(key + "other", 2)
    assert [region.get(key), region.get(key + "other")] == [1, 2]
    assert [ends_in(raw, key), ends_in(raw, key + "other")] == [None, None]


@pytest.mark.parametrize("longer", [40 * 86400, int(time.time()) + 40 * 86400], ids=["seconds", "a date"])
def test_more_than_a_month_is_a_date_for_the_server(make: Make, raw: Client, key: str, longer: int) -> None:
    region = make(memcached_expire_time=longer)
    region.set(key, 1)
    assert 39 * 86400 < (ends_in(raw, key) or 0) <= 40 * 86400 + 2
    region.set(key, 1, ttl=35 * 86400)
    assert 34 * 86400 < (ends_in(raw, key) or 0) <= 35 * 86400 + 2
    assert region.get(key) == 1


# -- arguments -----------------------------------------------------------------------------------------


def test_an_unknown_argument_is_said(make: Make) -> None:
    with pytest.warns(UserWarning, match=r"PylibmcBackend ignores .* 'behaviours' \(did you mean 'behaviors'\?\)"):
        make("pylibmc", behaviours={})


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_number_goes_by_its_digits(make: Make, key: str, library: str) -> None:
    region = make(library)
    for number in (0, -1, 10**15, 1.5):
        region.set(number, [number])
        assert region.get(number) == region.get(str(number)) == [number]
        assert region.get_or_create(number, lambda: "another") == [number]
        region.delete(number)
    for odd in (None, ("a",), [1, 2]):
        with pytest.raises(TypeError, match="takes str, bytes or a number"):
            region.set(odd, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_argument_that_cannot_be(make: Make, library: str) -> None:
    for name in ("socket_timeout", "lock_timeout", "memcached_expire_time"):
        for wrong in ("x", -5, math.nan):
            with pytest.raises(ValidationError, match=name):
                make(library, **{name: wrong})
        make(library, **{name: None})
    for name in ("socket_timeout", "lock_timeout"):
        with pytest.raises(ValidationError, match=f"{name} is inf; it must be more than 0 seconds, and finite"):
            make(library, **{name: math.inf})


def test_without_url() -> None:
    with pytest.raises(ValidationError, match="needs the argument url"):
        mpcache.make_region().configure("mpcache.memcached")


def test_retrying_without_its_client_is_said(make: Make) -> None:
    with pytest.warns(UserWarning, match="without enable_retry_client=True these have no effect: retry_attempts"):
        make(retry_attempts=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        region = make(enable_retry_client=True, retry_attempts=3, retry_delay=0.01, retry_for=[OSError])
    assert region.get_or_create("retrying", lambda: 1) == 1


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("pymemcache", {"serde": serde.compressed_serde}),
        ("pymemcache", {"default_noreply": True}),
        ("pymemcache", {"hashclient_retry_attempts": 1, "hashclient_retry_timeout": 2, "hashclient_dead_timeout": 3}),
        ("pylibmc", {"binary": True}),
        ("pylibmc", {"behaviors": {"tcp_nodelay": False, "ketama": True}, "min_compress_len": 100}),
        ("memcached", {"min_compress_len": 100, "dead_retry": 5}),
        ("bmemcached", {"username": None, "password": None, "tls_context": None}),
        *((library, {"lock_timeout": 5, "distributed_lock": True}) for library in LIBRARIES),
        *((library, {"namespace": "arguments"}) for library in LIBRARIES),
    ],
)
def test_arguments_are_taken(make: Make, key: str, library: str, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        region = make(library, **arguments)
    value = "value " * 100
    region.set_multi({key: value, f"{key}2": value})
    assert region.get_multi([key, f"{key}2"]) == [value] * 2
    region.delete(key)
    assert region.get(key) is NO_VALUE
    assert region.get_or_create(key, lambda: value) == value
    assert region.get(key) == value


def test_arguments_that_compress(make: Make, raw: Client, key: str) -> None:
    for library in ("pylibmc", "memcached"):
        make(library, min_compress_len=100).set(key, "value " * 100)
        assert len(raw.get(key)) < 200
        assert make().get(key) == "value " * 100
    make(serde=serde.compressed_serde).set(key, "value " * 100)
    assert len(raw.get(key)) < 200


def test_arguments_reach_the_library(make: Make) -> None:
    def client(library: str, **arguments: Any) -> Any:
        return make(library, **arguments).actual_backend._pool._spare.idle[0]._client

    tuned = client("pymemcache", hashclient_retry_attempts=7, hashclient_retry_timeout=8, hashclient_dead_timeout=9)
    assert (tuned.retry_attempts, tuned.retry_timeout, tuned.dead_timeout) == (7, 8, 9)
    assert client("pymemcache", tls_context="a context").tls_context == "a context"
    assert client("memcached", dead_retry=7, socket_timeout=8).servers[0].dead_retry == 7
    assert client("memcached", dead_retry=7, socket_timeout=8).servers[0].socket_timeout == 8
    assert client("pylibmc", behaviors={"retry_timeout": 7}).behaviors["retry_timeout"] == 7
    assert client("pylibmc", binary=True).binary is True
    named = client("bmemcached", username="me", password="secret", tls_context="a context", socket_timeout=8)
    assert (named.username, named.password, named.tls_context, named.socket_timeout) == (
        *("me", "secret", "a context", 8),
    )


def test_its_mutex(make: Make, key: str) -> None:
    for arguments, lease in (({}, 10), ({"lock_timeout": 0}, 10), ({"lock_timeout": 3}, 3), ({"lock_timeout": 0.2}, 1)):
        mutex = make(**arguments).backend.get_mutex(key)
        assert isinstance(mutex, MemcachedMutex)
        assert mutex._lease == lease
    assert make(distributed_lock=False).backend.get_mutex(key) is None


def test_over_several_servers_one_of_them_down(memcached_server: Memcached, frail: Memcached, key: str) -> None:
    for library in LIBRARIES:
        url = [memcached_server.url, frail.url]
        region = mpcache.make_region().configure(
            f"mpcache.{library}", arguments={"url": url, "socket_timeout": BRIEF, "on_error": "miss"}
        )
        keys = [f"{key}-{library}-{number}" for number in range(20)]
        assert region.get_or_create_multi(keys, lambda *keys: list(keys)) == keys
        assert region.get_multi(keys) == keys
        region.delete_multi(keys[:10])
        assert region.get_multi(keys) == [NO_VALUE] * 10 + keys[10:]
        frail.kill()
        assert [region.get_or_create(each, lambda: "anew") in (each, "anew") for each in keys] == [True] * 20
        frail.restart()


# -- fills ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("before", [None, "stale"])
def test_a_change_while_it_is_created_refuses_the_fill(make: Make, key: str, library: str, before: Any) -> None:
    region = make(library, expiration_time=-0.5)
    for change, then in (
        (lambda: region.set(key, "newer"), "newer"),
        (lambda: region.delete(key), NO_VALUE),
        (lambda: make().set_multi({key: "newer"}), "newer"),
    ):
        region.delete(key)
        if before is not None:
            region.set(key, before)
        assert region.get_or_create(key, lambda: [change(), "made"][1]) == "made"  # noqa: B023
        assert region.get(key, ignore_expiration=True) == then
        assert not region.key_is_locked(key)


def test_a_restarted_server_that_counts_to_the_same_number_again(frail: Memcached, make: Make, key: str) -> None:
    """A value that another process set since has the change number that the mark had."""
    region = make(url=frail.url, distributed_lock=False)

    def create() -> str:
        guard = current_fill_of(region, key)
        frail.kill()
        frail.restart()
        other = make(url=frail.url)
        for _ in range(100):
            other.set(key, "newer")
            there = other.actual_backend._pool.gets(key)
            if there is not None and there[1] >= guard[1]:
                assert there[1] == guard[1], "it counts from elsewhere"
                return "older"
        raise AssertionError("it never comes there")

    assert region.get_or_create(key, create) == "older"
    assert region.get(key) == "newer"


def current_fill_of(region: mpcache.CacheRegion, key: str) -> tuple[bytes, Any]:
    """What stands in the place of a value that is being created, with the number of the change."""
    mark: tuple[bytes, Any] | None = region.actual_backend._pool.gets(key)
    assert mark is not None
    return mark


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_creation_that_fails_leaves_nothing(make: Make, raw: Client, key: str, library: str) -> None:
    region = make(library)
    with pytest.raises(ZeroDivisionError):
        region.get_or_create(key, lambda: 1 / 0)
    assert raw.get(key) is None
    assert region.get_or_create(key, lambda: region.get(key)) is NO_VALUE  # while it is created there is none
    assert raw.get(key) is None


def test_a_creator_that_forks_stores_its_value_whatever_becomes_of_the_child(make: Make, key: str) -> None:
    region = make()

    def create() -> str:
        child = os.fork()
        if not child:
            raise ChildProcessError  # on its way out it comes by all that its parent has begun
        assert os.waitpid(child, 0)[1] == 0
        return "the parent's"

    parent = os.getpid()
    try:
        assert region.get_or_create(key, create) == "the parent's"
    except ChildProcessError:
        assert os.getpid() != parent
        os._exit(0)
    finally:
        if os.getpid() != parent:
            os._exit(1)
    assert region.get(key) == "the parent's"


@pytest.mark.parametrize("library", ["pymemcache", "pylibmc"])
def test_a_creator_that_was_stopped_keeps_its_value_to_itself(
    make: Make, key: str, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    region = make(library, lock_timeout=1)
    with Pipe() as creating, Pipe() as overtaken:

        def create() -> str:
            creating.tell()
            overtaken.wait()
            return "of the one that was stopped"

        def creator() -> None:
            with caplog.at_level(logging.WARNING, "mpcache.lock"):
                assert region.get_or_create(key, create) == "of the one that was stopped"
            said = caplog.text
            assert "was lost while its value was created; the value is returned and not stored" in said, said
            assert "The mutex was lost before its release" in said, said

        with child(creator) as pid:
            creating.wait()
            os.kill(pid, signal.SIGSTOP)
            assert region.get_or_create(key, lambda: "of the heir") == "of the heir"
            os.kill(pid, signal.SIGCONT)
            overtaken.tell()
    assert region.get(key) == "of the heir"


def test_stopped_between_the_last_look_at_the_lock_and_the_fill(make: Make, key: str) -> None:
    """As if: the guard alone decides."""
    region = make()
    store, heir = region.actual_backend, make()
    guard = store.begin_fill(key)
    heir.delete(key)
    assert heir.get_or_create(key, lambda: "newer") == "newer"
    guard.fill(b"older", 0)
    assert guard.outcome is False
    assert region.get(key) == "newer"
    guard.close()
    assert region.get(key) == "newer"


# -- invalidation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_invalidation_reaches_other_processes(make: Make, key: str, library: str) -> None:
    region = make(library, namespace=key, expiration_time=100)
    region.set(key, 1)
    with child(region.invalidate):
        pass
    assert region.get(key) is NO_VALUE
    assert region.get(key, ignore_expiration=True) == 1
    assert region.get_or_create(key, lambda: 2) == 2
    with child(lambda: region.invalidate(hard=False)):
        pass
    assert region.get(key) is NO_VALUE
    with region.backend.get_mutex(key):
        assert make("pymemcache", namespace=key, expiration_time=100).get_or_create(key, lambda: 3) == 2  # stale
    assert region.get_or_create(key, lambda: 3) == 3
    assert region.get_multi([key]) == [3]
    region.set_multi({key: 4})
    assert region.get(key) == 4


def test_a_value_whose_creation_began_before_an_invalidation_is_as_old(make: Make, key: str) -> None:
    region = make(namespace=key, expiration_time=100)
    assert region.get_or_create(key, lambda: [region.invalidate(), "old"][1]) == "old"
    assert region.get(key) is NO_VALUE
    assert region.get_or_create(key, lambda: [region.invalidate(hard=False), "old"][1]) == "old"
    assert region.get_value_metadata(key) is None
    assert region.get(key, ignore_expiration=True) == "old"
    assert region.region_invalidator.was_soft_invalidated()
    region.invalidate()
    assert not region.region_invalidator.was_soft_invalidated()


def test_a_generation_that_is_lost_counts_as_an_invalidation(make: Make, raw: Client, key: str) -> None:
    region = make(namespace=key)
    region.set(key, 1)
    raw.delete(f"mpcache:generation:{key}")
    assert region.get(key) is NO_VALUE
    region.set(key, 2)
    assert region.get(key) == 2
    raw.delete(f"mpcache:generation:{key}")
    region.invalidate(hard=False)
    assert region.get(key) is NO_VALUE


@pytest.mark.parametrize("junk", [b"", b"junk", b"-1"])
def test_a_generation_that_is_no_number_counts_as_lost(make: Make, raw: Client, key: str, junk: bytes) -> None:
    region, other = make(namespace=key), make(namespace=key)
    region.set(key, 1)
    raw.set(f"mpcache:generation:{key}", junk)
    assert region.get(key) is NO_VALUE
    assert other.get_or_create(key, lambda: 2) == region.get(key) == 2


def test_without_a_namespace_it_is_the_processs_own(make: Make, key: str) -> None:
    region, other = make(), make()
    region.set(key, 1)
    region.invalidate()
    assert [region.get(key), other.get(key)] == [NO_VALUE, 1]
    apart = make(namespace=f"{key}-other")
    apart.invalidate()
    assert other.get(key) == 1
    assert apart.get(key) is NO_VALUE  # of no generation: before the first one


# -- servers -------------------------------------------------------------------------------------------


def trouble_of(region: mpcache.CacheRegion) -> tuple[type[Exception], ...]:
    return region.actual_backend._pool.errors  # type: ignore[no-any-return]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_server_in_trouble_raises_within_the_time_out(frail: Memcached, make: Make, key: str, library: str) -> None:
    def region() -> mpcache.CacheRegion:
        return make(library, url=frail.url, socket_timeout=BRIEF)

    used = region()
    used.set(key, 1)
    for trouble in (frail.kill, lambda: (frail.restart(), frail.pause())):
        trouble()
        for one in (used, region()):
            for attempt in (
                lambda: one.get(key),  # noqa: B023
                lambda: one.get_multi([key, "b"]),  # noqa: B023
                lambda: one.set(key, 1),  # noqa: B023
                lambda: one.set_multi({key: 1, "b": 2}),  # noqa: B023
                lambda: one.delete(key),  # noqa: B023
                lambda: one.get_or_create(key, lambda: 1),  # noqa: B023
            ):
                began = time.monotonic()
                with pytest.raises(trouble_of(one)):
                    attempt()
                assert time.monotonic() - began < PATIENCE / 4
    frail.resume()
    again = region()  # one that has not given the server up; and of a key that it was not asked while it stood still
    again.set("again", 2)
    assert again.get("again") == 2


@pytest.mark.parametrize("library", LIBRARIES)
def test_on_error_miss(frail: Memcached, make: Make, key: str, library: str, caplog: pytest.LogCaptureFixture) -> None:
    frail.kill()  # down at start
    region = make(library, url=frail.url, socket_timeout=BRIEF, on_error="miss", namespace=key)
    for trouble in (lambda: None, lambda: (frail.restart(), frail.pause())):
        trouble()
        assert region.get(key) is NO_VALUE
        assert region.get_multi([key, "b"]) == [NO_VALUE] * 2
        assert region.get_or_create(key, lambda: "made") == "made"
        assert region.get_or_create_multi([key], lambda *keys: ["made"]) == ["made"]
        assert not region.key_is_locked(key)
        with pytest.raises(trouble_of(region)):
            region.set(key, 1)
        with pytest.raises(trouble_of(region)):
            region.delete(key)
        with pytest.raises(trouble_of(region)):
            region.invalidate()
    assert sum(region.actual_backend.errors.values()) > 3
    assert len([said for said in caplog.records if "is in trouble" in said.message]) == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_server_that_is_back_is_used_again(frail: Memcached, make: Make, key: str, library: str) -> None:
    region = make(library, url=frail.url)
    for _ in range(3):
        assert region.get_or_create(key, lambda: "made") == "made"
        assert region.get(key) == "made"
        frail.restart()  # what lay idle is noticed, and is no error
        assert region.get(key) is NO_VALUE


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_server_that_dies_while_a_value_is_created(frail: Memcached, make: Make, key: str, library: str) -> None:
    region = make(library, url=frail.url, socket_timeout=BRIEF)
    assert region.get_or_create(key, lambda: [frail.kill(), "made"][1]) == "made"
    frail.restart()
    region = make(library, url=frail.url, socket_timeout=BRIEF, on_error="miss")
    assert region.get_or_create(key, lambda: [frail.kill(), "made"][1]) == "made"
    frail.restart()
    region = make(library, url=frail.url)
    assert region.get_or_create(key, lambda: [frail.restart(), "made"][1]) == "made"
    assert region.get(key) is NO_VALUE  # with the server the lock was lost
    assert region.get_or_create(key, lambda: "again") == "again"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_server_that_is_full(make: Make, key: str, library: str) -> None:
    with Memcached("-m", "1", "-I", "512k", "-M") as server:  # and does not evict
        region = make(library, url=server.url)
        with pytest.raises(trouble_of(region)):
            for number in range(100):
                region.set(f"{key}-{number}", os.urandom(200_000))
        each = [(number, size) for number in range(9000) for size in (1, 40, 80)]
        small = (f"set {number}-{size} 0 0 {size} noreply\r\n{'x' * size}\r\n" for number, size in each)
        with contextlib.closing(Client(server.url)) as raw:
            raw.raw_command("".join(small) + "mn")  # from here on there is no room for a lock
        region = make(library, url=server.url)
        with pytest.raises(trouble_of(region)):
            region.get_or_create(key, lambda: "made")
        lenient = make(library, url=server.url, on_error="miss")
        assert lenient.get_or_create(key, lambda: "made") == "made"
        assert lenient.get_or_create_multi([key, "b"], lambda *keys: list(keys)) == [key, "b"]
        with Memcached("-m", "1", "-I", "512k") as evicting:
            region = make(library, url=evicting.url)
            for number in range(40):
                value = os.urandom(100_000)
                assert region.get_or_create(f"{key}-{number}", lambda: value) == value  # noqa: B023
            found = [bool(region.get(f"{key}-{number}")) for number in range(40)]
            assert not all(found)


# -- many at once --------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_threads_get_their_own_answers(make: Make, key: str, library: str) -> None:
    region = make(library)

    def work(number: int) -> None:
        for turn in range(50):
            mine = f"{key}-{number}-{turn % 5}"
            region.set(mine, [mine, turn])
            assert region.get(mine) == [mine, turn]
            assert [found[0] for found in region.get_multi([mine, mine])] == [mine] * 2

    at_once(8, work)


def test_what_a_signal_cut_short_leaves_its_answer_to_nobody(
    make: Make, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises TimeoutError, which the library takes for the server's; at the link's first use."""
    make().set(key, "its own")
    region = make("bmemcached")
    with monkeypatch.context() as patch, pytest.raises(TimeoutError):
        patch.setattr("bmemcached.protocol.Protocol._get_response", lambda *args: (_ for _ in ()).throw(TimeoutError))
        region.get(key + "other")
    assert [region.get(key), region.get(key + "other"), region.get(key)] == ["its own", NO_VALUE, "its own"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_forked_after_use_a_hundred_times(make: Make, key: str, library: str) -> None:
    """Parent and child use the server at the same time, each over its own connections."""
    region = make(library)

    def talk(who: str) -> None:
        for turn in range(2):
            mine = f"{key}-{who}-{turn}"
            region.set(mine, mine)
            assert region.get(mine) == mine
            assert region.get_multi([f"{key}-{who}-{earlier}" for earlier in range(turn + 1)])[-1] == mine

    talk("parent")
    for number in range(100):
        with child(lambda: talk(f"child {number}")):  # noqa: B023
            talk("parent")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_child_leaves_the_connections_of_its_parent_alone(make: Make, key: str, library: str) -> None:
    region = make(library)
    region.set(key, 1)

    def link() -> Any:
        return region.actual_backend._pool._spare.idle[-1]

    link().first = True  # no name here refers to it: it is to end in the child, when the pool drops it

    def drop() -> None:
        assert region.get(key) == 1
        assert not hasattr(link(), "first")

    with child(drop):
        pass
    assert region.get(key) == 1
    assert hasattr(link(), "first")  # else its connection was broken, and the pool has replaced it


def test_a_fork_in_the_midst_of_threads(make: Make, key: str) -> None:
    for library in LIBRARIES:
        region = make(library)

        def work(number: int) -> None:
            for turn in range(20):
                mine = f"{key}-{number}-{turn % 5}"
                region.set(mine, mine)  # noqa: B023
                assert region.get(mine) == mine  # noqa: B023
                if number == 0:
                    with child(lambda: region.set(f"{key}-child", 1)):  # noqa: B023
                        pass

        at_once(4, work)


def test_one_creator_among_eight_processes(make: Make, key: str, tmp_path: Any) -> None:
    region, tally = make(), os.open(tmp_path / "tally", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def create() -> str:
        os.write(tally, b".")
        time.sleep(0.1)
        return "made"

    def ask() -> None:
        assert region.get_or_create(key, create) == "made"

    def eight(left: int) -> None:
        if left:
            with child(ask):
                eight(left - 1)

    eight(8)
    os.close(tally)
    assert (tmp_path / "tally").read_text() == "."


def test_by_its_names() -> None:
    for name, kind in {
        "pymemcache": memcached.PyMemcacheBackend,
        "pylibmc": memcached.PylibmcBackend,
        "memcached": memcached.MemcachedBackend,
        "bmemcached": memcached.BMemcachedBackend,
    }.items():
        assert load_backend(f"mpcache.{name}") is load_backend(f"dogpile.cache.{name}") is kind


def test_without_its_library(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bmemcached", None)
    memcached_client = __import__("mpcache._servers.memcached.bmemcached", fromlist=["_bmemcached_client"])
    memcached_client._bmemcached_client.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'mpcache\[bmemcached\]'"):
        make("bmemcached")


def test_on_a_unix_socket(key: str) -> None:
    with Memcached(unix=True) as server:
        for library in LIBRARIES:
            for url in (server.url, f"unix:{server.url}"):
                region = mpcache.make_region().configure(f"mpcache.{library}", arguments={"url": url})
                assert region.get_or_create(key, lambda: "made") == "made"
                assert region.get(key) == "made"
