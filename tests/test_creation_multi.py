"""Many keys at once, on every store: a test for each line of the contract about them."""

from __future__ import annotations

import functools
import logging
import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar

import pytest

import mpcache
from mpcache._region.creation_multi import MOST, Claim
from mpcache._region.fast_path import Access
from mpcache.api import NO_VALUE, Guarantees, Outcome
from mpcache.backends.memory import MemoryBackend
from mpcache.exception import (
    CantSerializeException,
    DeadlockError,
    DogpileCacheException,
    LockTimeout,
    ValueTooLarge,
)
from mpcache.mutexes.thread import ThreadMutex
from mpcache.util import sha1_mangle_key
from tests.conftest import PATIENCE, SHARED, Clock, Gate, Store, Waiters
from tests.test_region import Shared  # noqa: F401  # registers test.shared

Spawn = Callable[..., Future[Any]]
MakeGate = Callable[..., Gate]


def never(*keys: Any) -> Any:
    raise AssertionError(f"the creator was called for {keys}")


class Maker:
    """A creator of values that show their key, which records its calls."""

    def __init__(self, make: Callable[[Any], Any] = str.upper) -> None:
        self.make = make
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *keys: Any) -> list[Any]:
        self.calls.append(keys)
        return [self.make(key) for key in keys]


@pytest.fixture
def maker() -> Maker:
    return Maker()


