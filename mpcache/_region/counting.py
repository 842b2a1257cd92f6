"""Count one call: its requests and creations, for its region and for the decorated function that asks.

Depends on binding, requests and function_counts.  A decorated function names itself in a context variable, and the call
of the region takes the name at its begin: the calls that its creator makes do not find it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mpcache._region import requests
from mpcache._region.binding import Binding
from mpcache._region.requests import FUNCTION_COUNTS

if TYPE_CHECKING:
    from mpcache._region.function_counts import FunctionCounts

_OF_FUNCTION = {
    kind: FUNCTION_COUNTS.index(name) for kind, name in enumerate(requests.TALLIES) if name in FUNCTION_COUNTS
}
_CALLS, _CREATING_NS, _BYTES_STORED = map(FUNCTION_COUNTS.index, ("calls", "creating_ns", "bytes_stored"))
CREATING, WAITING, VALUE_BYTES = range(3)
"""The histograms, in the engine's order."""


class _Asker:
    """A decorated function, until a region has taken its counts."""

    __slots__ = ("counts",)

    def __init__(self, counts: FunctionCounts) -> None:
        self.counts: FunctionCounts | None = counts

    def take(self) -> FunctionCounts | None:
        counts, self.counts = self.counts, None
        return counts


_asker: ContextVar[_Asker | None] = ContextVar("mpcache_asker", default=None)


@contextmanager
def asked_by(counts: FunctionCounts, region: Any) -> Iterator[None]:
    """Let the next call of a region count for a decorated function.

    If none takes the counts, the region's fast path has answered: another process stored the value just now.
    """
    asker = _Asker(counts)
    token = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(token)
    left = asker.take()
    if left is not None:
        _Function(left, region.access.binding).answered(requests.HITS, 1)


class _Function:
    """The counts of a function in the segment that its region uses, if the region's store has one."""

    __slots__ = ("_counts", "_namespace")

    def __init__(self, counts: FunctionCounts, binding: Binding) -> None:
        self._counts = counts
        self._namespace = getattr(binding.store, "counting_namespace", None)

    def answered(self, kind: int, number: int) -> None:
        self._counts.add(self._namespace, _CALLS, number)
        self.add(_OF_FUNCTION.get(kind), number)

    def add(self, index: int | None, number: int) -> None:
        if index is not None:
            self._counts.add(self._namespace, index, number)


class Counting:
    """Counts one call of a region."""

    __slots__ = ("_binding", "_function")

    def __init__(self, binding: Binding) -> None:
        asker = _asker.get()
        counts = None if asker is None else asker.take()
        self._binding = binding
        self._function = None if counts is None else _Function(counts, binding)

    def answered(self, kind: int, number: int = 1) -> None:
        """Count how requests were answered."""
        if number:
            self._binding.tally(kind, number)
            if self._function is not None:
                self._function.answered(kind, number)

    def ended(self, kind: int, number: int = 1) -> None:
        """Count how creations ended."""
        if number:
            self._binding.tally(kind, number)
            if self._function is not None:
                self._function.add(_OF_FUNCTION.get(kind), number)

    @contextmanager
    def creating(self, number: int = 1) -> Iterator[None]:
        """Count how long a creator runs, and whether it fails."""
        began = time.monotonic_ns()
        try:
            yield
        except GeneratorExit:
            raise  # the call was given up, and the creator did not fail
        except BaseException:
            self.ended(requests.FAILED, number)
            raise
        took = time.monotonic_ns() - began
        self._binding.observe(CREATING, took // 1000)
        if self._function is not None:
            self._function.add(_CREATING_NS, took)

    def stored(self, size: int) -> None:
        """Count how many bytes a value has that was written."""
        self._binding.observe(VALUE_BYTES, size)
        if self._function is not None:
            self._function.add(_BYTES_STORED, size)

    def waited(self, seconds: float) -> None:
        """Count how long a call waited for another task's value."""
        self._binding.observe(WAITING, int(seconds * 1e6))
