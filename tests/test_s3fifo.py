"""The dict of limited size: against a plain dict, in a scan, among threads, over a fork."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcache._support import s3fifo as bounded
from mpcache._support.s3fifo import BoundedDict
from mpcache.exception import ValidationError, ValueTooLarge

KEYS = st.integers(0, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.binary(max_size=9)),
        st.tuples(st.sampled_from(["get", "pop"]), KEYS, st.none()),
    ),
    max_size=60,
)


def check(cache: BoundedDict) -> None:
    """Check the invariants that hold while no thread changes the dict."""
    queued = [*cache._small, *cache._main]
    assert sorted(queued, key=repr) == sorted(cache, key=repr)
    assert cache.bytes == sum(entry.size for entry in cache._entries.values())
    assert cache.max_entries is None or len(cache) <= cache.max_entries
    assert cache.max_bytes is None or cache.bytes <= cache.max_bytes
    assert len(cache._ghosts) <= max(1, len(cache._entries) + 1)
    assert not set(cache._ghosts) & set(cache)


@given(st.one_of(st.none(), st.integers(1, 8)), st.one_of(st.none(), st.integers(9, 40)), STEPS)
def test_it_has_what_a_dict_has_or_nothing(entries: int | None, size: int | None, steps: Any) -> None:
    cache, model = BoundedDict(entries, size), {}
    for what, key, value in steps:
        if what == "set":
            cache[key] = model[key] = value
            assert cache[key] == value
        elif what == "pop":
            assert cache.pop(key, None) in (None, model.pop(key, None))
            assert key not in cache
        else:
            assert cache.get(key) in (None, model.get(key))
        check(cache)
    assert set(cache.items()) <= set(model.items())
    if entries is size is None:
        assert dict(cache) == model


def test_it_is_a_mapping() -> None:
    cache = BoundedDict(max_entries=3)
    cache.update(a=1, b=2)
    assert [cache["a"], "a" in cache, "x" in cache, len(cache), sorted(cache)] == [1, True, False, 2, ["a", "b"]]
    del cache["a"]
    for missing in (lambda: cache["a"], lambda: cache.pop("a"), lambda: cache.__delitem__("a")):
        with pytest.raises(KeyError, match="'a'"):
            missing()
    assert cache.get("a", 7) == 7
    cache.clear()
    assert [dict(cache), cache.bytes] == [{}, 0]


def test_what_is_used_survives_a_scan() -> None:
    cache = BoundedDict(max_entries=100)
    for key in range(80):
        cache[key] = key
        cache.get(key)
    for key in range(1000, 3000):
        cache[key] = key
    assert sum(key in cache for key in range(80)) == 80


def test_what_is_used_no_more_goes_in_the_end() -> None:
    cache = BoundedDict(max_entries=10)
    for key in range(10):
        cache[key] = key
        cache.get(key)
    for key in range(100, 400):
        cache[key] = key
        cache.get(key)
    assert not any(key in cache for key in range(10))


def test_who_comes_back_soon_stays() -> None:
    cache = BoundedDict(max_entries=10)
    for key in range(11):
        cache[key] = key
    assert 0 not in cache
    cache[0] = 0
    for key in range(100, 200):
        cache[key] = key
    assert 0 in cache


def test_one_entry_is_the_last_one() -> None:
    cache = BoundedDict(max_entries=1)
    for key in "aabcab":
        cache[key] = key
        cache.get(key)
        assert list(cache) == [key]


def test_a_hit_ratio_that_fifo_does_not_have() -> None:
    """Send nine of ten look-ups to a tenth of the keys; the seed is fixed, and so is the hit ratio."""
    dice = random.Random(7)
    asked = [dice.randrange(100) if dice.random() < 0.9 else dice.randrange(1000) for _ in range(20_000)]
    cache, fifo, hits, fifo_hits = BoundedDict(max_entries=100), dict.fromkeys(range(-100, 0)), 0, 0
    for key in asked:
        hits += cache.get(key) is not None
        cache[key] = True
        fifo_hits += key in fifo
        if key not in fifo:
            del fifo[next(iter(fifo))]
            fifo[key] = None
    assert hits > 15_500 > 13_500 > fifo_hits, (hits, fifo_hits)


def test_a_value_over_the_bound_is_refused_and_the_old_one_stays() -> None:
    cache = BoundedDict(max_bytes=3)
    cache["a"] = b"old"
    with pytest.raises(ValueTooLarge, match="key 'a' has 4 bytes, and max_bytes is 3") as refused:
        cache["a"] = b"more"
    assert [cache["a"], refused.value.key] == [b"old", "a"]


def test_large_values_make_many_small_ones_go() -> None:
    cache = BoundedDict(max_bytes=10)
    for key in range(10):
        cache[key] = b"1"
    cache["large"] = b"12345"
    assert [len(cache), cache.bytes] == [6, 10]


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, "10"])
@pytest.mark.parametrize("name", ["max_entries", "max_bytes"])
def test_a_bound_is_a_positive_number(name: str, bound: Any) -> None:
    with pytest.raises(ValidationError, match=f"{name} is {bound!r}; it must be a positive integer"):
        BoundedDict(**{name: bound})


def test_a_key_that_is_set_anew_is_never_missing(spawn: Callable[..., Future[Any]]) -> None:
    cache = BoundedDict(max_bytes=10)
    cache["a"] = b"12345"
    missing = 0

    def size_of(value: bytes) -> int:
        nonlocal missing
        missing += spawn(cache.get, "a").result(20) is None
        return len(value)

    class Looking(dict):  # type: ignore[type-arg]
        def __delitem__(self, key: Any) -> None:
            nonlocal missing
            super().__delitem__(key)
            missing += "a" not in self

    cache._size_of, cache._entries = size_of, Looking(cache._entries)
    for key in "bcad":
        cache[key] = b"1234"
    cache["a"] = b"12345678"
    assert [missing, dict(cache)] == [0, {"a": b"12345678"}]


def test_threads_leave_it_whole(spawn: Callable[..., Future[Any]]) -> None:
    cache = BoundedDict(max_entries=20, max_bytes=150)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(2000):
            key = dice.randrange(60)
            match dice.randrange(4):
                case 0:
                    cache[key] = b"%d" % key * dice.randrange(1, 5)
                case 1:
                    cache.pop(key, None)
                case _:
                    value = cache.get(key)
                    assert value is None or not value.replace(b"%d" % key, b"")

    for done in [spawn(work, seed) for seed in range(4)]:
        done.result(60)
    check(cache)


def test_F3_a_fork_waits_until_nobody_is_in_the_midst_of_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Spy:
        def acquire(self) -> None:
            log.append("taken")

        def release(self) -> None:
            log.append("given")

    monkeypatch.setattr(bounded, "_busy", Spy())
    child = os.fork()
    if not child:
        os._exit(log != ["taken"] or not bounded._busy.acquire(blocking=False))
    assert log == ["taken", "given"]
    assert os.waitpid(child, 0)[1] == 0


def test_F3_a_child_can_go_on_whatever_threads_did(spawn: Callable[..., Future[Any]]) -> None:
    cache = BoundedDict(max_entries=5)
    stop = threading.Event()

    def work() -> None:
        key = 0
        while not stop.is_set():
            key += 1
            cache[key] = key

    busy = spawn(work)
    try:
        children = [in_child(cache) for _ in range(10)]
    finally:
        stop.set()
    busy.result(20)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    check(cache)


def in_child(cache: BoundedDict) -> int:
    child = os.fork()
    if not child:
        status = 1
        try:
            check(cache)
            cache["mine"] = 1
            check(cache)
            status = 0
        finally:
            os._exit(status)
    return child


def test_what_a_dying_value_does_finds_it_whole() -> None:
    """Run destructors under the lock, in the middle of a set; Python only prints what they raise."""
    cache = BoundedDict(max_entries=3)
    whole: list[bool] = []

    class Mortal:
        def __del__(self) -> None:
            whole.append(False)
            check(cache)
            cache[-1] = 1
            check(cache)
            whole[-1] = True

    for key in range(20):
        cache[key] = Mortal()
    check(cache)
    assert len(whole) > 10
    assert all(whole)
