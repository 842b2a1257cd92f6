"""Decide whether a value may still be served: hard and soft invalidation, age, and a value's own time to live.

Depends on api and durations.  It decides only: it knows no storage.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from numbers import Number
from typing import Any

from mpcache._support.durations import parse_duration
from mpcache.api import Freshness
from mpcache.exception import ValidationError

Judge = Callable[[float, "int | None"], Freshness]
"""A function from (created, epoch) to the Freshness that the invalidations so far leave to such a value."""


def freshness(created: float, epoch: int | None, lifetime: float | None, judge: Judge) -> Freshness:
    """Return whether a value is fresh, stale or absent now.

    :param created: when its creation ended, in seconds since the Unix epoch.
    :param epoch: the epoch in which its creation began, for stores that count epochs.
    :param lifetime: seconds after which the value is stale; None: never.
    """
    verdict = judge(created, epoch)
    if verdict is Freshness.FRESH and lifetime is not None and time.time() - created > lifetime:
        return Freshness.STALE
    return verdict


def seconds(given: Any, what: str = "expiration_time") -> float | None:
    """Return a time that a user has given, in seconds; None stays None.

    :param given: a number of seconds, a timedelta, a text such as ``"5m"`` or ``"1h30m"``, or None.
    :param what: the option that it was given for.
    :raises ValidationError: it is something else.
    """
    if isinstance(given, timedelta):
        return given.total_seconds()
    if given is None:
        return None
    if isinstance(given, Number) and not isinstance(given, complex) and given == given:  # no nan
        _refuse_too_large(given, what)
        return given  # type: ignore[return-value]  # Number is what Decimal and numpy's floats have in common
    text = f"{what} is not a number or timedelta.  It is {given!r}."
    if not isinstance(given, str):
        raise ValidationError(text)
    try:
        return parse_duration(given)
    except ValueError:
        raise ValidationError(f"{text}  A duration has numbers with units, such as '90s', '5m' or '1h30m'.") from None


def _refuse_too_large(given: Any, what: str) -> None:
    """Raise a ValidationError for a number that no float can hold, before the arithmetic of a call raises another."""
    try:
        float(given)
    except OverflowError:
        raise ValidationError(f"{what} is larger than a float can be; None or -1 means without end") from None


def patience(given: Any, what: str = "creation_wait") -> float | None:
    """Return how long a task may wait, in seconds, for the arithmetic of clocks; None, also for -1: without limit.

    :param what: the option that it was given for.
    :raises ValidationError: it is no time.
    """
    longest = seconds(given, what)
    return None if longest is None or longest == -1 else float(longest)


def limit(given: Any, what: str) -> float | None:
    """Return a time limit in seconds; None: none was given.

    :param what: the option that it was given for.
    :raises ValidationError: it is no time, not more than 0, or not finite.
    """
    most = seconds(given, what)
    if most is None:
        return None
    if not 0 < most < math.inf:
        raise ValidationError(f"{what} is {given!r}; it must be more than 0 seconds, and finite")
    return float(most)


def kept_for(given: Any, what: str) -> float | None:
    """Return for how many seconds a server is to keep a value; None: for ever, which 0 and -1 mean, too.

    :param what: the option that it was given for.
    :raises ValidationError: it is no time, or negative and not -1.
    """
    longest = seconds(given, what)
    if not longest or longest == -1:
        return None
    if longest < 0:
        raise ValidationError(f"{what} is {given!r}; it must be more than 0 seconds, or 0 or -1, which mean for ever")
    return float(longest)


def end_of(ttl: Any) -> float | None:
    """Return when a time to live that begins now ends, in seconds since the Unix epoch; None, for None and -1: never.

    :raises ValidationError: it is no time.
    """
    given = seconds(ttl, "ttl")
    return None if given is None or given == -1 else time.time() + float(given)


def is_over(expires: float | None) -> bool:
    """Return whether a time to live has ended: the value counts as absent for every reader."""
    return expires is not None and time.time() >= expires


def judge_of(invalidator: Any) -> Judge:
    """Return the judge of a strategy; a strategy that was written for dogpile.cache knows times only."""
    judge: Judge | None = getattr(invalidator, "judge", None)
    return judge or (lambda created, epoch: RegionInvalidationStrategy.judge(invalidator, created, epoch))


class RegionInvalidationStrategy:
    """What region.invalidate() does, and which values it affects.  A subclass supplies the six methods.

    Times are seconds since the Unix epoch; a method may return any true or false object instead of True and False.
    """

    def invalidate(self, hard: bool = True) -> None:
        """Stop serving values created until now; soft: serve them only while the next value is created."""
        raise NotImplementedError

    def is_hard_invalidated(self, timestamp: float) -> bool:
        """Return whether a value of that time must not be served."""
        raise NotImplementedError

    def is_soft_invalidated(self, timestamp: float) -> bool:
        """Return whether a value of that time is stale."""
        raise NotImplementedError

    def is_invalidated(self, timestamp: float) -> bool:
        """Return whether a value of that time is invalidated, hard or soft."""
        raise NotImplementedError

    def was_soft_invalidated(self) -> bool:
        """Return whether a soft invalidation is in force."""
        raise NotImplementedError

    def was_hard_invalidated(self) -> bool:
        """Return whether a hard invalidation is in force."""
        raise NotImplementedError

    def judge(self, created: float, epoch: int | None) -> Freshness:
        """Return what both kinds of invalidation leave of a value; a strategy with epochs overrides this method."""
        if self.is_hard_invalidated(created):
            return Freshness.ABSENT
        if self.is_soft_invalidated(created):
            return Freshness.STALE
        return Freshness.FRESH


class DefaultInvalidationStrategy(RegionInvalidationStrategy):
    """Invalidation by the clock, in this process only.

    The two times are kept apart: a value that a hard invalidation has forbidden stays forbidden after a soft one.  A
    hard invalidation ends the soft one before it, since each value that was stale then is forbidden now.
    """

    count = 0
    """The number of invalidations so far."""

    def __init__(self) -> None:
        self._hard_at: float | None = None
        self._soft_at: float | None = None

    def invalidate(self, hard: bool = True) -> None:
        self.count += 1
        if hard:
            self._hard_at, self._soft_at = time.time(), None
        else:
            self._soft_at = time.time()

    @property
    def quiet(self) -> bool:
        """Return whether there was no invalidation yet, as in nearly every hit; a subclass may have other rules."""
        return self._hard_at is self._soft_at is None and type(self) is DefaultInvalidationStrategy

    def judge(self, created: float, epoch: int | None) -> Freshness:
        if self._hard_at is self._soft_at is None and type(self) is DefaultInvalidationStrategy:
            return Freshness.FRESH
        return super().judge(created, epoch)

    def is_hard_invalidated(self, timestamp: float) -> bool:
        return self._hard_at is not None and timestamp < self._hard_at

    def is_soft_invalidated(self, timestamp: float) -> bool:
        return self._soft_at is not None and timestamp < self._soft_at

    def is_invalidated(self, timestamp: float) -> bool:
        return self.is_hard_invalidated(timestamp) or self.is_soft_invalidated(timestamp)

    def was_soft_invalidated(self) -> bool:
        return self._soft_at is not None

    def was_hard_invalidated(self) -> bool:
        return self._hard_at is not None


class SharedInvalidation(RegionInvalidationStrategy):
    """Invalidation by epochs that the store counts: it reaches every process, and uses no clock.

    A value belongs to the epoch in which its creation *began*; a value whose creation began before an invalidation and
    ended after it therefore counts as older than the invalidation.

    :param counter: has ``epochs() -> (epoch, hard_at, soft_at)`` and ``invalidate(hard)``, which begins an epoch.
    """

    def __init__(self, counter: Any) -> None:
        self._counter = counter

    def counts_in(self, store: Any) -> bool:
        """Return whether this strategy, not one of a subclass, uses the epochs of that store."""
        return type(self) is SharedInvalidation and self._counter is store

    def invalidate(self, hard: bool = True) -> None:
        self._counter.invalidate(hard)

    def judge(self, created: float, epoch: int | None) -> Freshness:
        _, hard_at, soft_at = self._counter.epochs()
        begun = 0 if epoch is None else epoch  # of unknown age: before the first invalidation
        if begun < hard_at:
            return Freshness.ABSENT
        return Freshness.STALE if begun < soft_at else Freshness.FRESH

    def is_hard_invalidated(self, timestamp: float) -> bool:
        """Return whether a value of unknown epoch must not be served: it counts as older than any invalidation."""
        return self.judge(timestamp, None) is Freshness.ABSENT

    def is_soft_invalidated(self, timestamp: float) -> bool:
        """Do what :meth:`is_hard_invalidated` does."""
        return self.judge(timestamp, None) is Freshness.STALE

    def is_invalidated(self, timestamp: float) -> bool:
        return self.judge(timestamp, None) is not Freshness.FRESH

    def was_soft_invalidated(self) -> bool:
        _, hard_at, soft_at = self._counter.epochs()
        return bool(soft_at > hard_at)

    def was_hard_invalidated(self) -> bool:
        return bool(self._counter.epochs()[1])


class Begin:
    """The begin of a creation: its time, and the number of invalidations so far, for a strategy without epochs.

    A value is as old as the data that its creator has read, but its metadata has the time at which it is stored.  If
    the region was invalidated in between, the value gets the time of the begin, so that each strategy treats it as
    older than the invalidation.
    """

    __slots__ = ("_at", "_count", "_fresh", "_strategy")

    def __init__(self, strategy: Any) -> None:
        self._strategy, self._at = strategy, time.time()
        self._count = getattr(strategy, "count", None)
        self._fresh = self._judges_by_itself and self._judgement

    @property
    def created(self) -> float:
        """Return the creation time to store with a value that was created since: now, or just before the begin."""
        changed = getattr(self._strategy, "count", None) != self._count
        if changed or (self._fresh and not self._judgement):
            return math.nextafter(self._at, 0.0)
        return time.time()

    @property
    def _judges_by_itself(self) -> bool:
        """Return whether the strategy is the user's own, which need not call ours when it invalidates."""
        return type(self._strategy) is not DefaultInvalidationStrategy and not isinstance(
            self._strategy, SharedInvalidation
        )

    @property
    def _judgement(self) -> bool:
        return judge_of(self._strategy)(self._at, None) is Freshness.FRESH
