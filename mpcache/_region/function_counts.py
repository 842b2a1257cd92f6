"""What a process counts of one decorated function, and how it gets to the counts of all processes at the latest.

Depends on requests, and on the engine, which has the type that adds to the counts of all processes.  Hits wait in the
process until there are 1,024 of them, or until something rarer is counted; what is left is added when the process ends.
A process that is killed loses it.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from mpcache._region.requests import FUNCTION_COUNTS


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


_counted: WeakSet[Any] = WeakSet()
"""All decorated functions."""


def flush_at_exit(function: Any) -> None:
    """Add the hits of a decorated function that still wait when this process ends, or a child that is forked."""
    _counted.add(function)


def _flush_all() -> None:
    for function in list(_counted):
        try:
            function.flush_counts()
        except Exception:  # the region is not configured, or what it needs is gone by now
            continue


_known_to_multiprocessing = False


def _tell_multiprocessing() -> None:
    """Let its children flush: they end without atexit handlers, but with finalizers that are registered in them."""
    global _known_to_multiprocessing
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not _known_to_multiprocessing:
        _known_to_multiprocessing = True
        util.Finalize(None, _flush_all, exitpriority=0)  # this may be such a child
        util.register_after_fork(_counted, lambda counted: util.Finalize(None, _flush_all, exitpriority=0))


atexit.register(_flush_all)
_tell_multiprocessing()
os.register_at_fork(before=_tell_multiprocessing)
