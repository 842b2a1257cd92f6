"""The shared-memory store: one cache for all processes of a machine.

Leans on shm, on its mutex, and on codec for the wire format that proxies and foreign readers see.
"""

from __future__ import annotations

import difflib
import json
import logging
import pickle
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mpcache import codec
from mpcache.api import (
    BYTES,
    NO_VALUE,
    PAYLOAD,
    WIRE,
    BytesBackend,
    Keeping,
    KeyType,
    SerializedReturnType,
    current_fill,
    guard_of,
)
from mpcache.exception import SegmentRetired, ValueTooLarge
from mpcache.invalidation import SharedInvalidation, is_over
from mpcache.mutexes.shm import ShmMutex
from mpcache.shm._engine import Guard, Shortcut, Space
from mpcache.shm.segment import Place, Segment

log = logging.getLogger(__name__)

R = TypeVar("R")

_ARGUMENTS = {"name", "size", "mode", "shards", "namespace", "strict_size", "segment"}

SUCCESSORS = 8
"""How often a segment may be removed while one operation looks for the next one."""



class ShmBackend(BytesBackend):
    """``mpcache.shm``.

    Arguments: ``name`` (None: an anonymous segment, for forked children), ``size`` (bytes or ``"64MB"``), ``mode``
    (0o600), ``shards`` (None: by cores and size), ``namespace`` (keeps the keys of programs apart that share a
    segment), ``strict_size`` (refuse a segment of another size), ``segment`` (an attached one, instead of a name).

    :raises SegmentError: as in :func:`mpcache.shm.segment.attach`.
    """

    shared = True
    keeping = Keeping("processes of one user", "its users", "``size``", "a copy from memory, unpickling", "shm")
    direct = True
    raw = True

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        _warn_of_unknown(arguments)
        how = {name: arguments[name] for name in ("name", "size", "mode", "shards", "strict_size") if name in arguments}
        how.setdefault("name", None)
        self._arguments = dict(arguments)
        self._place = Place(arguments.get("namespace", ""), arguments.get("segment"), **how)

    @property
    def segment(self) -> Segment:
        """The segment that this store is in now."""
        return self._place.segment

    def portable_arguments(self) -> Mapping[str, Any]:
        """The arguments that bring another process to the same store."""
        return self._arguments if self.segment.name else self._arguments | {"segment": self.segment}

    def _here(self, act: Callable[[Space], R]) -> R:
        """Do it; in the segment's successor, if it was removed."""
        for _ in range(SUCCESSORS):
            try:
                return act(self._place.space)
            except SegmentRetired:
                pass  # and it is forgotten before the next line: its traceback keeps the old mapping alive
            self._place.move()
        return act(self._place.space)

    # -- for regions with nothing in between ----------------------------------------------------------

    def fetch(self, key: KeyType) -> tuple[bytes, float, int] | None:
        """(payload, created, epoch) of a key, or None."""
        try:
            found = self._place.space.get(key)
        except SegmentRetired:
            found = self._here(lambda space: space.get(key))
        if found is None:
            return None
        payload, created, epoch, kept = found
        if kept == PAYLOAD:
            return payload, created, epoch
        return _unpacked(payload, created, epoch) if kept == WIRE else (_pickled(payload, kept), created, epoch)

    def store(
        self, key: KeyType, payload: bytes, created: float, expires: float | None = None, kept: int = PAYLOAD
    ) -> None:
        """Keep a payload that was made at ``created``, and until ``expires`` (seconds since the Unix epoch)."""
        if expires is None:
            self._write(key, payload, created, -1, kept)
        else:
            self._write(key, codec.join(payload, created, expires), created, -1, WIRE, expires)

    def shortcut(self, serializer: Any, deserializer: Any, mangler: Any, lifetime: Any) -> Shortcut | None:
        """What gets and sets in one call each, for a region with these; None: there is only the long way."""
        mine = type(self)
        if mine is not ShmBackend or serializer is not mine.serializer or deserializer is not mine.deserializer:
            return None  # a subclass may have its own fetch and store
        return Shortcut(self._place, NO_VALUE, current_fill, deserializer, serializer, mangler or None, lifetime)

    # -- for everybody else -----------------------------------------------------------------------------

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        found = self._here(lambda space: space.get(key))
        if found is None:
            return NO_VALUE
        payload, created, epoch, kept = found
        if kept != WIRE:
            payload = payload if kept == PAYLOAD else _pickled(payload, kept)
            return b'{"ct": %s, "v": 2, "e": %d}|' % (repr(created).encode(), epoch) + payload
        wire = _split(payload)
        return payload if wire is None else json.dumps({**wire[1], "e": epoch}).encode() + b"|" + wire[0]

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        return [self.get_serialized(key) for key in keys]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        wire = _split(value)
        if wire is None:
            self._write(key, value, time.time(), -1, WIRE)
        elif wire[1].keys() - {"e"} == {"ct", "v"} and wire[1]["v"] == 2:
            self._write(key, wire[0], wire[1]["ct"], wire[1].get("e", -1), PAYLOAD)
        else:
            created, expires = (_a_time(wire[1].get(name)) for name in ("ct", "x"))
            self._write(key, value, created or time.time(), wire[1].get("e", -1), WIRE, expires)

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        refused: dict[KeyType, ValueTooLarge] = {}
        for key, value in mapping.items():
            try:
                self.set_serialized(key, value)
            except ValueTooLarge as error:
                refused[key] = error
        for key, first in refused.items():  # all that fit are stored; it speaks for those that do not
            raise ValueTooLarge(str(first), key=key, refused=refused)

    def delete(self, key: KeyType) -> None:
        self._here(lambda space: space.delete(key))

    def delete_multi(self, keys: Sequence[KeyType]) -> None:
        for key in keys:
            self.delete(key)

    def _write(
        self, key: KeyType, payload: bytes, created: float, epoch: int, kept: int, expires: float | None = None
    ) -> None:
        end = 0.0 if expires is None else _by_the_kernels_clock(expires)
        guard = guard_of(self, key)
        if guard is not None:
            self._fill(guard, key, payload, created, end, kept)
        elif not self._here(lambda space: space.set(key, payload, created, epoch, end, kept)):
            log.warning("the shard of key %r stayed busy for 100 ms; its value was dropped", key)

    def _fill(self, guard: Any, key: KeyType, payload: bytes, created: float, end: float, kept: int) -> None:
        try:
            stored = self._place.space.fill(guard, key, payload, created, end, kept)
        except SegmentRetired:
            stored = False  # begun in a segment that is no more: nobody can say what happened to the key since
        if not stored:
            log.debug("the value created for key %r was not stored: the key was changed meanwhile", key)

    # -- what is shared ---------------------------------------------------------------------------------

    def get_mutex(self, key: KeyType) -> ShmMutex:
        return ShmMutex(key, place=self._place)

    def begin_fill(self, key: KeyType) -> Guard:
        return self._here(lambda space: space.guard(key))

    def invalidation(self) -> SharedInvalidation:
        return SharedInvalidation(self)

    def epochs(self) -> tuple[int, int, int]:
        """(epoch, hard_at, soft_at) of the namespace."""
        try:  # as _here(), without its price: every hit asks
            return self._place.space.epochs()
        except SegmentRetired:
            return self._here(lambda space: space.epochs())

    def invalidate(self, hard: bool = True) -> None:
        """Hide what was begun before, or make it stale, in all processes."""
        self._here(lambda space: space.invalidate(hard))

    # -- the whole --------------------------------------------------------------------------------------

    def keys(self) -> list[str | bytes]:
        """The keys, in no order; those that come or go meanwhile may be in it or not."""
        return self._here(lambda space: space.keys())

    def clear(self) -> None:
        """Remove everything in the namespace."""
        self._here(lambda space: space.clear())

    def stats(self) -> dict[str, int]:
        """Counts over all processes that ever were attached, and what the segment holds now."""
        return self.segment.engine.stats()

    def check(self) -> None:
        """Walk the whole segment; SegmentDamaged names the first thing that cannot be."""
        self.segment.engine.check()

    def unlink(self) -> None:
        """Remove the segment; whoever uses it goes on in a new one of its name."""
        self.segment.unlink()

    def __repr__(self) -> str:
        return f"<ShmBackend {self.segment!r}>"


