"""Values that prove themselves: each carries a digest over its key, its number and its body.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

_HEAD = struct.Struct("<16sQI")  # digest of the key and of all that follows; number; bytes of the body
_BODIES = random.Random(1).randbytes(1 << 20)

SMALLEST = _HEAD.size
"""Bytes of the smallest value."""


class TornValue(Exception):
    """A value is not one that was made for this key."""


def make_value(key: str, number: int, size: int) -> bytes:
    """Return a value of ``size`` bytes, at least SMALLEST, for a key."""
    body = size - SMALLEST
    start = number * 7919 % (len(_BODIES) - body)
    rest = struct.pack("<QI", number, body) + _BODIES[start : start + body]
    return _digest(key, rest) + rest


def number_of(key: str, value: Any) -> int:
    """Return the number of a value.  Raises TornValue: it is damaged, or was made for another key."""
    if not isinstance(value, bytes) or len(value) < SMALLEST:
        raise TornValue(f"{key!r} has a value of {type(value).__name__} that was never written: {value!r:.80}")
    digest, number, body = _HEAD.unpack_from(value)
    if len(value) != SMALLEST + body or digest != _digest(key, value[16:]):
        raise TornValue(f"{key!r} has a value of {len(value)} bytes, number {number:#x}, that does not prove itself")
    return int(number)


def _digest(key: str, rest: bytes) -> bytes:
    return hashlib.blake2b(rest, digest_size=16, key=key.encode()[:64]).digest()
