"""The checker, on histories written by hand: each bad one is found for what it is, and its good twin is not.

Depends on the checker alone: no process is started, no clock is read.  Times are small numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from mpcache.stress.checker import (
    EXCLUSION,
    Violation,
    apply,
    fences_increase,
    holds_are_kept,
    no_lost_increment,
    no_other_occupant,
    no_two_holders,
)
from mpcache.stress.creation_checks import one_creator, one_value
from mpcache.stress.history import NEVER, WHOLE_MACHINE, Entry, Kind, Outcome, Signal
from mpcache.stress.register_checks import register
from mpcache.stress.staleness_checks import not_invalidated
from mpcache.stress.timing_checks import handoffs, takeovers
from tests.stress.histories import A, B, C, found, history

MS = 1_000_000
"""ns."""


def entry(kind: Kind, who: int, began: int, ended: int = 0, got: int | None = None, **more: Any) -> Entry:
    """One entry, of key 0 if no other is said; it lasts until its end, or for ever."""
    facts = {"outcome": Outcome.DONE, "key": 0, "value": 0, "extra": 0, "times": 0, "until": ended or NEVER} | more
    return Entry(kind=kind, actor=who, began=began, got=began if got is None else got, ended=ended, **facts)


def hold(who: int, got: int, ended: int = 0, **more: Any) -> Entry:
    return entry(Kind.HOLD, who, more.pop("began", got), ended, got, **more)


def write(who: int, began: int, ended: int, value: int, **more: Any) -> Entry:
    return entry(Kind.WRITE, who, began, ended, value=value, **more)


def read(who: int, began: int, ended: int, value: int, **more: Any) -> Entry:
    return entry(Kind.READ, who, began, ended, value=value, **more)


def create(who: int, began: int, ended: int, value: int, **more: Any) -> Entry:
    return entry(Kind.CREATE, who, began, ended, value=value, **more)


def ask(who: int, began: int, ended: int, value: int, **more: Any) -> Entry:
    return entry(Kind.ASK, who, began, ended, value=value, **more)


def invalidate(who: int, began: int, ended: int) -> Entry:
    return entry(Kind.INVALIDATE, who, began, ended)


def killed(who: int, at: int) -> Signal:
    return Signal("kill", who >> 8, at, at + 1)


def stopped(who: int, at: int, until: int) -> Signal:
    return Signal("stop", who >> 8, at, until)


def paused(at: int, until: int) -> Signal:
    return Signal("pause", WHOLE_MACHINE, at, until)


# -- a mutex ------------------------------------------------------------------------------------------------------


def test_two_at_the_same_time() -> None:
    assert found(no_two_holders, hold(A, 10, 20), hold(B, 19, 30)) == ["two holders"]
    assert found(no_two_holders, hold(A, 10, 20), hold(B, 20, 30)) == []


def test_two_at_the_same_time_of_different_keys() -> None:
    assert found(no_two_holders, hold(A, 10, 20), hold(B, 15, 30, key=1)) == []


def test_one_within_another_and_a_third_after_it() -> None:
    assert found(no_two_holders, hold(A, 10, 100), hold(B, 20, 30), hold(C, 40, 50)) == ["two holders"] * 2


def test_who_was_killed_held_it_until_then() -> None:
    dead = hold(A, 10, 0, until=50)
    assert found(no_two_holders, dead, killed(A, 50), hold(B, 49, 60)) == ["two holders"]
    assert found(no_two_holders, dead, killed(A, 50), hold(B, 51, 60)) == []


def test_who_never_let_go_holds_it_for_ever() -> None:
    assert found(no_two_holders, hold(A, 10), hold(B, 1000, 1001)) == ["two holders"]


def test_who_asked_and_never_got_it_held_nothing() -> None:
    assert found(no_two_holders, entry(Kind.HOLD, A, 10, got=0), hold(B, 20, 30)) == []


def test_a_lease_may_lapse_if_its_holder_is_told() -> None:
    lost = hold(A, 10, 50, outcome=Outcome.LOST)
    assert found(no_two_holders, lost, hold(B, 30, 40), leased=True) == []
    assert found(no_two_holders, lost, hold(B, 30, 40)) == ["two holders"]
    assert found(no_two_holders, hold(A, 10, 50), hold(B, 30, 40), leased=True) == ["two holders"]


def test_a_lease_may_lapse_if_its_holder_was_stopped_and_killed() -> None:
    dead = hold(A, 10, 0, until=50)
    assert found(no_two_holders, dead, stopped(A, 20, 50), killed(A, 50), hold(B, 40, 60), leased=True) == []
    assert found(no_two_holders, dead, killed(A, 50), hold(B, 40, 60), leased=True) == ["two holders"]


def test_a_living_one_was_found_there() -> None:
    assert found(no_other_occupant, hold(A, 10, 20), hold(B, 15, 30, extra=A)) == ["found occupied"]
    assert found(no_other_occupant, hold(A, 10, 0, until=12), killed(A, 12), hold(B, 15, 30, extra=A)) == []
    assert found(no_other_occupant, killed(A, 40), hold(B, 15, 30, extra=A)) == ["found occupied"]


def test_who_was_found_is_shown_in_the_hold_in_which_he_was_found() -> None:
    told = history(hold(A, 10, 20), hold(B, 15, 30, extra=A), hold(A, 500, 510))
    assert [one.got for violation in no_other_occupant(told) for one in violation.evidence] == [15, 10]


def test_a_dead_one_is_dead_from_the_first_signal_on() -> None:
    twice = (killed(A, 12), Signal("end", A >> 8, 40, NEVER))
    assert found(no_other_occupant, *twice, hold(B, 15, 30, extra=A)) == []


def test_an_intruder() -> None:
    assert found(no_other_occupant, hold(A, 10, 20, outcome=Outcome.INTRUDED)) == ["intruder"]


def test_an_addition_is_lost() -> None:
    assert found(no_lost_increment, hold(A, 10, 20, times=0), hold(B, 20, 30, times=0)) == ["lost increment"]
    assert found(no_lost_increment, hold(A, 10, 20, times=0), hold(B, 20, 30, times=1)) == []
    assert found(no_lost_increment, hold(A, 10, 20, times=0), hold(B, 20, 30, times=2)) == ["lost increment"]


@pytest.mark.parametrize("times", [0, 1])
def test_who_was_killed_may_have_added_or_not(times: int) -> None:
    assert (
        found(no_lost_increment, hold(A, 10, 0, times=0, until=15), killed(A, 15), hold(B, 20, 30, times=times)) == []
    )


def test_fences_grow() -> None:
    assert found(fences_increase, hold(A, 10, 20, value=7), hold(B, 20, 30, value=7)) == ["fence"]
    assert found(fences_increase, hold(A, 10, 20, value=7), hold(B, 20, 30, value=6)) == ["fence"]
    assert found(fences_increase, hold(A, 10, 20, value=7), hold(B, 20, 30, value=9)) == []
    assert found(fences_increase, hold(A, 10, 20, value=0), hold(B, 20, 30, value=0)) == []


def test_what_a_death_cost() -> None:
    told = history(hold(A, 10, 0, until=50), killed(A, 50), hold(B, 57, 60, began=20), hold(C, 70, 80, began=30))
    assert [took for took, _ in takeovers(told)] == [7]


def test_whoever_came_before_a_death_took_nothing_over() -> None:
    told = history(hold(A, 10, 0, until=50), killed(A, 50), hold(B, 40, 60, began=20), hold(C, 70, 80, began=20))
    assert takeovers(told) == []


def test_nobody_waited_for_the_dead() -> None:
    assert takeovers(history(hold(A, 10, 0, until=50), killed(A, 50), hold(B, 57, 60, began=55))) == []


def test_hand_offs_are_to_those_who_waited() -> None:
    assert handoffs(history(hold(A, 10, 20), hold(B, 23, 30, began=15), hold(C, 40, 50, began=35))) == [3]


def test_nobody_keeps_a_lease_while_nothing_runs() -> None:
    lost = [hold(who, 10, 9_000, outcome=Outcome.LOST, key=key) for key, who in enumerate((A, B))]
    assert found(holds_are_kept, *lost, leased=True) == ["not kept"] * 2
    assert found(holds_are_kept, *lost, paused(100, 8_000), leased=True) == []


# -- creators -----------------------------------------------------------------------------------------------------


def test_two_create_at_the_same_time() -> None:
    assert found(one_creator, create(A, 10, 20, 1), create(B, 15, 25, 2)) == ["two creators"]


def test_what_was_stored_is_created_again() -> None:
    assert found(one_creator, create(A, 10, 20, 1), ask(A, 9, 21, 1), create(B, 30, 35, 2)) == ["created again"]
    assert found(one_creator, create(A, 10, 20, 1), ask(A, 9, 21, 1), create(B, 30, 35, 2, key=1)) == []


def test_a_dead_creator_is_followed_by_another() -> None:
    assert found(one_creator, create(A, 10, 0, 1, until=15), killed(A, 15), create(B, 16, 25, 2)) == []
    assert found(one_creator, create(A, 10, 0, 1, until=15), killed(A, 15), create(B, 14, 25, 2)) == ["two creators"]


def test_who_died_before_he_had_stored_it_is_followed_by_another() -> None:
    assert (
        found(one_creator, create(A, 10, 20, 1), ask(A, 9, 0, 0, until=21), killed(A, 21), create(B, 30, 35, 2)) == []
    )


def test_those_who_create_alone_exclude_nobody() -> None:
    assert found(one_creator, create(A, 10, 20, 1, outcome=Outcome.ALONE), create(B, 15, 25, 2)) == []


def test_a_lease_lapsed_while_its_creator_was_stopped() -> None:
    both = (create(A, 10, 40, 1), create(B, 30, 35, 2), stopped(A, 12, 38))
    assert found(one_creator, *both, leased=True) == []
    assert found(one_creator, *both) == ["two creators"]


def test_a_value_is_refused_where_another_was_stopped_with_the_guard_of_its_key() -> None:
    history = (create(A, 10, 20, 7), ask(A, 5, 25, 7), create(B, 30, 40, 8), ask(B, 28, 45, 8))
    assert found(one_creator, *history, own=False) == ["created again"]
    assert found(one_value, *history, own=False) == ["two values"]
    assert found(one_creator, *history, stopped(C, 1, 22), own=False) == []
    assert found(one_value, *history, stopped(C, 1, 22), own=False) == []
    assert found(one_creator, *history, stopped(C, 1, 22)) == ["created again"]  # whose mutex would have told B


def test_a_value_whose_creator_waited_too_long_for_its_shard_was_dropped() -> None:
    def history(waited: int) -> tuple[Entry, ...]:
        mine = create(A, 10, 20, 7), ask(A, 5, 20 + waited, 7)
        return (*mine, create(B, 30 + waited, 40 + waited, 8), ask(B, 28, 45 + waited, 8))

    for check, wrong in ((one_creator, "created again"), (one_value, "two values")):
        assert found(check, *history(100 * MS)) == []
        assert found(check, *history(99 * MS)) == [wrong]
        assert found(check, *history(100 * MS), gives_up=False) == [wrong]


def test_a_creator_who_waited_too_long_for_his_guard_had_none() -> None:
    at = 150 * MS
    history = create(A, at, at + 10, 7), ask(A, 5, at + 15, 7), create(B, at + 20, at + 30, 8), ask(B, 28, at + 35, 8)
    for check, wrong in ((one_creator, "created again"), (one_value, "two values")):
        assert found(check, *history) == [wrong]  # only an actor that waits for a creator has one
        assert found(check, *history, stopped(C, 1, at - 5)) == []
        assert found(check, *history, stopped(C, at + 40, at + 50)) == [wrong]


def test_a_lease_lapsed_while_its_creator_was_stopped_after_it_had_created() -> None:
    heir = (create(B, 60, 70, 2), ask(B, 21, 75, 2), ask(C, 22, 76, 2))
    mine = (create(A, 10, 20, 1), ask(A, 9, 90, 1), stopped(A, 25, 80))
    assert found(one_value, *mine, *heir, leased=True) == []
    assert found(one_creator, *mine, *heir, leased=True) == []
    assert found(one_value, *mine[:2], *heir, leased=True) == ["two values"] * 2


def test_who_was_killed_while_he_let_go_cannot_say_that_he_had_lost_it() -> None:
    leaving = hold(A, 10, 50, outcome=Outcome.LEAVING)
    assert found(no_two_holders, leaving, stopped(A, 15, 45), hold(B, 30, 40), leased=True) == []
    assert found(no_two_holders, leaving, hold(B, 30, 40), leased=True) == ["two holders"]
    assert found(no_two_holders, leaving, stopped(A, 15, 45), hold(B, 30, 40)) == ["two holders"]


def test_different_values_of_one_generation() -> None:
    made = (create(A, 10, 20, 1), create(B, 30, 40, 2))
    assert found(one_value, *made, ask(A, 9, 21, 1), ask(B, 29, 41, 2)) == ["two values"]
    assert found(one_value, *made, ask(A, 9, 21, 1), ask(B, 29, 41, 1)) == []


def test_a_value_that_nobody_made() -> None:
    assert found(one_value, create(A, 10, 20, 1), ask(B, 9, 21, 3)) == ["foreign value"]
    assert found(one_value, create(A, 10, 20, 1), ask(B, 9, 21, 1, key=1)) == ["foreign value"]


# -- a register ---------------------------------------------------------------------------------------------------


def test_a_read_returns_what_was_overwritten_before_it_began() -> None:
    old, new = write(A, 10, 20, 1), write(A, 30, 40, 2)
    assert found(register, old, new, read(B, 50, 60, 1)) == ["aged"]
    assert found(register, old, new, read(B, 35, 60, 1)) == []
    assert found(register, old, new, read(B, 50, 60, 2)) == []


def test_a_read_returns_what_was_deleted_before_it_began() -> None:
    assert found(register, write(A, 10, 20, 1), write(A, 30, 40, 0), read(B, 50, 60, 1)) == ["aged"]
    assert found(register, write(A, 10, 20, 1), write(A, 30, 40, 0), read(B, 39, 60, 1)) == []


def test_the_new_and_then_the_old() -> None:
    """Each of the two reads alone would do, since both writes were under way."""
    writes = (write(A, 10, 100, 1), write(B, 10, 100, 2))
    swung = (read(C, 20, 30, 1), read(C, 40, 50, 2), read(C, 60, 70, 1))
    assert found(register, *writes, *swung) == ["aged"]
    assert found(register, *writes, *swung[:2]) == []


def test_a_miss_proves_nothing() -> None:
    assert found(register, write(A, 10, 20, 1), read(B, 30, 40, 0), read(B, 50, 60, 1)) == []


def test_who_was_killed_in_a_write_may_have_written_or_not() -> None:
    dead = write(A, 30, 0, 2, until=35)
    before = write(A, 10, 20, 1)
    assert found(register, before, dead, read(B, 50, 60, 1)) == []
    assert found(register, before, dead, read(B, 50, 60, 2)) == []
    assert found(register, before, dead, read(B, 50, 60, 2), read(B, 70, 80, 1)) == ["aged"]


def test_a_set_that_was_given_up_may_have_happened_or_not() -> None:
    refused = write(A, 30, 40, 2, outcome=Outcome.REFUSED)
    assert found(register, write(A, 10, 20, 1), refused, read(B, 50, 60, 1)) == []


def test_a_read_before_its_write() -> None:
    assert found(register, write(A, 50, 60, 1), read(B, 10, 20, 1)) == ["read before written"]


def test_a_value_of_another_key() -> None:
    assert found(register, write(A, 10, 20, 1, key=1), read(B, 30, 40, 1)) == ["foreign value"]


def test_a_fill_is_a_write() -> None:
    filled = create(A, 10, 20, 1), ask(A, 9, 25, 1)
    assert found(register, *filled, write(B, 30, 40, 2), ask(C, 50, 60, 1)) == ["aged"]
    assert found(register, *filled, write(B, 30, 40, 2), ask(C, 50, 60, 2)) == []


def linearizable(entries: Iterable[Entry]) -> bool:
    """Try every order that respects which operation ended before another began: too simple to be wrong."""

    def extend(left: frozenset[Entry], value: int) -> bool:
        if not left:
            return True
        first_end = min(one.until for one in left)
        for one in left:
            if one.began <= first_end and (one.kind == Kind.WRITE or one.value == value):
                after = one.value if one.kind == Kind.WRITE else value
                if extend(left - {one}, after):
                    return True
        return False

    return extend(frozenset(entries), -1)


def test_it_agrees_with_one_who_tries_all_orders() -> None:
    """Random histories of some operations; the seeds of those on which they differ are what fails."""
    differing, verdicts = [], {True: 0, False: 0}
    for seed in range(3000):
        chance = random.Random(seed)
        times = chance.sample(range(1, 60), 14)
        writes = [write(chance.choice((A, B)), *sorted(times[2 * i : 2 * i + 2]), value=i + 1) for i in range(3)]
        reads = [read(C, *sorted(times[2 * i : 2 * i + 2]), value=chance.randint(1, 3)) for i in range(3, 7)]
        held = linearizable(writes + reads)
        verdicts[held] += 1
        if held != (found(register, *writes, *reads) == []):
            differing.append(seed)
    assert differing == []
    assert min(verdicts.values()) > 100


# -- invalidation -------------------------------------------------------------------------------------------------


def test_what_was_begun_before_an_invalidation() -> None:
    early, late, call = write(A, 10, 20, 1), write(A, 45, 50, 2), invalidate(B, 30, 40)
    assert found(not_invalidated, early, call, read(C, 41, 42, 1)) == ["invalidated"]
    assert found(not_invalidated, early, call, read(C, 39, 42, 1)) == []
    assert found(not_invalidated, late, call, read(C, 51, 52, 2)) == []


def test_a_signal_is_sent_before_it_kills() -> None:
    dying = write(A, 10, 0, 7, until=19)
    assert found(not_invalidated, dying, killed(A, 19), invalidate(B, 20, 30), read(C, 40, 50, 7)) == []


def test_a_fill_that_was_under_way() -> None:
    made = create(A, 25, 35, 1)
    assert found(not_invalidated, made, invalidate(B, 30, 40), ask(C, 50, 51, 1)) == ["invalidated"]
    assert found(not_invalidated, made, invalidate(B, 30, 40), ask(A, 50, 51, 1)) == []  # its own, which it returns


def test_of_several_calls_the_latest_that_had_returned_counts() -> None:
    calls = (invalidate(B, 30, 60), invalidate(C, 40, 50))
    assert found(not_invalidated, write(A, 35, 36, 1), *calls, read(C, 55, 56, 1)) == ["invalidated"]
    assert found(not_invalidated, write(A, 45, 46, 1), *calls, read(C, 65, 66, 1)) == []


# -- all of it ----------------------------------------------------------------------------------------------------


def test_of_each_check_some_are_shown() -> None:
    many = [hold(A, 10, 10_000), *(hold(B, at, at + 1, extra=A) for at in range(20, 400, 2))]
    shown = apply(EXCLUSION, history(*many), most=5)
    assert [violation.check for violation in shown].count("two holders") == 5


def test_a_violation_shows_its_entries() -> None:
    (violation,) = no_two_holders(history(hold(A, 10, 20), hold(B, 15, 30)))
    assert isinstance(violation, Violation)
    plain = violation.plain()
    assert [one["who"] for one in plain["evidence"]] == ["worker 1", "worker 2"]
    assert "worker 2 got it" in violation.text


def test_a_thread_is_named() -> None:
    (violation,) = no_two_holders(history(hold(A | 3, 10, 20), hold(B, 15, 30)))
    assert "worker 1, thread 3" in violation.text
