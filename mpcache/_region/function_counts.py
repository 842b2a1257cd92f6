"""What a process counts of one decorated function.

Depends on nothing of mpcache; the engine has the type that adds to the counts of all processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

FUNCTION_COUNTS = (
    *("calls", "hits", "near_hits", "stale", "waited"),
    *("created", "failed", "creating_ns", "bytes_stored"),
)
"""What is counted, in the engine's order."""


class _Counts:
    """Counts in this process only: for where the engine was not compiled."""

    def __init__(self, name: str) -> None:
        self._counts = [0] * len(FUNCTION_COUNTS)

    def add(self, namespace: Any, index: int, number: int) -> None:
        self._counts[index] += number

    def flush(self, namespace: Any) -> None:
        pass

    def here(self) -> tuple[int, ...]:
        return tuple(self._counts)


if TYPE_CHECKING:
    from mpcache.shm._engine import FunctionCounts as FunctionCounts
else:
    try:
        from mpcache.shm._engine import FunctionCounts
    except ImportError:  # it was not compiled here, or another interpreter of this process has it
        FunctionCounts = _Counts
