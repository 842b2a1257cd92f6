"""A dict of limited size, which evicts by the S3-FIFO policy.

Depends on exception.  S3-FIFO, after Yang, Zhang, Qiu, Yue and Rashmi: "FIFO queues are all you need for cache
eviction" (SOSP 2023)::

    a new key ---> small, a tenth --- was used ---> main ---.  was used: another round
                        |                            ^  `---'  was not: evicted
                        `-- was not: evicted --> ghosts        a ghost that is set again soon goes to main

A scan passes through the small queue only, and does not evict keys in use.  A look-up counts, and takes no lock.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from mpcache.exception import ValidationError, ValueTooLarge

_MOST_USES = 3
_REQUIRED = object()

# One lock for all stores, so that fork() can wait until none of them is half changed.  Reentrant: the
# garbage collector and signal handlers may run under it, and may call a store again.
_busy = threading.RLock()


def _after_fork_in_child() -> None:
    global _busy
    _busy = threading.RLock()


os.register_at_fork(
    before=lambda: _busy.acquire() and None,  # fork hooks return nothing
    after_in_parent=lambda: _busy.release(),
    after_in_child=_after_fork_in_child,
)


def in_process_lock() -> Any:
    """Return the lock for short changes of data that the threads of this process share; a fork waits for it."""
    return _busy


class _Entry:
    __slots__ = ("size", "uses", "value")

    def __init__(self, value: Any, size: int, uses: int) -> None:
        self.value, self.size, self.uses = value, size, uses


class BoundedDict(MutableMapping[Any, Any]):
    """A dict of limited size for threads.  A value that was just set is present, whatever is evicted for it.

    :param max_entries: the most keys that it holds; None: no limit.
    :param max_bytes: the most bytes of all values together; None: no limit.
    :param size_of: ``value -> bytes``, called if there is a ``max_bytes``.
    :raises ValidationError: a bound is no positive integer.
    """

    def __init__(
        self, max_entries: int | None = None, max_bytes: int | None = None, size_of: Callable[[Any], int] = len
    ) -> None:
        self.max_entries = _positive("max_entries", max_entries)
        self.max_bytes = _positive("max_bytes", max_bytes)
        self.bytes = 0
        self._size_of = size_of
        self._entries: dict[Any, _Entry] = {}
        self._small: OrderedDict[Any, None] = OrderedDict()
        self._main: OrderedDict[Any, None] = OrderedDict()
        self._ghosts: OrderedDict[Any, None] = OrderedDict()

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, and count the use, which keeps the key from being evicted."""
        entry = self._entries.get(key)
        if entry is None:
            return default
        if entry.uses < _MOST_USES:
            entry.uses += 1
        return entry.value

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, _REQUIRED)
        if value is _REQUIRED:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a key.  Raises ValueTooLarge, and changes nothing, if the value alone is over ``max_bytes``."""
        size = 0 if self.max_bytes is None else self._size_of(value)
        if self.max_bytes is not None and size > self.max_bytes:
            raise ValueTooLarge(
                f"the value of key {key!r} has {size} bytes, and max_bytes is {self.max_bytes}; configure a larger one",
                key=key,
            )
        with _busy:
            before = self._entries.get(key)  # the old value stays readable until the new one replaces it
            queue = self._leave_queue(key, before)
            while self._lacks_room_for(size):
                self._forget_one()
            if queue is None:
                queue = self._main if self._ghosts.pop(key, _REQUIRED) is None else self._small
            self._entries[key] = _Entry(value, size, before.uses if before else 0)
            queue[key] = None
            self.bytes += size

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def pop(self, key: Any, default: Any = _REQUIRED) -> Any:
        """Remove a key, in one step; return its value, or the default."""
        with _busy:
            entry = self._entries.pop(key, None)
            self._leave_queue(key, entry)
        if entry is not None:
            return entry.value
        if default is _REQUIRED:
            raise KeyError(key)
        return default

    def _leave_queue(self, key: Any, entry: _Entry | None) -> OrderedDict[Any, None] | None:
        for queue in (self._small, self._main):
            if entry is not None and queue.pop(key, _REQUIRED) is None:
                self.bytes -= entry.size
                return queue
        return None

    def _lacks_room_for(self, size: int) -> bool:
        number = len(self._small) + len(self._main)
        return (self.max_entries is not None and number >= self.max_entries) or (
            self.max_bytes is not None and self.bytes + size > self.max_bytes
        )

    def _forget_one(self) -> None:
        """Do one step towards the limits: evict the oldest key of a queue, or give it another round."""
        tenth = max(1, (len(self._small) + len(self._main)) // 10)
        if self._main and len(self._small) < tenth:
            key, _ = self._main.popitem(last=False)
            entry = self._entries[key]
            if entry.uses:
                entry.uses -= 1
                self._main[key] = None
                return
        else:
            key, _ = self._small.popitem(last=False)
            entry = self._entries[key]
            if entry.uses:
                entry.uses = 0
                self._main[key] = None
                return
            self._remember(key)
        self.bytes -= entry.size
        del self._entries[key]

    def _remember(self, key: Any) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > len(self._entries):
            self._ghosts.popitem(last=False)


def _positive(name: str, bound: Any) -> int | None:
    if bound is None or (type(bound) is int and bound > 0):
        return bound
    raise ValidationError(f"{name} is {bound!r}; it must be a positive integer, or None for no bound")
