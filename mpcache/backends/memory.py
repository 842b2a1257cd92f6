"""A dict of this process as a store.

Depends on api and sizes, on memory_fills, and on _support.s3fifo for stores with a bound.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from mpcache._support.s3fifo import BoundedDict
from mpcache._support.sizes import parse_size
from mpcache._wire import codec
from mpcache.api import (
    NO_VALUE,
    BackendArguments,
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    CachedValue,
    DefaultSerialization,
    Keeping,
    KeyType,
    guard_of,
)
from mpcache.backends import warn_of_unknown
from mpcache.backends.memory_fills import MemoryFills, MemoryGuard, fills_of
from mpcache.exception import ValidationError
from mpcache.invalidation import is_over


class MemoryBackend(CacheBackend):
    """Keeps references: code that changes a returned value changes the cached value.

    Not shared; a forked child goes on with a copy.  A value that is being created when its key is set or deleted is not
    stored.  Unbounded, unless there is a bound: then the values that are used least are evicted, see
    :mod:`mpcache._support.s3fifo`.

    :param arguments: ``cache_dict``, the dict to keep the values in; or ``max_entries``; or ``max_bytes``, a number
        or a text such as ``"64MB"``; or both bounds.  Bytes are those of the stored values, without the keys and
        without Python's own overhead, some hundred bytes an entry.
    :raises ValidationError: a bound is not a positive number, or comes with a ``cache_dict``; and from ``set``,
        when there is a ``max_bytes`` and the value is an object, whose size is unknown.
    """

    keeping = Keeping("threads", "nothing", "nothing, or ``max_entries``", "a look-up in a dict", "thread")

    def __init__(self, arguments: BackendArguments) -> None:
        warn_of_unknown(self, arguments, ("cache_dict", "max_bytes", "max_entries"))
        given = arguments.get("cache_dict")
        bounds = {name: arguments[name] for name in ("max_entries", "max_bytes") if arguments.get(name) is not None}
        if bounds and given is not None:
            raise ValidationError(f"{', '.join(bounds)} cannot bound a cache_dict, which others may fill; leave it out")
        if isinstance(bounds.get("max_bytes"), str):
            bounds["max_bytes"] = parse_size(bounds["max_bytes"])
        plain = {} if given is None else given
        self._cache: MutableMapping[KeyType, Any] = BoundedDict(**bounds, size_of=_length) if bounds else plain

    @functools.cached_property
    def _fills(self) -> MemoryFills:
        """Return the creations under way; looked up late, since a subclass may make its own ``_cache``."""
        return fills_of(self._cache)

    def get(self, key: KeyType) -> BackendFormatted:
        value: BackendFormatted = self._cache.get(key, NO_VALUE)
        return value

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        return [self._cache.get(key, NO_VALUE) for key in keys]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        guard = guard_of(self, key)
        if guard is not None:
            guard.fill(self._cache, key, value)  # type: ignore[attr-defined]  # its own
        else:
            self._fills.void((key,))
            self._cache[key] = value

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        for key, value in mapping.items():
            MemoryBackend.set(self, key, value)

    def delete(self, key: KeyType) -> bool:
        return bool(self.delete_multi((key,)))

    def delete_multi(self, keys: Sequence[KeyType]) -> list[KeyType]:
        self._fills.void(keys)
        return [key for key in keys if _lives(self._cache.pop(key, NO_VALUE))]

    def begin_fill(self, key: KeyType) -> MemoryGuard:
        return self._fills.begin(key)

    def holds(self) -> dict[str, int]:
        """Return how many values there are; those whose time to live has ended count until they are read."""
        return {"items": len(self._cache)}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._cache)} values>"


class MemoryPickleBackend(DefaultSerialization, MemoryBackend):
    """Keeps pickles: every look-up returns a new object, so that no code can change the cached value."""

    keeping = Keeping("threads", "nothing", "nothing, or ``max_entries``, ``max_bytes``", "unpickling", "thread")


def _lives(stored: Any) -> bool:
    """Return whether this is a stored value whose time to live has not ended."""
    if stored is NO_VALUE:
        return False
    if isinstance(stored, CachedValue):
        return not is_over(stored.metadata.get(codec.EXPIRES))
    return not (isinstance(stored, bytes) and is_over(codec.expires_at(stored)))


def _length(value: Any) -> int:
    """Return the bytes of a stored value: of a serializer's result, or of a payload that is bytes itself."""
    payload = value.payload if isinstance(value, CachedValue) else value
    if isinstance(payload, (bytes, bytearray)):
        return len(payload)
    raise ValidationError(
        f"max_bytes counts bytes, and this region stores objects, such as a {type(payload).__qualname__}; take"
        " mpcache.memory_pickle, or give the region a serializer, or set max_entries instead"
    )
