"""What a store in shared memory does while its segment is out of reach: reads miss, sets are dropped, a log says so.

Depends on exception and _servers.outage.  ``on_error`` has the same values as for servers, but another default: a full
/dev/shm, or one process too many, must not fail a function that would have returned without a cache.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from mpcache._servers.outage import counts_as_miss
from mpcache.exception import SegmentError

log = logging.getLogger("mpcache.backends.shm")

R = TypeVar("R")

QUIET = 60.0
"""Seconds after which the same kind of error is logged again."""

EVERYTHING_HIDDEN = 0, 1 << 62, 0
"""The epochs (epoch, hard_at, soft_at) under which no value may be served."""


class Outage:
    """The policy for the errors of one store's segment: raise them, or count them and return a default.

    Three operations have a default: a read finds nothing, a set is dropped, and a creator runs without the mutex.
    A delete or an invalidation that did not happen leaves a stale value, so it raises in any case.

    :param store: for messages.
    :param on_error: ``"raise"`` or ``"miss"``.
    :raises ValidationError: on_error has another value.
    """

    def __init__(self, store: Any, on_error: str) -> None:
        self.tolerates = counts_as_miss(on_error)
        self.counts: Counter[str] = Counter()
        self._store = store
        self._logged: dict[str, float] = {}

    def or_default(self, act: Callable[[], R], default: R, raised: type[SegmentError] | tuple[()] = ()) -> R:
        """Return what ``act`` returns; or the default, if the segment is out of reach and errors count as misses.

        :param raised: a class of errors that are raised in any case.
        """
        try:
            return act()
        except SegmentError as error:
            if not self.tolerates or isinstance(error, raised):
                raise
            self.note(error)
            return default

    def note(self, error: SegmentError) -> None:
        """Count an error; log it unless the same kind was logged within the last minute."""
        kind, now = type(error).__name__, time.monotonic()
        self.counts[kind] += 1
        if now < self._logged.get(kind, 0.0):
            return
        self._logged[kind] = now + QUIET
        log.warning(
            "%r cannot use its segment: reads miss, sets are dropped, and each process creates for itself until it can"
            " (it tries again by itself; on_error='raise' raises instead): %s: %s",
            self._store,
            kind,
            error,
        )


class NoFill:
    """The guard of a creation that began while the segment was out of reach: its value is not stored.

    It is not stored either if the segment is back meanwhile: the creation had no mutex, and no record says whether the
    key was changed.
    """

    outcome = False
    dropped = True
    live = True

    def close(self) -> None:
        """Do nothing: no lease is held."""


NO_FILL: Any = NoFill()
