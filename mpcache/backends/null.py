"""A store that keeps nothing: caching switched off by configuration.

Depends on api and on the null mutex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpcache.api import (
    NO_VALUE,
    BackendArguments,
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    CacheMutex,
    Keeping,
    KeyType,
)
from mpcache.mutexes.null import NullMutex


class NullLock(NullMutex):
    """The mutex of this store, under the name that it has in dogpile.cache, and without a key."""

    def __init__(self) -> None:
        super().__init__(None)


class NullBackend(CacheBackend):
    """Every look-up misses, and creators run side by side.

    :param arguments: any, all ignored: those of the store that it stands in for.
    """

    keeping = Keeping("no process", "nothing", "keeping nothing", "a creation each time", "null")

    def __init__(self, arguments: BackendArguments) -> None:
        pass

    def get_mutex(self, key: KeyType) -> CacheMutex:
        return NullMutex(key)

    def get(self, key: KeyType) -> BackendFormatted:
        return NO_VALUE

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        return [NO_VALUE for _ in keys]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        pass

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        pass

    def delete(self, key: KeyType) -> bool:
        return False

    def delete_multi(self, keys: Sequence[KeyType]) -> list[KeyType]:
        return []
