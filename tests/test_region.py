"""The region, on every store: a test for each line of the contract about a single key."""

from __future__ import annotations

import json
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest

import mpcache
from mpcache._region.fast_path import Access
from mpcache.api import NO_VALUE, CachedValue, CantDeserializeException
from mpcache.backends.memory import MemoryBackend
from mpcache.exception import (
    CantSerializeException,
    DeadlockError,
    DogpileCacheException,
    LockTimeout,
    PluginNotFound,
    RegionAlreadyConfigured,
    RegionNotConfigured,
    ValidationError,
    ValueTooLarge,
)
from mpcache.invalidation import SharedInvalidation
from mpcache.mutexes.thread import ThreadMutex
from mpcache.region import DefaultInvalidationStrategy, RegionInvalidationStrategy
from mpcache.util import sha1_mangle_key
from tests.conftest import PATIENCE, Clock, Gate, Store, Waiters

dogpile_api = pytest.importorskip("dogpile.cache.api")

Spawn = Callable[..., Future[Any]]
MakeGate = Callable[..., Gate]


def never() -> Any:
    raise AssertionError("the creator was called")


def values(*made: Any) -> Callable[[], Any]:
    """A creator that returns the given values one after the other."""
    return iter(made).__next__


class Recorder(mpcache.ProxyBackend):
    """A proxy that records the calls."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name, self.log = name, [] if log is None else log

    def get(self, key: Any) -> Any:
        self.log.append(f"{self.name}get")
        return super().get(key)

    def set(self, key: Any, value: Any) -> None:
        self.log.append(f"{self.name}set")
        super().set(key, value)

    def get_serialized(self, key: Any) -> Any:
        self.log.append(f"{self.name}get")
        return super().get_serialized(key)

    def set_serialized(self, key: Any, value: Any) -> None:
        self.log.append(f"{self.name}set")
        super().set_serialized(key, value)

    def delete(self, key: Any) -> None:
        self.log.append(f"{self.name}delete")
        super().delete(key)


class TestConfigure:
    def test_1_2_before_it_every_operation_says_so(self) -> None:
        region = mpcache.make_region()
        assert not region.is_configured
        for operation in [
            lambda: region.get("k"),
            lambda: region.get_value_metadata("k"),
            lambda: region.set("k", 1),
            lambda: region.delete("k"),
            lambda: region.get_or_create("k", never),
            lambda: region.key_is_locked("k"),
            lambda: region.wrap(Recorder),
            lambda: region.backend,
            lambda: region.actual_backend,
            lambda: hasattr(region, "backend"),
        ]:
            with pytest.raises(RegionNotConfigured, match=r"call configure\(\) first"):
                operation()

    def test_1_2_constructor_arguments_are_attributes_in_this_order(self) -> None:
        given = ["name", len, max, str.upper, repr, eval, print]
        region = mpcache.make_region(*given)
        names = (
            "name function_key_generator function_multi_key_generator key_mangler serializer deserializer"
            " async_creation_runner"
        )
        assert [getattr(region, name) for name in names.split()] == given
        assert isinstance(region.region_invalidator, DefaultInvalidationStrategy)
        region.anything = 1
        assert region.anything == 1

    def test_1_2_twice_is_refused_and_replacing_is_allowed(self) -> None:
        region = mpcache.make_region()
        assert region.configure("mpcache.memory", 5) is region
        region.invalidate()
        strategy, first = region.region_invalidator, region.backend
        with pytest.raises(RegionAlreadyConfigured, match=r"already configured with backend.*replace_existing_backend"):
            region.configure("mpcache.memory")
        assert region.backend is first
        assert region.expiration_time == 5
        region.configure("mpcache.null", replace_existing_backend=True)
        assert region.backend is not first
        assert region.expiration_time is None
        assert region.region_invalidator is strategy

    def test_1_2_unknown_backend(self) -> None:
        region = mpcache.make_region()
        with pytest.raises(PluginNotFound, match=r"Couldn't find cache plugin to load: no\.such"):
            region.configure("no.such")
        assert not region.is_configured

    def test_1_2_configuration_by_prefix(self) -> None:
        mine: dict[str, Any] = {}
        region = mpcache.make_region().configure(
            "mpcache.memory", _config_argument_dict={"c.cache_dict": mine, "x": 1}, _config_prefix="c."
        )
        region.set("k", 1)
        assert list(mine) == ["k"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"expiration_time": "10"},
            {"creation_wait": "10"},
            {"wrap": [Recorder, object()]},
            {"mutex": "no.such"},
            {"mutex_arguments": {"a": 1}},
        ],
    )
    def test_C6_all_or_nothing(self, wrong: dict[str, Any]) -> None:
        region = mpcache.make_region()
        with pytest.raises((DogpileCacheException, TypeError)):
            region.configure("mpcache.memory", **wrong)
        assert not region.is_configured
        region.configure("mpcache.memory", 7, wrap=[Recorder("a")])
        region.set("k", 1)
        with pytest.raises((DogpileCacheException, TypeError)):
            region.configure("mpcache.null", replace_existing_backend=True, **wrong)
        assert region.get("k") == 1
        assert region.expiration_time == 7

    def test_C6_a_proxy_in_use_is_not_moved_by_a_configure_that_fails(self) -> None:
        proxy = Recorder()
        region = mpcache.make_region().configure("mpcache.memory", wrap=[proxy])
        region.set("k", 1)
        with pytest.raises(TypeError):
            region.configure("mpcache.null", wrap=[proxy, int], replace_existing_backend=True)
        assert region.get("k") == 1

    @pytest.mark.parametrize("expiration", [None, 0, -1, 5, 0.5, timedelta(milliseconds=500)])
    def test_A6_times_of_any_kind(self, expiration: Any) -> None:
        region = mpcache.make_region().configure("mpcache.memory", expiration)
        exact = expiration.total_seconds() if isinstance(expiration, timedelta) else expiration
        assert region.expiration_time == exact

    def test_C10_arguments_are_not_changed(self) -> None:
        arguments = {"x": 1}
        mpcache.make_region().configure("test.greedy", arguments=arguments)
        assert arguments == {"x": 1}

    def test_a_store_written_without_our_base_class_will_do(self) -> None:
        region = mpcache.make_region().configure("test.foreign", 10, wrap=[Recorder])
        assert region.get("k") is NO_VALUE
        assert region.get_or_create("k", lambda: 1) == region.get_or_create("k", never) == 1
        region.delete("k")
        assert region.get_value_metadata("k") is None

    def test_the_stores_bytes_and_objects_may_go_different_ways(self) -> None:
        memory: dict[str, Any] = {}
        writer = mpcache.make_region(serializer=pickle.dumps).configure(
            "mpcache.memory", arguments={"cache_dict": memory}
        )
        reader = mpcache.make_region(deserializer=pickle.loads).configure(
            "mpcache.memory", arguments={"cache_dict": memory}
        )
        writer.set("k", [1])
        assert reader.get("k") == [1]


class TestManglers:
    def test_1_7_the_mangler_stands_before_every_operation(self, store: Store) -> None:
        region = store.region({"key_mangler": sha1_mangle_key})
        plain = store.region()
        region.set("k", 1)
        assert plain.get(sha1_mangle_key("k")) == region.get("k") == region.get_or_create("k", never) == 1
        assert region.get_value_metadata("k").payload == 1
        region.delete("k")
        assert plain.get(sha1_mangle_key("k")) is NO_VALUE

    def test_C5_false_switches_the_stores_own_off(self) -> None:
        region = mpcache.make_region(key_mangler=False).configure("test.mangling")
        region.set("K", 1)
        assert list(region.actual_backend._cache) == ["K"]
        region.configure("test.mangling", replace_existing_backend=True)
        assert region.key_mangler is None

    def test_C9_replacing_takes_the_new_stores_own_but_keeps_the_users(self) -> None:
        theirs = mpcache.make_region().configure("test.mangling")
        assert theirs.key_mangler("K") == "k"
        theirs.configure("mpcache.memory_pickle", replace_existing_backend=True)
        assert [theirs.key_mangler, theirs.serializer, theirs.deserializer] == [
            None,
            pickle.dumps,
            pickle.loads,
        ]
        theirs.configure("mpcache.memory", replace_existing_backend=True)
        assert [theirs.key_mangler, theirs.serializer, theirs.deserializer] == [None, None, None]
        users = mpcache.make_region(key_mangler=sha1_mangle_key, serializer=repr, deserializer=eval)
        for name in ("test.mangling", "mpcache.memory_pickle"):
            users.configure(name, replace_existing_backend=True)
            assert [users.key_mangler, users.serializer, users.deserializer] == [sha1_mangle_key, repr, eval]

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("name", ["key_mangler", "_user_defined_key_mangler"])
    def test_a_mangler_may_be_assigned(self, when: str, name: str) -> None:
        region = mpcache.make_region()
        if when == "before":
            setattr(region, name, str.upper)
        region.configure("test.mangling")
        if when == "after":
            setattr(region, name, str.upper)
            region.configure("test.mangling", replace_existing_backend=True)
        region.set("Key", 1)
        assert list(region.actual_backend._cache) == ["KEY"]

    def test_A_keys_are_not_made_strings(self) -> None:
        region = mpcache.make_region().configure("mpcache.memory")
        region.set(1, "one")  # type: ignore[arg-type]
        assert region.get("1") is NO_VALUE


class Greedy(MemoryBackend):
    """A store that removes items from its arguments."""

    def __init__(self, arguments: Any) -> None:
        super().__init__({})
        arguments.pop("x")


class Foreign(dogpile_api.CacheBackend):  # type: ignore[misc, name-defined]
    """A store that is derived from dogpile.cache's base class, with its NO_VALUE."""

    def __init__(self, arguments: Any) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.kept.get(key, dogpile_api.NO_VALUE)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


