"""What a region and its decorated functions counted, as the user reads it.

Depends on binding, requests and function_counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mpcache._region.binding import Binding
from mpcache._region.requests import FUNCTION_COUNTS, summed

if TYPE_CHECKING:
    from mpcache._region.function_counts import FunctionCounts

OF_STORE = {
    "items": "items",
    "value_bytes": "live_bytes",
    "capacity_bytes": "capacity_bytes",
    "evicted": "evictions",
    "expired": "expired",
    "processes": "processes",
}
"""What a shared store knows besides: from a name in :meth:`.CacheRegion.stats` to its name in the store's stats()."""


class CacheInfo(NamedTuple):
    """What ``functools.lru_cache`` tells of a function."""

    hits: int
    misses: int
    maxsize: int | None
    """None: a function has no limit of its own."""
    currsize: int | None
    """None: a store does not count the values of one function."""


def of_region(binding: Binding, here: bool) -> dict[str, Any]:
    """Return what :meth:`.CacheRegion.stats` documents."""
    store = binding.store
    tallies = getattr(store, "tallies", None)
    if here or (tallies is None and not store.shared):
        return summed(binding.requests.here())
    if tallies is None:
        return {}
    facts = store.stats()
    histograms: dict[str, Any] = {f"{name}_histogram": numbers for name, numbers in store.histograms().items()}
    return summed(tallies()) | {name: facts[known] for name, known in OF_STORE.items()} | histograms


def of_function(counts: FunctionCounts, binding: Binding, here: bool) -> dict[str, Any]:
    """Return what :meth:`.Decorated.stats` documents."""
    known = _counted(counts, binding, here)
    if known is None:
        return {}
    told: dict[str, Any] = dict(zip(FUNCTION_COUNTS, known, strict=True))
    found = told["hits"] + told["near_hits"] + told["stale"] + told["waited"]
    seconds = told.pop("creating_ns") / 1e9
    made = told["created"] + told["failed"]
    mean = seconds / made if made else None
    return told | {
        "misses": told["calls"] - found,
        "hit_ratio": found / told["calls"] if told["calls"] else None,
        "creating_seconds": seconds,
        "mean_creating_seconds": mean,
        "time_saved": None if mean is None else found * mean,
    }


def cache_info(counts: FunctionCounts, binding: Binding) -> CacheInfo:
    """Return what functools' cache_info() returns; of this process, if the store cannot know it of all."""
    told = of_function(counts, binding, False) or of_function(counts, binding, True)
    return CacheInfo(told["calls"] - told["misses"], told["misses"], None, None)


def _counted(counts: FunctionCounts, binding: Binding, here: bool) -> tuple[int, ...] | None:
    """Return the counts of this process or of all; None: the store cannot know those of all."""
    namespace = getattr(binding.store, "counting_namespace", None)
    if namespace is not None and not here:
        return counts.read(namespace)
    return counts.here() if here or not binding.store.shared else None
