"""Convert values between a region and its store: as objects, as bytes, or as payloads.

Depends on codec, invalidation and counters.  The classes have one interface; a region needs one of them::

    no serializer        CachedValue                 backend.get             backend.set
    a serializer         {"ct": ..., "v": 2}|bytes   backend.get_serialized  backend.set_serialized
    and a direct store   bytes                       backend.fetch           backend.store

None of the three finds a value whose own time to live has ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from mpcache._region.counters import Counters
from mpcache._region.values import refuse_used_up
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache._wire import codec
from mpcache._wire.pickling import pickled as pickled_in_pieces
from mpcache.api import (
    NO_VALUE,
    CachedValue,
    CantDeserializeException,
    DefaultSerialization,
    Deserializer,
    KeyType,
    NoValueType,
    Serializer,
    as_it_is,
)
from mpcache.exception import ValueTooLarge, cannot_serialize
from mpcache.invalidation import is_over

try:
    from mpcache._wire._wire import unwire
except ImportError:  # it was not compiled here
    unwire = codec.unwire

Found: TypeAlias = "tuple[Any, float, int | None, int]"
"""A value, the end of its creation (seconds since the Unix epoch), its epoch, the version of its format."""

Refused: TypeAlias = "dict[KeyType, Exception]"
"""The values, of many, that are larger than the store's largest: from each key to its error."""


class ObjectValueIO:
    """Value I/O of a store that keeps the object itself."""

    serializer = deserializer = None

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def read(self, key: KeyType) -> Found | NoValueType:
        """Return the value that is stored under a key, whatever its age."""
        cached = self._backend.get(key)
        return _found(cached) if cached else NO_VALUE

    def read_multi(self, keys: Sequence[KeyType]) -> list[Found | NoValueType]:
        """Do the same for many keys, in their order."""
        return [_found(cached) if cached else NO_VALUE for cached in self._backend.get_multi(keys)]

    describe = read
    """Do :meth:`read`; without the value where that is cheaper."""

    def value(self, key: KeyType, lifetime: float | None) -> Any:
        """Return the value alone; NO_VALUE if there is none, or it is older than ``lifetime`` seconds."""
        return _values((self.read(key),), lifetime)[0]

    def values_multi(self, keys: Sequence[KeyType], lifetime: float | None) -> list[Any]:
        """Do the same for many keys, in their order."""
        return _values(self.read_multi(keys), lifetime)

    def cached(self, key: KeyType) -> CachedValue | NoValueType:
        """Return the value that is stored under a key, with its metadata."""
        cached: CachedValue | NoValueType = self._backend.get(key) or NO_VALUE
        return NO_VALUE if not cached or is_over(cached.metadata.get(codec.EXPIRES)) else cached

    def pack(self, value: Any, created: float, expires: float | None) -> Any:
        """Return the argument for :meth:`write`.  Raises what the serializer raises."""
        return CachedValue(value, codec.new_metadata(created, expires))

    def write(self, key: KeyType, packed: Any) -> None:
        """Store a packed value.  Raises what the store raises."""
        self._backend.set(key, packed)

    def write_multi(self, mapping: Mapping[KeyType, Any]) -> Refused:
        """Store all values that can be stored; return the others."""
        return _all_that_can_be(self._backend.set_multi, self.write, mapping)


