"""Bytes: those of dogpile.cache, in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpcache
from mpcache import codec

dogpile_cache = pytest.importorskip("dogpile.cache")

times = st.floats(min_value=0, max_value=1e12, allow_nan=False)
payloads = st.one_of(st.binary(max_size=40), st.just(b"|"), st.just(b'{"ct": 1, "v": 2}|x'))


@given(payloads, times)
def test_A10_what_is_joined_comes_apart_again(payload: bytes, created: float) -> None:
    assert codec.split(codec.join(payload, created)) == (payload, created, None, 2, None)


@given(payloads, times)
def test_the_metadata_is_json_as_json_writes_it(payload: bytes, created: float) -> None:
    assert codec.join(payload, created) == json.dumps({"ct": created, "v": 2}).encode() + b"|" + payload


@given(payloads, times, st.integers(0, 9), st.one_of(st.none(), st.integers(0, 2**62)))
def test_any_json_in_any_order_is_read(payload: bytes, created: float, version: int, epoch: Any) -> None:
    metadata: dict[str, Any] = {"v": version, "ct": created, "more": [1]} | ({} if epoch is None else {"e": epoch})
    wire = json.dumps(metadata).encode() + b"|" + payload
    assert codec.split(wire) == (payload, created, epoch, version, None)
    assert codec.metadata_and_payload(wire) == (metadata, payload)


def test_an_item_in_the_middle_is_not_taken_for_a_time() -> None:
    assert codec.split(b'{"ct": 1.5, "e": 7, "v": 2}|x') == (b"x", 1.5, 7, 2, None)


@pytest.mark.parametrize(
    "wire", [b"", b"|", b"x|y", b"[1]|y", b"{}|y", b'{"ct": 1}|y', b'{"ct": , "v": 2}|y', b"\xff|"]
)
def test_other_bytes_are_refused(wire: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        codec.split(wire)


def two_regions(clock: Any) -> tuple[Any, Any, dict[str, bytes]]:
    memory: dict[str, bytes] = {}
    arguments = {"cache_dict": memory}
    mine = mpcache.make_region().configure("dogpile.cache.memory_pickle", 60, arguments)
    theirs = dogpile_cache.make_region().configure("dogpile.cache.memory_pickle", 60, arguments)
    return mine, theirs, memory


VALUES = [None, 0, "ü|", {"a": [1, 2.5]}, b"|" * 5]


@pytest.mark.parametrize("value", VALUES)
def test_1_8_the_bytes_are_the_same(value: Any, clock: Any) -> None:
    mine, theirs, memory = two_regions(clock)
    mine.set("a", value)
    theirs.set("b", value)
    assert memory["a"] == memory["b"]


@pytest.mark.parametrize("value", VALUES)
def test_1_8_each_reads_what_the_other_wrote(value: Any, clock: Any) -> None:
    mine, theirs, _ = two_regions(clock)
    mine.set("a", value)
    theirs.set("b", value)
    assert theirs.get("a") == value == mine.get("b")
    assert theirs.get_value_metadata("a").metadata == mine.get_value_metadata("b").metadata
    clock.forward(61)
    assert not theirs.get("a")
    assert mine.get("b") is mpcache.NO_VALUE
