"""A stored value that cannot be decoded counts as absent, whatever is wrong with it, in every store."""

from __future__ import annotations

import json
import logging
import mmap
import pickle
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache._region.fast_path import Access
from mpcache._servers.generation import judged
from mpcache._wire import codec
from mpcache.api import BYTES, INT, NO_VALUE, TEXT
from mpcache.proxy import ProxyBackend

PAYLOAD = pickle.dumps("readable")

HEADS = {
    "no JSON": b"{ct: 1}",
    "no object": b"[1, 2]",
    "no text": b'{"ct": 1\xff, "v": 2}',
    "no time": b'{"v": 2}',
    "no version": b'{"ct": 1e9}',
    "a time that is text": b'{"ct": "today", "v": 2}',
    "a time that is none": b'{"ct": null, "v": 2}',
    "a time that is a list": b'{"ct": [1], "v": 2}',
    "a version without end": b'{"ct": 1e9, "v": 1e999}',
    "a version that is none": b'{"ct": 1e9, "v": NaN}',
    "a version that is an object": b'{"ct": 1e9, "v": {}}',
    "an end that is text": b'{"ct": 1e9, "v": 2, "x": "soon"}',
    "an end that is no time": b'{"ct": 1e9, "v": 2, "x": NaN}',
    "an epoch without end": b'{"ct": 1e9, "v": 2, "e": 1e999}',
    "an epoch that is a list": b'{"ct": 1e9, "v": 2, "e": []}',
    "an epoch of too many digits": b'{"ct": 1e9, "v": 2, "e": %s}' % (b"9" * 5000),
    "numbers of too many digits": b'{"ct": %s, "v": 2}' % (b"9" * 5000),
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"ct":' * 100_000,
    "nothing": b"",
    "a zero": b"\0",
}

PAYLOADS = {
    "empty": b"",
    "no pickle": b"\xff\xfe",
    "half": pickle.dumps("x" * 100)[:-40],
    "a class that is not there": b"cnowhere\nNothing\n.",
    "a length that is absurd": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "an index that is absurd": b"\x80\x04Kr\x01\x00" + b"r\xff\xff\xff\x7f.",
    "no text": b"\x80\x04\x8c\x02\xff\xfe.",
    "stack underflow": b"\x80\x04tttt.",
}


class Watching(ProxyBackend):
    """A proxy that changes nothing, but prevents the fast path."""


@pytest.fixture(params=["shm", "shm slow", "shm proxy", "memory_pickle", "dbm"])
def region(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    name, _, way = request.param.partition(" ")
    arguments = {"dbm": {"filename": str(tmp_path / "file")}, "shm": {"size": "8MB", "shards": 1}}.get(name, {})
    wrap = [Watching] if way == "proxy" else []
    region = mpcache.make_region().configure(f"mpcache.{name}", arguments=arguments, wrap=wrap)
    if way == "slow":
        region.access = Access(region.access.binding, None)
    return region


def check_absent(region: Any, key: str) -> None:
    """Look the value up in every way; then create it."""
    assert region.get(key) is NO_VALUE
    assert region.get(key, ignore_expiration=True) is NO_VALUE
    assert region.get(key, expiration_time=1e12) is NO_VALUE
    assert region.get_multi([key, "good"]) == [NO_VALUE, "good"]
    assert region.get_value_metadata(key) is None
    assert region.get_or_create_multi([key, "good"], lambda *keys: list(keys), should_cache_fn=lambda value: False) == [
        key,
        "good",
    ]
    assert region.get_or_create(key, lambda: "made") == "made"
    assert region.get(key) == "made"


@pytest.mark.parametrize("name", HEADS)
def test_what_is_known_of_a_value_cannot_be_read(region: Any, name: str) -> None:
    region.set("good", "good")
    region.actual_backend.set_serialized("bad", HEADS[name] + b"|" + PAYLOAD)
    check_absent(region, "bad")


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_value_cannot_be_read(region: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    region.set("good", "good")
    region.actual_backend.set_serialized("bad", codec.join(PAYLOADS[name], time.time()))
    with caplog.at_level(logging.WARNING):
        check_absent(region, "bad")
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if text.startswith("The stored value of key 'bad' cannot be decoded")] == said
    assert len(said) == 1


def test_the_codec_raises_one_kind_of_error() -> None:
    dice = random.Random(12)
    for head in (*HEADS.values(), *(dice.randbytes(dice.randrange(60)) for _ in range(2000))):
        for take_apart in (codec.split, codec.metadata_and_payload):
            with pytest.raises(ValueError):
                take_apart(head + b"|" + PAYLOAD)


def test_a_signal_that_comes_meanwhile_is_not_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(head: bytes) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "loads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        codec.split(b"{}|")


# -- stores that read the bytes themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_stores_that_look_at_the_head_take_any(name: str) -> None:
    wire = HEADS[name] + b"|" + PAYLOAD
    assert codec.expires_at(wire) is None
    assert codec.with_epoch(wire, 7).endswith(b"|" + PAYLOAD)
    assert codec.with_expires(wire, 7.5).endswith(b"|" + PAYLOAD)
    assert judged(wire, 1 << 32).endswith(PAYLOAD)


# -- damaged memory ------------------------------------------------------------------------------------------------


@pytest.fixture
def shm() -> Any:
    region = mpcache.make_region().configure("mpcache.shm", arguments={"size": "8MB", "shards": 1})
    region.set("good", "good")
    return region


@pytest.fixture
def damage(shm: Any) -> Callable[[bytes, bytes], None]:
    """Return ``damage(old, new)``, which replaces bytes in the segment."""

    def put(old: bytes, new: bytes) -> None:
        with mmap.mmap(shm.actual_backend.segment.engine.fd, shm.actual_backend.segment.size) as memory:
            at = memory.find(old)
            assert at > 0
            memory[at : at + len(new)] = new

    return put


@pytest.mark.engine
@pytest.mark.parametrize("value", ["text " * 20, ["in a pickle " * 20]])
@pytest.mark.parametrize("deserializer", [pickle.loads, None])
def test_damaged_text(shm: Any, damage: Any, value: Any, deserializer: Any) -> None:
    shm.set("bad", value)
    damage(b"text text " if isinstance(value, str) else b"pickle in a", b"\xff")
    check_absent(shm, "bad")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("raw", "kept"), [(b"\xff", TEXT), (b"1234567", INT), (b"", INT), (b"123456789", INT), (b"x", 77)]
)
def test_bytes_that_cannot_be_what_they_are_kept_as(shm: Any, raw: bytes, kept: int) -> None:
    shm.actual_backend.segment.engine.namespace("").set("bad", raw, 0.0, -1, 0.0, kept)
    check_absent(shm, "bad")
    assert shm.actual_backend.get_serialized("good")


@pytest.mark.engine
def test_a_deserializer_that_takes_everything_is_not_asked(shm: Any) -> None:
    texts = mpcache.make_region(serializer=str.encode, deserializer=bytes.decode)
    texts.configure("mpcache.shm", arguments={"segment": shm.actual_backend.segment})
    space = shm.actual_backend.segment.engine.namespace("")
    space.set("bad", b"\xff", 0.0, -1, 0.0, TEXT)
    texts.actual_backend.set_serialized("worse", b"no head")
    assert texts.get_multi(["bad", "worse"]) == [NO_VALUE, NO_VALUE]
    assert texts.mishaps.counts["undecodable"] == 2
    space.set("bytes", b"\xff", 0.0, -1, 0.0, BYTES)
    assert shm.get("bytes") == b"\xff"