def _a_time(given: Any) -> float | None:
    return float(given) if isinstance(given, (int, float)) else None


def _by_the_kernels_clock(expires: float) -> float:
    """A time to live ends for the engine when it ends for Python, whose time.time() a program may have frozen."""
    return max(1.0, expires - time.time() + time.clock_gettime(time.CLOCK_REALTIME))


def _pickled(raw: bytes, kept: int) -> bytes:
    return pickle.dumps(raw if kept == BYTES else raw.decode())


def _unpacked(wire: bytes, created: float, epoch: int) -> tuple[bytes, float, int] | None:
    """What :meth:`ShmBackend.fetch` returns of bytes as somebody handed them."""
    try:
        payload, created, _, _, expires = codec.split(wire)
    except (ValueError, KeyError, TypeError):
        found = _split(wire)
        return None if found is None else (found[0], created, epoch)
    return None if is_over(expires) else (payload, created, epoch)


def _split(wire: bytes) -> tuple[bytes, dict[str, Any]] | None:
    head, bar, payload = bytes(wire).partition(b"|")
    try:
        metadata = json.loads(head) if bar else None
    except ValueError:
        return None
    return (payload, metadata) if isinstance(metadata, dict) else None


def _warn_of_unknown(arguments: Mapping[str, Any]) -> None:
    for name in arguments.keys() - _ARGUMENTS:
        near = difflib.get_close_matches(str(name), _ARGUMENTS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        warnings.warn(f"mpcache.shm takes no argument {name!r}{hint} It is ignored.", UserWarning, stacklevel=4)
