"""The interfaces of stores, mutexes and values, for programs that use them and for authors of new ones.

Depends on _wire, for the names in the metadata.
"""

from __future__ import annotations

import abc
import enum
import pickle
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from mpcache._wire import codec

KeyType: TypeAlias = str
ValuePayload: TypeAlias = Any
MetaDataType: TypeAlias = Mapping[str, Any]
KeyManglerType: TypeAlias = Callable[[KeyType], KeyType]
Serializer: TypeAlias = Callable[[ValuePayload], bytes]
Deserializer: TypeAlias = Callable[[bytes], ValuePayload]
BackendArguments: TypeAlias = Mapping[str, Any]

_B = TypeVar("_B", bound="CacheBackend")


class CantDeserializeException(Exception):
    """Raised by a deserializer that rejects the bytes: the value counts as absent."""


class NoValue(enum.Enum):
    """The type of NO_VALUE, the token for "there is no value".  It is false; None is a value like any other."""

    NO_VALUE = "NO_VALUE"

    @property
    def payload(self) -> NoValueType:
        """Return NO_VALUE itself, so that code which expects a CachedValue can read ``payload``."""
        return NoValue.NO_VALUE

    def __repr__(self) -> str:
        """Return a text that must never change: programs have it in their keys."""
        return "<dogpile.cache.api.NoValue object>"

    def __bool__(self) -> Literal[False]:
        return False


NoValueType: TypeAlias = Literal[NoValue.NO_VALUE]

NO_VALUE: NoValueType = NoValue.NO_VALUE
"""The result of every look-up of a key that has no value."""


class CachedValue(NamedTuple):
    """A value and its metadata.

    :param metadata: ``"ct"``, when its creation ended, in seconds since the Unix epoch; ``"v"``, the format;
        ``"x"``, only for a value with a time to live: when that ends.
    """

    payload: ValuePayload
    metadata: MetaDataType

    @property
    def cached_time(self) -> float:
        """Return when the value was created, in seconds since the Unix epoch."""
        return float(self.metadata[codec.CREATED])

    @property
    def age(self) -> float:
        """Return the seconds since the value was created."""
        return time.time() - self.cached_time


CacheReturnType: TypeAlias = CachedValue | NoValueType
SerializedReturnType: TypeAlias = bytes | NoValueType
BackendFormatted: TypeAlias = CacheReturnType | SerializedReturnType
BackendSetType: TypeAlias = CachedValue | bytes


class Freshness(enum.Enum):
    """The result of a look-up: whether a value was found and may be served."""

    FRESH = "fresh"
    STALE = "stale"
    """It may be served while the next value is created."""
    ABSENT = "absent"
    """There is no value, or none that may be served."""


class Outcome(enum.Enum):
    """The result of waiting for a key's mutex."""

    ACQUIRED = "acquired"
    """The waiting task holds the mutex now."""
    RELEASED = "released"
    """The holder released the mutex: look the value up again."""
    UNSTORED = "unstored"
    """The holder released the mutex and stored nothing: create the value without the mutex, do not queue for it."""
    TIMEOUT = "timeout"


class Guarantees(NamedTuple):
    """The guarantees of a mutex, as data: for tests, for the docs, and for configure(), which warns."""

    processes: bool
    """The mutex excludes other processes of this machine."""
    hosts: bool
    """The mutex excludes processes of other machines."""
    survives_death: bool
    """The mutex becomes free again after its holder was killed."""
    fair: bool
    """Waiters acquire the mutex in the order of their arrival."""
    takeover: float | None = None
    """Upper bound, in seconds, from the death of a holder until another task can acquire the mutex; None: unknown."""
    leased: bool = False
    """The mutex may lapse while its holder lives, if the holder is stopped or disconnected for longer than a lease."""
    threads: bool = True
    """The mutex excludes other threads of its process.  A mutex for which this is False excludes nothing."""


class Keeping(NamedTuple):
    """The properties of a store, as data: for the table in the docs."""

    shared_by: str
    """The threads or processes that see the same values."""
    outlives: str
    """What a stored value outlives, such as the processes that use it, or nothing."""
    bounded_by: str
    """The limit that keeps the store from growing without end."""
    costs: str
    """The work of a hit, besides the region's own."""
    mutex: str
    """The name of the store's own mutex."""


class CacheMutex(abc.ABC):
    """The interface of a mutex.  Any object with ``acquire`` and ``release`` counts as one.

    Only :meth:`.CacheRegion.key_is_locked` calls ``locked``.
    """

    @abc.abstractmethod
    def acquire(self, wait: bool = True) -> bool:
        """Acquire the mutex; with ``wait=False`` return False at once if another task holds it."""

    @abc.abstractmethod
    def release(self) -> None:
        """Release the mutex; a background thread may call this."""

    @abc.abstractmethod
    def locked(self) -> bool:
        """Return whether the mutex is held.  Must not acquire it."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return callable(getattr(other, "acquire", None)) and callable(getattr(other, "release", None))


PAYLOAD, WIRE, BYTES, TEXT, INT = range(5)
"""The forms in which a direct store keeps a value: as its serializer made it; in the wire format, which includes the
metadata; and, where the serializer is pickle, bytes, text and integers of 64 bits as they are (:func:`as_it_is`)."""


def as_it_is(value: Any) -> tuple[bytes, int] | None:
    """Return the bytes of a value that needs no serializer, and BYTES, TEXT or INT; None: it needs a serializer."""
    if type(value) is bytes:
        return value, BYTES
    if type(value) is str and value.isascii():
        return value.encode(), TEXT
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value.to_bytes(8, sys.byteorder, signed=True), INT
    return None


class FillGuard(Protocol):
    """A store's record that the creation of a key's value has begun: a later change of the key refuses the fill."""

    @property
    def outcome(self) -> bool | None:
        """Return None if not used yet, True if stored, False if refused, since the key was changed or dropped."""

    @property
    def live(self) -> bool:
        """Return whether a write under this guard would still be the fill."""

    def close(self) -> None:
        """Release the guard, whether or not the key was filled.  May be called again."""


Fill: TypeAlias = "tuple[Any, Mapping[KeyType, FillGuard]]"

current_fill: ContextVar[Fill | None] = ContextVar("mpcache_current_fill", default=None)
"""The fill that is about to be stored: (backend, the guards by their mangled keys).

