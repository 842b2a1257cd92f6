"""The shared-memory store: one cache for all processes of a machine.

Depends on shm, on the shm mutex, and on _shm_values for the forms in which it keeps values.
"""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mpcache._support.hints import warn, warn_of_unknown
from mpcache._wire.pickling import Payload, pickling
from mpcache.api import (
    NO_VALUE,
    PAYLOAD,
    BytesBackend,
    Keeping,
    KeyType,
    SerializedReturnType,
    current_fill,
    guard_of,
)
from mpcache.backends._shm_counts import ShmCounts
from mpcache.backends._shm_objects import ShmObjects
from mpcache.backends._shm_values import (
    Fetched,
    fetched,
    row_of,
    row_of_wire,
    wire_of,
)
from mpcache.backends.shm_outage import EVERYTHING_HIDDEN, NO_FILL, NoFill, Outage
from mpcache.exception import SegmentError, SegmentRetired, ValueTooLarge
from mpcache.invalidation import SharedInvalidation
from mpcache.mutexes.shm import ShmMutex
from mpcache.shm._engine import TALLIES, FastPath, Guard
from mpcache.shm.handle import NamespaceHandle
from mpcache.shm.names import stored_name
from mpcache.shm.segment import Segment

if TYPE_CHECKING:
    from mpcache.shm._engine import Record

log = logging.getLogger(__name__)

R = TypeVar("R")

TimeToLive: TypeAlias = "float | timedelta | str | None"

_ARGUMENTS = {"name", "size", "mode", "shards", "namespace", "strict_size", "segment", "on_error"}

DROPPED = TALLIES.index("dropped")

SUCCESSORS = 8
"""How often a segment may be removed while one operation looks for its successor."""