class BytesValueIO:
    """Value I/O of a store that keeps bytes, which include the metadata."""

    def __init__(
        self, backend: Any, serializer: Serializer | None, deserializer: Deserializer | None, counters: Counters
    ) -> None:
        self._backend = backend
        self.serializer, self.deserializer = serializer, deserializer
        self._counters = counters

    def read(self, key: KeyType) -> Found | NoValueType:
        return self._found(key, self._backend.get_serialized(key))

    def read_multi(self, keys: Sequence[KeyType]) -> list[Found | NoValueType]:
        wires = self._backend.get_serialized_multi(keys)
        return [self._found(key, wire) for key, wire in zip(keys, wires, strict=True)]

    def value(self, key: KeyType, lifetime: float | None) -> Any:
        return self._values((key,), [self._backend.get_serialized(key)], lifetime)[0]

    def values_multi(self, keys: Sequence[KeyType], lifetime: float | None) -> list[Any]:
        return self._values(keys, list(self._backend.get_serialized_multi(keys)), lifetime)

    def _values(self, keys: Sequence[KeyType], wires: list[Any], lifetime: float | None) -> list[Any]:
        """Return what :meth:`_found` and :func:`_values` return, in a third of the time for ordinary values."""
        if len(wires) != len(keys):
            raise ValueError(f"{self._backend!r} was to return {len(keys)} values, one for each key, not {len(wires)}")
        longest = math.inf if lifetime is None else lifetime
        values, left = unwire(wires, time.time(), longest, self.deserializer, NO_VALUE)  # type: ignore[arg-type]
        for index in left:
            values[index] = _values((self._found(keys[index], wires[index]),), lifetime)[0]
        return values

    def _found(self, key: KeyType, wire: Any) -> Found | NoValueType:
        if not wire:
            return NO_VALUE
        try:
            payload, created, epoch, version, expires = codec.split(wire)
            if expires is not None and is_over(expires):
                return NO_VALUE
            return self.deserializer(payload), created, epoch, version  # type: ignore[misc]
        except Exception as error:
            return _unreadable(key, error, self._counters)

    def describe(self, key: KeyType) -> Found | NoValueType:
        return self._described(key, self._backend.get_serialized(key))

    def _described(self, key: KeyType, wire: Any) -> Found | NoValueType:
        if not wire:
            return NO_VALUE
        try:
            _, created, epoch, version, expires = codec.split(wire)
            return NO_VALUE if is_over(expires) else (None, created, epoch, version)
        except Exception as error:
            return _unreadable(key, error, self._counters)

    def cached(self, key: KeyType) -> CachedValue | NoValueType:
        wire = self._backend.get_serialized(key)
        if not wire:
            return NO_VALUE
        try:
            metadata, payload = codec.metadata_and_payload(wire)
            if is_over(metadata.get(codec.EXPIRES)):
                return NO_VALUE
            return CachedValue(self.deserializer(payload), metadata)  # type: ignore[misc]
        except Exception as error:
            return _unreadable(key, error, self._counters)

    def pack(self, value: Any, created: float, expires: float | None) -> Any:
        return codec.join(self.serializer(value), created, expires)  # type: ignore[misc]

    def write(self, key: KeyType, packed: Any) -> None:
        self._backend.set_serialized(key, packed)

    def write_multi(self, mapping: Mapping[KeyType, Any]) -> Refused:
        return _all_that_can_be(self._backend.set_serialized_multi, self.write, mapping)


class PayloadValueIO(BytesValueIO):
    """Value I/O of a direct store, without proxies, which keeps the metadata apart from the payload."""

    def __init__(self, backend: Any, serializer: Serializer, deserializer: Deserializer, counters: Counters) -> None:
        super().__init__(backend, serializer, deserializer, counters)
        pickles = serializer is DefaultSerialization.serializer and deserializer is DefaultSerialization.deserializer
        self._raw = pickles and getattr(backend, "raw", False)

    def read(self, key: KeyType) -> Found | NoValueType:
        return self._judged(key, self._backend.fetch(key))

    def describe(self, key: KeyType) -> Found | NoValueType:
        describe = getattr(self._backend, "describe", self._backend.fetch)
        found = describe(key)
        return NO_VALUE if found is None else (None, found[1], found[2], codec.value_version)

    def _judged(self, key: KeyType, found: tuple[bytes | None, float, int] | None) -> Found | NoValueType:
        if found is None:
            return NO_VALUE
        payload, created, epoch = found
        if payload is None:
            return _unreadable(key, ValueError("its bytes are damaged, or another program wrote them"), self._counters)
        try:
            return self.deserializer(payload), created, epoch, codec.value_version  # type: ignore[misc]
        except Exception as error:
            return _unreadable(key, error, self._counters)

    def read_multi(self, keys: Sequence[KeyType]) -> list[Found | NoValueType]:
        fetch_multi = getattr(self._backend, "fetch_multi", None)
        if fetch_multi is None:
            return [self.read(key) for key in keys]
        return [self._judged(key, found) for key, found in zip(keys, fetch_multi(keys), strict=True)]

    def value(self, key: KeyType, lifetime: float | None) -> Any:
        return _values((self.read(key),), lifetime)[0]

    def values_multi(self, keys: Sequence[KeyType], lifetime: float | None) -> list[Any]:
        return _values(self.read_multi(keys), lifetime)

    def pack(self, value: Any, created: float, expires: float | None) -> Any:
        raw = as_it_is(value) if self._raw else None
        if raw is not None:
            return raw[0], created, expires, raw[1]
        payload = pickled_in_pieces(value) if self._raw else self.serializer(value)  # type: ignore[misc]
        return (payload, created) if expires is None else (payload, created, expires)

    def write(self, key: KeyType, packed: Any) -> None:
        self._backend.store(key, *packed)

    def write_multi(self, mapping: Mapping[KeyType, Any]) -> Refused:
        return _one_by_one(self.write, mapping)


