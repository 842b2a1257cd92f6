"""The suites of stores and of their mutexes, to inherit from.

Depends on helpers.  Three lines for a store::

    class TestMine(_GenericBackendTestSuite, _GenericMutexTestSuite):
        backend = "my.store"
        config_args = {"arguments": {"url": "127.0.0.1"}}

The names are those of dogpile.cache's suites, so that overrides of a subclass have their effect.  No test waits for
time to pass: the clock is patched.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from mpcache.api import NO_VALUE, CacheMutex, CantDeserializeException
from mpcache.backends import load_backend
from mpcache.region import CacheRegion
from mpcache.testing.assertions import assert_raises_message, eq_, is_
from mpcache.testing.helpers import (
    PATIENCE,
    Creator,
    MockBackend,
    MockMutex,
    Pipe,
    _GenericBackendFixture,
    at_once,
    child,
    gen_some_key,
    needs_fork,
    promises,
)

__all__ = [
    "MockBackend",
    "MockMutex",
    "_GenericBackendFixture",
    "_GenericBackendTestSuite",
    "_GenericMutexTestSuite",
    "_GenericSerializerTestSuite",
    "gen_some_key",
]


class _GenericBackendTestSuite(_GenericBackendFixture):
    """Tests of a store, by itself and in a region."""

    # -- the store by itself -------------------------------------------------------------------------

    def test_backend_get_nothing(self) -> None:
        assert not self._backend().get_serialized(gen_some_key())

    def test_backend_delete_nothing(self) -> None:
        self._backend().delete(gen_some_key())

    def test_backend_set_get_value(self) -> None:
        store, key = self._backend(), gen_some_key()
        for value in (b"one", b"two"):
            store.set_serialized(key, value)
            eq_(store.get_serialized(key), value)
        store.delete(key)

    def test_backend_delete(self) -> None:
        store, key = self._backend(), gen_some_key()
        store.set_serialized(key, b"some value")
        store.delete(key)
        assert not store.get_serialized(key)

    def test_backend_multi(self) -> None:
        store, (a, b, c) = self._backend(), (gen_some_key() for _ in range(3))
        store.set_serialized_multi({a: b"A", c: b"C"})
        eq_([found or None for found in store.get_serialized_multi([c, b, a])], [b"C", None, b"A"])
        store.delete_multi([a, b])
        eq_([found or None for found in store.get_serialized_multi([a, c])], [None, b"C"])
        store.delete(c)

    def test_argument_dictionary_unmodified(self) -> None:
        arguments = dict.fromkeys(self.backend_argument_names, "somevalue") or dict(self.config_args["arguments"])
        assert arguments, "the suite needs config_args['arguments'] or backend_argument_names"
        arguments.update(arbitrary_arg_one="foo", arbitrary_arg_two="bar")
        before = dict(arguments)
        load_backend(self.backend)(arguments)
        eq_(arguments, before)
        CacheRegion().configure(self.backend, arguments=arguments)
        eq_(arguments, before)

    # -- one key -------------------------------------------------------------------------------------

    def test_region_set_get_value(self) -> None:
        region, key = self._region(), gen_some_key()
        for value in ("some value", None, 0, "", {"a": [1, None]}):
            region.set(key, value)
            eq_(region.get(key), value)

    def test_region_set_get_nothing(self) -> None:
        is_(self._region().get(gen_some_key()), NO_VALUE)

    def test_region_delete(self) -> None:
        region, key = self._region(), gen_some_key()
        region.set(key, "some value")
        for _ in range(2):
            region.delete(key)
            is_(region.get(key), NO_VALUE)

    def test_region_creator(self) -> None:
        region, key, count = self._region(), gen_some_key(), itertools.count()
        eq_([region.get_or_create(key, lambda: next(count)) for _ in range(2)], [0, 0])

    def test_exploding_value_fn(self) -> None:
        region, key = self._region(), gen_some_key()
        for _ in range(2):  # the first call has released the key
            assert_raises_message(ZeroDivisionError, "", region.get_or_create, key, lambda: 1 / 0)
        eq_(region.get_or_create(key, lambda: "some value"), "some value")

    def test_region_expire(self, monkeypatch: pytest.MonkeyPatch) -> None:
        region, key, count = self._region(config_args={"expiration_time": 10}), gen_some_key(), itertools.count(1)
        eq_(region.get_or_create(key, lambda: next(count)), 1)
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 11)
        is_(region.get(key), NO_VALUE)
        assert region.get(key, ignore_expiration=True) in (1, NO_VALUE)  # a store may expire the value by itself
        eq_(region.get_or_create(key, lambda: next(count)), 2)
        eq_(region.get(key), 2)

    def test_region_is_key_locked(self) -> None:
        region, key = self._region(), gen_some_key()
        eq_([region.key_is_locked(key), region.key_is_locked(key)], [False, False])
        mutex = region.backend.get_mutex(key)
        if mutex is not None:
            mutex.acquire()
            eq_(region.key_is_locked(key), True)
            mutex.release()
            eq_(region.key_is_locked(key), False)

    def test_decorated_fn_functionality(self) -> None:
        count = itertools.count(1)

        @self._region().cache_on_arguments(namespace=gen_some_key())
        def my_function(x: int, y: int) -> int:
            return next(count) + x + y

        eq_([my_function(3, 4), my_function(5, 6), my_function(3, 4), my_function(4, 3)], [8, 13, 8, 10])
        my_function.invalidate(4, 3)
        eq_([my_function(4, 3), my_function(3, 4)], [11, 8])

    # -- many keys -----------------------------------------------------------------------------------

    def test_region_set_multiple_values(self) -> None:
        region, values = self._region(), {gen_some_key(): number for number in range(3)}
        region.set_multi(values)
        eq_([region.get(key) for key in values], [0, 1, 2])

    def test_region_get_multiple_values(self) -> None:
        region, keys = self._region(), [gen_some_key() for _ in range(3)]
        for key in keys:
            region.set(key, key.upper())
        eq_(region.get_multi(keys[::-1]), [key.upper() for key in keys[::-1]])

    def test_region_get_nothing_multiple(self) -> None:
        region, keys = self._region(), [gen_some_key() for _ in range(6)]
        region.set_multi(dict.fromkeys(keys[::2], "value"))
        eq_(region.get_multi(keys), ["value", NO_VALUE] * 3)

    def test_region_delete_multiple(self) -> None:
        region, keys = self._region(), [gen_some_key() for _ in range(4)]
        region.set_multi(dict.fromkeys(keys[:3], "value"))
        region.delete_multi([keys[1], keys[3]])
        eq_(region.get_multi(keys), ["value", NO_VALUE, "value", NO_VALUE])

    def test_region_get_zero_multiple_values(self) -> None:
        eq_(self._region().get_multi([]), [])

    test_region_get_empty_multiple = test_region_get_zero_multiple_values

    def test_region_set_zero_multiple_values(self) -> None:
        self._region().set_multi({})

    def test_region_set_zero_multiple_values_w_decorator(self) -> None:
        eq_(
            self._region().get_or_create_multi([], lambda *keys: pytest.fail("the creator was called without keys")), []
        )

    def test_region_get_or_create_multi_w_should_cache_none(self) -> None:
        region, keys = self._region(), [gen_some_key() for _ in range(3)]
        values = region.get_or_create_multi(keys, lambda *_: [None] * 3, should_cache_fn=lambda value: False)
        eq_(values, [None] * 3)
        eq_(region.get_multi(keys), [NO_VALUE] * 3)

    # -- the dogpile ---------------------------------------------------------------------------------

    @pytest.mark.time_intensive
    def test_threaded_dogpile(self) -> None:
        region, key, threads, rounds = self._region(), gen_some_key(), 6, 5
        barrier, creator = threading.Barrier(threads), Creator()

        def ask(_: int) -> list[Any]:
            found = []
            for round_ in range(rounds):
                if barrier.wait(PATIENCE) == 0:
                    region.delete(key)
                barrier.wait(PATIENCE)
                found.append(region.get_or_create(key, lambda: creator(round_)[0]))  # noqa: B023
            return found

        found = at_once(threads, ask)
        if not region.backend.has_lock_timeout():
            eq_([creator.calls, creator.overlaps], [rounds, 0])
            eq_(found, [list(range(rounds))] * threads)

    @pytest.mark.time_intensive
    def test_threaded_get_multi(self) -> None:
        region, keys, creator = self._region(), [gen_some_key() for _ in range(24)], Creator()

        def ask(number: int) -> None:
            for start in range(0, 20, 4):
                mine = keys[start + number % 2 : start + 5 + number % 3]
                eq_(region.get_or_create_multi(mine, creator), mine)

        at_once(5, ask)
        if not region.backend.has_lock_timeout():
            eq_(creator.overlaps, 0)

    def test_stale_value_while_another_creates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        region, key = self._region(config_args={"expiration_time": 10}), gen_some_key()
        region.set(key, "old")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 11)
        if region.get(key, ignore_expiration=True) is NO_VALUE:
            pytest.skip("the store itself has expired the stale value")
        inside, go_on = threading.Event(), threading.Event()

        def create() -> str:
            inside.set()
            assert go_on.wait(PATIENCE)
            return "new"

        with ThreadPoolExecutor(1) as pool:
            creating = pool.submit(region.get_or_create, key, create)
            try:
                assert inside.wait(PATIENCE), "the creator was not called"
                eq_(region.get_or_create(key, lambda: "a second one"), "old")
            finally:
                go_on.set()
            eq_(creating.result(PATIENCE), "new")
        eq_(region.get(key), "new")

    # -- processes -----------------------------------------------------------------------------------

    @needs_fork
    def test_shared_with_other_processes(self) -> None:
        region, mine, theirs = self._region(), gen_some_key(), gen_some_key()
        if not getattr(region.actual_backend, "shared", False):
            pytest.skip(f"{self.backend} does not say that it is shared with other processes")
        region.set(mine, "mine")
        with child(lambda: region.set(theirs, region.get(mine))):
            pass
        eq_(region.get(theirs), "mine")
        region.delete(theirs)


class _GenericSerializerTestSuite:
    """To be mixed into the suite of a store: tests with a serializer of the region."""

    region_args: ClassVar[Mapping[str, Any]] = {
        "serializer": lambda value: json.dumps(value).encode("ascii"),
        "deserializer": json.loads,
    }
    _region: Callable[..., CacheRegion]

    def test_uses_serializer(self) -> None:
        region, value = self._region(), {"foo": ["bar", 1, False, None]}
        region.set("k", value)
        metadata, _, payload = region.backend.get_serialized("k").partition(b"|")
        eq_(payload, self.region_args["serializer"](value))
        eq_(json.loads(metadata)["v"], 2)

    def test_uses_deserializer(self) -> None:
        region, value = self._region(), {"foo": ["bar", 1, False, None]}
        region.set("k", value)
        eq_(region.get("k"), value)
        region.set_multi({"k": [1], "l": [2]})
        eq_(region.get_multi(["l", "k"]), [[2], [1]])

    def test_serializer_cant_deserialize(self) -> None:
        def refuse(payload: bytes) -> Any:
            raise CantDeserializeException

        region = self._region(region_args={"deserializer": refuse})
        region.set("k", [1])
        is_(region.get("k"), NO_VALUE)
        eq_(region.get_or_create("k", lambda: [2]), [2])


class _GenericMutexTestSuite(_GenericBackendFixture):
    """Tests of the mutex that a store returns for a key."""

    def _mutex(self, key: str) -> Any:
        return self._backend().get_mutex(key)

    def test_mutex(self) -> None:
        mutex = self._mutex(gen_some_key())
        for _ in range(2):
            eq_([mutex.locked(), mutex.acquire(), mutex.locked()], [False, True, True])
            eq_(mutex.acquire(False), False)
            mutex.release()
        eq_(mutex.locked(), False)

    def test_subclass_match(self) -> None:
        assert isinstance(self._mutex(gen_some_key()), CacheMutex)

    @pytest.mark.time_intensive
    def test_mutex_threaded(self) -> None:
        store, key, creator = self._backend(), gen_some_key(), Creator()

        def work(_: int) -> None:
            for _ in range(4):
                mutex = store.get_mutex(key)
                mutex.acquire()
                creator(key)
                mutex.release()

        at_once(4, work)
        eq_([creator.calls, creator.overlaps], [16, 0])

    def test_mutex_reentrant_across_keys(self) -> None:
        store = self._backend()
        one, other = store.get_mutex(gen_some_key()), store.get_mutex(gen_some_key())
        one.acquire()
        try:
            for _ in range(2):
                eq_([other.acquire(False), other.acquire(False)], [True, False])
                other.release()
        finally:
            one.release()

    def test_reentrant_dogpile(self) -> None:
        region, foo, bar = self._region(), gen_some_key(), gen_some_key()
        for _ in range(2):
            eq_(region.get_or_create(foo, lambda: "foo" + region.get_or_create(bar, lambda: "bar")), "foobar")

    @needs_fork
    def test_mutex_excludes_other_processes(self) -> None:
        store, key = self._backend(), gen_some_key()
        mutex = store.get_mutex(key)
        if not promises(mutex, "processes"):
            pytest.skip(f"{mutex!r} does not promise it")
        with Pipe() as held, Pipe() as seen:

            def hold() -> None:
                mine = store.get_mutex(key)
                mine.acquire()
                held.tell()
                seen.wait()

            with child(hold):
                held.wait()
                eq_([mutex.acquire(False), mutex.locked()], [False, True])
                seen.tell()
            eq_(mutex.acquire(), True)
            mutex.release()

    @needs_fork
    def test_mutex_survives_the_death_of_its_holder(self) -> None:
        store, key = self._backend(), gen_some_key()
        if not (promises(store.get_mutex(key), "processes") and promises(store.get_mutex(key), "survives_death")):
            pytest.skip(f"{store.get_mutex(key)!r} does not promise it")

        def hold_and_die() -> None:
            mine = store.get_mutex(key)
            mine.acquire()
            os.kill(os.getpid(), signal.SIGKILL)

        with child(hold_and_die, ends_by=signal.SIGKILL):
            pass
        mutex = store.get_mutex(key)
        eq_(mutex.acquire(timeout=PATIENCE), True)
        mutex.release()
