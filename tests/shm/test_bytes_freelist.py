"""Values that were read: no later read changes one, although their memory is used again after them."""

from __future__ import annotations

import ctypes
import random
import threading
import tracemalloc
from typing import Any

import pytest

import mpcache

pytestmark = pytest.mark.engine

SIZES = (0, 1, 511, 512, 513, 520, 600, 1024, 1030, 4096, 60_000, 65_536, 65_537, 100_000)


def value_of(key: str) -> bytes:
    size, _, number = key.partition("-")
    return random.Random(key).randbytes(1) * int(size) if number else b""


KEYS = [f"{size}-{number}" for size in SIZES for number in range(4)]


@pytest.fixture
def cache() -> Any:
    cache = mpcache.shared(None, size="32MB", shards=1)
    for key in KEYS:
        cache.set(key, value_of(key))
    return cache


def hold_and_compare(cache: Any, seed: int, rounds: int) -> list[str]:
    """The keys whose values, held for a while, were another's at any time."""
    dice, held, wrong = random.Random(seed), dict[int, tuple[str, Any]](), list[str]()
    for _ in range(rounds):
        key = dice.choice(KEYS)
        value = cache.get(key)
        expected = value_of(key)
        if value != expected or hash(value) != hash(expected) or bytes(memoryview(value)) != expected:
            wrong.append(key)
        held[dice.randrange(6)] = (key, value if dice.random() < 0.5 else memoryview(value))
        if dice.random() < 0.1:
            keys = dice.choices(KEYS, k=dice.randrange(100))
            some = dict(zip(keys, cache.get_multi(keys), strict=True))
            wrong += [key for key, value in some.items() if value != value_of(key)]
            held |= {number: dice.choice(list(some.items())) for number in range(6, 6 + min(len(some), 9))}
        wrong += [key for key, value in held.values() if value != value_of(key)]
    return wrong


def test_what_somebody_holds_stays_as_it_is(cache: Any) -> None:
    assert hold_and_compare(cache, 1, 3000) == []


def test_in_threads_too(cache: Any) -> None:
    """Long values are copied while others run."""
    wrong = list[str]()
    threads = [threading.Thread(target=lambda n=n: wrong.extend(hold_and_compare(cache, n, 700))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_text_and_objects_and_many_at_once_too(cache: Any) -> None:
    values: dict[str, Any] = {f"text {size}": "é" * size for size in SIZES}
    values |= {f"object {size}": {"it": ["x" * size]} for size in SIZES}
    cache.set_multi(values)
    for _ in range(3):
        kept = {key: cache.get(key) for key in [*values, *KEYS]}
        many = cache.get_multi([*values, *KEYS])
        expected = values | {key: value_of(key) for key in KEYS}
        assert kept == expected
        assert many == list(expected.values())


def test_the_hash_is_the_values_own(cache: Any) -> None:
    cache.set_multi({"a": b"a" * 1000, "b": b"b" * 1000})
    for _ in range(4):
        for key, value in (("a", b"a" * 1000), ("b", b"b" * 1000)):
            assert {value: key}[cache.get(key)] == key


@pytest.mark.parametrize("holds", [False, True])
def test_no_memory_is_asked_for_in_a_loop(cache: Any, holds: bool) -> None:
    """Neither where values are dropped at once, nor where one is held until the next has come."""
    cache.set_multi({"a": b"a" * 4000, "b": b"b" * 4030})
    held = None
    for key in "abab":
        held = cache.get(key)
    del held
    tracemalloc.start()
    try:
        for key in "ab" * 50:
            value = cache.get(key)
            if not holds:
                del value
        asked = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert asked < 4000


def test_no_memory_is_asked_for_where_many_are_asked_for_again(cache: Any) -> None:
    cache.set_multi({f"k{number}": b"x" * (1000 + number) for number in range(64)})
    keys = [f"k{number}" for number in range(64)]
    values = cache.get_multi(keys)
    del values
    tracemalloc.start()
    try:
        for _ in range(20):
            cache.get_multi(keys)
        asked = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert asked < 20_000


def test_little_is_kept_for_nothing(cache: Any) -> None:
    """Once its reader has dropped it a value costs no more than the next ones need."""
    tracemalloc.start()
    try:
        for size in SIZES:
            for number in range(4):
                cache.get(f"{size}-{number}")
            cache.get_multi([f"{size}-{number % 4}" for number in range(200)])
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 2 * 65_536 + 64 * 4_096 + 20_000


def test_a_short_value_does_not_occupy_the_room_of_a_long_one(cache: Any) -> None:
    before = [cache.get("65536-0"), cache.get("65536-1")]  # what other tests have left is in use
    tracemalloc.start()
    try:
        for number in range(4):
            cache.get(f"60000-{number}")
        held = [cache.get(f"520-{number}") for number in range(4)]
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (len(before), len(held)) == (2, 4)
    assert kept < 30_000


def test_a_zero_follows_the_last_byte(cache: Any) -> None:
    """As C code expects."""
    for size in (1000, 990, 999, 920, 1000):
        cache.set("a", b"a" * size)
        assert ctypes.c_char_p(cache.get("a")).value == b"a" * size