class Mangling(MemoryBackend):
    key_mangler = staticmethod(str.lower)


for _class in (Greedy, Foreign, Mangling):
    mpcache.register_backend(f"test.{_class.__name__.lower()}", __name__, _class.__name__)


class TestGet:
    @pytest.mark.parametrize("value", [None, 0, "", False, [], {"a": 1}, b"\x00|"])
    def test_A1_E8_none_and_whatever_is_false_can_be_cached(self, store: Store, value: Any) -> None:
        region = store.region()
        region.set("k", value)
        assert region.get("k") == value
        assert region.get_or_create("k", never) == value

    def test_A1_the_only_token_for_nothing_is_false(self, store: Store) -> None:
        region = store.region()
        assert region.get("k") is NO_VALUE
        assert not NO_VALUE
        assert region.get_value_metadata("k") is None
        region.delete("k")

    def test_A2_expiration_and_invalidation_are_honoured(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        region.set("k", 1)
        clock.forward(10)
        assert region.get("k") == 1
        clock.forward(1)
        assert region.get("k") is NO_VALUE
        assert region.get_value_metadata("k") is None
        assert region.get("k", expiration_time=20) == 1
        assert region.get("k", ignore_expiration=True) == 1
        for hard in (False, True):
            region.invalidate(hard)
            assert region.get("k", expiration_time=20) is NO_VALUE
            assert region.get_value_metadata("k", expiration_time=20) is None
            assert region.get("k", ignore_expiration=True) == 1
            assert region.get_value_metadata("k", ignore_expiration=True).payload == 1

    def test_A3_expiration_is_judged_when_it_is_read(self, store: Store, clock: Clock) -> None:
        region = store.region()
        region.set("k", 1)
        clock.forward(1000)
        assert region.get("k") == 1
        region.expiration_time = 999
        assert region.get("k") is NO_VALUE

    @pytest.mark.parametrize("forever", [-1, timedelta(seconds=-1)])
    def test_A4_minus_one_is_for_ever(self, store: Store, clock: Clock, forever: Any) -> None:
        region, eternal = store.region(expiration_time=5), store.region(expiration_time=forever)
        region.set("k", 1)
        clock.forward(1e9)
        assert region.get("k") is NO_VALUE
        assert region.get("k", forever) == eternal.get("k") == region.get_or_create("k", never, forever) == 1
        assert region.get_value_metadata("k", forever).payload == 1
        assert eternal.get_or_create("k", never) == 1

    def test_A5_zero_is_always_stale(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=0)
        region.set("k", 1)
        assert region.get("k") == 1  # at the same time: only strictly older values are stale
        clock.forward(0.001)
        assert region.get("k") is NO_VALUE
        assert region.get_or_create("k", lambda: 2) == 2

    def test_A6_timedeltas_wherever_a_time_is_taken(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=timedelta(milliseconds=500), creation_wait=timedelta(seconds=3))
        region.set("k", 1)
        clock.forward(0.4)
        assert region.get("k") == 1
        clock.forward(0.2)
        longer = timedelta(seconds=1)
        assert region.get("k") is NO_VALUE
        assert region.get("k", longer) == region.get_or_create("k", never, longer) == 1
        assert region.get_value_metadata("k", longer).payload == 1
        region.expiration_time = timedelta(days=1)
        assert region.get("k") == 1
        assert region.creation_wait == 3

    def test_A7_the_time_is_taken_after_the_creation(self, store: Store, clock: Clock) -> None:
        region = store.region()
        region.get_or_create("k", lambda: clock.forward(7))
        assert region.get_value_metadata("k").cached_time == clock.now
        clock.forward(3)
        assert region.get_value_metadata("k").age == 3

    def test_1_3_metadata(self, store: Store, clock: Clock) -> None:
        region = store.region()
        region.set("k", 1)
        metadata = dict(region.get_value_metadata("k").metadata)
        metadata.pop("e", None)  # of stores that count epochs
        assert metadata == {"ct": clock.now, "v": 2}

    def test_A8_another_version_is_absent_for_creators_and_returned_by_get(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "mpcache.region")
        region = mpcache.make_region(key_mangler=str.upper).configure("mpcache.memory")
        region.backend.set("K", CachedValue("old", {"ct": time.time(), "v": 1}))
        assert region.get("k") == "old"
        assert region.get_or_create("k", lambda: "new") == "new"
        assert ("Dogpile version update for key: %r", ("k",)) in [(r.msg, r.args) for r in caplog.records]

    def test_metadata_of_the_users_is_kept(self) -> None:
        region = mpcache.make_region().configure("mpcache.memory_pickle")
        wire = json.dumps({"ct": 1.5, "v": 2, "by": "me"}).encode() + b"|" + pickle.dumps(7)
        region.backend.set_serialized("k", wire)
        assert region.get_value_metadata("k") == (7, {"ct": 1.5, "v": 2, "by": "me"})

    def test_the_end_of_its_time_is_seen_wherever_it_stands(self) -> None:
        region = mpcache.make_region().configure("mpcache.memory_pickle")
        for items in ('"ct": 1, "x": 2, "v": 2', '"x": 2, "ct": 1, "v": 2', '"ct": 1, "v": 2, "x": 2'):
            wire = b"{%b}|" % items.encode()
            region.backend.set_serialized("k", wire + pickle.dumps(7))
            assert [region.get("k"), region.get_multi(["k"])] == [mpcache.NO_VALUE, [mpcache.NO_VALUE]]


class TestUndecodable:
    def spoil(self, region: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def loads(payload: bytes) -> Any:
            raise error

        monkeypatch.setattr(region.binding.value_io, "deserializer", loads)
        region.access = Access(region.binding, None)

    def test_A9_it_is_a_miss_told_once_per_key_counted_and_made_again(
        self, bytes_store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        region = bytes_store.region()
        region.set("k", 1)
        region.set("other", 1)
        with monkeypatch.context() as patch:
            self.spoil(region, patch, EOFError("cut off"))
            assert region.get("k") is NO_VALUE
            assert region.get_value_metadata("k") is None
            assert region.get("k", ignore_expiration=True) is NO_VALUE
            assert region.get("other") is NO_VALUE
            assert region.get_or_create("k", lambda: 2) == 2
        assert region.get("k") == 2
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 2
        assert "'k'" in warnings[0]
        assert "EOFError: cut off" in warnings[0]
        assert "'other'" in warnings[1]
        assert region.mishaps.counts["undecodable"] == 6

    def test_A9_on_purpose_it_is_a_miss_without_a_word(
        self, bytes_store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        region = bytes_store.region()
        region.set("k", 1)
        self.spoil(region, monkeypatch, CantDeserializeException())
        assert region.get("k") is NO_VALUE
        assert region.get_value_metadata("k") is None
        assert caplog.records == []

    @pytest.mark.parametrize("metadata", [b"none", b'{"v": 2}', b'{"ct": "x", "v": 2}', b'{"ct": 1}', b"[]"])
    @pytest.mark.parametrize("payload", [b"", b"|", b"|cut", b"|" + pickle.dumps(1)])
    def test_A9_bytes_of_whatever_kind(self, metadata: bytes, payload: bytes) -> None:
        region = mpcache.make_region().configure("mpcache.memory_pickle")
        region.backend.set_serialized("k", metadata + payload)
        assert region.get("k") is NO_VALUE
        assert region.get_value_metadata("k") is None
        assert region.get_or_create("k", lambda: 2) == region.get("k") == 2

    def test_A9_what_was_told_is_not_remembered_without_bound(self, caplog: pytest.LogCaptureFixture) -> None:
        region = mpcache.make_region()
        for number in [*range(2000), 1999]:
            region.mishaps.undecodable(number, ValueError())
        assert len(region.mishaps._logged) == 1024
        assert len(caplog.records) == 2000


class TestSerializers:
    def test_1_8_the_users_serializer_sees_the_payload_and_nothing_else(self, store: Store) -> None:
        seen: list[Any] = []

        def dumps(value: Any) -> bytes:
            seen.append(value)
            return json.dumps(value).encode()

        region = store.region({"serializer": dumps, "deserializer": json.loads})
        region.set("k", {"a": 1})
        assert region.get_or_create("j", lambda: "|") == region.get("j") == "|"
        assert region.get("k") == {"a": 1}
        assert seen == [{"a": 1}, "|"]

    def test_a_value_that_cannot_be_serialized_is_told_with_key_type_and_remedy(self, bytes_store: Store) -> None:
        region = bytes_store.region()
        with pytest.raises(
            CantSerializeException, match=r"'k', a lock, cannot be stored.*cannot pickle.*another serializer"
        ):
            region.set("k", threading.Lock())
        with pytest.raises(TypeError, match="'k', a lock"):
            region.get_or_create("k", threading.Lock)
        assert not region.key_is_locked("k")
        assert region.get_or_create("k", lambda: 1) == 1

    def test_those_who_wait_for_it_do_not_hang(
        self, bytes_store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate
    ) -> None:
        region = bytes_store.region(mutex=waiters)
        creator = gate(threading.Lock)
        results = [spawn(region.get_or_create, "k", creator) for _ in range(4)]
        creator.wait_for_entry()
        waiters.wait_for(3)
        creator.open()
        outcomes = [result.exception(PATIENCE) for result in results]
        assert any(isinstance(outcome, CantSerializeException) for outcome in outcomes)
        # Another task may get the mutex next; tasks that create without it store nothing.
        assert {type(outcome) for outcome in outcomes} <= {CantSerializeException, type(None)}
        assert not region.key_is_locked("k")


class TestGetOrCreate:
    def test_1_4_positional_order_is_contract(self, store: Store) -> None:
        region = store.region()
        made = region.get_or_create("k", lambda *args, **kw: (args, kw), 10, lambda value: True, ((1,), {"b": 2}))
        assert made == ((1,), {"b": 2})

    def test_1_4_stale_and_free_this_caller_creates(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        creator = values(1, 2)
        assert region.get_or_create("k", creator) == region.get_or_create("k", creator) == 1
        clock.forward(11)
        assert region.get_or_create("k", creator) == region.get("k") == 2

    def test_B1_looks(self, store: Store, clock: Clock) -> None:
        proxy = Recorder()
        region = store.region(expiration_time=10, wrap=[proxy])

        def looks(creator: Callable[[], Any]) -> list[str]:
            proxy.log.clear()
            region.get_or_create("k", creator)
            return proxy.log[:]

        assert looks(lambda: 1) == ["get", "get", "set"]
        assert looks(never) == ["get"]
        clock.forward(11)
        with region._mutex("k"):
            assert looks(never) == ["get"]
        assert looks(lambda: 1) == ["get", "get", "set"]  # another task may have been quicker

    def test_B2_stale_and_locked_returns_at_once(
        self, store: Store, spawn: Spawn, gate: MakeGate, clock: Clock
    ) -> None:
        region = store.region(expiration_time=10)
        region.set("k", "old")
        clock.forward(11)
        creator = gate()
        slow = spawn(region.get_or_create, "k", creator)
        creator.wait_for_entry()
        assert region.get_or_create("k", never) == "old"
        creator.open()
        assert slow.result(PATIENCE) == region.get("k") == "made"

    def test_B3_a_stampede_has_one_creator(self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate) -> None:
        region = store.region(mutex=waiters)
        creator = gate()
        results = [spawn(region.get_or_create, "k", creator) for _ in range(8)]
        creator.wait_for_entry()
        waiters.wait_for(7)
        creator.open()
        assert [result.result(PATIENCE) for result in results] == ["made"] * 8
        assert creator.calls == 1

    def test_B3_a_stampede_on_the_stores_own_mutex(self, store: Store, spawn: Spawn, gate: MakeGate) -> None:
        region = store.region()
        creator = gate()
        results = [spawn(region.get_or_create, "k", creator) for _ in range(8)]
        creator.wait_for_entry()
        assert region.key_is_locked("k")
        creator.open()
        assert [result.result(PATIENCE) for result in results] == ["made"] * 8
        assert creator.calls == 1
        assert not region.key_is_locked("k")

    def test_B4_a_creator_that_raises_lets_go_and_another_one_creates(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate
    ) -> None:
        region = store.region(mutex=waiters)

        def fail() -> Any:
            raise KeyError("no such row")

        creator, second = gate(fail), gate()
        first = spawn(region.get_or_create, "k", creator)
        creator.wait_for_entry()
        rest = [spawn(region.get_or_create, "k", second) for _ in range(4)]
        waiters.wait_for(4)
        creator.open()
        with pytest.raises(KeyError, match="no such row"):
            first.result(PATIENCE)
        second.open()
        assert [result.result(PATIENCE) for result in rest] == ["made"] * 4
        assert second.calls == 1

    def test_1_4_a_creator_that_raises_leaves_the_stale_value_alone(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        region.set("k", "old")
        clock.forward(11)
        with pytest.raises(ZeroDivisionError):
            region.get_or_create("k", lambda: 1 // 0)
        assert region.get("k", ignore_expiration=True) == "old"
        assert not region.key_is_locked("k")

    @pytest.mark.parametrize("outcome", ["refused", NO_VALUE])
    def test_B5_what_is_not_stored_makes_nobody_queue(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate, outcome: Any
    ) -> None:
        """Check that all four creators run at the same time, which they could not do if they queued."""
        region = store.region(mutex=waiters)
        together = threading.Barrier(4, timeout=PATIENCE)

        def alone() -> Any:
            together.wait()
            return outcome

        def accept(value: Any) -> bool:
            return value != "refused"

        creator = gate(lambda: outcome)
        first = spawn(region.get_or_create, "k", creator, None, accept)
        creator.wait_for_entry()
        rest = [spawn(region.get_or_create, "k", alone, None, accept) for _ in range(4)]
        waiters.wait_for(4)
        creator.open()
        assert [result.result(PATIENCE) for result in (first, *rest)] == [outcome] * 5
        assert region.get("k") is NO_VALUE
        assert region.mishaps.counts["created_alone"] == 3

    def test_NO_VALUE_is_returned_and_never_stored(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        assert region.get_or_create("k", lambda: NO_VALUE) is NO_VALUE
        assert region.get_value_metadata("k") is None
        region.set("k", "old")
        clock.forward(11)
        assert region.get_or_create("k", lambda: NO_VALUE) is NO_VALUE
        assert region.get("k", ignore_expiration=True) == "old"
        region.set("k", NO_VALUE)
        assert region.get_value_metadata("k", ignore_expiration=True) is None

    def test_B6_mutexes_are_new_and_exclude_each_other(self, store: Store) -> None:
        region = store.region()
        first, second = region._mutex("k"), region._mutex("k")
        assert first is not second
        assert first.acquire(False)
        assert not second.acquire(False)
        with region._mutex("other"):
            assert region.key_is_locked("other")
        first.release()
        assert second.acquire(False)
        second.release()

    def test_B8_a_creator_may_ask_for_other_keys(self, store: Store) -> None:
        region = store.region()
        assert region.get_or_create("a", lambda: region.get_or_create("b", lambda: 1) + 1) == 2
        assert region.get("b") == 1

    def test_B8_equal_keys_of_two_regions_do_not_meet(self) -> None:
        one, two = (mpcache.make_region().configure("mpcache.memory") for _ in range(2))
        assert one.get_or_create("k", lambda: two.get_or_create("k", lambda: 1) + 1) == 2

    def test_B8_a_creator_that_asks_for_its_own_key_is_told(self, store: Store) -> None:
        region = store.region({"key_mangler": str.upper})
        with pytest.raises(DeadlockError, match="'K'"):
            region.get_or_create("k", lambda: region.get_or_create("k", never))
        assert not region.key_is_locked("k")
        assert region.get_or_create("k", lambda: 1) == 1

    def test_B8_but_is_served_the_stale_value_if_there_is_one(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        region.set("k", 1)
        clock.forward(11)
        assert region.get_or_create("k", lambda: region.get_or_create("k", never) + 1) == 2

    def test_B10_C7_key_is_locked_mangles_and_does_not_acquire(
        self, store: Store, spawn: Spawn, gate: MakeGate
    ) -> None:
        region = store.region({"key_mangler": str.upper})
        creator = gate()
        result = spawn(region.get_or_create, "k", creator)
        creator.wait_for_entry()
        assert region.key_is_locked("k")
        creator.open()
        result.result(PATIENCE)
        assert [region.key_is_locked("k") for _ in range(2)] == [False, False]
        with region._mutex("K"):
            assert region.key_is_locked("k")

    def test_should_cache_fn(self, store: Store) -> None:
        region = store.region()
        assert region.get_or_create("k", lambda: 1, should_cache_fn=lambda value: value > 1) == 1
        assert region.get("k") is NO_VALUE
        assert region.get_or_create("k", lambda: 2, should_cache_fn=lambda value: value > 1) == 2
        assert region.get("k") == 2

    def test_should_cache_fn_that_raises_lets_go(self, store: Store) -> None:
        region = store.region()
        with pytest.raises(ZeroDivisionError):
            region.get_or_create("k", lambda: 0, should_cache_fn=lambda value: 1 // value > 0)
        assert not region.key_is_locked("k")
        assert region.get("k") is NO_VALUE

    def test_F8_a_wait_has_an_end(self, store: Store, spawn: Spawn) -> None:
        region = store.region(creation_wait=0.01)
        with region._mutex("k"):
            with pytest.raises(LockTimeout, match=r"'k'.*within 0.01 s \(creation_wait\)"):
                spawn(region.get_or_create, "k", never).result(PATIENCE)

    def test_F3_the_child_of_a_creator_that_forks_owns_nothing(self, store: Store) -> None:
        region = store.region()
        parent = os.getpid()

        def fork() -> int:
            return os.fork()

        child = None
        try:
            child = region.get_or_create("k", fork, should_cache_fn=lambda value: value != 0)
            if os.getpid() != parent:
                os._exit(0 if child == 0 and region.get_or_create("j", lambda: 5) == 5 else 1)
        finally:
            if os.getpid() != parent:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert region.get("k") == child
        assert not region.key_is_locked("k")

    def test_1_1_what_is_logged(self, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "mpcache.region")
        region = store.region({"key_mangler": str.upper})
        region.get_or_create("k", lambda: 1)
        clock.forward(1)
        region.invalidate()
        clock.forward(1)
        region.get_or_create("k", lambda: 1)
        assert [r.msg for r in caplog.records if r.name == "mpcache.region"] == [
            "No value present for key: %r",
            "No value present for key: %r",
            "Cache value generated in %(seconds).3f seconds for key(s): %(keys)r",
            "Hard invalidation detected for key: %r",
            "Hard invalidation detected for key: %r",
            "Cache value generated in %(seconds).3f seconds for key(s): %(keys)r",
        ]
        assert caplog.records[0].args == ("k",)
        assert set(caplog.records[2].args) == {"seconds", "keys"}  # type: ignore[arg-type]
        assert caplog.records[2].getMessage().endswith("for key(s): 'k'")


class TestTooLarge:
    """A store with a maximum, as shm has one."""

    @pytest.fixture
    def region(self) -> Any:
        class Small(mpcache.ProxyBackend):
            def set(self, key: Any, value: Any) -> None:
                if len(value.payload) > 3:
                    raise ValueTooLarge(f"{len(value.payload)} bytes, the maximum is 3; configure more", key=key)
                super().set(key, value)

        return mpcache.make_region().configure("mpcache.memory", wrap=[Small])

    def test_set_raises(self, region: Any) -> None:
        with pytest.raises(ValueTooLarge, match="the maximum is 3"):
            region.set("k", "long")

    def test_get_or_create_returns_it_warns_once_per_region_and_counts(
        self, region: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        for key in ("k", "k", "other"):
            assert region.get_or_create(key, lambda: "long") == "long"
        assert region.get("k") is NO_VALUE
        assert not region.key_is_locked("k")
        assert region.mishaps.counts["too_large"] == 3
        assert ["the maximum is 3" in r.getMessage() for r in caplog.records] == [True]


class TestInvalidate:
    def test_C1_hard_makes_all_wait_for_the_new_value(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate
    ) -> None:
        region = store.region(expiration_time=60, mutex=waiters)
        region.set("k", "old")
        region.invalidate()
        creator = gate()
        results = [spawn(region.get_or_create, "k", creator) for _ in range(4)]
        creator.wait_for_entry()
        waiters.wait_for(3)
        creator.open()
        assert [result.result(PATIENCE) for result in results] == ["made"] * 4
        assert creator.calls == 1

    def test_C1_soft_serves_the_stale_value_while_one_creates(self, store: Store, spawn: Spawn, gate: MakeGate) -> None:
        region = store.region(expiration_time=60)
        region.set("k", "old")
        region.invalidate(hard=False)
        creator = gate()
        slow = spawn(region.get_or_create, "k", creator)
        creator.wait_for_entry()
        assert region.get_or_create("k", never) == "old"
        creator.open()
        assert slow.result(PATIENCE) == region.get_or_create("k", never) == "made"

    @pytest.mark.parametrize("forever", [None, -1])
    def test_C1_soft_needs_an_expiration_time(self, store: Store, forever: Any, clock: Clock) -> None:
        region = store.region(expiration_time=forever)
        region.set("k", 1)
        clock.forward(1)
        region.invalidate(hard=False)
        clock.forward(1)
        for key in ("k", "k", "new", "new"):
            with pytest.raises(DogpileCacheException, match="Non-None expiration time required for soft invalidation"):
                region.get_or_create(key, lambda: 2)
            assert not region.key_is_locked(key)
        assert region.get("k") is NO_VALUE
        assert region.get_or_create("k", lambda: 2, 10) == 2

    def test_C2_soft_after_hard_does_not_bring_back_what_hard_forbade(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=60)
        region.set("k", "old")
        clock.forward(1)
        region.invalidate()
        clock.forward(1)
        region.invalidate(hard=False)
        with region._mutex("k"):
            assert region.get("k") is NO_VALUE  # and a task that would create it must wait, therefore:
        assert region.binding.look("k", "k", 60)[1] is mpcache.api.Freshness.ABSENT
        assert region.get_or_create("k", lambda: "new") == "new"

    def test_C3_a_strategy_of_the_users(self, store: Store, clock: Clock) -> None:
        class OneFlag(RegionInvalidationStrategy):
            """A strategy as dogpile.cache documents it: the six methods, with any true or false results."""

            at: Any = None
            hard: Any = None

            def invalidate(self, hard: bool = True) -> None:
                self.at, self.hard = time.time(), hard

            def is_invalidated(self, timestamp: float) -> Any:
                return self.at and timestamp < self.at

            def is_hard_invalidated(self, timestamp: float) -> Any:
                return self.hard and self.is_invalidated(timestamp)

            def is_soft_invalidated(self, timestamp: float) -> Any:
                return not self.hard and self.is_invalidated(timestamp)

            def was_hard_invalidated(self) -> Any:
                return self.hard

            def was_soft_invalidated(self) -> Any:
                return self.at and not self.hard

        region = store.region(expiration_time=60, region_invalidator=OneFlag())
        assert isinstance(region.region_invalidator, OneFlag)
        creator = values(1, 2, 3)
        assert region.get_or_create("k", creator) == 1
        clock.forward(1)
        region.invalidate(hard=False)
        assert region.get("k") is NO_VALUE
        with region._mutex("k"):
            assert region.get_or_create("k", never) == 1
        assert region.get_or_create("k", creator) == 2
        clock.forward(1)
        region.invalidate()
        assert region.get_or_create("k", creator) == region.get_or_create("k", never) == 3

    def test_the_strategy_may_be_assigned(self, clock: Clock) -> None:
        region = mpcache.make_region().configure("mpcache.memory")
        region.set("k", 1)
        clock.forward(1)
        strategy = DefaultInvalidationStrategy()
        strategy.invalidate()
        region.region_invalidator = strategy
        assert region.get("k") is NO_VALUE
        region.configure("mpcache.memory", replace_existing_backend=True)
        assert region.region_invalidator is strategy


class TestAsyncCreation:
    def test_B9_the_contract(self, store: Store, clock: Clock) -> None:
        calls: list[Any] = []

        def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
            calls.append((region, key, creator, mutex))

        region = store.region({"async_creation_runner": runner, "key_mangler": str.upper}, expiration_time=10)

        def creator(a: int, b: int = 0) -> int:
            """Its doc."""
            return a + b

        def ask() -> Any:
            return region.get_or_create("k", creator, None, never, ((1,), {"b": 1}))

        assert region.get_or_create("k", lambda: 1) == 1  # never in the background while there is no value
        clock.forward(11)
        assert [ask(), ask()] == [1, 1]
        ((_, key, zero_arguments, mutex),) = calls
        assert calls[0][0] is region
        assert key == "k"
        assert region.key_is_locked("k")
        assert zero_arguments.__doc__ == "Its doc."
        background = threading.Thread(target=lambda: (region.set(key, zero_arguments()), mutex.release()))
        background.start()
        background.join(PATIENCE)
        assert region.get("k") == 2
        assert not region.key_is_locked("k")

    def test_B9_not_after_a_hard_invalidation_but_after_a_soft_one(self, store: Store, clock: Clock) -> None:
        ran: list[str] = []

        def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
            ran.append(key)
            region.set(key, creator())
            mutex.release()

        region = store.region({"async_creation_runner": runner}, expiration_time=10)
        creator = values(1, 2, 3)
        assert region.get_or_create("k", creator) == 1
        clock.forward(1)
        region.invalidate()
        assert region.get_or_create("k", creator) == 2
        assert ran == []
        clock.forward(1)
        region.invalidate(hard=False)
        assert region.get_or_create("k", creator) == 2
        assert ran == ["k"]
        assert region.get_or_create("k", never) == 3

    def test_B9_a_runner_that_raises_has_let_go(self, store: Store, clock: Clock) -> None:
        def runner(*args: Any) -> None:
            raise RuntimeError("cannot start a thread")

        region = store.region({"async_creation_runner": runner}, expiration_time=10)
        region.set("k", 1)
        clock.forward(11)
        with pytest.raises(RuntimeError, match="cannot start a thread"):
            region.get_or_create("k", never)
        assert not region.key_is_locked("k")

    def test_B9_a_background_creator_that_raises(self, store: Store, clock: Clock, spawn: Spawn) -> None:
        background: list[Future[Any]] = []

        def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
            def run() -> None:
                try:
                    region.set(key, creator())
                finally:
                    mutex.release()

            background.append(spawn(run))

        region = store.region({"async_creation_runner": runner}, expiration_time=10)
        region.set("k", 1)
        clock.forward(11)
        assert region.get_or_create("k", lambda: 1 // 0) == 1
        with pytest.raises(ZeroDivisionError):
            background[0].result(PATIENCE)
        assert not region.key_is_locked("k")
        assert region.get_or_create("k", lambda: 2) == 1
        background[1].result(PATIENCE)
        assert region.get_or_create("k", never) == 2


class TestWrap:
    def test_C4_the_first_one_is_the_outermost(self, store: Store) -> None:
        log: list[str] = []
        region = store.region(wrap=[Recorder("1", log), Recorder("2", log)])
        region.wrap(Recorder("0", log))
        region.set("k", 1)
        region.delete("k")
        assert log == ["0set", "1set", "2set", "0delete", "1delete", "2delete"]

    def test_C4_classes_and_objects_share_no_state(self) -> None:
        one, two = (mpcache.make_region().configure("mpcache.memory", wrap=[Recorder]) for _ in range(2))
        one.get("k")
        assert [one.backend.log, two.backend.log] == [["get"], []]

    @pytest.mark.parametrize("wrong", ["proxy", int, object()])
    def test_C4_other_things_are_refused(self, wrong: Any) -> None:
        region = mpcache.make_region().configure("mpcache.memory")
        with pytest.raises(TypeError, match="is not a valid ProxyBackend"):
            region.wrap(wrong)
        with pytest.raises(TypeError, match="is not a valid ProxyBackend"):
            mpcache.make_region().configure("mpcache.memory", wrap="proxy")

    def test_a_single_one_needs_no_list(self) -> None:
        region = mpcache.make_region().configure("mpcache.memory", wrap=Recorder)
        assert isinstance(region.backend, Recorder)

    def test_C12_actual_backend_follows(self) -> None:
        region = mpcache.make_region().configure("mpcache.memory", wrap=[Recorder])
        first = region.actual_backend
        assert first is region.backend.proxied
        region.configure("mpcache.null", wrap=[Recorder, Recorder], replace_existing_backend=True)
        assert type(region.actual_backend).__name__ == "NullBackend"

    def test_a_proxy_passes_everything_on(self) -> None:
        backend = mpcache.make_region().configure("mpcache.memory", wrap=[mpcache.ProxyBackend]).backend
        backend.set("a", 1)
        backend.set_multi({"b": 2})
        backend.set_serialized("c", b"3")
        backend.set_serialized_multi({"d": b"4"})
        assert [backend.get("a"), *backend.get_multi(["b"])] == [1, 2]
        assert [backend.get_serialized("c"), *backend.get_serialized_multi(["d"])] == [b"3", b"4"]
        backend.delete("a")
        backend.delete_multi(["b", "c"])
        assert list(backend.proxied._cache) == ["d"]
        assert backend.get_mutex("a") is None


class TestMutexes:
    def test_any_mutex_goes_with_any_store(self, store: Store) -> None:
        locks: dict[str, threading.Lock] = {}

        def factory(key: str, suffix: str) -> threading.Lock:
            return locks.setdefault(key + suffix, threading.Lock())

        region = store.region(mutex=factory, mutex_arguments={"suffix": "!"})
        assert region.get_or_create("k", lambda: region.key_is_locked("k")) is True
        assert list(locks) == ["k!"]
        assert not locks["k!"].locked()

    def test_by_name(self, store: Store) -> None:
        region = store.region(mutex="null")
        assert region.get_or_create("k", lambda: region.key_is_locked("k")) is False
        if store.name.startswith("memory"):
            assert isinstance(store.region(mutex="thread")._mutex("k"), ThreadMutex)

    def test_arguments_without_a_mutex(self) -> None:
        with pytest.raises(ValidationError, match=r"mutex_arguments=\{'a': 1\}.*name one with mutex="):
            mpcache.make_region().configure("mpcache.memory", mutex_arguments={"a": 1})

    def test_a_thread_mutex_before_a_shared_store_is_worth_a_warning(self) -> None:
        with pytest.warns(UserWarning, match="ThreadMutex excludes no other process, but Shared is shared"):
            mpcache.make_region().configure("test.shared", mutex="thread")

    def test_a_store_may_bring_its_own(self) -> None:
        region = mpcache.make_region().configure("test.shared", wrap=[Recorder])
        assert region._mutex("k").name == "k"


class Shared(MemoryBackend):
    """A shared and direct store with guards and epochs, like shm, as simply as possible."""

    shared = direct = True
    serializer = staticmethod(pickle.dumps)
    deserializer = staticmethod(pickle.loads)

    def __init__(self, arguments: Any) -> None:
        super().__init__({})
        self.guards: list[Any] = []
        self.epoch = self.hard_at = self.soft_at = 0
        self.arguments = arguments
        self.voided: set[str] = set()

    def get_mutex(self, key: str) -> Any:
        mutex = ThreadMutex(key)
        mutex.name = key  # type: ignore[attr-defined]
        return mutex

    def fetch(self, key: str) -> Any:
        return self._cache.get(key)

    def store(self, key: str, payload: bytes, created: float) -> None:
        self._write(key, lambda epoch: (payload, created, epoch))

    def set_serialized(self, key: str, value: bytes) -> None:
        payload = value.partition(b"|")[2]
        self._write(key, lambda epoch: (payload, json.loads(value.partition(b"|")[0])["ct"], epoch))

    def get_serialized(self, key: str) -> Any:
        found = self._cache.get(key)
        if found is None:
            return NO_VALUE
        return json.dumps({"ct": found[1], "v": 2, "e": found[2]}).encode() + b"|" + found[0]

    def get_serialized_multi(self, keys: Any) -> Any:
        return [self.get_serialized(key) for key in keys]

    def set_serialized_multi(self, mapping: Any) -> None:
        for key, value in mapping.items():
            self.set_serialized(key, value)

    def _write(self, key: str, record: Callable[[int], Any]) -> None:
        guard: Any = mpcache.api.guard_of(self, key)
        if guard is None:
            self._cache[key] = record(self.epoch)
            self.void(key)
            return
        guard.outcome = guard.key not in self.voided
        guard.live = False
        if guard.outcome:
            self._cache[key] = record(guard.epoch)

    def void(self, key: str) -> None:
        self.voided.add(key)

    def delete(self, key: str) -> None:
        super().delete(key)
        self.void(key)

    def begin_fill(self, key: str) -> Any:
        self.guards.append(Guard(key, self.epoch))
        self.voided.discard(key)
        return self.guards[-1]

    def epochs(self) -> tuple[int, int, int]:
        return self.epoch, self.hard_at, self.soft_at

    def invalidate(self, hard: bool) -> None:
        self.epoch += 1
        if hard:
            self.hard_at = self.epoch
        else:
            self.soft_at = self.epoch

    def invalidation(self) -> Any:
        return SharedInvalidation(self)

    def portable_arguments(self) -> dict[str, Any]:
        return {"taken": "along"}


class Guard:
    def __init__(self, key: str, epoch: int) -> None:
        self.key, self.epoch = key, epoch
        self.live, self.closed = True, 0
        self.outcome: bool | None = None

    def close(self) -> None:
        self.live = False
        self.closed += 1


mpcache.register_backend("test.shared", __name__, "Shared")


@pytest.mark.parametrize("wrap", [[], [mpcache.ProxyBackend]], ids=["direct", "behind a proxy"])
class TestFills:
    """The region's duties to a store that guards its fills."""

    def region(self, wrap: list[Any], **kw: Any) -> Any:
        return mpcache.make_region(**kw).configure("test.shared", 60, wrap=wrap)

    def test_a_fill_is_announced_and_its_guard_is_closed(self, wrap: list[Any]) -> None:
        region = self.region(wrap)
        assert region.get_or_create("k", lambda: 1) == region.get("k") == 1
        (guard,) = region.actual_backend.guards
        assert (guard.key, guard.outcome, guard.closed) == ("k", True, 1)
        assert mpcache.api.current_fill.get() is None

    def test_a_guard_is_closed_also_when_nothing_comes_of_it(self, wrap: list[Any]) -> None:
        region = self.region(wrap)
        with pytest.raises(ZeroDivisionError):
            region.get_or_create("k", lambda: 1 // 0)
        region.get_or_create("k", lambda: NO_VALUE)
        with pytest.raises(CantSerializeException):
            region.get_or_create("k", threading.Lock)
        assert [(guard.outcome, guard.closed) for guard in region.actual_backend.guards] == [(None, 1)] * 3

    def test_the_key_was_deleted_meanwhile(self, wrap: list[Any]) -> None:
        region = self.region(wrap)
        assert region.get_or_create("k", lambda: region.delete("k")) is None
        assert region.get("k") is NO_VALUE
        assert region.actual_backend.guards[0].outcome is False

    def test_the_key_was_set_meanwhile(self, wrap: list[Any]) -> None:
        region = self.region(wrap)

        def creator() -> str:
            region.set("k", "newer")
            return "older"

        assert region.get_or_create("k", creator) == "older"
        assert region.get("k") == "newer"

    def test_another_key_that_the_creator_sets_is_just_set(self, wrap: list[Any]) -> None:
        region = self.region(wrap)
        assert region.get_or_create("k", lambda: [region.set("j", 1), 2][1]) == 2
        assert [region.get("j"), region.get("k")] == [1, 2]

    def test_F1_a_creation_that_began_before_an_invalidation_is_as_old_as_that(self, wrap: list[Any]) -> None:
        region = self.region(wrap)

        def creator() -> str:
            region.invalidate()
            return "read before"

        assert region.get_or_create("k", creator) == "read before"
        assert region.get("k") is NO_VALUE
        assert region.get_or_create("k", lambda: "read after") == region.get("k") == "read after"

    def test_F1_invalidation_reaches_every_region_of_the_store(self, wrap: list[Any]) -> None:
        one, two = self.region(wrap), self.region(wrap)
        two.backend = one.backend
        two.region_invalidator = one.region_invalidator
        one.set("k", 1)
        two.invalidate(hard=False)
        with one._mutex("k"):
            assert one.get("k") is NO_VALUE
            assert one.get_or_create("k", never) == 1

    def test_a_refused_fill_makes_nobody_queue(
        self, wrap: list[Any], spawn: Spawn, waiters: Waiters, gate: MakeGate
    ) -> None:
        region = mpcache.make_region().configure("test.shared", 60, wrap=wrap, mutex=waiters)
        creator = gate(lambda: region.delete("k"))
        first = spawn(region.get_or_create, "k", creator)
        creator.wait_for_entry()
        together = threading.Barrier(4, timeout=PATIENCE)
        rest = [spawn(region.get_or_create, "k", lambda: [together.wait(), 2][1]) for _ in range(4)]
        waiters.wait_for(4)
        creator.open()
        assert first.result(PATIENCE) is None
        assert [result.result(PATIENCE) for result in rest] == [2] * 4
        assert region.get("k") == 2

    @pytest.mark.parametrize("meanwhile", [False, True])
    def test_the_set_of_a_background_runner_is_the_fill(self, wrap: list[Any], meanwhile: bool, spawn: Spawn) -> None:
        held: list[Any] = []
        region = self.region(wrap, async_creation_runner=lambda *call: held.append(call))
        region.set("k", "old")
        region.invalidate(hard=False)
        assert region.get_or_create("k", lambda: "new") == "old"
        ((_, key, creator, mutex),) = held
        guard = region.actual_backend.guards[-1]
        assert guard.live

        def run() -> Any:
            region.set(key, creator())
            mutex.release()
            return mpcache.api.current_fill.get()

        if meanwhile:
            region.delete("k")
        assert spawn(run).result(PATIENCE) is None  # a thread of a pool must not keep it
        assert region.get("k") == (NO_VALUE if meanwhile else "new")
        assert (guard.outcome, guard.closed) == (not meanwhile, 1)


class TestPickling:
    def test_C13_by_configuration(self, store: Store) -> None:
        log: list[str] = []
        region = store.region(
            {"name": "n", "key_mangler": sha1_mangle_key},
            expiration_time=timedelta(seconds=9),
            wrap=[Recorder("1", log)],
            creation_wait=7,
            mutex="null",
        )
        region.wrap(Recorder)
        region.set("k", 1)
        region.anything = [2]
        region.mishaps.counts["undecodable"] = 3
        other = pickle.loads(pickle.dumps(region))
        assert other.is_configured
        assert other.backend is not region.backend
        assert [other.name, other.expiration_time, other.creation_wait, other.anything] == ["n", 9, 7, [2]]
        assert other.key_mangler is sha1_mangle_key
        assert other.mishaps.counts == {}
        assert [type(other.backend), other.backend.proxied.name] == [Recorder, "1"]
        assert type(other._mutex("k")).__name__ == "NullMutex"
        assert other.get("k") == 1  # an shm store is the same store, a dict is a copy

    def test_C13_before_configure(self) -> None:
        region = pickle.loads(pickle.dumps(mpcache.make_region("n", key_mangler=str.upper)))
        assert not region.is_configured
        assert region.configure("mpcache.memory").key_mangler is str.upper

    def test_C13_what_came_from_the_store_comes_from_the_store_again(self) -> None:
        region = pickle.loads(pickle.dumps(mpcache.make_region().configure("test.mangling")))
        assert region.key_mangler("K") == "k"
        region.configure("mpcache.memory", replace_existing_backend=True)
        assert region.key_mangler is None

    def test_C13_the_users_strategy_goes_along_the_stores_own_does_not(self, clock: Clock) -> None:
        mine = DefaultInvalidationStrategy()
        region = mpcache.make_region().configure("test.shared", region_invalidator=mine)
        region.invalidate()
        other = pickle.loads(pickle.dumps(region))
        assert other.region_invalidator._hard_at == clock.now
        other = pickle.loads(pickle.dumps(mpcache.make_region().configure("test.shared")))
        assert other.region_invalidator._counter is other.actual_backend

    def test_C13_a_store_may_name_other_arguments(self) -> None:
        region = mpcache.make_region().configure("test.shared", arguments={"left": "behind"})
        assert pickle.loads(pickle.dumps(region)).actual_backend.arguments == {"taken": "along"}

    def test_C13_errors_and_tokens_travel(self) -> None:
        error = pickle.loads(pickle.dumps(LockTimeout("late", key="k", waited=3)))
        assert (str(error), error.key, error.waited) == ("late", "k", 3)
        assert pickle.loads(pickle.dumps(NO_VALUE)) is NO_VALUE
        assert repr(NO_VALUE) == "<dogpile.cache.api.NoValue object>"
        assert NO_VALUE.payload is NO_VALUE


class TestShared:
    @pytest.fixture(autouse=True)
    def no_segment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(mpcache.backends._backend_loader.impls, "mpcache.shm", Shared)  # type: ignore[attr-defined]

    def test_arguments_go_where_they_belong(self) -> None:
        region = mpcache.shared(
            "app", "8MB", expiration_time=5, key_mangler=len, mode=0o660, namespace="n", wrap=Recorder
        )
        assert (region.name, region.key_mangler, region.expiration_time) == ("app", len, 5)
        assert isinstance(region.backend, Recorder)
        assert region.actual_backend.arguments == {
            "name": "app",
            "size": "8MB",
            "mode": 0o660,
            "namespace": "n",
        }

    def test_the_name_may_be_none_and_the_size_left_out(self) -> None:
        assert mpcache.shared(None).actual_backend.arguments == {"name": None}

    @pytest.mark.parametrize(
        ("wrong", "remedy"),
        [
            ("expiration_tme", "did you mean 'expiration_time'"),
            ("qqq", "its arguments are"),
            ("backend", ""),
            ("_config_prefix", ""),
        ],
    )
    def test_an_unknown_one_is_told_with_the_nearest(self, wrong: str, remedy: str) -> None:
        with pytest.raises(TypeError, match=f"shared\\(\\) knows no argument '{wrong}'; .*{remedy}"):
            mpcache.shared("app", **{wrong: 1})