class ShmBackend(ShmObjects, ShmCounts, BytesBackend):  # type: ignore[misc]  # a region calls neither its get nor its set
    """``mpcache.shm``.

    Arguments: ``name`` (None: an anonymous segment, for forked children), ``size`` (bytes or a text; left out: that of
    an existing segment, otherwise ``"64MB"``), ``mode`` (0o600), ``shards`` (None: by cores and size), ``namespace``
    (keeps the keys of programs apart that share a segment), ``strict_size`` (refuse a segment of another size),
    ``segment`` (an attached one, instead of a name), ``on_error`` (``"miss"``: while the segment is out of reach reads
    miss, sets are dropped and counted in ``errors``, and creators run; ``"raise"``: SegmentError).  Whatever
    ``on_error`` is, deletes and invalidations raise.

    :raises SegmentError: as in :func:`mpcache.shm.segment.attach`, and in its methods as ``on_error`` says.
    """

    shared = True
    keeping = Keeping("processes of one user", "its users", "``size``", "a copy from memory, unpickling", "shm")
    direct = True
    raw = True

    on_dropped: Callable[[int], object] = staticmethod(lambda number: None)
    """Called with the number of sets that were dropped, except for fills."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        warn_of_unknown("mpcache.shm", arguments, _ARGUMENTS)
        if not {"name", "segment"} & arguments.keys():
            text = "without a name, only children that are forked from this process share it"
            warn(f"mpcache.shm: {text}; name the segment in arguments, or say name=None")
        how = {name: arguments[name] for name in ("name", "size", "mode", "shards", "strict_size") if name in arguments}
        how.setdefault("name", None)
        self._arguments = dict(arguments)
        self._outage = Outage(self, arguments.get("on_error", "miss"))
        self._place = NamespaceHandle(arguments.get("namespace", ""), arguments.get("segment"), **how)

    @property
    def segment(self) -> Segment:
        """Return the segment that this store uses now."""
        return self._place.segment

    def portable_arguments(self) -> Mapping[str, Any]:
        """Return the arguments with which another process gets the same store."""
        return self._arguments if self.segment.name else self._arguments | {"segment": self.segment}

    # -- for regions without a proxy or serializer ----------------------------------------------------------

    def fetch(self, key: KeyType) -> Fetched | None:
        """Return (payload, created, epoch) of a key, or None; the payload is None if its bytes are damaged."""
        found = self._get(key)
        return None if found is None else fetched(found)

    def _get(self, key: KeyType) -> Record | None:
        try:  # as _read(), which costs more
            return self._place.namespace.get(stored_name(key))
        except SegmentError:
            return self._read(lambda space: space.get(stored_name(key)), None)

    def store(
        self, key: KeyType, payload: Payload, created: float, expires: float | None = None, kept: int = PAYLOAD
    ) -> None:
        """Store a payload, created at ``created``, until ``expires`` (seconds since the Unix epoch)."""
        self._write(key, *row_of(payload, created, expires, kept))

    def fetch_multi(self, keys: Sequence[KeyType]) -> list[Fetched | None]:
        """Do the same for many keys, in their order."""
        found = self._get_multi(keys)
        return [None if record is None else fetched(record) for record in found]

    def _get_multi(self, keys: Sequence[KeyType]) -> list[Record | None]:
        nothing: list[Record | None] = [None] * len(keys)
        return self._read(lambda space: space.get_multi(list(map(stored_name, keys))), nothing)

    def fast_path(
        self, serializer: Any, deserializer: Any, mangler: Any, lifetime: Any, here: array[int]
    ) -> FastPath | None:
        """Return what gets and sets in one C call each, for a region with these; None: the store has no such calls.

        :param here: counts the requests that are answered there: hits, near hits and misses.
        """
        mine = type(self)
        if mine is not ShmBackend or serializer is not mine.serializer or deserializer is not mine.deserializer:
            return None  # a subclass may have its own fetch and store
        return FastPath(self._place, NO_VALUE, current_fill, deserializer, pickling, mangler or None, lifetime, here)

    # -- for all other regions -----------------------------------------------------------------------------

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        found = self._get(key)
        return NO_VALUE if found is None else wire_of(found)

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        found = self._get_multi(keys)
        return [NO_VALUE if record is None else wire_of(record) for record in found]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        self._write(key, *row_of_wire(value))

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        refused: dict[KeyType, ValueTooLarge] = {}
        rows: dict[KeyType, tuple[Any, ...]] = {}
        for key, value in mapping.items():
            if guard_of(self, key) is None:
                rows[key] = (stored_name(key), *row_of_wire(value))
            else:
                self._unless_too_large(key, value, refused)
        ready = list(rows.values())
        results = self._change(lambda space: space.set_multi(ready), None)
        if results is None:  # an outage, which is logged already
            self._count_dropped(len(ready))
        for key, stored in zip(rows, results or (), strict=results is not None):
            if stored is None:
                self._unless_too_large(key, mapping[key], refused)
            elif not stored:
                self._say_dropped(key)
        for key, first in refused.items():  # all values that fit are stored; the first error carries the others
            raise ValueTooLarge(str(first), key=key, refused=refused)

    def _unless_too_large(self, key: KeyType, value: bytes, refused: dict[KeyType, ValueTooLarge]) -> None:
        try:
            self.set_serialized(key, value)
        except ValueTooLarge as error:
            refused[key] = error

    def delete_multi(self, keys: Sequence[KeyType]) -> list[KeyType]:
        deleted = self._here(lambda space: space.delete_multi(list(map(stored_name, keys))))
        return [key for key, was_there in zip(keys, deleted, strict=True) if was_there]

    def _write(self, key: KeyType, payload: Payload, created: float, epoch: int, end: float, kept: int) -> None:
        guard = guard_of(self, key)
        if guard is NO_FILL:
            return
        if guard is not None:
            self._fill(guard, key, payload, created, end, kept)
            return
        stored = self._change(lambda space: space.set(stored_name(key), payload, created, epoch, end, kept), None)
        if stored is None:  # an outage, which is logged already
            self._count_dropped(1)
        elif not stored:
            self._say_dropped(key)

    def _say_dropped(self, key: KeyType) -> None:
        log.warning("the shard of key %r stayed busy for 100 ms; its value was dropped", key)
        self._count_dropped(1)

    def _count_dropped(self, number: int) -> None:
        self.tally(DROPPED, number)
        self.on_dropped(number)

    def _fill(self, guard: Any, key: KeyType, payload: Payload, created: float, end: float, kept: int) -> None:
        try:
            stored = self._place.namespace.fill(guard, stored_name(key), payload, created, end, kept)
        except SegmentRetired:
            stored = False  # begun in a removed segment: whether the key was changed since is unknown
        except SegmentError as error:
            if not self._outage.tolerates:
                raise
            self._outage.note(error)
            return
        if not stored:
            log.debug("the value created for key %r was not stored: the key was changed meanwhile", key)

    # -- creation and invalidation ---------------------------------------------------------------------------------

    def get_mutex(self, key: KeyType) -> ShmMutex:
        return ShmMutex(key, place=self._place, tolerate=self._outage.note if self._outage.tolerates else None)

    def begin_fill(self, key: KeyType) -> Guard | NoFill:
        begun: Guard | NoFill = self._read(lambda space: space.guard(stored_name(key)), NO_FILL)
        return begun

    def invalidation(self) -> SharedInvalidation:
        return SharedInvalidation(self)

    def epochs(self) -> tuple[int, int, int]:
        """Return (epoch, hard_at, soft_at) of the namespace.

        The caller has read a value.  If its segment was removed since, the successor's epochs say nothing about it:
        then it counts as invalidated.
        """
        try:  # each hit comes here: no closure, no loop
            return self._place.namespace.epochs()
        except SegmentRetired:
            self._read(lambda space: space.epochs(), EVERYTHING_HIDDEN)
            return EVERYTHING_HIDDEN

    def invalidate(self, hard: bool = True) -> None:
        """Hide what was begun before, or make it stale, in all processes."""
        self._here(lambda space: space.invalidate(hard))

    # -- the whole --------------------------------------------------------------------------------------

    @property
    def errors(self) -> Counter[str]:
        """Return how often which error counted as a miss (``on_error="miss"``), in this process."""
        return self._outage.counts

    def clear(self) -> None:
        """Remove everything in the namespace."""
        self._here(lambda space: space.clear())

    def stats(self) -> dict[str, int]:
        """Return counts over all processes that ever were attached, and what the segment holds now."""
        return self._here(lambda _: self.segment.engine.stats())

    def check(self) -> None:
        """Check the whole segment; SegmentDamaged names the first inconsistency."""
        self._here(lambda _: self.segment.engine.check())

    def unlink(self) -> None:
        """Remove the segment, and free its memory; the processes that use it go on in a new one of its name.

        If other processes are attached, it takes a quarter of a second.

        :raises SegmentError: this process may not remove it; nothing was changed.
        """
        self.segment.unlink()

    def __repr__(self) -> str:
        return f"<ShmBackend {self.segment!r}>"
