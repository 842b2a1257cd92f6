"""The shm store's own operations: objects by their keys, without a region.

Depends on _shm_values and shm_outage.  Values are kept as a region without a serializer of its own keeps them, and both
read what the other stored.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache._wire.pickling import pickled
from mpcache.api import NO_VALUE, PAYLOAD, WIRE, KeyType, as_it_is
from mpcache.backends._shm_values import KINDS, count, engine_end, fetched, remove_ended, row_of, touch
from mpcache.backends.shm_outage import Outage
from mpcache.exception import SegmentRetired, ValueTooLarge, cannot_serialize
from mpcache.invalidation import end_of
from mpcache.shm._engine import Namespace, clock_is_genuine, kernel_time
from mpcache.shm.handle import NamespaceHandle
from mpcache.shm.names import stored_name

if TYPE_CHECKING:
    from mpcache.shm._engine import Record

R = TypeVar("R")

TimeToLive: TypeAlias = "float | timedelta | str | None"

SUCCESSORS = 8
"""How often a segment may be removed while one operation looks for its successor."""

_RINGS = ("small", "main")


class Item(NamedTuple):
    """What a segment knows of one value, without reading it."""

    key: str | bytes
    size: int
    """Bytes of the value as it is stored, without its key."""
    kind: str
    """``"pickle"``, ``"bytes"``, ``"text"`` or ``"int"``; ``"wire"``: bytes with a header, of a proxy or a program."""
    age: float
    """Seconds since its creation ended."""
    ttl: float | None
    """Seconds until its time to live ends; None: it has none."""
    reads: int
    """How often it was read since it was written or passed over for eviction, at most 3."""
    ring: str
    """Where it lies: ``"small"``, or ``"main"`` once it was read there."""


class ShmObjects:
    """The operations; :class:`.ShmBackend` has the segment."""

    _place: NamespaceHandle
    _outage: Outage

    def _here(self, act: Callable[[Namespace], R]) -> R:
        """Do it in the segment; in its successor, if it was removed."""
        for _ in range(SUCCESSORS):
            try:
                return act(self._place.namespace)
            except SegmentRetired:
                pass  # its traceback, which keeps the old mapping alive, is dropped before the next line
            self._place.move()
        return act(self._place.namespace)

    def _read(self, act: Callable[[Namespace], R], nothing: R) -> R:
        """Do what may be missed; return ``nothing`` while the segment is out of reach."""
        return self._outage.or_default(lambda: self._here(act), nothing)

    def _change(self, act: Callable[[Namespace], R], dropped: R) -> R:
        """Do what may be dropped while the segment is out of reach; but not if it will never come back."""
        return self._outage.or_default(lambda: self._here(act), dropped, SegmentRetired)

    # -- one key -----------------------------------------------------------------------------------------------------

    def get(self, key: KeyType) -> Any:
        """Return the value of a key, whatever its age; NO_VALUE if it has none that is not invalidated.

        :raises Exception: what unpickling raises.
        """
        found = self._read(lambda space: _shown(space, stored_name(key)), None)
        payload = None if found is None else (fetched(found) or (None,))[0]
        return NO_VALUE if payload is None else pickle.loads(payload)

    def set(self, key: KeyType, value: Any, ttl: TimeToLive = None) -> bool:
        """Store a value, as ``region.set`` does; return whether it was stored.

        False: the key's shard stayed busy, or the segment is out of reach, and the key has no value now.

        :raises CantSerializeException: it cannot be pickled; nothing was changed.
        :raises ValueTooLarge: it is too large; the key has no value now.
        """
        row = _row(key, value, ttl)
        try:
            return self._change(lambda space: space.set(stored_name(key), *row), False)
        except ValueTooLarge:
            self.delete(key)
            raise

    def has(self, key: KeyType) -> bool:
        """Return whether a key has a value that is not invalidated, whatever its age, without reading the value."""
        return self._read(lambda _: self._change_present(key, lambda space: stored_name(key) in space), False)

    def describe(self, key: KeyType) -> tuple[None, float, int] | None:
        """Return what ``fetch`` returns, without the payload: None, created, epoch."""
        found = self._read(lambda space: space.describe(stored_name(key)), None)
        if found is None:
            return None
        if found[3] != WIRE and clock_is_genuine():
            return None, found[1], found[2]
        record = self._read(lambda space: space.get(stored_name(key)), None)
        taken = None if record is None else fetched(record)
        return None if taken is None or taken[0] is None else (None, *taken[1:])

    def delete(self, key: KeyType) -> bool:
        """Delete the value of a key; return whether it had one that was not invalidated."""
        return self._change_present(key, lambda space: space.delete(stored_name(key)))

    def add(self, key: KeyType, value: Any, ttl: TimeToLive = None) -> bool:
        """Store a value unless the key has one that is not invalidated; return whether it was stored.

        :param ttl: as in ``region.set``.
        :raises ShardBusy: another process was stopped with the key's shard locked; nothing was changed.
        :raises ValueTooLarge: as ``region.set``.
        """
        row = _row(key, value, ttl)
        return self._change_present(key, lambda space: space.add(stored_name(key), *row))

    def version(self, key: KeyType) -> int | None:
        """Return what identifies the key's present value among all that it had or will have; None: it has none.

        Moving a value in memory and touching it do not change its version.
        """
        return self._change_present(key, lambda space: space.version(stored_name(key)))

    def compare_and_set(self, key: KeyType, version: int, value: Any, ttl: TimeToLive = None) -> bool:
        """Store a value if the key's value still has this version; return whether it was stored.

        Ask for the version first and then for the value: if that changed in between, it is not stored.

        :param ttl: as in ``region.set``; that of the present value is not kept.
        :raises ShardBusy, ValueTooLarge: as :meth:`add`.
        """
        row = _row(key, value, ttl)
        return self._change_present(key, lambda space: space.compare_and_set(stored_name(key), version, *row))

    def incr(self, key: KeyType, delta: int = 1, initial: int | None = None, ttl: TimeToLive = None) -> int | None:
        """Add to an integer, exactly, also when other processes do; return the sum.  ``region.get`` reads it as an int.

        The value keeps its age and its expiry: a count of one minute ends with its minute.

        :param delta: may be negative.
        :param initial: what a key without a value gets, and what is returned then, as in memcached's protocol; None:
            nothing is stored, and None is returned.
        :param ttl: the time to live of a count that begins.
        :raises TypeError: the value is not an int of 64 bits, or a region with its own serializer stored it.
        :raises OverflowError: the sum has more than 64 bits.
        :raises ShardBusy: as :meth:`add`.
        """
        expires = end_of(ttl)
        if not clock_is_genuine():  # the end by such a clock is stored in the bytes of a value
            self._here(lambda space: remove_ended(space, stored_name(key)))
            if initial is not None and self.add(key, initial, ttl):
                return initial
            initial = None
        end = engine_end(expires)
        # The engine adds delta to the value with which a count begins.
        before = None if initial is None else initial - delta
        try:
            return self._place.namespace.incr(stored_name(key), delta, before, end)
        except SegmentRetired:
            return self._here(lambda space: space.incr(stored_name(key), delta, before, end))
        except TypeError:
            total = self._here(lambda space: count(space, stored_name(key), delta))
            if total is None:
                raise
            return total

    def touch(self, key: KeyType, ttl: TimeToLive) -> bool:
        """Let the key's value end after this time, or never (None); return whether it has a value.

        :raises ShardBusy: as :meth:`add`.
        """
        expires = end_of(ttl)
        return self._change_present(key, lambda space: touch(space, stored_name(key), expires))

    def _change_present(self, key: KeyType, act: Callable[[Namespace], R]) -> R:
        """Do in the segment what depends on the value that the key has."""

        def change(space: Namespace) -> R:
            remove_ended(space, stored_name(key))
            return act(space)

        return self._here(change)

    # -- all keys ----------------------------------------------------------------------------------------------------

    def keys(self) -> list[str | bytes]:
        """Return the keys, in no order; keys that come or go meanwhile may be in it or not."""
        return self._here(lambda space: space.keys())

    def items(self) -> list[Item]:
        """Return what the segment knows of each value, in no order, without reading the values."""
        now = kernel_time()
        return [
            Item(key, size, KINDS[kept], now - created, expires - now if expires else None, reads, _RINGS[ring])
            for key, size, created, kept, expires, reads, ring in self._here(lambda space: space.items())
        ]


def _shown(space: Namespace, key: KeyType) -> Record | None:
    """Return the record of a key, unless it was invalidated."""
    record = space.get(key)
    return record if record is not None and record[2] >= space.epochs()[1] else None


def _row(key: KeyType, value: Any, ttl: TimeToLive) -> tuple[Any, ...]:
    """Return what follows the key in :meth:`Namespace.set`."""
    expires = end_of(ttl)
    raw = as_it_is(value)
    try:
        payload, kept = (pickled(value), PAYLOAD) if raw is None else raw
    except Exception as error:
        if raised_by_signal_handler(error):
            raise
        raise cannot_serialize(key, value, error) from error
    return row_of(payload, time.time(), expires, kept)
