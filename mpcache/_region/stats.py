"""The statistics of a region and of its decorated functions, as dicts whose names stand in stat_names.

Depends on binding and function_counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mpcache._region.binding import Binding
from mpcache._region.function_counts import FUNCTION_COUNTS, FunctionCounts
from mpcache._region.requests import ANSWERED, CREATING, HISTOGRAMS, RESULTS, WAITING


class CacheInfo(NamedTuple):
    """The same as ``functools.lru_cache`` has, of a decorated function."""

    hits: int
    """Calls that were answered from the cache, with a fresh or a stale value."""
    misses: int
    """All other calls."""
    maxsize: int | None
    """Always None: the store has a limit, and the function has none."""
    currsize: int
    """Always 0: no store knows which of its values are the function's."""


def stats(binding: Binding, here: bool) -> dict[str, Any]:
    """Do :meth:`.CacheRegion.stats` with a binding."""
    source = _source(binding, here)
    found: dict[str, Any] = {} if source is None else _counted(source.tallies(), source.histograms())
    holds = None if here else getattr(binding.store, "holds", None)
    return found if holds is None else found | holds()


def _source(binding: Binding, here: bool) -> Any:
    """Return what knows the counts: the store, if it counts for all processes; the region; None: no object does."""
    if not here and hasattr(binding.store, "tallies"):
        return binding.store
    return binding.requests.here if here or not getattr(binding.store, "shared", False) else None


def _counted(tallies: Mapping[str, int], histograms: Sequence[Sequence[int]]) -> dict[str, Any]:
    requests = sum(tallies[name] for name in RESULTS)
    found: dict[str, Any] = {"requests": requests, **tallies}
    if requests:
        found["ratio"] = sum(tallies[name] for name in ANSWERED) / requests
    for name, kind in (("mean_creating", CREATING), ("mean_waiting", WAITING)):
        mean = _mean(histograms[kind])
        if mean is not None:
            found[name] = mean / 1e6
    return found | {name: tuple(histogram) for name, histogram in zip(HISTOGRAMS, histograms, strict=True)}


def _mean(histogram: Sequence[int]) -> float | None:
    """Return the mean of what a histogram counted, each taken for the middle of its bucket; None: it is empty."""
    number = sum(histogram)
    middles = ((3 << bucket) / 4 if bucket else 0.0 for bucket in range(len(histogram)))
    return sum(many * middle for many, middle in zip(histogram, middles, strict=True)) / number if number else None


def function_stats(binding: Binding, counts: FunctionCounts, here: bool) -> dict[str, Any]:
    """Do ``stats()`` of a decorated function with a binding."""
    counted = _counts_of(binding, counts, here)
    if counted is None:
        return {}
    found: dict[str, Any] = dict(zip(FUNCTION_COUNTS, counted, strict=True))
    seconds = found.pop("creating_ns") / 1e9
    answered = sum(found[name] for name in ANSWERED)
    found |= {"misses": found["calls"] - answered, "creating": seconds}
    if found["calls"]:
        found["ratio"] = answered / found["calls"]
    if found["created"]:
        found["mean_creating"] = seconds / found["created"]
        found["time_saved"] = (found["hits"] + found["near_hits"]) * found["mean_creating"]
    return found


def cache_info(binding: Binding, counts: FunctionCounts) -> CacheInfo:
    """Do ``cache_info()`` of a decorated function with a binding."""
    counted = _counts_of(binding, counts, here=False) or counts.here()
    found = dict(zip(FUNCTION_COUNTS, counted, strict=True))
    hits = sum(found[name] for name in ANSWERED)
    return CacheInfo(hits, found["calls"] - hits, None, 0)


def _counts_of(binding: Binding, counts: FunctionCounts, here: bool) -> tuple[int, ...] | None:
    store = binding.store
    if not here and hasattr(store, "read_function"):
        found: tuple[int, ...] = store.read_function(counts)
        return found
    return counts.here() if here or not getattr(store, "shared", False) else None
