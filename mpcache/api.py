"""What a store, a mutex and a value are, for those who use them and for those who write their own.

Depends on _wire, for the names in the metadata.
"""

from __future__ import annotations

import abc
import enum
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
    """Raised by a deserializer for bytes that it does not want to read: the value counts as absent."""


class NoValue(enum.Enum):
    """The token for "there is nothing".  It is false, and None is a value like any other."""

    NO_VALUE = "NO_VALUE"

    @property
    def payload(self) -> NoValueType:
        """Itself, so that it can stand where a CachedValue could."""
        return NoValue.NO_VALUE

    def __repr__(self) -> str:
        """Return a text that must never change: people have it in their keys."""
        return "<dogpile.cache.api.NoValue object>"

    def __bool__(self) -> Literal[False]:
        return False


NoValueType: TypeAlias = Literal[NoValue.NO_VALUE]

NO_VALUE: NoValueType = NoValue.NO_VALUE
"""What every look-up returns for a key that has no value."""


class CachedValue(NamedTuple):
    """A value with what is known of it.

    :param metadata: ``"ct"``, when its creation ended, in seconds since the Unix epoch; ``"v"``, the format;
        ``"x"``, only of a value with a time to live: when that ends.
    """

    payload: ValuePayload
    metadata: MetaDataType

    @property
    def cached_time(self) -> float:
        """When it was made: seconds since the Unix epoch."""
        return float(self.metadata[codec.CREATED])

    @property
    def age(self) -> float:
        """Return seconds since it was made."""
        return time.time() - self.cached_time


CacheReturnType: TypeAlias = CachedValue | NoValueType
SerializedReturnType: TypeAlias = bytes | NoValueType
BackendFormatted: TypeAlias = CacheReturnType | SerializedReturnType
BackendSetType: TypeAlias = CachedValue | bytes


class Freshness(enum.Enum):
    """What a look at a value tells the one who asked for it."""

    FRESH = "fresh"
    STALE = "stale"
    """It may be served while another one is made."""
    ABSENT = "absent"
    """There is none, or none that may be served."""


class Outcome(enum.Enum):
    """What waiting for a key's mutex came to."""

    ACQUIRED = "acquired"
    """I hold it."""
    RELEASED = "released"
    """The holder let go: look at the value again."""
    UNSTORED = "unstored"
    """The holder let go and stored nothing: make the value for yourself, do not queue for it."""
    TIMEOUT = "timeout"


class Guarantees(NamedTuple):
    """The promises of a mutex, as data: for tests, for the docs, and for configure(), which warns."""

    processes: bool
    """Excludes other processes of this machine."""
    hosts: bool
    """Excludes other machines."""
    survives_death: bool
    """Is free again when its holder was killed."""
    fair: bool
    """Serves waiters in the order of their coming."""
    takeover: float | None = None
    """Seconds from the death of a holder until another can have it, at most; None: not known."""
    leased: bool = False
    """May lapse while its holder lives, if that one is stopped, or cut off, for longer than a lease."""
    threads: bool = True
    """Excludes other threads of its process.  A mutex that does not excludes nothing."""


class Keeping(NamedTuple):
    """What a store says of itself, as data: for the table in the docs."""

    shared_by: str
    """Who sees the same values."""
    outlives: str
    """After whose end a value is still there."""
    bounded_by: str
    """What keeps it from growing for ever."""
    costs: str
    """What a hit does, besides the region's own work."""
    mutex: str
    """The name of its own one."""


class CacheMutex(abc.ABC):
    """What a region needs of a mutex.  Whatever has ``acquire`` and ``release`` is one.

    ``locked`` is asked for by :meth:`.CacheRegion.key_is_locked` only.
    """

    @abc.abstractmethod
    def acquire(self, wait: bool = True) -> bool:
        """Take it; with ``wait=False`` return False at once if another has it."""

    @abc.abstractmethod
    def release(self) -> None:
        """Give it back; a background thread may call this."""

    @abc.abstractmethod
    def locked(self) -> bool:
        """Return whether it is held.  Must not take it."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return callable(getattr(other, "acquire", None)) and callable(getattr(other, "release", None))


PAYLOAD, WIRE, BYTES, TEXT, INT = range(5)
"""How a store that is direct keeps a value: as its serializer made it; in the wire format, which says what is known of
it; and, where the serializer is pickle, bytes, text and integers of 64 bits as they are (:func:`as_it_is`)."""


def as_it_is(value: Any) -> tuple[bytes, int] | None:
    """Return the bytes of a value that needs no serializer, and BYTES, TEXT or INT; None: it needs one."""
    if type(value) is bytes:
        return value, BYTES
    if type(value) is str and value.isascii():
        return value.encode(), TEXT
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value.to_bytes(8, sys.byteorder, signed=True), INT
    return None


class FillGuard(Protocol):
    """A store's memory of "since when I am creating this key": a later change of the key refuses the fill."""

    @property
    def outcome(self) -> bool | None:
        """None: not used yet; True: stored; False: refused, for the key was changed, or dropped."""

    @property
    def live(self) -> bool:
        """Return whether a write under it would still be the fill."""

    def close(self) -> None:
        """Give it back, filled or not.  May be called again."""


