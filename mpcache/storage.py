"""How a value travels between a region and its store: as an object, as bytes, or as a payload.

Leans on codec and mishaps.  Four classes with one face; configure() decides which one a region needs::

    no serializer        CachedValue                 backend.get             backend.set
    a serializer         {"ct": ..., "v": 2}|bytes   backend.get_serialized  backend.set_serialized
    and a direct store   bytes                       backend.fetch           backend.store
"""

from __future__ import annotations

import time
from typing import Any, TypeAlias

from mpcache import codec
from mpcache.api import (
    NO_VALUE,
    CachedValue,
    CantDeserializeException,
    Deserializer,
    KeyType,
    NoValueType,
    Serializer,
)
from mpcache.exception import CantSerializeException
from mpcache.mishaps import Mishaps

Found: TypeAlias = "tuple[Any, float, int | None, int]"
"""A value, when its creation ended (seconds since the Unix epoch), its epoch, the version of its format."""


class PlainStorage:
    """The store keeps the object itself."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def read(self, key: KeyType) -> Found | NoValueType:
        """What is stored under a key, whatever its age."""
        cached = self._backend.get(key)
        if not cached:
            return NO_VALUE
        value, metadata = cached
        return value, metadata["ct"], metadata.get("e"), metadata["v"]

    def cached(self, key: KeyType) -> CachedValue | NoValueType:
        """The same, with all that is known of it."""
        return self._backend.get(key) or NO_VALUE

    def pack(self, value: Any, created: float) -> Any:
        """What :meth:`write` will take.  Raises what the serializer raises."""
        return CachedValue(value, {"ct": created, "v": codec.value_version})

    def write(self, key: KeyType, packed: Any) -> None:
        """Store it.  Raises what the store raises."""
        self._backend.set(key, packed)


class WireStorage:
    """The store keeps bytes, and what is known of a value stands in them."""

    def __init__(
        self, backend: Any, serializer: Serializer | None, deserializer: Deserializer | None, mishaps: Mishaps
    ) -> None:
        self._backend = backend
        self._dumps, self._loads = serializer, deserializer
        self._mishaps = mishaps

    def read(self, key: KeyType) -> Found | NoValueType:
        wire = self._backend.get_serialized(key)
        if not wire:
            return NO_VALUE
        try:
            payload, created, epoch, version = codec.split(wire)
            return self._loads(payload), created, epoch, version  # type: ignore[misc]
        except Exception as error:
            return _unreadable(key, error, self._mishaps)

    def cached(self, key: KeyType) -> CachedValue | NoValueType:
        wire = self._backend.get_serialized(key)
        if not wire:
            return NO_VALUE
        try:
            metadata, payload = codec.metadata_and_payload(wire)
            return CachedValue(self._loads(payload), metadata)  # type: ignore[misc]
        except Exception as error:
            return _unreadable(key, error, self._mishaps)

    def pack(self, value: Any, created: float) -> Any:
        return codec.join(self._dumps(value), created)  # type: ignore[misc]

    def write(self, key: KeyType, packed: Any) -> None:
        self._backend.set_serialized(key, packed)


class DirectStorage:
    """The store keeps what is known of a value beside it, and nothing stands in between."""

    def __init__(self, backend: Any, serializer: Serializer, deserializer: Deserializer, mishaps: Mishaps) -> None:
        self._backend = backend
        self._dumps, self._loads = serializer, deserializer
        self._mishaps = mishaps

    def read(self, key: KeyType) -> Found | NoValueType:
        found = self._backend.fetch(key)
        if found is None:
            return NO_VALUE
        payload, created, epoch = found
        try:
            return self._loads(payload), created, epoch, codec.value_version
        except Exception as error:
            return _unreadable(key, error, self._mishaps)

    def cached(self, key: KeyType) -> CachedValue | NoValueType:
        found = self.read(key)
        if not found:
            return NO_VALUE
        value, created, epoch, version = found
        return CachedValue(value, {"ct": created, "v": version, "e": epoch})

    def pack(self, value: Any, created: float) -> Any:
        return self._dumps(value), created

    def write(self, key: KeyType, packed: Any) -> None:
        self._backend.store(key, *packed)


class _OneWayStorage:
    """A serializer without a deserializer, or the reverse: each direction goes its own way."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.read, self.cached = reader.read, reader.cached
        self.pack, self.write = writer.pack, writer.write


Storage: TypeAlias = "PlainStorage | WireStorage | DirectStorage | _OneWayStorage"


def storage_for(
    backend: Any, serializer: Serializer | None, deserializer: Deserializer | None, mishaps: Mishaps
) -> Storage:
    """The way to and from a store, which may be a proxy."""
    if serializer and deserializer and getattr(backend, "direct", False):
        return DirectStorage(backend, serializer, deserializer, mishaps)
    plain = PlainStorage(backend)
    wire = WireStorage(backend, serializer, deserializer, mishaps)
    if bool(serializer) is bool(deserializer):
        return wire if serializer else plain
    return _OneWayStorage(wire if deserializer else plain, wire if serializer else plain)


def packed(storage: Storage, key: KeyType, value: Any) -> Any:
    """A value as it will be written, created now.

    :param key: the user's, for the error's text.
    :raises CantSerializeException: the serializer refuses it.
    """
    try:
        return storage.pack(value, time.time())
    except Exception as error:
        raise CantSerializeException(
            f"the value of key {key!r}, a {type(value).__qualname__}, cannot be stored; its serializer:"
            f" {type(error).__name__}: {error}; cache plain data, or give the region another serializer"
        ) from error


def _unreadable(key: KeyType, error: Exception, mishaps: Mishaps) -> NoValueType:
    if not isinstance(error, CantDeserializeException):  # that one is said on purpose
        mishaps.undecodable(key, error)
    return NO_VALUE
