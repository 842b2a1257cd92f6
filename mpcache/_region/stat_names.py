"""The names of what stats() of a region and of a decorated function returns, each with one line of help.

Depends on nothing of mpcache.
"""

from __future__ import annotations

REQUESTS = {
    "requests": "requests: the sum of the next six, of which each request is exactly one",
    "hits": "a fresh value was found",
    "near_hits": "a fresh value was found in this process, before the store",
    "misses": "no value was found: this task has created one, or ended with an error, or only looked",
    "stale": "a stale value was served",
    "waited": "another task created the value meanwhile",
    "errors_served": "a stale value was served because its creator had raised",
    "ratio": "(hits + near_hits + stale + waited) / requests, from 0 to 1",
}
"""Of the requests of a region."""

CREATIONS = {
    "created": "a creator returned, and the value was stored; each creation is exactly one of this and the next six",
    "refused": "the value was not stored: its key was changed meanwhile, or the mutex was lost",
    "failed": "the creator raised, or the value could not be serialized, or the store raised",
    "too_large": "the value was larger than the store's largest",
    "unlocked": "the value was created without the key's mutex: the previous creation had stored nothing",
    "unstored": "the value was not to be stored: should_cache_fn refused it, its ttl is 0, or it is NO_VALUE",
    "dropped": "the value was not stored: the store was out of reach or busy; dropped sets count here, too",
    "mean_creating": "seconds of one call of a creator, exact to a third, since it is computed from the histogram",
    "mean_waiting": "seconds of one request that waited, exact to a third",
    "creating": "histogram: microseconds of the creators' calls",
    "waiting": "histogram: microseconds of the requests that waited",
    "value_bytes": "histogram: bytes of the values that get_or_create and its like have stored",
}
"""Of the creations of a region."""

HELD = {
    "items": "values in the store; in shared memory, of the whole segment",
    "bytes": "bytes of these values, with their keys",
    "size": "bytes that the store occupies at most",
    "evicted": "values that the store removed to make room",
    "expired": "values that the store removed because their ttl was over",
    "processes": "processes that use the store now",
}
"""Of what the store holds: its ``holds()`` returns a dict with some of these names."""

REGION = REQUESTS | CREATIONS | HELD

FUNCTION = {
    "calls": "calls that had a key; of a function of many things, the things",
    "hits": "calls that a fresh value answered",
    "near_hits": "calls that a fresh value answered which was found in this process, before the store",
    "stale": "calls that a stale value answered",
    "waited": "calls that waited for a value which another task created",
    "misses": "all other calls: they called the function, or ended with an error",
    "ratio": "calls without the misses, by all calls, from 0 to 1",
    "created": "results that were stored, also by refresh()",
    "failed": "calls of the function that raised, or whose result could not be stored because of an error",
    "creating": "seconds of the function's calls whose results were stored",
    "mean_creating": "seconds of one such call",
    "time_saved": "seconds: hits and near hits, times mean_creating",
    "bytes_stored": "bytes of the results that calls have stored",
}
"""Of a decorated function."""