class _MixedValueIO:
    """Value I/O with a serializer but no deserializer, or the reverse: each direction has its own form."""

    serializer = deserializer = None

    def __init__(self, reader: Any, writer: Any) -> None:
        self.read, self.describe, self.cached = reader.read, reader.describe, reader.cached
        self.read_multi, self.value, self.values_multi = reader.read_multi, reader.value, reader.values_multi
        self.pack, self.write, self.write_multi = writer.pack, writer.write, writer.write_multi


ValueIO: TypeAlias = "ObjectValueIO | BytesValueIO | PayloadValueIO | _MixedValueIO"


def value_io_for(
    backend: Any, serializer: Serializer | None, deserializer: Deserializer | None, counters: Counters
) -> ValueIO:
    """Return the value I/O of a store, or of the proxy before it."""
    if serializer and deserializer and getattr(backend, "direct", False):
        return PayloadValueIO(backend, serializer, deserializer, counters)
    plain = ObjectValueIO(backend)
    wire = BytesValueIO(backend, serializer, deserializer, counters)
    if bool(serializer) is bool(deserializer):
        return wire if serializer else plain
    return _MixedValueIO(wire if deserializer else plain, wire if serializer else plain)


def packed(value_io: ValueIO, key: KeyType, value: Any, created: float, expires: float | None = None) -> Any:
    """Return a value in the form in which it will be written.

    :param key: the user's, for the error's text.
    :param created: now, in seconds since the Unix epoch.
    :param expires: when its time to live ends, likewise; None: never.
    :raises CantSerializeException: the serializer refuses it, or it can be read once only.
    """
    refuse_used_up(key, value)
    try:
        return value_io.pack(value, created, expires)
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        raise cannot_serialize(key, value, error) from error


def stored_bytes(packed: Any) -> int | None:
    """Return the bytes of a packed value; None: it is an object."""
    payload = packed[0] if type(packed) is tuple else packed
    if isinstance(payload, bytes):
        return len(payload)
    return sum(memoryview(piece).nbytes for piece in payload) if type(payload) is tuple else None


def _found(cached: CachedValue) -> Found | NoValueType:
    value, metadata = cached
    if codec.EXPIRES in metadata and is_over(metadata[codec.EXPIRES]):
        return NO_VALUE
    return value, metadata[codec.CREATED], metadata.get(codec.EPOCH), metadata[codec.VERSION]


def _values(looked: Sequence[Found | NoValueType], lifetime: float | None) -> list[Any]:
    if lifetime is None:
        return [found[0] if found else NO_VALUE for found in looked]
    now = time.time()
    return [found[0] if found and now - found[1] <= lifetime else NO_VALUE for found in looked]


def _all_that_can_be(
    write_all: Callable[[Mapping[KeyType, Any]], None],
    write: Callable[[KeyType, Any], None],
    mapping: Mapping[KeyType, Any],
) -> Refused:
    try:
        write_all(mapping)
    except ValueTooLarge as error:
        refused: Refused | None = getattr(error, "refused", None)
        return _one_by_one(write, mapping) if refused is None else refused
    return {}


def _one_by_one(write: Callable[[KeyType, Any], None], mapping: Mapping[KeyType, Any]) -> Refused:
    refused: Refused = {}
    for key, packed in mapping.items():
        try:
            write(key, packed)
        except ValueTooLarge as error:
            refused[key] = error
    return refused


def _unreadable(key: KeyType, error: Exception, counters: Counters) -> NoValueType:
    if raised_by_signal_handler(error):
        raise error
    if not isinstance(error, CantDeserializeException):  # the deserializer raises that on purpose
        counters.undecodable(key, error)
    return NO_VALUE
