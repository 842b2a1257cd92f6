"""The stored bytes are those of dogpile.cache, in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpcache
from mpcache._wire import codec

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


headers = st.dictionaries(
    st.sampled_from(["ct", "v", "x", "e", "by", 'a "e": 1 in a name']),
    st.one_of(st.none(), st.integers(0, 2**63), times, st.just(', "e": 5'), st.lists(st.integers(), max_size=2)),
)
"""Read headers of other programs: any item may be missing, or of another type."""


@given(headers, payloads, st.integers(0, 2**63))
def test_an_epoch_takes_the_place_of_another_and_can_be_taken_away(
    metadata: dict[str, Any], payload: bytes, epoch: int
) -> None:
    wire = json.dumps(metadata).encode() + b"|" + payload
    stamped = codec.with_epoch(wire, epoch)
    if not metadata:
        assert stamped == wire
        return
    head, _, rest = stamped.partition(b"|")
    assert (json.loads(head), rest) == (metadata | {"e": epoch}, payload)
    assert head.count(b'"e":') == 1 or '"e": 1' in "".join(metadata) or ', "e": 5' in metadata.values()


@given(times, payloads, st.one_of(st.none(), times), st.integers(0, 2**63))
def test_the_epoch_of_what_we_write_comes_off_without_a_trace(
    created: float, payload: bytes, expires: float | None, epoch: int
) -> None:
    wire = codec.join(payload, created, expires)
    assert codec.take_epoch(wire) == (None, wire)
    stamped = codec.with_epoch(wire, epoch)
    assert stamped == codec.join(payload, created, expires, epoch)
    assert codec.take_epoch(stamped) == (epoch, wire)
    assert codec.split(stamped) == (payload, created, epoch, 2, expires)
    assert codec.with_epoch(stamped, 3) == codec.with_epoch(wire, 3)


@pytest.mark.parametrize(
    ("head", "epoch"),
    [(b'{"e": 7, "ct": 1.5, "v": 2}', 7), (b'{"ct": 1.5, "e": 7, "v": 2}', 7), (b'{"ct": 1.5,"e":7}', 7)],
)
def test_an_epoch_is_found_wherever_it_stands(head: bytes, epoch: int) -> None:
    found, bare = codec.take_epoch(head + b"|x")
    assert found == epoch
    assert codec.take_epoch(bare) == (None, bare)
    assert bare.endswith(b"|x")


@pytest.mark.parametrize("end", [0.0, 1.5, 1e9, 1e300])
def test_the_end_of_a_time_to_live_is_found_in_any_header(end: float) -> None:
    """Check the ends of a time to live that redis and memcached took for another: 0 for never, null for the past."""
    for head in (
        b'{"ct": 1.5, "v": 2, "x": %a}',
        b'{"x":%a,"v":2,"ct":1.5}',
        b'{"ct": 1, "by": "me", "x": %a, "v": 2}',
    ):
        assert codec.expires_at(head % end + b"|x") == end
    wire = codec.join(b"x", 1.5, end)
    assert codec.expires_at(wire) == end
    assert codec.expires_at(codec.with_expires(wire, 7.25)) == 7.25
    assert codec.with_expires(wire, None) == codec.join(b"x", 1.5)


@pytest.mark.parametrize("wire", [b'{"ct": 1.5, "v": 2, "x": null}|x', b'{"ct": 1.5, "v": 2}|"x": 5}|', b"x", b""])
def test_a_value_without_a_time_to_live(wire: bytes) -> None:
    assert codec.expires_at(wire) is None


@given(headers, payloads)
def test_what_another_program_wrote_is_read_as_far_as_it_makes_sense(metadata: dict[str, Any], payload: bytes) -> None:
    found = codec.lenient(json.dumps(metadata).encode() + b"|" + payload)
    assert found is not None
    header, rest = found
    assert rest == payload
    assert header.created == (metadata.get("ct") if isinstance(metadata.get("ct"), (int, float)) else None)
    assert header.plain == (
        header.created is not None
        and metadata.get("v") == 2
        and set(metadata) <= {"ct", "v", "e"}
        and isinstance(metadata.get("e"), int | None)
    )


@pytest.mark.parametrize("wire", [b"", b"x", b"[1]|x", b"\xff|x", b'{"ct": 1'])
def test_bytes_without_a_header_stay_as_they_are(wire: bytes) -> None:
    assert codec.lenient(wire) is None
    assert codec.with_epoch(wire, 5) == codec.with_expires(wire, 5.0) == wire
    assert codec.take_epoch(wire) == (None, wire)


def test_a_payload_is_replaced_under_its_header() -> None:
    assert codec.with_payload(b'{"ct": 1, "by": "me"}|a|b', b"c") == b'{"ct": 1, "by": "me"}|c'


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
