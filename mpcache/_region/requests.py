"""The requests and creations of one region, counted in this process.

Depends on nothing of mpcache.  A store that all processes share counts them once more, over all of them.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import count, islice
from typing import Any
from weakref import WeakSet

TALLIES = (
    *("hits", "near_hits", "misses", "stale", "waited", "errors_served"),
    *("created", "refused", "failed", "too_large", "unlocked", "unstored", "dropped"),
)
"""What is counted, in the engine's order: first how requests were answered, then how creations and writes ended."""

FUNCTION_COUNTS = (
    *("calls", "hits", "near_hits", "stale", "waited"),
    *("created", "failed", "creating_ns", "bytes_stored"),
)
"""What is counted of a decorated function, in the engine's order."""

HITS, NEAR_HITS, MISSES, STALE, WAITED, ERRORS_SERVED = range(6)
CREATED, REFUSED, FAILED, TOO_LARGE, UNLOCKED, UNSTORED, DROPPED = range(6, len(TALLIES))

ANSWERS = TALLIES[:CREATED]
FOUND = ("hits", "near_hits", "stale", "waited")
"""The answers for which this call created nothing: the hit ratio counts them."""


class Requests:
    """The counts of one region.  A forked child begins at 0.

    :ivar fast: the region's fast path, which counts by itself what it answers; None: it has none.
    """

    def __init__(self) -> None:
        self.fast: Any = None
        self.forget()
        _all.add(self)

    def __reduce__(self) -> tuple[type[Requests], tuple[()]]:
        return Requests, ()  # another process begins to count at 0

    def forget(self) -> None:
        """Begin again at 0, in a forked child."""
        # Threads count without a lock, which a fork could leave taken: next() of a count is one step under the GIL.
        self._counters = [count() for _ in TALLIES]
        if self.fast is not None:
            self.fast.forget()

    def add(self, kind: int, number: int = 1) -> None:
        """Count some requests or creations, by their place in TALLIES."""
        if number == 1:
            next(self._counters[kind])
        else:
            deque(islice(self._counters[kind], number), 0)

    def use(self, fast: Any) -> None:
        """Take over what the fast path counted so far, and read another one from now on."""
        before, self.fast = self.fast, fast
        if before is not None:
            for kind, number in zip((HITS, NEAR_HITS, MISSES), before.here(), strict=True):
                self.add(kind, number)

    def here(self) -> dict[str, int]:
        """Return what this process counted, by name."""
        counts = [int(repr(counter)[len("count(") : -1]) for counter in self._counters]
        if self.fast is not None:
            for kind, number in zip((HITS, NEAR_HITS, MISSES), self.fast.here(), strict=True):
                counts[kind] += number
        return dict(zip(TALLIES, counts, strict=True))


def summed(counts: dict[str, int]) -> dict[str, Any]:
    """Return the counts with ``requests`` and the hit ratio, which is None before the first request."""
    requests = sum(counts[name] for name in ANSWERS)
    ratio = sum(counts[name] for name in FOUND) / requests if requests else None
    return {"requests": requests, "hit_ratio": ratio, **counts}


_all: WeakSet[Requests] = WeakSet()


def _in_the_child() -> None:
    for requests in list(_all):
        requests.forget()


os.register_at_fork(after_in_child=_in_the_child)
