"""A dict that forgets what is used least, once it is full.

Leans on exception.  S3-FIFO, after Yang, Zhang, Qiu, Yue and Rashmi: "FIFO queues are all you need for cache
eviction" (SOSP 2023)::

    a new key ---> small, a tenth --- was used ---> main ---.  was used: another round
                        |                            ^  `---'  was not: forgotten
                        `-- was not: forgotten --> ghosts      who is missed, and comes back soon, goes to main

A scan passes through the tenth and leaves alone what is in use.  To look up is to count, and takes no lock.
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

# One lock for all, so that fork() can wait until none of them is half changed.  Reentrant: under it runs what the
# garbage collector and signal handlers may run anywhere, and they may come here again.
_busy = threading.RLock()


def _born_again() -> None:
    global _busy
    _busy = threading.RLock()


os.register_at_fork(
    before=lambda: _busy.acquire() and None,  # such hooks return nothing
    after_in_parent=lambda: _busy.release(),
    after_in_child=_born_again,
)


def in_process_lock() -> Any:
    """Return the lock for short changes of what the threads of this process share; a fork waits for it."""
    return _busy


class _Entry:
    __slots__ = ("size", "uses", "value")

    def __init__(self, value: Any, size: int, uses: int) -> None:
        self.value, self.size, self.uses = value, size, uses


class BoundedDict(MutableMapping[Any, Any]):
    """For threads.  What was just set is there, whatever else must go.

    :param max_entries: how many keys it holds at most; None: no matter how many.
    :param max_bytes: how large all values are together at most; None: no matter how large.
    :param size_of: ``value -> bytes``, asked for when there is a ``max_bytes``.
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
        """Return the value of a key; this is what makes it last."""
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
        """Raises ValueTooLarge, and leaves everything as it was, if the value alone is over ``max_bytes``."""
        size = 0 if self.max_bytes is None else self._size_of(value)
        if self.max_bytes is not None and size > self.max_bytes:
            raise ValueTooLarge(
                f"the value of key {key!r} has {size} bytes, and max_bytes is {self.max_bytes}: it cannot be kept",
                key=key,
            )
        with _busy:
            before = self._entries.get(key)  # stays readable until the new one stands in its place
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
        """Forget a key, in one step; return its value, or the default."""
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
        """Take one step towards it: evict the oldest key of a queue, or give it another chance."""
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
