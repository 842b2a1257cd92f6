"""A dict of this process as a store.

Leans on api.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from mpcache.api import (
    NO_VALUE,
    BackendArguments,
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    DefaultSerialization,
    KeyType,
)
from mpcache.backends import warn_of_unknown


class MemoryBackend(CacheBackend):
    """Keeps references: who changes a value that was returned changes the cached one.

    Unbounded, and shared with nobody; a forked child goes on with a copy.

    :param arguments: ``cache_dict``, the dict to keep the values in.
    """

    def __init__(self, arguments: BackendArguments) -> None:
        warn_of_unknown(self, arguments, ("cache_dict",))
        given = arguments.get("cache_dict")
        self._cache: MutableMapping[KeyType, Any] = {} if given is None else given

    def get(self, key: KeyType) -> BackendFormatted:
        value: BackendFormatted = self._cache.get(key, NO_VALUE)
        return value

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        return [self._cache.get(key, NO_VALUE) for key in keys]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        self._cache[key] = value

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        for key, value in mapping.items():
            self._cache[key] = value

    def delete(self, key: KeyType) -> None:
        self._cache.pop(key, None)

    def delete_multi(self, keys: Sequence[KeyType]) -> None:
        for key in keys:
            self._cache.pop(key, None)


class MemoryPickleBackend(DefaultSerialization, MemoryBackend):
    """Keeps pickles: every look-up makes the value anew, so that nobody can change the cached one."""