A store with guards calls :func:`guard_of` when it writes.  A proxy in between therefore needs to know nothing
about fills.
"""


def guard_of(backend: Any, key: KeyType) -> FillGuard | None:
    """Return the guard under which a write of this key to this store is the fill; None: it is an ordinary set."""
    fill = current_fill.get()
    guard = fill[1].get(key) if fill is not None and fill[0] is backend else None
    return guard if guard is not None and guard.live else None


class CacheBackend:
    """A store.

    A subclass is written as for dogpile.cache.  It may leave out what stands below the comment "Optional"; a class that
    does not inherit from this one need not have these names at all.

    :param arguments: those of configure(); must not be changed.
    """

    key_mangler: KeyManglerType | None = None
    serializer: Serializer | None = None
    deserializer: Deserializer | None = None

    def __init__(self, arguments: BackendArguments) -> None:
        raise NotImplementedError

    @classmethod
    def from_config_dict(cls: type[_B], config_dict: Mapping[str, Any], prefix: str) -> _B:
        """Return a backend made from the items whose names begin with ``prefix``, which is removed from the names."""
        cut = len(prefix)
        return cls({name[cut:]: value for name, value in config_dict.items() if name.startswith(prefix)})

    def has_lock_timeout(self) -> bool:
        """Return whether the store's mutex may lapse while it is held."""
        return False

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        """Return a mutex that excludes each other mutex of an equal key; None: the region uses a thread mutex."""
        return None

    def get(self, key: KeyType) -> BackendFormatted:
        """Return the CachedValue of a key, or NO_VALUE."""
        raise NotImplementedError

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        """Do what :meth:`get` does, in the order of the keys."""
        raise NotImplementedError

    def set(self, key: KeyType, value: BackendSetType) -> None:
        """Store a CachedValue."""
        raise NotImplementedError

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        """Do what :meth:`set` does; the mapping must not be changed.

        A store with a maximum value size stores all values that fit, and then raises ValueTooLarge with ``refused``, a
        dict from the key of each value that was too large to its error.
        """
        raise NotImplementedError

    def delete(self, key: KeyType) -> bool | None:
        """Delete a key; do nothing if it is absent.

        :return: whether it had a value; None: the store cannot know.
        """
        raise NotImplementedError

    def delete_multi(self, keys: Sequence[KeyType]) -> Collection[KeyType] | None:
        """Do what :meth:`.CacheBackend.delete` does for many keys; the sequence may be empty.

        :return: the keys that had a value; None: the store cannot know.
        """
        raise NotImplementedError

    # The region calls these instead of the plain methods if it has a serializer, or a deserializer.

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        """Return the bytes of a key, or NO_VALUE."""
        return self.get(key)  # type: ignore[return-value]

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        """Do what :meth:`get_serialized` does, in the order of the keys."""
        return self.get_multi(keys)  # type: ignore[return-value]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        """Store bytes."""
        self.set(key, value)

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        """Do what :meth:`set_serialized` does; the mapping must not be changed."""
        self.set_multi(mapping)

    # Optional.

    shared: bool = False
    """Whether other processes see the same store."""

    keeping: Keeping | None = None
    """The store's row in the table of stores, if it is to have one."""

    direct: bool = False
    """Whether the store keeps a value's metadata apart from the payload.

    A region with no proxy before such a store calls ``fetch(key) -> (payload, created, epoch) | None`` and
    ``store(key, payload, created) -> None``, with ``created`` in seconds since the Unix epoch.  A value with a
    time to live comes as ``store(key, payload, created, expires)``; fetch returns None from ``expires`` on.  Where
    there is a ``fetch_multi(keys)``, which returns a list of the same, the region calls it for many keys.  A
    payload of None means that there is a value which cannot be read.
    """

    raw: bool = False
    """Whether a direct store's ``store`` takes a fifth argument, BYTES, TEXT or INT, for a payload that is not pickled.
    It takes a pickled payload as bytes, or as a tuple of buffers that make up the bytes, of which the large ones are
    the value's own.  ``fetch`` returns bytes, as pickle would have made them."""

    def portable_arguments(self) -> BackendArguments | None:
        """Return the arguments with which another process opens this store; None: the arguments that it was made with.

        :raises TypeError: no other process can open it.
        """
        return None

    def begin_fill(self, key: KeyType) -> FillGuard | None:
        """Record that a key's value is about to be created, and return the guard; None: the store has no guards."""
        return None

    def invalidation(self) -> Any:
        """Return a RegionInvalidationStrategy that reaches all processes that share the store; None: it has none."""
        return None


class DefaultSerialization:
    """Serialization by pickle, in Python's default protocol, as dogpile.cache writes it."""

    serializer: Serializer | None = staticmethod(pickle.dumps)
    deserializer: Deserializer | None = staticmethod(pickle.loads)


class BytesBackend(DefaultSerialization, CacheBackend):
    """A store that keeps bytes only; a subclass implements the ``*_serialized*`` methods."""

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        raise NotImplementedError

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        raise NotImplementedError

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        raise NotImplementedError

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        raise NotImplementedError
