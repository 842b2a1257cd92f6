"""The suite sees what is wrong: for each of its cases there is a fault that it catches, and a sound mutex that passes.

Depends on faulty.
"""

from __future__ import annotations

import ast
import concurrent.futures
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from mpcache.exception import MutexError
from mpcache.mutexes.thread import ThreadMutex
from mpcache.testing import MutexConformance
from tests.conftest import PATIENCE
from tests.mutexes import faulty
from tests.mutexes.faulty import Flock, Lease

CAUGHT: list[tuple[type, str]] = [
    # exclusion
    (faulty.NobodyExcluded, "two_objects_of_one_key"),
    (faulty.NoSecondLook, "threads_exclude_each_other"),
    (faulty.ThreadsOnly, "processes_exclude_each_other[fork] processes_exclude_each_other[spawn]"),
    (faulty.ThreadsOnly, "what_another_process_holds[fork] what_another_process_holds[spawn]"),
    (faulty.Once, "it_can_be_had_again"),
    (faulty.OneForAll, "other_keys_nest whatever_is_a_key"),
    (faulty.Trimming, "whatever_is_a_key"),
    (faulty.Spaceless, "namespaces_keep_equal_keys_apart"),
    (faulty.Unhad, "who_contends_for_what_is_free_has_it"),
    # waiting
    (faulty.Slow, "a_try_does_not_wait"),
    (faulty.Deaf, "a_timeout_is_a_deadline[acquire] a_timeout_is_a_deadline[contend]"),
    (faulty.Hasty, "a_timeout_is_a_deadline[acquire] a_timeout_is_a_deadline[contend]"),
    (faulty.Unchecked, "a_timeout_that_is_none[-1]"),
    (faulty.Sleeper, "a_waiter_has_it_when_it_is_released"),
    (faulty.SleeperAmongProcesses, "a_waiter_in_another_process_has_it_when_it_is_released"),
    (faulty.SleeperAmongProcesses, "a_forked_child_gets_what_its_parent_releases"),
    (faulty.Uninformed, "contenders_learn_what_became_of_the_value[False]"),
    (faulty.Queueing, "contenders_learn_what_became_of_the_value[True]"),
    (faulty.Rash, "contenders_in_other_processes_learn_it[True]"),
    # whose it is
    (faulty.Ownerless, "a_stranger_may_not nor_may_anybody_twice"),
    (faulty.Lenient, "a_stranger_may_not nor_may_anybody_twice a_forked_child_owns_nothing"),
    (faulty.ThreadBound, "another_thread_may_release what_is_handed_over_is_not_mine"),
    (faulty.Reentrant, "to_wait_for_oneself_is_refused"),
    (faulty.Contextual, "who_inherits_the_context_waits"),
    (faulty.Possessive, "what_is_handed_over_is_not_mine"),
    (faulty.Clinging, "what_is_dropped_while_held_is_released"),
    (faulty.ChildReleases, "a_forked_child_owns_nothing"),
    # signals
    (faulty.Careless, "an_exception_at_any_moment_leaves_nothing_taken"),
    (faulty.CarelessWaiter, "an_exception_while_waiting_leaves_nothing_taken"),
    (faulty.Starting, "signals_change_no_wait"),
    (faulty.Restless, "signals_delay_no_take_over"),
    # death and sleep
    (faulty.Immortal, "the_death_of_its_holder_frees_it"),
    (faulty.KnownByPid, "the_death_of_its_holder_frees_it"),
    (faulty.Inherited, "its_death_frees_it_though_a_child_of_it_lives"),
    (faulty.Impatient, "a_sleeper_keeps_it"),
    (faulty.Lapsing, "who_works_for_longer_than_his_lease_keeps_it"),
    (faulty.Overwriting, "who_sleeps_for_longer_than_his_lease_has_lost_it"),
    # what it says
    (faulty.Grasping, "whether_it_is_locked_can_be_asked_from_everywhere"),
    (faulty.Mute, "its_repr_names_key_and_state"),
    (faulty.Boastful, "its_guarantees_are_data"),
    # greenlets and tasks
    (faulty.Unpatched, "greenlets_exclude_each_other"),
    (faulty.Blocking, "a_greenlet_waits_for_another_process"),
    (faulty.Grabbing, "a_thread_of_a_loop_waits_for_another_process"),
    (faulty.SlowToTry, "a_task_awaits_the_value_of_another_process"),
    (faulty.SlowToTryAmongThreads, "tasks_of_a_loop_create_a_value_once"),
]

PAIRS = [(kind, case) for kind, cases in CAUGHT for case in cases.split()]

FAILURES = (AssertionError, MutexError, concurrent.futures.TimeoutError, pytest.fail.Exception)


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[None]:
    yield
    shutil.rmtree(faulty.FOLDER, ignore_errors=True)


def suite_of(kind: type, patience: float = PATIENCE) -> Any:
    return type("Suite", (MutexConformance,), {"mutex": kind, "patience": patience, "takeover": 0.4})()


def run(kind: type, case: str, patience: float = PATIENCE) -> None:
    """One case of the suite for that kind of mutex, as pytest runs it."""
    name, _, argument = case.rstrip("]").partition("[")
    suite = suite_of(kind, patience)
    suite.setup_method(None)
    try:
        getattr(suite, f"test_{name}")(*_value(argument))
    finally:
        suite.teardown_method(None)


def _value(text: str) -> list[Any]:
    if not text:
        return []
    return [ast.literal_eval(text) if re.match(r"-?\d|True|False", text) else text]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "case"), PAIRS, ids=[f"{kind.__name__}-{case}" for kind, case in PAIRS])
def test_a_faulty_mutex_fails(kind: type, case: str) -> None:
    with pytest.raises(FAILURES):
        run(kind, case, patience=0.7)


@pytest.mark.parametrize("case", sorted({case for _, case in PAIRS}))
def test_a_sound_one_passes(case: str) -> None:
    """The control: what makes the faulty ones fail is their fault."""
    name = "test_" + case.partition("[")[0]
    run(next(kind for kind in (ThreadMutex, Flock, Lease) if getattr(suite_of(kind), name)), case)


def test_each_case_has_a_fault() -> None:
    cases = {name for name in dir(MutexConformance) if name.startswith("test_")}
    assert cases == {"test_" + case.partition("[")[0] for _, case in PAIRS}


def test_what_is_not_promised_is_no_case() -> None:
    class Null(MutexConformance):
        mutex = "null"

    class Shm(MutexConformance):
        mutex = "shm"

    assert Null.test_threads_exclude_each_other is None
    assert callable(Null.test_another_thread_may_release)
    assert Shm.test_who_works_for_longer_than_his_lease_keeps_it is None
    assert callable(Shm.test_a_sleeper_keeps_it)
    assert callable(MutexConformance.test_who_works_for_longer_than_his_lease_keeps_it)
