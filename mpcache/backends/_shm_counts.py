"""The shm store's part in the counts of requests and creations: it adds to those of all processes, and reads them.

Depends on shm.  Counting never fails a request: while the segment is out of reach, nothing is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpcache.exception import SegmentError
from mpcache.shm._engine import Namespace
from mpcache.shm.handle import NamespaceHandle

if TYPE_CHECKING:
    from mpcache.shm._engine import FunctionCounts


class ShmCounts:
    """What a region and its decorated functions call to count; :class:`.ShmBackend` has the segment."""

    _place: NamespaceHandle

    def tally(self, kind: int, number: int) -> None:
        """Count some requests or creations, by their place in TALLIES."""
        try:
            self._place.namespace.tally(kind, number)
        except SegmentError:
            pass

    def observe(self, histogram: int, number: int) -> None:
        """Count a number in a histogram, by its place in HISTOGRAMS."""
        try:
            self._place.namespace.observe(histogram, number)
        except SegmentError:
            pass

    def tallies(self) -> dict[str, int]:
        """Return the sums of what all processes counted in the namespace."""
        return self._place.namespace.tallies()

    def histograms(self) -> tuple[tuple[int, ...], ...]:
        """Return the histograms of all processes, in the order of HISTOGRAMS."""
        return self._place.namespace.histograms()

    def holds(self) -> dict[str, int]:
        """Return what the segment holds now, and what it lost, of all its namespaces."""
        found = self._place.namespace.engine.stats()
        names = {"items": "items", "bytes": "live_bytes", "size": "size", "evicted": "evictions", "expired": "expired"}
        return {name: found[known] for name, known in names.items()} | {"processes": found["processes"]}

    def add_to_function(self, counts: FunctionCounts, index: int, number: int) -> None:
        """Add to a count of a decorated function, by its place in FUNCTION_COUNTS."""
        counts.add(self._reachable(), index, number)

    def flush_function(self, counts: FunctionCounts) -> None:
        """Add to the sums of all processes what this one has counted and not added yet."""
        counts.flush(self._reachable())

    def read_function(self, counts: FunctionCounts) -> tuple[int, ...]:
        """Return the sums of all processes."""
        space = self._reachable()
        return counts.here() if space is None else counts.read(space)

    def _reachable(self) -> Namespace | None:
        """Return the present namespace; None: there is no segment for now."""
        space: Any = self._place.namespace
        return space if isinstance(space, Namespace) else None
