"""The forms in which a segment keeps a value, and how each becomes bytes with a header, or a payload.

Depends on shm and on _wire.  A segment keeps a payload, with its times beside it; bytes, texts and integers as they
are; or, of what others wrote, bytes with a header (WIRE).

The end of a time to live is the engine's, by the kernel's clock.  Where a test has put another clock in the place of
time.time(), a value's end by that clock is stored in its bytes, too, as WIRE; and a reader with such a clock compares
the engine's end with it.
"""

from __future__ import annotations

import pickle
import sys
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from mpcache._wire import codec
from mpcache._wire.pickling import Payload
from mpcache.api import BYTES, INT, NO_VALUE, PAYLOAD, TEXT, WIRE, KeyType, SerializedReturnType, as_it_is
from mpcache.invalidation import is_over
from mpcache.shm._engine import Namespace, clock_is_genuine, kernel_time

if TYPE_CHECKING:
    from mpcache.shm._engine import Record

KINDS = ("pickle", "wire", "bytes", "text", "int")
"""The forms by their numbers, as :meth:`.ShmBackend.items` names them."""

Fetched: TypeAlias = "tuple[bytes | None, float, int]"
"""Payload, created, epoch; the payload is None if its bytes are damaged."""


def _by_the_kernels_clock(expires: float) -> float:
    """Return when the engine must end a time to live that Python ends at ``expires``.

    The engine uses the kernel's clock; a program may have frozen Python's ``time.time()``.
    """
    return max(1.0, expires - time.time() + kernel_time())


def engine_end(expires: float | None) -> float:
    """Return the engine's end of a time to live; 0: never."""
    return 0.0 if expires is None else _by_the_kernels_clock(expires)


def row_of(payload: Payload, created: float, expires: float | None, kept: int) -> tuple[Any, ...]:
    """Return what follows the key in :meth:`Namespace.set`."""
    if expires is None:
        return payload, created, -1, 0.0, kept
    if clock_is_genuine():
        return payload, created, -1, max(1.0, expires), kept
    if isinstance(payload, tuple):
        wire: Payload = (codec.join(b"", created, expires), *payload)
    else:
        raw = payload if kept == PAYLOAD else _pickled(payload, kept)
        assert raw is not None  # it comes from as_it_is()
        wire = codec.join(raw, created, expires)
    return wire, created, -1, _by_the_kernels_clock(expires), WIRE


def row_of_wire(wire: bytes) -> tuple[Any, ...]:
    """Return the same for bytes with a header, and for bytes without a header that can be read."""
    wire = bytes(wire)  # the bytes that are read are the bytes that are stored
    found = codec.lenient(wire)
    if found is None:
        return wire, time.time(), -1, 0.0, WIRE
    header, payload = found
    epoch = header.epoch if header.epoch is not None and -1 <= header.epoch < 1 << 63 else -1
    if header.plain:
        return payload, header.created, epoch, 0.0, PAYLOAD
    return wire, header.created or time.time(), epoch, engine_end(header.expires), WIRE


def remove_ended(space: Namespace, key: KeyType) -> None:
    """Delete a value whose time to live has ended by a clock that a test has put in the place of time.time().

    The engine, which reads the kernel's clock, may not know that it has.
    """
    if not clock_is_genuine():
        found = space.get(key)
        if found is not None and fetched(found) is None:
            space.delete(key)


def touch(space: Namespace, key: KeyType, expires: float | None) -> bool:
    """Let a value end at ``expires``; return whether the key has a value.

    Bytes with a header also contain their expiry, so other bytes take their place.
    """
    end, genuine = engine_end(expires), clock_is_genuine()
    while (touched := space.touch(key, end) if genuine else NotImplemented) is NotImplemented:
        found = space.get(key)
        if found is None:
            return False
        raw, created, epoch, kept, _, version = found
        if kept != WIRE and genuine:
            continue  # another task replaced the value meanwhile
        wire = raw if kept == WIRE else wire_of(found)
        if not wire:
            return False  # its bytes are damaged
        if space.compare_and_set(key, version, codec.with_expires(wire, expires), created, epoch, end, WIRE):
            return True
    return touched


def count(space: Namespace, key: KeyType, delta: int) -> int | None:
    """Add to an integer that is stored as bytes with a header, which other bytes replace.

    :return: the sum; None: it is no integer.
    """
    while (found := space.get(key)) is not None:
        wire, created, epoch, kept, end, version = found
        parts = codec.lenient(wire) if kept == WIRE else None
        if parts is None or not isinstance(delta, int):
            return None
        try:
            value = pickle.loads(parts[1])
        except Exception:  # another serializer made it
            return None
        if type(value) is not int:
            return None
        if as_it_is(value + delta) is None:
            raise OverflowError(f"the sum of {value} and {delta} has more than 64 bits; key {key!r} stays what it was")
        total = codec.with_payload(wire, pickle.dumps(value + delta))
        if space.compare_and_set(key, version, total, created, epoch, end, WIRE):
            return int(value + delta)
    return None


def _pickled(raw: bytes, kept: int) -> bytes | None:
    """Return what pickle would have made of the value; None: these bytes cannot be what they are kept as."""
    try:
        if kept == INT and len(raw) == 8:
            return pickle.dumps(int.from_bytes(raw, sys.byteorder, signed=True))
        if kept == TEXT:
            return pickle.dumps(raw.decode())
    except UnicodeDecodeError:
        return None
    return pickle.dumps(raw) if kept == BYTES else None


def fetched(found: Record) -> Fetched | None:
    """Return a record's payload, created and epoch; None: its time to live has ended."""
    payload, created, epoch, kept, expires, _ = found
    if expires and kept != WIRE and not clock_is_genuine() and is_over(expires):
        return None
    if kept == PAYLOAD:
        return payload, created, epoch
    return _unpacked(payload, created, epoch) if kept == WIRE else (_pickled(payload, kept), created, epoch)


def wire_of(found: Record) -> SerializedReturnType:
    """Return a record as bytes with a header, for proxies and other readers; NO_VALUE: its bytes are damaged."""
    raw, created, epoch, kept, expires, _ = found
    payload = raw if kept in (PAYLOAD, WIRE) else _pickled(raw, kept)
    if payload is None:
        return NO_VALUE
    if kept != WIRE:
        return codec.join(payload, created, expires or None, epoch)
    try:
        codec.split(payload)
    except ValueError:  # its epoch is not to hide that the rest cannot be read
        return payload
    return codec.with_epoch(payload, epoch)


def _unpacked(wire: bytes, created: float, epoch: int) -> Fetched | None:
    """Return what :func:`fetched` returns, for bytes with a header."""
    try:
        payload, created, _, _, expires = codec.split(wire)
    except ValueError:
        return None, created, epoch
    return None if is_over(expires) else (payload, created, epoch)
