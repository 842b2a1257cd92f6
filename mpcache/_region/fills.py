"""Fills: writes of created values, which are refused if the key was changed since the creation began.

Depends on binding.  A store with guards is asked for one when a creation begins (:func:`begin_fill`), and finds it
again in a context variable when the value is written (:func:`filling`), so that proxies in between need not know of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mpcache._region.binding import Binding
from mpcache._region.requests import CREATED, DROPPED, REFUSED
from mpcache.api import FillGuard, KeyType, current_fill
from mpcache.invalidation import Begin


class Fills(dict[KeyType, FillGuard]):
    """The guards of created values, by their mangled keys, and the begin of their creation.

    :ivar begun: the begin of the creation.
    :ivar ttl: the time to live of the created values, which a write without one gets, see :mod:`.ttl`.
    :ivar keys_begun: all created keys, also those without a guard, of a store without guards.
    :ivar binding: that of the creation, which the region may have changed since.
    :ivar too_large: whether a value was larger than the store's largest.
    """

    def __init__(
        self, binding: Binding, guards: Mapping[KeyType, FillGuard | None], begun: Begin, ttl: Any = None
    ) -> None:
        super().__init__((key, guard) for key, guard in guards.items() if guard is not None)
        self.binding, self.begun, self.ttl, self.keys_begun = binding, begun, ttl, frozenset(guards)
        self.too_large = False

    def under_way(self, key: KeyType) -> bool:
        """Return whether a write of this key, as the user calls it, would be its fill."""
        mangled = self.binding.mangled(key)
        return mangled in self.keys_begun and (mangled not in self or self[mangled].live)


def begin_fill(binding: Binding, mangled: KeyType) -> FillGuard | None:
    """Return the store's guard for a value that is about to be created; None: the store has no guards."""
    begin = getattr(binding.store, "begin_fill", None)
    guard: FillGuard | None = begin(mangled) if begin else None
    return guard


@contextmanager
def filling(binding: Binding, fills: Fills) -> Iterator[None]:
    """Mark, for the store, a write of one of these keys as the fill, and not an ordinary set."""
    before = current_fill.get()
    try:
        current_fill.set((binding.store, fills))
        yield
    finally:
        current_fill.set(before)


def begun_elsewhere(binding: Binding, key: KeyType) -> bool:
    """Return whether a write is the fill of a creation that began before configure() gave the region another store.

    Such a value must not be stored: the guard knows the changes of the key in the previous store only.
    """
    fill = current_fill.get()
    if fill is None or not isinstance(fill[1], Fills) or fill[0] is binding.store:
        return False
    same_region = fill[1].binding.counters is binding.counters  # all bindings of a region have its counters
    return same_region and fill[1].under_way(key)


def was_stored(guard: FillGuard | None) -> bool:
    """Return whether a write under a guard has stored the value; a write that had no guard counts as done."""
    return guard is None or guard.outcome is not False


def outcome_of(guard: FillGuard | None) -> int:
    """Return how the creation is counted whose value was written under a guard: created, refused or dropped."""
    if was_stored(guard):
        return CREATED
    return DROPPED if getattr(guard, "dropped", False) else REFUSED


def fills_of(binding: Binding, keys: Iterable[KeyType]) -> Fills | None:
    """Return the fills that a write of these keys belongs to; None: it is an ordinary set.

    :param keys: the mangled keys.
    """
    fill = current_fill.get()
    if fill is None or not isinstance(fill[1], Fills) or fill[0] is not binding.store:
        return None
    return None if fill[1].keys_begun.isdisjoint(keys) else fill[1]


def created_now(fills: Fills | None) -> float:
    """Return the creation time of a value that is stored now; for a fill it may be the time of the begin."""
    return time.time() if fills is None else fills.begun.created
