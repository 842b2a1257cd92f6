"""What a process counts of one decorated function, and how it is added to the sums of all processes when it ends.

Depends on nothing of mpcache; the engine has the type that adds to the counts of all processes.

Calls that the fast path answers wait in the process until there are 1,024 of them, or until something rarer is counted.
A process that ends adds what is left: by atexit, and in a child of multiprocessing, which may run no atexit handler, by
multiprocessing's own finalizers.  A process that is killed, or calls ``os._exit()``, loses it: at most 1,023 calls of
each function.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

log = logging.getLogger("mpcache.region")

FUNCTION_COUNTS = (
    *("calls", "hits", "near_hits", "stale", "waited"),
    *("created", "failed", "creating_ns", "bytes_stored"),
)
"""What is counted, in the engine's order."""

_LAST = -100
"""The priority of the finalizer of multiprocessing: other finalizers, which run earlier, may call functions."""


class _Counts:
    """Counts in this process only: for where the engine was not compiled."""

    def __init__(self, name: str) -> None:
        self._counts, self._pid = [0] * len(FUNCTION_COUNTS), os.getpid()

    def add(self, namespace: Any, index: int, number: int) -> None:
        self._forget_parent()
        self._counts[index] += number

    def flush(self, namespace: Any) -> None:
        pass

    def here(self) -> tuple[int, ...]:
        self._forget_parent()
        calls, hits, *others = self._counts
        return calls + hits, hits, *others  # a hit is a call, too

    def _forget_parent(self) -> None:
        if self._pid != os.getpid():
            self._counts, self._pid = [0] * len(FUNCTION_COUNTS), os.getpid()


if TYPE_CHECKING:
    from mpcache.shm._engine import FunctionCounts as FunctionCounts
else:
    try:
        from mpcache.shm._engine import FunctionCounts
    except ImportError:  # it was not compiled here, or another interpreter of this process has it
        FunctionCounts = _Counts


# -- when the process ends -----------------------------------------------------------------------------------------

_functions: WeakSet[Any] = WeakSet()
"""All decorated functions: objects with a method ``flush_counts``."""


def flush_at_exit(function: Any) -> None:
    """Let a decorated function add its counts to the sums of all processes when this process ends."""
    _functions.add(function)
    _use_finalizers()


def flush_all() -> None:
    """Add what this process has counted to the sums of all processes."""
    for function in list(_functions):
        try:
            function.flush_counts()
        except Exception as error:
            log.debug("The last calls of %r are not counted: %s", function, error)


def _use_finalizers() -> None:
    """Use those of multiprocessing, if it is loaded.

    A child that it starts clears the finalizers before it runs its target, and calls then what is registered for after
    a fork, also if it was started in another way.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not hasattr(util, "Finalize"):
        return  # another thread is importing it
    if util is not None and _Registered.of != os.getpid():
        _Registered.of = os.getpid()
        util.register_after_fork(_Registered, lambda kept: util.Finalize(None, flush_all, exitpriority=_LAST))
        util.Finalize(None, flush_all, exitpriority=_LAST)


class _Registered:
    """What multiprocessing keeps a reference to.

    :cvar of: the process that has registered it; 0: none has.
    """

    of = 0


atexit.register(flush_all)
os.register_at_fork(before=_use_finalizers)