class Recorder(mpcache.ProxyBackend):
    """A proxy that records the calls, and the number of keys in each."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def get_multi(self, keys: Any) -> Any:
        self.log.append(("get", len(keys)))
        return super().get_multi(keys)

    def set_multi(self, mapping: Any) -> None:
        self.log.append(("set", len(mapping)))
        super().set_multi(mapping)

    def delete_multi(self, keys: Any) -> None:
        self.log.append(("delete", len(keys)))
        super().delete_multi(keys)

    def get_serialized_multi(self, keys: Any) -> Any:
        self.log.append(("get", len(keys)))
        return super().get_serialized_multi(keys)

    def set_serialized_multi(self, mapping: Any) -> None:
        self.log.append(("set", len(mapping)))
        super().set_serialized_multi(mapping)

    def _single(self, *args: Any) -> Any:
        raise AssertionError("many keys go in one call")

    get = set = delete = get_serialized = set_serialized = _single


class TestGetSetDelete:
    def test_1_3_values_come_in_the_order_of_the_keys(self, store: Store) -> None:
        region = store.region()
        region.set_multi({"a": 1, "b": None, "c": 0})
        assert region.get_multi(["c", "x", "a", "b", "c"]) == [0, NO_VALUE, 1, None, 0]
        assert region.get_multi(key for key in "ab") == [1, None]
        assert region.get("b") is None

    def test_1_3_as_the_singles_mangled(self, store: Store) -> None:
        region, plain = store.region({"key_mangler": sha1_mangle_key}), store.region()
        region.set_multi({"a": 1, "b": 2})
        assert plain.get_multi([sha1_mangle_key("a"), "b"]) == [1, NO_VALUE]
        assert region.get_multi(["a", "b"]) == [1, 2]
        region.delete_multi(["a"])
        assert region.get_multi(["a", "b"]) == [NO_VALUE, 2]

    def test_C11_nothing_is_safe(self, store: Store) -> None:
        region = store.region(wrap=[Recorder])
        assert region.get_multi([]) == []
        region.set_multi({})
        assert region.get_or_create_multi([], never) == []
        assert region.backend.log == []
        region.delete_multi([])
        assert region.backend.log == [("delete", 0)]

    def test_1_3_deleting_what_is_not_there(self, store: Store) -> None:
        region = store.region()
        region.set("a", 1)
        region.delete_multi(key for key in ("a", "x", "a"))
        assert region.get("a") is NO_VALUE

    def test_1_3_one_time_for_all(self, store: Store) -> None:
        region = store.region()
        region.set_multi({"a": 1, "b": 2})
        assert len({region.get_value_metadata(key).cached_time for key in "ab"}) == 1

    def test_C10_the_callers_mapping_is_not_changed(self, store: Store) -> None:
        mapping = {"a": 1, "b": NO_VALUE, "c": [3]}
        store.region({"key_mangler": str.upper}).set_multi(mapping)
        assert mapping == {"a": 1, "b": NO_VALUE, "c": [3]}

    def test_NO_VALUE_is_not_stored_but_deletes(self, store: Store) -> None:
        region = store.region({"key_mangler": str.upper})
        region.set_multi({"a": 1, "b": 2})
        region.set_multi({"a": NO_VALUE, "b": 3, "c": NO_VALUE})
        assert region.get_multi(["a", "b", "c"], ignore_expiration=True) == [NO_VALUE, 3, NO_VALUE]
        region.set_multi({"b": NO_VALUE})
        assert region.get("b") is NO_VALUE

    def test_A2_A4_expiration_and_invalidation_are_honoured(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        region.set("old", 1)
        clock.forward(11)
        region.set("new", 2)
        both = ["old", "new"]
        assert region.get_multi(both) == [NO_VALUE, 2]
        assert region.get_multi(both, 20) == region.get_multi(both, -1) == [1, 2]
        assert region.get_multi(both, ignore_expiration=True) == [1, 2]
        for hard in (False, True):
            clock.forward(1)
            region.invalidate(hard)
            assert region.get_multi(both, 20) == [NO_VALUE, NO_VALUE]
            assert region.get_multi(both, ignore_expiration=True) == [1, 2]

    def test_1_8_proxies_see_the_calls_for_many(self, store: Store) -> None:
        region = store.region(wrap=[Recorder])
        region.set_multi({"a": 1, "b": 2})
        assert region.get_multi(["a", "b", "c"]) == [1, 2, NO_VALUE]
        region.delete_multi(["a", "b"])
        assert region.backend.log == [("set", 2), ("get", 3), ("delete", 2)]

    def test_one_that_cannot_be_serialized_stores_none(self, bytes_store: Store) -> None:
        region = bytes_store.region()
        with pytest.raises(CantSerializeException, match="'b', a lock"):
            region.set_multi({"a": 1, "b": threading.Lock(), "c": 3})
        assert region.get_multi("abc") == [NO_VALUE] * 3

    def test_A9_one_that_cannot_be_read_is_a_hole(self, bytes_store: Store) -> None:
        region = bytes_store.region()
        region.set_multi({"a": 1, "b": 2})
        region.backend.set_serialized("b", b'{"ct": 1.5, "v": 2}|cut off')
        assert region.get_multi("ab") == [1, NO_VALUE]
        assert region.get_or_create_multi("ab", lambda *keys: [7]) == [1, 7]
        assert region.mishaps.counts["undecodable"] >= 1

    def test_the_null_store_keeps_nothing(self, maker: Maker) -> None:
        region = mpcache.make_region().configure("mpcache.null")
        region.set_multi({"a": 1})
        assert region.get_multi("a") == [NO_VALUE]
        assert [region.get_or_create_multi("ba", maker) for _ in range(2)] == [["B", "A"]] * 2
        assert maker.calls == [("a", "b")] * 2


class Small(mpcache.ProxyBackend):
    """A store with a largest value, which raises at the first value that is larger."""

    def check(self, key: str, value: Any) -> None:
        if b"long" in (value if isinstance(value, bytes) else str(value).encode()):
            raise ValueTooLarge("over the maximum; configure more", key=key)

    def set(self, key: Any, value: Any) -> None:
        self.check(key, value)
        super().set(key, value)

    def set_multi(self, mapping: Any) -> None:
        for key, value in mapping.items():
            self.check(key, value)
        super().set_multi(mapping)

    def set_serialized(self, key: Any, value: Any) -> None:
        self.check(key, value)
        super().set_serialized(key, value)

    def set_serialized_multi(self, mapping: Any) -> None:
        for key, value in mapping.items():
            self.check(key, value)
        super().set_serialized_multi(mapping)


class TestTooLarge:
    @pytest.fixture(params=["by a proxy", "by the store", "by the store behind a proxy"])
    def limited(self, store: Store, request: pytest.FixtureRequest) -> tuple[Any, str]:
        """Return a region with a largest value, and a value that is larger."""
        if request.param == "by a proxy":
            return store.region(wrap=[Small]), "long"
        if store.name not in ("shm", "pymemcache"):
            pytest.skip("has no largest value")
        return store.region(wrap=[mpcache.ProxyBackend] if "behind" in request.param else []), "x" * 6_000_000

    def test_set_multi_stores_the_others_and_raises(self, limited: tuple[Any, str]) -> None:
        region, long = limited
        with pytest.raises(ValueTooLarge, match=r"key 'b'.*(configure|start the servers with)") as raised:
            region.set_multi({"a": 1, "b": long, "c": 3, "d": long})
        assert region.get_multi("abcd") == [1, NO_VALUE, 3, NO_VALUE]
        assert raised.value.key == "b"

    def test_get_or_create_multi_returns_all_and_stores_the_others(
        self, limited: tuple[Any, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        region, long = limited
        for _ in range(2):
            assert region.get_or_create_multi("cba", lambda *keys: [{"b": long}.get(key, key) for key in keys]) == [
                "c",
                long,
                "a",
            ]
            assert region.get_multi("abc") == ["a", NO_VALUE, "c"]
        assert not any(region.key_is_locked(key) for key in "abc")
        assert region.mishaps.counts["too_large"] == 2
        assert ["not cached" in r.getMessage() for r in caplog.records] == [True]


class TestGetOrCreateMulti:
    def test_D1_the_callers_order_with_duplicates_and_the_creators_sorted(self, store: Store, maker: Maker) -> None:
        region = store.region()
        region.set("b", "there")
        assert region.get_or_create_multi(["c", "a", "b", "c", "d"], maker) == ["C", "A", "there", "C", "D"]
        assert maker.calls == [("a", "c", "d")]
        assert region.get_or_create_multi("dcba", never) == ["D", "C", "there", "A"]

    def test_1_5_positional_order_is_contract(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=100)
        region.set("a", "old")
        clock.forward(5)
        assert region.get_or_create_multi(["a", "b"], Maker(), 3, lambda value: value == "A") == ["A", "B"]
        assert region.get_multi("ab") == ["A", NO_VALUE]

    def test_B1_looks_and_writes(self, store: Store, maker: Maker) -> None:
        region = store.region(wrap=[Recorder])
        region.get_or_create_multi("abc", maker)
        assert region.backend.log == [("get", 3), ("get", 3), ("set", 3)]
        region.backend.log.clear()
        region.get_or_create_multi("abcd", maker)
        assert region.backend.log == [("get", 4), ("get", 1), ("set", 1)]
        region.backend.log.clear()
        region.get_or_create_multi("abcd", never)
        assert region.backend.log == [("get", 4)]

    def test_1_5_keys_are_mangled_for_the_store_and_not_for_the_creator(self, store: Store, maker: Maker) -> None:
        region = store.region({"key_mangler": sha1_mangle_key})
        assert region.get_or_create_multi("ba", maker) == ["B", "A"]
        assert maker.calls == [("a", "b")]
        assert store.region().get(sha1_mangle_key("a")) == "A"

    def test_two_keys_that_are_one_for_the_store(self, store: Store) -> None:
        region = store.region({"key_mangler": str.upper}, creation_wait=0)
        assert region.get_or_create_multi(["a", "A", "b"], lambda *keys: keys) in (["a", "a", "b"], ["A", "A", "b"])

    def test_a_generator_is_as_good_as_a_list(self, store: Store, maker: Maker) -> None:
        assert store.region().get_or_create_multi((key for key in "ba"), maker) == ["B", "A"]

    def test_1_5_keys_that_cannot_be_sorted(self, store: Store) -> None:
        with pytest.raises(TypeError, match=r"the creator gets its keys sorted.*'<' not supported.*of one type"):
            store.region().get_or_create_multi([1, "a"], never)  # type: ignore[list-item]

    def test_D10_whole_numbers_where_the_store_takes_them(self, maker: Maker) -> None:
        region = mpcache.make_region().configure("mpcache.memory")
        assert region.get_or_create_multi([10, 9], Maker(str)) == ["10", "9"]  # type: ignore[list-item]
        assert region.get_multi([9]) == ["9"]  # type: ignore[list-item]

    def test_D4_all_keys_are_held_while_the_creator_runs(self, store: Store) -> None:
        region = store.region({"key_mangler": str.upper})
        seen = region.get_or_create_multi("abc", lambda *keys: [region.key_is_locked(key) for key in "abcd"][:3])
        assert seen == [True] * 3
        assert not any(region.key_is_locked(key) for key in "abc")

    def test_D5_should_cache_fn_is_asked_for_each_value(self, store: Store, maker: Maker) -> None:
        region = store.region()
        assert region.get_or_create_multi("abc", maker, None, lambda value: value != "B") == ["A", "B", "C"]
        assert region.get_multi("abc") == ["A", NO_VALUE, "C"]

    def test_D5_where_nothing_is_left_nothing_is_written(self, store: Store, maker: Maker) -> None:
        region = store.region(wrap=[Recorder])
        region.get_or_create_multi("ab", maker, None, lambda value: False)
        assert [call for call, _ in region.backend.log] == ["get", "get"]

    def test_D7_what_a_proxy_does_to_the_mapping_is_not_in_the_result(self, store: Store, maker: Maker) -> None:
        class Meddler(mpcache.ProxyBackend):
            def set_multi(self, mapping: Any) -> None:
                super().set_multi(mapping)
                mapping.clear()

            def set_serialized_multi(self, mapping: Any) -> None:
                super().set_serialized_multi(mapping)
                mapping.clear()

        region = store.region(wrap=[Meddler])
        assert region.get_or_create_multi("ab", maker) == ["A", "B"]
        assert region.get_multi("ab") == ["A", "B"]

    def test_D8_the_background_runner_has_no_part_in_it(self, store: Store, clock: Clock, maker: Maker) -> None:
        region = store.region({"async_creation_runner": never}, expiration_time=10)
        region.set("a", "old")
        clock.forward(11)
        assert region.get_or_create_multi("ab", maker) == ["A", "B"]

    def test_1_5_a_short_result(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        region.set("c", "stale")
        clock.forward(11)
        assert region.get_or_create_multi("abc", lambda *keys: ["A"]) == ["A", NO_VALUE, "stale"]
        assert region.get_multi("abc", ignore_expiration=True) == ["A", NO_VALUE, "stale"]
        assert not any(region.key_is_locked(key) for key in "abc")

    def test_1_5_a_long_result_and_one_that_is_generated(self, store: Store) -> None:
        region = store.region()
        assert region.get_or_create_multi("ab", lambda *keys: (str.upper(key) for key in "abcd")) == ["A", "B"]
        assert region.get_multi("abc") == ["A", "B", NO_VALUE]

    def test_NO_VALUE_among_the_results_is_returned_and_not_stored(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10)
        region.set("a", "stale")
        clock.forward(11)
        assert region.get_or_create_multi("ab", lambda *keys: [NO_VALUE, "B"], None, bool) == [NO_VALUE, "B"]
        assert region.get_multi("ab", ignore_expiration=True) == ["stale", "B"]

    def test_1_5_more_keys_than_one_round_holds(self, store: Store, maker: Maker) -> None:
        region = store.region()
        keys = [f"{number:04}" for number in range(2 * MOST + 3)]
        assert region.get_or_create_multi(reversed(keys), maker) == keys[::-1]
        assert [len(call) for call in maker.calls] == [MOST, MOST, 3]
        assert [key for call in maker.calls for key in call] == keys

    def test_1_1_what_is_logged(self, store: Store, caplog: pytest.LogCaptureFixture, maker: Maker) -> None:
        caplog.set_level(logging.DEBUG, "mpcache.region")
        store.region({"key_mangler": sha1_mangle_key}).get_or_create_multi("ba", maker)
        texts = [r.getMessage() for r in caplog.records if r.name == "mpcache.region"]
        assert sorted(texts[:-1]) == [f"No value present for key: {key!r}" for key in "aabb"]  # two looks
        assert texts[-1].endswith("for key(s): ['a', 'b']")


class TestWhoCreates:
    def test_D2_what_another_makes_is_waited_for_and_not_made_again(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate, maker: Maker
    ) -> None:
        region = store.region(mutex=waiters)
        creator = gate(lambda: ["from the other"] * 2)
        first = spawn(region.get_or_create_multi, "ab", creator)
        creator.wait_for_entry()
        second = spawn(region.get_or_create_multi, "bcd", maker)
        waiters.wait_for(1)
        assert region.get_multi("cd") == ["C", "D"]  # published before it waits
        assert not region.key_is_locked("c")  # and it holds nothing then
        creator.open()
        assert first.result(PATIENCE) == ["from the other"] * 2
        assert second.result(PATIENCE) == ["from the other", "C", "D"]
        assert maker.calls == [("c", "d")]

    def test_D2_made_between_the_look_and_the_claim(self, store: Store, maker: Maker) -> None:
        class Quick(mpcache.ProxyBackend):
            """Let another task create a value between the two looks."""

            looks = 0

            def both(self, keys: Any, look: Callable[[Any], Any], other: Any) -> Any:
                self.looks += 1
                if self.looks == 2:
                    other.set("a", "quick")
                return look(keys)

            def get_multi(self, keys: Any) -> Any:
                return self.both(keys, super().get_multi, other)

            def get_serialized_multi(self, keys: Any) -> Any:
                return self.both(keys, super().get_serialized_multi, other)

        region, other = store.region(wrap=[Quick]), store.region()
        assert region.get_or_create_multi("ab", maker) == ["quick", "B"]
        assert maker.calls == [("b",)]

    def test_B2_stale_values_are_served_while_others_make_new_ones(
        self, store: Store, clock: Clock, spawn: Spawn, gate: MakeGate, maker: Maker
    ) -> None:
        region = store.region(expiration_time=10)
        region.set_multi({"a": "old a", "b": "old b"})
        clock.forward(11)
        creator = gate(lambda: ["new a"])
        slow = spawn(region.get_or_create_multi, "a", creator)
        creator.wait_for_entry()
        assert region.get_or_create_multi("cab", maker) == ["C", "old a", "B"]
        assert maker.calls == [("b", "c")]
        creator.open()
        assert slow.result(PATIENCE) == region.get_multi("a") == ["new a"]

    def test_D3_an_error_at_the_third_mutex_releases_the_two_before(self, store: Store) -> None:
        made: list[ThreadMutex] = []

        def factory(key: str) -> ThreadMutex:
            if key == "c":
                raise ConnectionError("no server")
            made.append(ThreadMutex(key))
            return made[-1]

        region = store.region(mutex=factory)
        with pytest.raises(ConnectionError, match="no server"):
            region.get_or_create_multi("dcba", never)
        assert [(mutex.key, mutex.locked()) for mutex in made] == [("a", False), ("b", False)]

    def test_D3_an_error_of_one_release_keeps_none_of_the_others(self, store: Store, maker: Maker) -> None:
        held: set[str] = set()

        class Mutex:
            def __init__(self, key: str) -> None:
                self.key = key

            def acquire(self, wait: bool = True) -> bool:
                held.add(self.key)
                return True

            def release(self) -> None:
                held.remove(self.key)
                if self.key == "b":
                    raise ConnectionError("no server")

        region = store.region(mutex=Mutex)
        with pytest.raises(ConnectionError, match="no server"):
            region.get_or_create_multi("abc", maker)
        assert held == set()
        assert region.get_multi("abc") == ["A", "B", "C"]

    def test_B4_a_creator_that_raises_lets_go_and_another_one_creates(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate, maker: Maker
    ) -> None:
        region = store.region(mutex=waiters)
        creator = gate(lambda: 1 // 0)
        first = spawn(region.get_or_create_multi, "ab", creator)
        creator.wait_for_entry()
        second = spawn(region.get_or_create_multi, "ba", maker)
        waiters.wait_for(1)
        creator.open()
        with pytest.raises(ZeroDivisionError):
            first.result(PATIENCE)
        assert second.result(PATIENCE) == ["B", "A"]
        assert [key for call in maker.calls for key in call].count("a") == 1

    def test_B5_what_is_not_stored_makes_nobody_queue(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate
    ) -> None:
        """Check that all three creators run at the same time, which they could not do if they queued."""
        region = store.region(mutex=waiters)
        together = threading.Barrier(3, timeout=PATIENCE)

        def alone(*keys: str) -> list[str]:
            together.wait()
            return ["refused"] * len(keys)

        creator = gate(lambda: ["refused"])

        def refuse(value: Any) -> bool:
            return False

        first = spawn(region.get_or_create_multi, "a", creator, None, refuse)
        creator.wait_for_entry()
        rest = [spawn(region.get_or_create_multi, "a", alone, None, refuse) for _ in range(3)]
        waiters.wait_for(3)
        creator.open()
        assert [one.result(PATIENCE) for one in (first, *rest)] == [["refused"]] * 4
        assert region.mishaps.counts["created_alone"] == 2
        assert not region.key_is_locked("a")

    def test_one_and_many_wait_for_each_other(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate, maker: Maker
    ) -> None:
        region = store.region(mutex=waiters)
        creator = gate(lambda: ["of many"] * 2)
        many = spawn(region.get_or_create_multi, "ab", creator)
        creator.wait_for_entry()
        one = spawn(region.get_or_create, "a", never)
        waiters.wait_for(1)
        creator.open()
        assert [many.result(PATIENCE), one.result(PATIENCE)] == [["of many"] * 2, "of many"]
        single = gate(lambda: "of one")
        one = spawn(region.get_or_create, "c", single)
        single.wait_for_entry()
        many = spawn(region.get_or_create_multi, "cd", maker)
        waiters.wait_for(1)
        single.open()
        assert many.result(PATIENCE) == ["of one", "D"]

    def test_B8_a_creator_may_ask_for_other_keys(self, store: Store, maker: Maker) -> None:
        region = store.region()
        assert region.get_or_create_multi("ab", lambda *keys: region.get_or_create_multi("cd", maker)) == ["C", "D"]
        assert region.get_multi("abcd") == ["C", "D", "C", "D"]

    def test_B8_a_creator_that_asks_for_a_key_of_its_own_is_told(self, store: Store, maker: Maker) -> None:
        region = store.region()
        with pytest.raises(DeadlockError, match="'b'"):
            region.get_or_create_multi("ab", lambda *keys: region.get_or_create_multi("bc", maker))
        with pytest.raises(DeadlockError, match="'a'"):
            region.get_or_create("a", lambda: region.get_or_create_multi("ad", maker))
        assert not any(region.key_is_locked(key) for key in "abcd")
        assert region.get_multi("abcd") == [NO_VALUE, NO_VALUE, "C", "D"]

    def test_one_that_cannot_be_serialized_lets_go_of_all_and_stores_none(self, bytes_store: Store) -> None:
        region = bytes_store.region()
        with pytest.raises(CantSerializeException, match="'b', a lock"):
            region.get_or_create_multi("abc", lambda *keys: [1, threading.Lock(), 3])
        assert not any(region.key_is_locked(key) for key in "abc")
        assert region.get_multi("abc") == [NO_VALUE] * 3

    def test_should_cache_fn_that_raises_lets_go_of_all(self, store: Store, maker: Maker) -> None:
        region = store.region()
        with pytest.raises(ZeroDivisionError):
            region.get_or_create_multi("ab", maker, None, lambda value: 1 // 0)
        assert not any(region.key_is_locked(key) for key in "ab")
        assert region.get_multi("ab") == [NO_VALUE] * 2


class TestPatience:
    def test_F8_a_wait_has_an_end_and_what_was_made_is_stored(self, store: Store, spawn: Spawn, maker: Maker) -> None:
        region = store.region(creation_wait=0.01)
        with region._mutex("a"):
            with pytest.raises(LockTimeout, match=r"'a'.*within 0.01 s \(creation_wait\)"):
                spawn(region.get_or_create_multi, "ab", maker).result(PATIENCE)
        assert region.get_multi("ab") == [NO_VALUE, "B"]
        assert not region.key_is_locked("b")

    def test_F8_it_is_the_end_of_all_waiting_in_the_call(self, store: Store) -> None:
        """Check that each wait gets the time that the waits before it have left."""
        left: list[float] = []

        class Slow(ThreadMutex):
            def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
                return False

            def contend(self, timeout: float | None = None) -> Any:
                assert timeout is not None
                left.append(timeout)
                return super().contend(timeout) if len(left) > 9 else mpcache.api.Outcome.RELEASED  # type: ignore[attr-defined]

        region = store.region(mutex=lambda key: Slow(key), creation_wait=60)
        assert region.get_or_create_multi("a", lambda *keys: ["made"]) == ["made"]
        assert left == sorted(left, reverse=True)
        assert 0 < left[-1] < left[0] <= 60

    def test_F8_a_value_that_came_meanwhile_is_served(self, store: Store, clock: Clock) -> None:
        region = store.region(expiration_time=10, creation_wait=5)
        for worth, age in [("fresh", 0), ("stale", 11)]:

            class Late(ThreadMutex):
                def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
                    return False

                def contend(self, timeout: float | None = None) -> Any:
                    region.set("a", worth)  # noqa: B023
                    clock.forward(age)  # noqa: B023
                    return mpcache.api.Outcome.TIMEOUT  # type: ignore[attr-defined]

            region.delete("a")
            region.access = Access(region.binding._replace(make_mutex=Late), None)
            assert region.get_or_create_multi("a", never) == [worth]

    def test_no_limit(self, store: Store, maker: Maker) -> None:
        class Free(ThreadMutex):
            def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
                return False

            def contend(self, timeout: float | None = None) -> Any:
                assert timeout is None
                return super().contend(timeout)

        region = store.region(mutex=lambda key: Free(key), creation_wait=None)
        assert region.get_or_create_multi("a", maker) == ["A"]
        assert not region.key_is_locked("a")


class TestInvalidation:
    def test_C1_hard_makes_all_wait_for_the_new_value(
        self, store: Store, spawn: Spawn, waiters: Waiters, gate: MakeGate, clock: Clock, maker: Maker
    ) -> None:
        region = store.region(expiration_time=60, mutex=waiters)
        region.set_multi({"a": "old", "b": "old"})
        clock.forward(1)
        region.invalidate()
        clock.forward(1)
        creator = gate(lambda: ["new a"])
        first = spawn(region.get_or_create_multi, "a", creator)
        creator.wait_for_entry()
        second = spawn(region.get_or_create_multi, "ab", maker)
        waiters.wait_for(1)
        creator.open()
        assert [first.result(PATIENCE), second.result(PATIENCE)] == [["new a"], ["new a", "B"]]

    def test_C1_soft_serves_the_stale_value_while_one_creates(self, store: Store, clock: Clock, maker: Maker) -> None:
        region = store.region(expiration_time=60)
        region.set_multi({"a": "old", "b": "old"})
        clock.forward(1)
        region.invalidate(hard=False)
        clock.forward(1)
        with region._mutex("a"):
            assert region.get_or_create_multi("ab", maker) == ["old", "B"]

    @pytest.mark.parametrize("forever", [None, -1])
    @pytest.mark.parametrize("keys", ["ab", "cd", "ad"])
    def test_C1_D3_soft_needs_an_expiration_time(self, store: Store, forever: Any, keys: str, clock: Clock) -> None:
        region = store.region(expiration_time=forever)
        region.set_multi({"a": 1, "b": 2})
        clock.forward(1)
        region.invalidate(hard=False)
        clock.forward(1)
        for _ in range(2):
            with pytest.raises(DogpileCacheException, match="Non-None expiration time required for soft invalidation"):
                region.get_or_create_multi(keys, lambda *keys: [5] * len(keys))
            assert not any(region.key_is_locked(key) for key in keys)
        assert region.get_or_create_multi(keys, lambda *keys: [5] * len(keys), 10) == [5, 5]

    def test_C2_soft_after_hard_does_not_bring_back_what_hard_forbade(
        self, store: Store, clock: Clock, maker: Maker
    ) -> None:
        region = store.region(expiration_time=60, creation_wait=0)
        region.set("a", "old")
        for hard in (True, False):
            clock.forward(1)
            region.invalidate(hard)
        with region._mutex("a"), pytest.raises((LockTimeout, DeadlockError)):
            region.get_or_create_multi("a", maker)


@pytest.mark.parametrize("wrap", [[], [mpcache.ProxyBackend]], ids=["direct", "behind a proxy"])
class TestFills:
    """The region's duties to a store that guards its fills."""

    def region(self, wrap: list[Any], **kw: Any) -> Any:
        return mpcache.make_region(**kw).configure("test.shared", 60, wrap=wrap)

    def test_each_key_has_a_guard_of_its_own(self, wrap: list[Any], maker: Maker) -> None:
        region = self.region(wrap)
        region.set("b", "there")
        assert region.get_or_create_multi("abc", maker) == ["A", "there", "C"]
        assert [(g.key, g.outcome, g.closed) for g in region.actual_backend.guards] == [("a", True, 1), ("c", True, 1)]
        assert mpcache.api.current_fill.get() is None  # type: ignore[attr-defined]

    def test_guards_are_closed_also_when_nothing_comes_of_it(self, wrap: list[Any], maker: Maker) -> None:
        region = self.region(wrap)
        with pytest.raises(ZeroDivisionError):
            region.get_or_create_multi("ab", lambda *keys: 1 // 0)
        region.get_or_create_multi("ab", maker, None, lambda value: False)
        assert [(g.outcome, g.closed) for g in region.actual_backend.guards] == [(None, 1)] * 4

    def test_what_was_changed_meanwhile_is_not_overwritten(self, wrap: list[Any], store: Store) -> None:
        refuses = store.name in ("shm", "redis", "pymemcache")  # and needs no store from the test
        for region in (self.region(wrap), store.region(wrap=wrap) if refuses else self.region(wrap)):

            def creator(*keys: str) -> Any:
                region.delete("a")  # noqa: B023
                region.set("b", "newer")  # noqa: B023
                return ["older"] * 3

            assert region.get_or_create_multi("abc", creator) == ["older"] * 3
            assert region.get_multi("abc") == [NO_VALUE, "newer", "older"]

    def test_F1_a_creation_that_began_before_an_invalidation_is_as_old_as_that(
        self, wrap: list[Any], maker: Maker
    ) -> None:
        region = self.region(wrap)
        region.get_or_create_multi("ab", lambda *keys: [region.invalidate(), 2])
        assert region.get_multi("ab") == [NO_VALUE] * 2
        assert region.get_or_create_multi("ab", maker) == region.get_multi("ab") == ["A", "B"]


class TestAllAtOnce:
    """Check that each key is created once in each generation, when threads ask for overlapping sets of keys."""

    KEYS = [f"key {number}" for number in range(12)]

    def ask(self, region: Any, seed: int, note: Callable[[str], object]) -> None:
        chance = random.Random(seed)
        for generation in range(6):

            def create(*keys: str) -> list[str]:
                for key in keys:
                    note(key)
                return list(keys)

            wanted = [f"{generation} {key}" for key in chance.choices(self.KEYS, k=7)]
            assert region.get_or_create_multi(wanted, create) == wanted

    def test_by_threads(self, store: Store, spawn: Spawn) -> None:
        region, made = store.region(), []
        for future in [spawn(self.ask, region, seed, made.append) for seed in range(8)]:
            future.result(PATIENCE)
        assert len(made) == len(set(made)) > 60

    def test_by_processes(self, store: Store) -> None:
        if store.name not in SHARED:
            pytest.skip("shared with no process")
        region = store.region()
        told, telling = os.pipe()
        children = [
            in_a_child(lambda: self.ask(region, seed, lambda key: os.write(telling, f"{key}\n".encode())))  # noqa: B023
            for seed in range(6)
        ]
        os.close(telling)
        with open(told) as lines:
            made = lines.read().splitlines()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
        assert len(made) == len(set(made)) > 50

    def test_F6_the_death_of_a_creator_frees_all_its_keys(self, store: Store, maker: Maker) -> None:
        if store.name not in SHARED:
            pytest.skip("shared with no process")
        brief = {"lock_timeout": 1} if store.name in ("redis", "pymemcache") else {}
        region = store.region(arguments=store.arguments | brief)
        told, telling = os.pipe()

        def hang(*keys: str) -> Any:
            os.write(telling, b".")
            signal.pause()

        child = in_a_child(lambda: region.get_or_create_multi("abc", hang))
        assert os.read(told, 1) == b"."
        assert [region.key_is_locked(key) for key in "abcd"] == [True, True, True, False]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert region.get_or_create_multi("dcba", maker) == ["D", "C", "B", "A"]
        os.close(told)
        os.close(telling)


def in_a_child(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


class Told:
    """A mutex that records whether the value was stored."""

    def __init__(self, log: dict[Any, Any], key: Any) -> None:
        self.log, self.key = log, key

    def acquire(self, wait: bool = True) -> bool:
        assert wait is False, "nothing is waited for while anything is held"
        return True

    def contend(self, timeout: float | None) -> Any:
        raise AssertionError("no other task is here")

    def release(self, stored: bool = True) -> None:
        self.log[self.key] = stored


class TestThoseWhoWaitLearn:
    """Check the argument of each release: whether waiting tasks look again, or create at once."""

    @pytest.fixture
    def told(self) -> dict[Any, Any]:
        return {}

    @pytest.fixture
    def region(self, store: Store, told: dict[Any, Any]) -> mpcache.CacheRegion:
        return store.region(mutex=lambda key: Told(told, key))

    def test_of_each_key_by_itself(self, region: Any, told: dict[Any, Any], maker: Maker) -> None:
        region.set("c", "there")
        assert region.get_or_create_multi("abc", maker, should_cache_fn=lambda value: value == "A") == [
            "A",
            "B",
            "there",
        ]
        assert told == {"a": True, "b": False}

    def test_that_another_was_quicker(self, region: Any, told: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Told, "acquire", lambda self, wait=True: region.set(self.key, "quick") or True)
        assert region.get_or_create_multi("ab", never) == ["quick", "quick"]
        assert told == {"a": True, "b": True}

    def test_that_the_creator_failed(self, region: Any, told: dict[Any, Any]) -> None:
        with pytest.raises(ZeroDivisionError):
            region.get_or_create_multi("ab", lambda *keys: 1 / 0)
        assert told == {"a": True, "b": True}  # they contend again

    def test_that_the_serializer_failed(self, told: dict[Any, Any], bytes_store: Store) -> None:
        region = bytes_store.region(mutex=lambda key: Told(told, key))
        with pytest.raises(CantSerializeException):
            region.get_or_create_multi("ab", lambda *keys: [1, lambda: None])
        assert [told[key] is False for key in "ab"] == [True, True]

    def test_that_the_store_refused_it(self, told: dict[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
        region = mpcache.make_region(key_mangler=str.upper)
        region.configure("mpcache.memory_pickle", arguments={"max_bytes": 100}, mutex=lambda key: Told(told, key))
        assert region.get_or_create_multi("ab", lambda *keys: [1, "x" * 200]) == [1, "x" * 200]
        assert told == {"A": True, "B": False}
        assert region.mishaps.counts["too_large"] == 1
        assert "The value of key 'b' is returned" in caplog.text
        assert "max_bytes is 100" in caplog.text

    def test_that_a_fill_was_refused(self, store: Store, region: Any, told: dict[Any, Any]) -> None:
        def create(*keys: Any) -> list[Any]:
            region.set("a", "set meanwhile")
            return ["late", "made"]

        assert region.get_or_create_multi("ab", create) == ["late", "made"]
        refuses = store.name != "redis"  # which is a duty under its own mutex only
        assert told == {"a": not refuses, "b": True}


def test_one_patience_for_all_that_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now, patience = [100.0], []

    class Busy(Told):
        def acquire(self, wait: bool = True) -> bool:
            return False

        def contend(self, timeout: float | None) -> Any:
            patience.append(timeout)
            now[0] += 3
            if len(patience) == 3:
                region.set(self.key, "made elsewhere")
            return Outcome.RELEASED

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    region = mpcache.make_region().configure("mpcache.memory", mutex=lambda key: Busy({}, key), creation_wait=5)
    assert region.get_or_create_multi(["a"], never) == ["made elsewhere"]
    assert patience == [5, 2.0, 0.0]


def test_D1_keys_are_tried_in_the_order_of_what_they_are_to_the_store() -> None:
    told: dict[Any, Any] = {}
    region = mpcache.make_region(key_mangler={"a": "3", "b": "1", "c": "2"}.get)
    region.configure("mpcache.memory", mutex=lambda key: Told(told, key))
    assert region.get_or_create_multi("abc", lambda *keys: keys) == ["a", "b", "c"]
    assert list(told) == ["3", "2", "1"]  # they are released in the opposite order


def test_the_first_key_that_another_has_is_waited_for_first() -> None:
    waited: list[Any] = []

    class Busy(Told):
        def acquire(self, wait: bool = True) -> bool:
            return False

        def contend(self, timeout: float | None) -> Any:
            waited.append(self.key)
            region.set(self.key, "made elsewhere")
            return Outcome.RELEASED

    region = mpcache.make_region().configure("mpcache.memory", mutex=lambda key: Busy({}, key))
    assert region.get_or_create_multi("cab", never) == ["made elsewhere"] * 3
    assert waited == ["a", "b", "c"]


def test_what_was_stale_and_is_gone_is_not_served(store: Store, clock: Clock) -> None:
    class Deleting(Told):
        def acquire(self, wait: bool = True) -> bool:
            region.delete(self.key)
            return True

    region = store.region(mutex=lambda key: Deleting({}, key), expiration_time=5)
    region.set("a", "old")
    clock.forward(6)
    assert region.get_or_create_multi(["a"], lambda *keys: []) == [NO_VALUE]


class Short(MemoryBackend):
    """A store that returns values for all keys but the last."""

    def get_multi(self, keys: Any) -> Any:
        return super().get_multi(keys)[:-1]


def test_a_store_that_answers_for_fewer_keys_is_not_believed() -> None:
    mpcache.register_backend("test.short", __name__, "Short")
    region = mpcache.make_region().configure("test.short")
    with pytest.raises(ValueError):
        region.get_or_create_multi("ab", never)


# -- after the time limit -------------------------------------------------------------------------------------------


class Timed(Told):
    """A mutex whose acquire takes ten seconds, and which another task holds if its key is in ``busy``."""

    tried: ClassVar[list[Any]] = []
    busy: ClassVar[set[str]] = set()
    now: ClassVar[list[float]] = [100.0]

    def acquire(self, wait: bool = True) -> bool:
        self.tried.append(self.key)
        self.now[0] += 10
        return self.key not in self.busy and super().acquire(wait)

    def contend(self, timeout: float | None) -> Any:
        self.tried.append(f"wait for {self.key} for {timeout}")
        return Outcome.RELEASED


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Any:
    """Return a region with these mutexes, whose values "old" are stale."""
    for name, start in (("tried", []), ("busy", set()), ("now", [100.0])):
        monkeypatch.setattr(Timed, name, start)
    monkeypatch.setattr("time.monotonic", lambda: Timed.now[0])
    region = mpcache.make_region("late").configure(
        "mpcache.memory", expiration_time=60, mutex=lambda key: Timed({}, key), creation_wait=5
    )
    region.set_multi(dict.fromkeys("abc", "old"))
    clock.forward(61)
    return region


def test_F8_what_is_not_tried_in_time_is_served_stale(timed: Any) -> None:
    """Let the first acquire take longer than the time and GRACE: the other keys are not tried, their values served."""
    assert timed.get_or_create_multi("abc", lambda *keys: [f"new {key}" for key in keys]) == ["new a", "old", "old"]
    assert Timed.tried == ["a"]
    assert timed.get_multi("abc") == ["new a", NO_VALUE, NO_VALUE]


def test_F8_all_that_is_not_tried_in_time_is_served_without_another_look(timed: Any) -> None:
    looks, store = [], timed.actual_backend
    get_multi = store.get_multi
    store.get_multi = lambda keys: looks.append(len(keys)) or get_multi(keys)
    assert timed.get_or_create_multi("abc", lambda *keys: [f"new {key}" for key in keys]) == ["new a", "old", "old"]
    assert looks == [3, 1]


def test_F8_what_is_not_tried_in_time_and_not_there_is_still_tried(timed: Any) -> None:
    timed.delete_multi("bc")
    assert timed.get_or_create_multi("abc", lambda *keys: [f"new {key}" for key in keys]) == ["new a", "new b", "new c"]
    assert Timed.tried == ["a", "b", "c"]


def test_F8_when_one_is_busy_and_the_time_is_over_no_other_is_tried(timed: Any) -> None:
    timed.delete_multi("abc")
    Timed.busy.add("a")
    with pytest.raises(LockTimeout):
        timed.get_or_create_multi("abc", lambda *keys: [f"new {key}" for key in keys])
    assert Timed.tried == ["a", "wait for a for 0.0"]


def test_to_create_is_not_to_wait(timed: Any) -> None:
    """Let the creator of b take an hour: the wait for a, which another task creates, gets all the time left before."""
    Timed.now[0], Timed.busy = 100.0, {"a"}
    timed.delete_multi("ab")
    timed.creation_wait = 30

    def creator(*keys: str) -> list[str]:
        Timed.now[0] += 3600
        timed.set("a", "made elsewhere")
        return [f"new {key}" for key in keys]

    assert timed.get_or_create_multi("ab", creator) == ["made elsewhere", "new b"]
    assert Timed.tried == ["a", "b", "wait for a for 10.0"]


# -- one claim -------------------------------------------------------------------------------------------------------


class Scripted:
    """A mutex that returns what the test sets, and records its calls."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome, self.log = outcome, []  # type: ignore[var-annotated]

    def contend(self, timeout: float | None) -> Outcome:
        self.log.append(("contend", timeout))
        return self.outcome

    def release(self, stored: bool) -> None:
        self.log.append(("release", stored))

    def abandon(self) -> None:
        self.log.append("abandon")


@pytest.mark.parametrize(
    ("outcome", "end"), [(Outcome.ACQUIRED, [("release", True), "abandon"]), (Outcome.RELEASED, ["abandon", "abandon"])]
)
def test_a_claim_gives_back_what_it_holds_once(outcome: Outcome, end: list[Any]) -> None:
    mutex = Scripted(outcome)
    claim = Claim(mutex)
    assert claim.held is False
    assert claim.wait(2.5) is outcome
    assert claim.held is (outcome is Outcome.ACQUIRED)
    claim.release()
    assert claim.held is False
    claim.release()
    assert mutex.log == [("contend", 2.5), *end]


def test_a_value_whose_mutex_was_lost_meanwhile_is_returned_and_not_stored() -> None:
    class Lost(Told):
        guarantees = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=1.0, leased=True)

        def owned(self) -> bool:
            return self.key != "b"

    region = mpcache.make_region().configure("mpcache.memory", mutex=lambda key: Lost({}, key))
    assert region.get_or_create_multi("ab", lambda *keys: keys) == ["a", "b"]
    assert region.get_multi("ab") == ["a", NO_VALUE]


def unordered(*keys: str) -> set[str]:
    """Return a set, a result without order."""
    return set(keys)


@pytest.mark.parametrize(
    ("creator", "name"), [(unordered, "unordered"), (functools.partial(unordered), r"functools\.partial\(.*")]
)
def test_the_creator_is_named_in_its_errors(creator: Any, name: str) -> None:
    region = mpcache.make_region().configure("mpcache.memory")
    with pytest.raises(TypeError, match=rf"^the creator {name} returned a set"):
        region.get_or_create_multi("ab", creator)
