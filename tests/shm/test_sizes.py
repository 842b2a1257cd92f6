"""Segments so small or so large that a size might not fit the number that holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mpcache.exception import ValueTooLarge
from mpcache.shm import _engine

pytestmark = pytest.mark.engine

TIB = 1 << 40


@contextmanager
def sparse(size: int) -> Iterator[int]:
    """A descriptor of a file of that many bytes, of which none is allocated."""
    fd = os.memfd_create("sparse")
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize(("size", "shards"), [(2 * TIB, 1), (8 * TIB, 4), (17 * TIB, 64), (TIB + (1 << 36), 1)])
def test_a_shard_that_is_too_large_is_refused(size: int, shards: int) -> None:
    with sparse(size) as fd, pytest.raises(ValueError, match=f"size={size}, shards={shards}.*at most 1 TiB each"):
        _engine.format(fd, size, shards)


@pytest.mark.parametrize(("size", "shards"), [(TIB, 1), (200 << 30, 1), (16 * TIB, 32), (129 << 30, 4)])
def test_the_largest_work(size: int, shards: int, record_property: Callable[[str, object], None]) -> None:
    with sparse(size) as fd:
        _engine.format(fd, size, shards)
        space = _engine.Engine(fd).namespace("")
        values = {f"key {number}": os.urandom(number * 37) for number in range(300)}
        for key, value in values.items():
            assert space.set(key, value)
        assert {key: (space.get(key) or [None])[0] for key in values} == values
        record_property("allocated bytes", os.fstat(fd).st_blocks * 512)


def test_a_key_that_leaves_no_room_for_a_value() -> None:
    size = _engine.smallest(1)
    with sparse(size) as fd:
        _engine.format(fd, size, 1)
        space = _engine.Engine(fd).namespace("")
        with pytest.raises(ValueTooLarge, match="under a key of 65535 bytes is 0 bytes"):
            space.set("k" * 65535, b"")
        assert space.set("k" * 30000, b"value")
