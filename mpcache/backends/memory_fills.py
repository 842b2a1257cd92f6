"""Creations under way in a store of this process: a change of a key refuses the fill that began before it.

Depends on _support.s3fifo for its lock, which a fork waits for::

    no entry of a key      nothing is being created for it, or what is being created is out of date
    an entry               the creation that may store its value: the latest that began
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any
from weakref import WeakValueDictionary

from mpcache._support.s3fifo import in_process_lock
from mpcache.api import KeyType
from mpcache.backends._fill_guard import BaseFillGuard


class MemoryFills:
    """The creations under way in one dict of values.

    A writer without a guard voids the fill first and writes then.  It needs the lock only where a creation is under
    way: a fill keeps its entry until it has written, so that a writer that finds no entry writes after it.
    """

    def __init__(self) -> None:
        self.under_way: dict[KeyType, object] = {}

    def begin(self, key: KeyType) -> MemoryGuard:
        """Note that the key's value is about to be created; the fill of an earlier creation is refused from now on."""
        return MemoryGuard(self, key)

    def void(self, keys: Iterable[KeyType]) -> None:
        """Refuse what is being created for these keys."""
        if self.under_way:
            with in_process_lock():
                for key in keys:
                    self.under_way.pop(key, None)


class MemoryGuard(BaseFillGuard):
    """The right to store one value that is being created."""

    def __init__(self, fills: MemoryFills, key: KeyType) -> None:
        super().__init__()
        self._fills, self._key = fills, key
        self._token = object()
        fills.under_way[key] = self._token

    def fill(self, values: MutableMapping[KeyType, Any], key: KeyType, value: Any) -> None:
        """Store the value, unless the key was changed since.  Raises what the dict raises."""
        with in_process_lock():
            wanted = self._wanted
            self.finish(False)
            if wanted:
                values[key] = value
                self.finish(True)
        self.close()

    def close(self) -> None:
        """End the creation, filled or not.  May be called again."""
        with in_process_lock():
            if self._wanted:
                del self._fills.under_way[self._key]
        super().close()

    @property
    def _wanted(self) -> bool:
        return self._fills.under_way.get(self._key) is self._token

    def __del__(self) -> None:
        if hasattr(self, "_token"):  # else an exception arrived before it was made
            self.close()


_of_dicts: WeakValueDictionary[int, MemoryFills] = WeakValueDictionary()


def fills_of(values: MutableMapping[KeyType, Any]) -> MemoryFills:
    """Return the creations under way in a dict, the same for all stores that keep their values in it.

    A dict lives at least as long as its stores, so that its id names it as long as the result is in use.
    """
    return _of_dicts.setdefault(id(values), MemoryFills())
