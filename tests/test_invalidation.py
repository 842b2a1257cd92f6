"""Invalidation: how each strategy judges a value of a certain time, or epoch."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcache.api import Freshness
from mpcache.exception import ValidationError
from mpcache.invalidation import (
    Begin,
    DefaultInvalidationStrategy,
    RegionInvalidationStrategy,
    SharedInvalidation,
    end_of,
    freshness,
    is_over,
    judge_of,
    kept_for,
    limit,
    patience,
    seconds,
)
from tests.conftest import Clock

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT


@pytest.mark.parametrize(
    ("age", "lifetime", "verdict", "worth"),
    [
        (0, None, FRESH, FRESH),
        (1e9, None, FRESH, FRESH),
        (10, 10, FRESH, FRESH),  # strictly older
        (10.001, 10, FRESH, STALE),
        (0, 0, FRESH, FRESH),
        (0.001, 0, FRESH, STALE),
        (0, -5, FRESH, STALE),
        (1, 10, STALE, STALE),
        (1, None, STALE, STALE),
        (99, 10, ABSENT, ABSENT),  # too old does not bring back what is forbidden
    ],
)
def test_A3_A5_what_a_value_is_worth(
    clock: Clock, age: float, lifetime: float | None, verdict: Freshness, worth: Freshness
) -> None:
    assert freshness(clock.now - age, None, lifetime, lambda created, epoch: verdict) is worth


def test_A6_times() -> None:
    given = [None, 0, -1, 1.5, Decimal(2), timedelta(milliseconds=500), timedelta(0), "5m", "1h30m"]
    assert [seconds(one) for one in given] == [None, 0, -1, 1.5, 2, 0.5, 0.0, 300, 5400]


@pytest.mark.parametrize("given", ["10", "", "soon", [1], 1j, object()])
def test_other_things_are_no_times(given: Any) -> None:
    with pytest.raises(ValidationError, match="creation_wait is not a number or timedelta"):
        seconds(given, "creation_wait")


def test_C1_hard_and_soft(clock: Clock) -> None:
    strategy = DefaultInvalidationStrategy()
    assert strategy.judge(0, None) is FRESH
    assert not strategy.was_soft_invalidated()
    assert not strategy.was_hard_invalidated()
    strategy.invalidate(hard=False)
    assert strategy.was_soft_invalidated()
    assert not strategy.was_hard_invalidated()
    assert [strategy.judge(clock.now - 1, None), strategy.judge(clock.now, None)] == [STALE, FRESH]
    assert strategy.is_invalidated(clock.now - 1)
    assert strategy.is_soft_invalidated(clock.now - 1)
    clock.forward(10)
    strategy.invalidate()
    assert [strategy.judge(clock.now - 1, None), strategy.judge(clock.now, None)] == [ABSENT, FRESH]
    assert strategy.is_invalidated(clock.now - 1)
    assert strategy.is_hard_invalidated(clock.now - 1)


def test_C2_soft_after_hard_keeps_what_hard_has_forbidden(clock: Clock) -> None:
    strategy = DefaultInvalidationStrategy()
    strategy.invalidate()
    hard_at = clock.now
    clock.forward(10)
    strategy.invalidate(hard=False)
    times = [hard_at - 1, hard_at, clock.now - 1, clock.now]
    assert [strategy.judge(time, None) for time in times] == [ABSENT, STALE, STALE, FRESH]
    assert strategy.was_hard_invalidated()
    assert strategy.was_soft_invalidated()


def test_C1_hard_ends_the_soft_one_before_it(clock: Clock) -> None:
    strategy = DefaultInvalidationStrategy()
    strategy.invalidate(hard=False)
    clock.forward(1)
    strategy.invalidate()
    assert not strategy.was_soft_invalidated()  # else values without a lifetime could never be created again


def test_C3_a_subclass_may_ask_more_than_the_two_times() -> None:
    class OfYesterday(DefaultInvalidationStrategy):
        def is_hard_invalidated(self, timestamp: float) -> bool:
            return timestamp < 100 or super().is_hard_invalidated(timestamp)

    judge = judge_of(OfYesterday())
    assert [judge(99, None), judge(100, None)] == [ABSENT, FRESH]


class Counter:
    """The epochs of a store, as simply as possible."""

    def __init__(self) -> None:
        self.epoch = self.hard_at = self.soft_at = 0

    def epochs(self) -> tuple[int, int, int]:
        return self.epoch, self.hard_at, self.soft_at

    def invalidate(self, hard: bool) -> None:
        self.epoch += 1
        if hard:
            self.hard_at = self.epoch
        else:
            self.soft_at = self.epoch


@given(st.lists(st.booleans(), max_size=8))
def test_F1_epochs_agree_with_a_clock_that_never_stands(steps: list[bool]) -> None:
    """Make a value before each invalidation and one after the last: both strategies must judge them alike."""
    counter, ticks = Counter(), DefaultInvalidationStrategy()
    shared = SharedInvalidation(counter)
    clock, made = Clock(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", clock)
        for hard in steps:
            made.append((clock.now, counter.epoch))
            clock.forward(1)
            shared.invalidate(hard)
            ticks.invalidate(hard)
        made.append((clock.now, counter.epoch))
    assert [shared.judge(0, epoch) for _, epoch in made] == [ticks.judge(time, None) for time, _ in made]
    assert shared.was_soft_invalidated() == ticks.was_soft_invalidated()
    assert shared.was_hard_invalidated() == ticks.was_hard_invalidated()


def test_F1_a_value_of_unknown_epoch_is_as_old_as_can_be() -> None:
    counter = Counter()
    strategy = SharedInvalidation(counter)
    assert strategy.judge(1e12, None) is FRESH
    strategy.invalidate(hard=False)
    assert strategy.judge(1e12, None) is STALE
    assert strategy.is_soft_invalidated(1e12)
    assert strategy.is_invalidated(1e12)
    strategy.invalidate()
    assert strategy.judge(1e12, None) is ABSENT
    assert strategy.is_hard_invalidated(1e12)


def test_C3_a_strategy_without_judge_will_do() -> None:
    class Foreign:
        def is_hard_invalidated(self, timestamp: float) -> Any:
            return "yes" if timestamp < 1 else ""

        def is_soft_invalidated(self, timestamp: float) -> Any:
            return 1 if timestamp < 2 else 0

    judge = judge_of(Foreign())
    assert [judge(0, None), judge(1, None), judge(2, None)] == [ABSENT, STALE, FRESH]


def test_C3_the_base_class_leaves_all_six_to_the_subclass() -> None:
    base = RegionInvalidationStrategy()
    calls = [base.invalidate, base.was_hard_invalidated, base.was_soft_invalidated]
    calls += [lambda f=f: f(0) for f in (base.is_invalidated, base.is_hard_invalidated, base.is_soft_invalidated)]
    for call in calls:
        with pytest.raises(NotImplementedError):
            call()


@pytest.mark.parametrize("ttl", [5, 5.0, timedelta(seconds=5), Decimal(5)])
def test_a_time_to_live_ends_so_long_from_now(clock: Clock, ttl: Any) -> None:
    end = end_of(ttl)
    assert [end, type(end)] == [clock.now + 5, float]
    assert [is_over(end), is_over(clock.now), is_over(clock.now - 1)] == [False, True, True]


@pytest.mark.parametrize("ttl", [None, -1, timedelta(seconds=-1)])
def test_A4_none_and_minus_one_never_end(ttl: Any) -> None:
    assert end_of(ttl) is None
    assert is_over(None) is False


def test_a_time_to_live_that_is_none() -> None:
    with pytest.raises(ValidationError, match=r"^ttl is not a number or timedelta\.  It is 'soon'\."):
        end_of("soon")


def test_A6_an_expiration_time_is_named_as_one() -> None:
    with pytest.raises(ValidationError, match=r"^expiration_time is not a number or timedelta\."):
        seconds("soon")


@pytest.mark.parametrize(("given", "most"), [(None, None), (5, 5.0), (0.001, 0.001), ("5m", 300.0), (Decimal(2), 2.0)])
def test_a_limit(given: Any, most: float | None) -> None:
    found = limit(given, "lock_timeout")
    assert (found, type(found)) == (most, type(most))


@pytest.mark.parametrize("given", [0, -1, float("inf")])
def test_a_limit_is_positive_and_finite(given: float) -> None:
    with pytest.raises(ValidationError, match=rf"^lock_timeout is {given}; it must be more than 0 seconds, and f"):
        limit(given, "lock_timeout")


@pytest.mark.parametrize("function", [limit, kept_for])
def test_what_is_no_time_is_named(function: Any) -> None:
    with pytest.raises(ValidationError, match=r"^lock_timeout is not a number or timedelta"):
        function("soon", "lock_timeout")


@pytest.mark.parametrize(
    ("given", "longest"), [(None, None), (0, None), (-1, None), (0.5, 0.5), (1, 1.0), ("1m", 60.0), (Decimal(2), 2.0)]
)
def test_how_long_a_server_keeps_a_value(given: Any, longest: float | None) -> None:
    found = kept_for(given, "redis_expiration_time")
    assert (found, type(found)) == (longest, type(longest))


@pytest.mark.parametrize("given", [-2, -0.5])
def test_a_server_keeps_no_value_for_less_than_no_time(given: float) -> None:
    with pytest.raises(ValidationError, match=rf"^redis_expiration_time is {given}; it must be .*which mean for ever$"):
        kept_for(given, "redis_expiration_time")


def test_invalidations_are_counted() -> None:
    strategy = DefaultInvalidationStrategy()
    counts = [strategy.count]
    for hard in (True, False):
        strategy.invalidate(hard)
        counts.append(strategy.count)
    assert counts == [0, 1, 2]


def test_whose_epochs_a_strategy_uses() -> None:
    class Theirs(SharedInvalidation):
        pass

    counter: Any = object()
    assert SharedInvalidation(counter).counts_in(counter) is True
    assert SharedInvalidation(counter).counts_in(object()) is False
    assert Theirs(counter).counts_in(counter) is False


class Clocked(RegionInvalidationStrategy):
    """A user's own strategy, which calls none of ours."""

    forbidden = False

    def is_hard_invalidated(self, timestamp: float) -> bool:
        return self.forbidden

    def is_soft_invalidated(self, timestamp: float) -> bool:
        return False


def test_a_users_strategy_that_changes_its_mind_ages_what_was_begun_before(clock: Clock) -> None:
    strategy = Clocked()
    begun, began = Begin(strategy), clock.now
    clock.forward(7)
    assert begun.created == clock.now
    strategy.forbidden = True
    assert begun.created < began
    assert Begin(strategy).created == clock.now  # it was in force at the begin: nothing has changed since


def test_epochs_judge_by_themselves(clock: Clock) -> None:
    counter = Counter()
    begun = Begin(SharedInvalidation(counter))
    counter.invalidate(True)
    clock.forward(7)
    assert begun.created == clock.now


@pytest.mark.parametrize("endless", [10**400, -(10**400), Fraction(10**400)])
def test_a_time_that_no_float_can_hold_is_refused(endless: Any) -> None:
    for read in (seconds, end_of, patience):
        with pytest.raises(ValidationError, match="is larger than a float can be; None or -1"):
            read(endless)


def test_a_wait_without_end() -> None:
    assert [patience(each) for each in (None, -1, "5m", Decimal(2))] == [None, None, 300.0, 2.0]
