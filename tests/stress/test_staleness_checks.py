"""What is there and should not be, or should be and is not, on histories made by hand.

Depends on histories.
"""

from __future__ import annotations

from mpcache.stress.creation_checks import one_creator, one_value
from mpcache.stress.history import Outcome
from mpcache.stress.register_checks import register
from mpcache.stress.staleness_checks import fills_refused, newest, not_invalidated
from tests.stress.histories import A, B, C, ask, create, found, history, invalidate, killed, read, stopped, write


def test_what_was_begun_before_a_delete_is_not_read_after_it() -> None:
    made, deleted = create(A, 1, 4, 7), write(B, 2, 3, 0)
    assert found(fills_refused, made, deleted, read(C, 5, 6, 7)) == ["late fill"]
    assert found(fills_refused, made, deleted, ask(C, 3.5, 6, 7)) == ["late fill"]
    assert found(fills_refused, made, deleted, read(C, 2.5, 6, 7)) == []  # before it had returned
    assert found(fills_refused, made, deleted, ask(A, 3.5, 6, 7)) == []  # its creator's own
    assert found(fills_refused, made, write(B, 0, 3, 0), read(C, 5, 6, 7)) == []
    assert found(fills_refused, made, write(B, 2, 3, 0, key=1), read(C, 5, 6, 7)) == []


def test_nor_is_it_after_a_set() -> None:
    assert found(fills_refused, create(A, 1, 4, 7), write(B, 2, 3, 8), read(C, 5, 6, 7)) == ["late fill"]
    assert found(fills_refused, create(A, 1, 4, 7), write(B, 2, 3, 8), read(C, 5, 6, 8)) == []


def test_a_delete_that_was_not_finished_forbids_nothing() -> None:
    assert found(fills_refused, create(A, 1, 4, 7), write(B, 2, None, 0, died=3), read(C, 5, 6, 7)) == []


def test_nobody_waits_for_a_creator_who_is_stopped() -> None:
    made, deleted = create(A, 1, 4, 7), write(B, 2, 3, 0)
    assert found(fills_refused, made, deleted, read(C, 5, 6, 7), stopped(A, 4.1, 7)) == []
    assert found(fills_refused, made, deleted, read(C, 5, 6, 7), stopped(A, 0.1, 0.2)) == ["late fill"]


def test_who_was_killed_before_he_had_a_value_made_none() -> None:
    made, deleted = create(A, 1, None, 0, died=1.5), write(B, 2, 3, 0)
    assert found(fills_refused, made, killed(A, 1.5), deleted, read(C, 5, 6, 0)) == []


def looks(number: int, missed: int) -> list:
    return [
        part
        for at in range(number)
        for part in (write(A, at, at + 0.1, at + 1), read(A, at + 0.2, at + 0.3, 0 if at < missed else at + 1))
    ]


def test_what_was_just_set_is_mostly_there() -> None:
    assert found(newest, *looks(100, 50)) == []
    assert found(newest, *looks(100, 51)) == ["forgetful"]
    assert found(newest, *looks(99, 99)) == []
    assert found(newest, *looks(100, 100), stopped(B, 1, 2)) == []


def test_of_another_key_it_says_nothing() -> None:
    others = [read(A, at + 0.2, at + 0.3, 0, key=1) for at in range(100)]
    assert found(newest, *(write(A, at, at + 0.1, at + 1) for at in range(100)), *others) == []


def test_a_set_may_take_effect_at_its_end() -> None:
    assert found(not_invalidated, write(A, 1, 4, 7), invalidate(B, 2, 3), read(C, 5, 6, 7)) == []
    assert found(not_invalidated, write(A, 1, 1.5, 7), invalidate(B, 2, 3), read(C, 5, 6, 7)) == ["invalidated"]
    assert found(not_invalidated, write(A, 1, 1.5, 7), invalidate(B, 2, 3), read(A, 5, 6, 7)) == ["invalidated"]
    dead = write(A, 1, None, 7, died=2.5), killed(A, 2.5)
    assert found(not_invalidated, *dead, invalidate(B, 2, 3), read(C, 5, 6, 7)) == []


def test_after_an_invalidation_it_is_created_again() -> None:
    first, again = (create(A, 1, 2, 7), ask(A, 0.5, 2.05, 7)), (create(B, 5, 6, 8), ask(B, 4, 6.05, 8))
    assert found(one_creator, *first, *again) == ["created again"]
    assert found(one_value, *first, *again) == ["two values"]
    for call in (invalidate(C, 3.5, 3.6), invalidate(C, 3.5, None, died=3.6), invalidate(C, 0, 0.7)):
        assert found(one_creator, *first, *again, call) == []
        assert found(one_value, *first, *again, call) == []
        assert found(one_value, *again, *first, call) == []
    assert found(one_creator, *first, *again, invalidate(C, 0, 0.4)) == ["created again"]
    assert found(one_creator, *first, *again, invalidate(C, 8, 9)) == ["created again"]
    assert found(one_creator, create(A, 1, 2, 7), create(B, 1.5, 3, 8), invalidate(C, 0, 9)) == ["two creators"]


def test_what_a_creator_is_given_need_not_be_stored() -> None:
    other = write(B, 3, 4, 8), read(C, 5, 6, 8), read(C, 9, 10, 8)
    assert found(register, create(A, 1, 7, 7, outcome=Outcome.ALONE), ask(A, 1, 7.5, 7), *other) == []
    assert found(register, create(A, 1, 2, 7), ask(A, 1, 2.5, 7), *other, read(B, 11, 12, 7)) == ["aged"]


def test_a_part_of_a_story_is_that_of_some_keys() -> None:
    told = history(read(A, 1, 2, 7, key=5 + 1024 * 3), read(A, 3, 4, 7, key=6), invalidate(B, 1, 2))
    part = told.only(range(5, 6))
    assert [[entry.key for entry in entries] for entries in part.entries.values()] == [[5 + 1024 * 3], [0]]
