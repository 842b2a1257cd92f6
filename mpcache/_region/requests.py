"""The counts of requests and creations: of a region in this process, and of all processes in a store that counts them.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from array import array
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

TALLIES = (
    *("hits", "near_hits", "misses", "stale", "waited", "errors_served"),
    *("created", "refused", "failed", "too_large", "unlocked", "unstored", "dropped"),
)
"""What is counted, in the engine's order: the results of requests, then the outcomes of creations."""

HITS, NEAR_HITS, MISSES, STALE, WAITED, ERRORS_SERVED = range(6)
CREATED, REFUSED, FAILED, TOO_LARGE, UNLOCKED, UNSTORED, DROPPED = range(6, 13)

RESULTS = TALLIES[:CREATED]
"""The results of requests: each request has exactly one."""

ANSWERED = tuple(TALLIES[kind] for kind in (HITS, NEAR_HITS, STALE, WAITED))
"""The results of requests that were answered with a value, without a creation in this request."""

HISTOGRAMS = ("creating", "waiting", "value_bytes")
"""The histograms, in the engine's order: microseconds of creations and of waits, and bytes of stored values."""

CREATING, WAITING, VALUE_BYTES = range(3)
BUCKETS = 32

CALLS, FUNCTION_HITS, CREATING_NS, BYTES_STORED = 0, 1, 7, 8
_OF_FUNCTION = {NEAR_HITS: 2, STALE: 3, WAITED: 4, CREATED: 5, FAILED: 6}
"""What is also counted of a decorated function, by its place in FUNCTION_COUNTS."""


class Requests:
    """The counts of one region in this process.  A forked child begins at 0.

    They are exact, whatever threads count: ``next()`` of an ``itertools.count`` is one step under the interpreter's
    lock, and so is an addition of the fast path, which is C.

    :ivar fast: the first three counts, of the requests that the fast path answered.
    :ivar counts: all counts, of the requests that it did not answer; they are only ever stepped.
    """

    def __init__(self) -> None:
        self.fast = array("Q", (0, 0, 0))
        self.counts = tuple(itertools.count() for _ in TALLIES)
        self._begun_at = [0] * len(TALLIES)
        self._buckets: dict[tuple[int, int], itertools.count[int]] = {}
        _all.add(self)

    def __reduce__(self) -> tuple[type[Requests], tuple[()]]:
        return Requests, ()  # another process begins to count at 0

    def begin_again(self) -> None:
        """Set all counts to 0."""
        for kind in range(len(self.fast)):
            self.fast[kind] = 0  # in place: the fast path has this array
        self._begun_at = [_read(count) for count in self.counts]
        self._buckets.clear()

    def note(self, kind: int, number: int) -> None:
        """Count some requests, or creations."""
        count = self.counts[kind]
        for _ in range(number):
            next(count)

    def dropped(self, number: int) -> None:
        """Count sets that the store dropped."""
        self.note(DROPPED, number)

    def observe(self, histogram: int, number: int) -> None:
        """Count a number in a histogram: in the bucket of its highest bit."""
        bucket = histogram, min(number.bit_length(), BUCKETS - 1)
        next(self._buckets.setdefault(bucket, itertools.count()))

    def tallies(self) -> dict[str, int]:
        """Return the counts by their names."""
        since = (_read(count) - begun for count, begun in zip(self.counts, self._begun_at, strict=True))
        sums = dict(zip(TALLIES, since, strict=True))
        for name, number in zip(TALLIES, self.fast, strict=False):
            sums[name] += number
        return sums

    def histograms(self) -> tuple[tuple[int, ...], ...]:
        """Return the histograms, in the order of HISTOGRAMS."""
        none = itertools.count()
        places = range(len(HISTOGRAMS)), range(BUCKETS)
        return tuple(tuple(_read(self._buckets.get((kind, place), none)) for place in places[1]) for kind in places[0])


def _read(count: itertools.count[int]) -> int:
    """Return how often a count was stepped: its text, ``count(N)``, is the only way to read it without a step."""
    return int(repr(count)[6:-1])


_all: WeakSet[Requests] = WeakSet()


def _in_the_child() -> None:
    for requests in list(_all):
        requests.begin_again()


os.register_at_fork(after_in_child=_in_the_child)


