"""Every exception that mpcache raises of its own, as one tree.

Leans on nothing.
"""

from __future__ import annotations

from typing import Any


class DogpileCacheException(Exception):
    """The root: whatever mpcache raises of its own is one of these.  It keeps the name that users catch."""


class RegionAlreadyConfigured(DogpileCacheException):
    """configure() was called a second time, without ``replace_existing_backend=True``."""


class RegionNotConfigured(DogpileCacheException):
    """The region was asked for something before configure()."""


class ValidationError(DogpileCacheException):
    """An option has a value of the wrong kind."""


class PluginNotFound(DogpileCacheException):
    """No backend, or no mutex, goes by the name that was given."""


class CantSerializeException(DogpileCacheException, TypeError):
    """The serializer refused a value, so that it cannot be stored."""


class _Told(DogpileCacheException):
    """An error that carries its facts as attributes, for programs that do not want to read prose."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)


class _ToldOfKey(_Told):
    """One that concerns a key.

    :param key: the key, or None where there is not a single one.
    :param facts: become attributes, such as ``holder``, ``pid``, ``waited`` (seconds), ``cycle``.
    """

    key: Any

    def __init__(self, message: str, *, key: Any = None, **facts: Any) -> None:
        super().__init__(message, key=key, **facts)


class MutexError(_ToldOfKey):
    """Something about a mutex."""


class NotHeld(MutexError, RuntimeError):
    """A release by one who does not hold the mutex, or does not hold it any more."""


class DeadlockError(MutexError, RuntimeError):
    """To wait for this key would be to wait for oneself, directly or in a circle of waiters."""


class LockTimeout(MutexError, TimeoutError):
    """The holder did not let go in time, and there is no older value to serve instead."""


class SegmentError(_Told):
    """Something about a shared-memory segment."""


class SegmentRefused(SegmentError):
    """The segment is not one to attach: a foreign owner, open to others, another layout, or not a segment."""


class SegmentTooSmall(SegmentError, ValueError):
    """The size that was asked for cannot hold a store."""


class NoRoom(SegmentError):
    """The file system of shared memory cannot hold a segment of that size."""


class SegmentDamaged(SegmentError):
    """The bytes in the segment contradict each other."""


class SegmentRetired(SegmentError):
    """The segment was unlinked; the next call of a store uses its successor."""


class ShardBusy(SegmentError):
    """The shard could not be taken in time, and nothing was changed."""


class TooManyProcesses(SegmentError):
    """All process slots of the segment are taken."""


class ValueTooLarge(_ToldOfKey, ValueError):
    """The value is over the largest that the store can hold."""


class KeyTooLong(_ToldOfKey, ValueError):
    """The key is over the longest that the store can hold."""
