"""The timing checks, on histories written by hand.

Depends on histories.
"""

from __future__ import annotations

import pytest

from mpcache.stress.history import Entry, Signal
from mpcache.stress.timing_checks import in_turn, shares, stampedes, taken_over, takeovers
from tests.stress.histories import A, B, C, ask, create, found, history, hold, killed, ns, stopped


def deaths(number: int, cost: float) -> list[Entry | Signal]:
    """So many times a holder is killed, and a waiter has the key later."""
    parts: list[Entry | Signal] = []
    for at in range(0, 20 * number, 20):
        dead, heir = (at + 1) << 8, (at + 2) << 8
        parts += [hold(dead, at, at, died=at + 1), killed(dead, at + 1), hold(heir, at, at + 1 + cost, at + 10)]
    return parts


def test_half_of_the_take_overs_are_soon() -> None:
    assert found(taken_over, *deaths(20, 0.05), takeover=0.1) == []
    assert found(taken_over, *deaths(20, 0.55), takeover=0.1) == []  # a busy machine
    assert found(taken_over, *deaths(20, 0.65), takeover=0.1) == ["slow take-over"]
    assert found(taken_over, *deaths(20, 0.65), takeover=1.0) == []
    assert found(taken_over, *deaths(19, 0.65), takeover=0.1) == []  # too few to say


def test_none_of_them_is_very_late() -> None:
    assert found(taken_over, *deaths(1, 5.0), takeover=0.1) == []
    assert found(taken_over, *deaths(1, 5.2), takeover=0.1) == ["late take-over"]


def took(*parts: Entry | Signal) -> list[float]:
    return [round(cost / 1e9, 6) for cost, _ in takeovers(history(*parts))]


def test_a_take_over_counts_while_somebody_waits() -> None:
    dead = hold(A, 0, 1, died=2), killed(A, 2)
    assert took(*dead, hold(B, 1, 5, 6)) == [3]
    assert took(*dead, hold(B, 3, 5, 6)) == []  # no actor waited when it happened
    waited = hold(B, 1, None, died=3), killed(B, 3)
    assert took(*dead, *waited, hold(C, 2.5, 5, 6)) == [3]
    assert took(*dead, *waited, hold(C, 4, 5, 6)) == [2]  # for a second no actor wanted it
    assert took(*dead, *waited, hold(C, 4.5, 5, 6), hold(C, 7, 8, 9)) == [1.5]


def test_who_is_stopped_does_not_wait() -> None:
    dead = hold(A, 0, 1, died=2), killed(A, 2)
    assert took(*dead, hold(B, 1, 5, 6), stopped(B, 1.5, 4)) == []


def test_who_came_a_second_earlier_is_first() -> None:
    assert found(in_turn, hold(A, 0, 2, 3), hold(B, 0.9, 1, 2)) == []
    assert found(in_turn, hold(A, 0, 2, 3), hold(B, 1.1, 1.5, 2)) == ["out of turn"]
    assert found(in_turn, hold(A, 0, 2, 3, key=1), hold(B, 1.1, 1.5, 2)) == []
    assert found(in_turn, hold(A, 0, 2, 3), hold(B, 1.1, 1.5, 2), stopped(A, 1, 1.4)) == []


def test_shares_are_of_those_who_lived() -> None:
    holds = [hold(A, at, at, at + 0.5) for at in range(4)]
    told = shares(history(*holds, hold(B, 1, 9, 10), hold(B, 10, 11, 12), hold(C, 11, 12, 13), killed(C, 14)))
    assert told == {"holds of the luckiest, of the unluckiest": 2.0, "longest wait, s": pytest.approx(8.0)}
    assert shares(history()) == {}


def test_a_stampede_is_of_those_who_waited() -> None:
    made = create(A, 1, 2, 7)
    told = history(made, ask(A, 1, 2.5, 7), ask(B, 1.5, 2.25, 7), ask(C, 2.1, 2.2, 7), ask(C, 1, 3, 8))
    assert stampedes(told) == [ns(0.25) - 1]