class RequestCounts:
    """Counts the requests and creations of one binding: in the region's Requests, in its store, in the function.

    A store that counts for all processes has ``tally``, ``observe`` and ``add_to_function``, which raise nothing.

    :ivar here: the region's counts in this process.
    :ivar hit: counts one hit; ``miss``: counts one miss.  A hit in a dict takes less than a microsecond.
    """

    __slots__ = ("_add", "_observe", "_tally", "here", "hit", "miss")

    hit: Callable[[], object]
    miss: Callable[[], object]

    def __init__(self, here: Requests, store: Any) -> None:
        self.here = here
        self._tally = getattr(store, "tally", None)
        self._observe = getattr(store, "observe", None)
        self._add = getattr(store, "add_to_function", None)
        alone = self._tally is None
        self.hit = here.counts[HITS].__next__ if alone else functools.partial(self.note, HITS)
        self.miss = here.counts[MISSES].__next__ if alone else functools.partial(self.note, MISSES)

    def note(self, kind: int, number: int = 1, function: Any = None) -> None:
        """Count some requests, or creations, of a decorated function if there is one."""
        if not number:
            return
        self.here.note(kind, number)
        if self._tally is not None:
            self._tally(kind, number)
        if function is not None:
            self._note_of(function, kind, number)

    def observe(self, histogram: int, number: int) -> None:
        """Count a number in a histogram."""
        self.here.observe(histogram, number)
        if self._observe is not None:
            self._observe(histogram, number)

    def add(self, function: Any, index: int, number: int) -> None:
        """Add to a count of a decorated function.  A hit is a call, too."""
        if self._add is None:
            function.add(None, index, number)
        else:
            self._add(function, index, number)

    def _note_of(self, function: Any, kind: int, number: int) -> None:
        if kind == HITS:
            self.add(function, FUNCTION_HITS, number)
            return
        if kind < CREATED:
            self.add(function, CALLS, number)
        if kind in _OF_FUNCTION:
            self.add(function, _OF_FUNCTION[kind], number)

    def values(self, values: Iterable[Any], no_value: Any) -> None:
        """Count a request for each value that was found, or was not."""
        found = [value is not no_value for value in values]
        hits = sum(found)
        self.note(HITS, hits)
        self.note(MISSES, len(found) - hits)


class RunningCreation:
    """One creation.  Its outcome is counted once, when it ends.

    :ivar outcome: how the creation would be counted if it ended now; None: the creator was not called.
    :ivar size: bytes of the value as it is stored, where they are known.
    """

    __slots__ = ("_began", "_counts", "_function", "_took", "outcome", "size")

    def __init__(self, counts: RequestCounts, function: Any = None) -> None:
        self._counts, self._function = counts, function
        self._took: int | None = None
        self._began = 0
        self.outcome: int | None = None
        self.size: int | None = None

    def begin(self) -> None:
        """Record that the creator is about to be called."""
        self.outcome, self._took, self.size = FAILED, None, None
        self._began = time.monotonic_ns()

    def made(self) -> None:
        """Record that the creator has returned; a value that is not offered to the store counts as refused."""
        self._took = time.monotonic_ns() - self._began
        self.outcome = REFUSED

    def end(self) -> None:
        """Count the outcome.  May be called again."""
        outcome, self.outcome = self.outcome, None
        if outcome is None:
            return
        counts, function = self._counts, self._function
        counts.note(outcome, 1, function)
        if self._took is not None:
            counts.observe(CREATING, self._took // 1000)
        if outcome == CREATED:
            count_stored(counts, function, self._took, self.size)


def count_stored(counts: RequestCounts, function: Any, took: int | None, size: int | None) -> None:
    """Count what is known of a created value that was stored.

    :param took: nanoseconds of its creation.
    :param size: its bytes, as it is stored.
    """
    if size is not None:
        counts.observe(VALUE_BYTES, size)
    if function is not None:
        counts.add(function, CREATING_NS, took or 0)
        counts.add(function, BYTES_STORED, size or 0)


current_function: ContextVar[Any] = ContextVar("mpcache_current_function", default=None)
"""The FunctionCounts of the decorated function whose call the region is about to answer.

It is not an argument, because a subclass of the region may have a get_or_create() of its own.
"""


def taken() -> Any:
    """Return the FunctionCounts of the decorated call that asks, or None; calls inside its creator are not its own."""
    function = current_function.get()
    if function is not None:
        current_function.set(None)
    return function