Fill: TypeAlias = "tuple[Any, Mapping[KeyType, FillGuard]]"

current_fill: ContextVar[Fill | None] = ContextVar("mpcache_current_fill", default=None)
"""What was created and is about to be stored: (backend, the guards by their mangled keys).

A store with guards asks :func:`guard_of` when it writes.  A proxy in between therefore needs to know nothing
about fills.
"""


def guard_of(backend: Any, key: KeyType) -> FillGuard | None:
    """Return the guard under which a write of this key to this store is the fill; None: it is just a set."""
    fill = current_fill.get()
    guard = fill[1].get(key) if fill is not None and fill[0] is backend else None
    return guard if guard is not None and guard.live else None


class CacheBackend:
    """A store.

    Written as for dogpile.cache; what stands below the line "optional" may be left out, and a class that does
    not inherit from this one may lack it altogether.

    :param arguments: those of configure(); must not be changed.
    """

    key_mangler: KeyManglerType | None = None
    serializer: Serializer | None = None
    deserializer: Deserializer | None = None

    def __init__(self, arguments: BackendArguments) -> None:
        raise NotImplementedError

    @classmethod
    def from_config_dict(cls: type[_B], config_dict: Mapping[str, Any], prefix: str) -> _B:
        """Return a backend of those items whose name begins with ``prefix``, which is cut off."""
        cut = len(prefix)
        return cls({name[cut:]: value for name, value in config_dict.items() if name.startswith(prefix)})

    def has_lock_timeout(self) -> bool:
        """Return whether its mutex may lapse while it is held."""
        return False

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        """Return a mutex that excludes every other one of an equal key; None: threads of this process are enough."""
        return None

    def get(self, key: KeyType) -> BackendFormatted:
        """Return the CachedValue of a key, or NO_VALUE."""
        raise NotImplementedError

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        """Do what :meth:`get` does, in the order of the keys."""
        raise NotImplementedError

    def set(self, key: KeyType, value: BackendSetType) -> None:
        """Keep a CachedValue."""
        raise NotImplementedError

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        """Do what :meth:`set` does; the mapping must not be changed.

        A store with a largest value keeps all that it can, and then raises ValueTooLarge with ``refused``, a
        dict from each key that was too large to what there is to say of it.
        """
        raise NotImplementedError

    def delete(self, key: KeyType) -> None:
        """Forget a key, also one that is not there."""
        raise NotImplementedError

    def delete_multi(self, keys: Sequence[KeyType]) -> None:
        """Do what :meth:`delete` does; of no key at all too."""
        raise NotImplementedError

    # Asked for instead of the plain ones when the region has a serializer, or a deserializer.

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        """Return the bytes of a key, or NO_VALUE."""
        return self.get(key)  # type: ignore[return-value]

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        """Do what :meth:`get_serialized` does, in the order of the keys."""
        return self.get_multi(keys)  # type: ignore[return-value]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        """Keep bytes."""
        self.set(key, value)

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        """Do what :meth:`set_serialized` does; the mapping must not be changed."""
        self.set_multi(mapping)

    # Optional.

    shared: bool = False
    """Whether other processes see the same store."""

    keeping: Keeping | None = None
    """Its line in the table of stores, if it is to have one."""

    direct: bool = False
    """Whether it keeps what is known of a value beside the payload.

    A region with no proxy before such a store calls ``fetch(key) -> (payload, created, epoch) | None`` and
    ``store(key, payload, created) -> None``, with ``created`` in seconds since the Unix epoch.  A value with a
    time to live comes as ``store(key, payload, created, expires)``; fetch returns None from ``expires`` on.  Where
    there is a ``fetch_multi(keys)``, which returns a list of the same, it is asked for many keys at once.  A
    payload of None says that there is a value, and that it cannot be read.
    """

    raw: bool = False
    """Of a direct store: whether ``store`` takes a fifth argument, BYTES, TEXT or INT, for a payload that is not
    pickled; and one that is as bytes, or as a tuple of buffers that make them up, of which the large ones are the
    value's own.  ``fetch`` returns bytes, as pickle would have made them."""

    def portable_arguments(self) -> BackendArguments | None:
        """Return the arguments with which another process comes to this store; None: those that it was made with.

        :raises TypeError: no other process can.
        """
        return None

    def begin_fill(self, key: KeyType) -> FillGuard | None:
        """Note that the value of a key is about to be created; None: this store has no such guard."""
        return None

    def invalidation(self) -> Any:
        """Return a RegionInvalidationStrategy that reaches all who share the store; None: it has none."""
        return None


class DefaultSerialization:
    """Pickle, in the protocol that Python takes by default, as dogpile.cache writes it."""

    serializer: Serializer | None = staticmethod(pickle.dumps)
    deserializer: Deserializer | None = staticmethod(pickle.loads)


class BytesBackend(DefaultSerialization, CacheBackend):
    """A store that can keep bytes and nothing else; the four ``*_serialized*`` methods are to be written."""

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        raise NotImplementedError

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        raise NotImplementedError

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        raise NotImplementedError

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        raise NotImplementedError
