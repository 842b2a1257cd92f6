"""All exceptions that mpcache defines, as one tree.

Depends on nothing.
"""

from __future__ import annotations

from typing import Any


class DogpileCacheException(Exception):
    """The root of mpcache's own exceptions.  It keeps the name that programs catch."""


class RegionAlreadyConfigured(DogpileCacheException):
    """configure() was called a second time, without ``replace_existing_backend=True``."""


class RegionNotConfigured(DogpileCacheException):
    """The region was used before configure()."""


class ValidationError(DogpileCacheException):
    """An option has a value of the wrong kind."""


class PluginNotFound(DogpileCacheException):
    """No backend, or no mutex, has the given name."""


class _Told(DogpileCacheException):
    """An error that has its facts as attributes, for programs, beside the text for people."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)


class _ToldOfKey(_Told):
    """Make an error about a key.

    :param key: the key, or None if the error is not about a single key.
    :param facts: become attributes, such as ``holder``, ``pid``, ``waited`` (seconds), ``cycle``.
    """

    key: Any

    def __init__(self, message: str, *, key: Any = None, **facts: Any) -> None:
        super().__init__(message, key=key, **facts)


class CantSerializeException(_ToldOfKey, TypeError):
    """The value cannot be stored: the serializer refused it, or it could be read once only."""


class MutexError(_ToldOfKey):
    """The base class of errors of a mutex."""


class NotHeld(MutexError, RuntimeError):
    """The task that released the mutex does not hold it, or does not hold it any more."""


class DeadlockError(MutexError, RuntimeError):
    """A task that waited for this key would wait for itself, directly or in a circle of waiters."""


class LockTimeout(MutexError, TimeoutError):
    """The holder did not release the mutex in time, and there is no older value to serve instead."""


class SegmentError(_Told):
    """The base class of errors of a shared-memory segment."""


class SegmentRefused(SegmentError):
    """The file must not be attached: a foreign owner, open to others, another layout, or not a segment."""


class SegmentTooSmall(SegmentError, ValueError):
    """The requested size is too small for a store."""


class NoRoom(SegmentError):
    """The shared-memory file system has no space for a segment of this size."""


class SegmentDamaged(SegmentError):
    """The data in the segment is inconsistent."""


class SegmentRetired(SegmentError):
    """The segment was unlinked; the next call of a store uses its successor."""


class ShardBusy(SegmentError):
    """The shard's lock could not be acquired in time; nothing was changed."""


class TooManyProcesses(SegmentError):
    """All process slots of the segment are in use."""


def cannot_serialize(key: object, value: object, error: BaseException) -> CantSerializeException:
    """Return the error of a value that a serializer refuses.

    :param error: what the serializer raised.
    """
    return CantSerializeException(
        f"the value of key {key!r}, a {type(value).__qualname__}, cannot be stored; its serializer:"
        f" {type(error).__name__}: {error}; cache plain data, or give the region another serializer",
        key=key,
    )


class ValueTooLarge(_ToldOfKey, ValueError):
    """The value is larger than the largest that the store can hold."""


class KeyTooLong(_ToldOfKey, ValueError):
    """The key is longer than the longest that the store can hold."""
