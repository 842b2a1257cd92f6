"""The suite of mutexes, to inherit from: threads, processes, greenlets and tasks.

Depends on mutex_processes for what takes several of them; on inprocess_cases, and on helpers.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import time
from typing import Any

import pytest

from mpcache.api import CacheMutex, Guarantees, Outcome
from mpcache.exception import DeadlockError, NotHeld
from mpcache.mutexes.base import Mutex
from mpcache.testing import inprocess_cases
from mpcache.testing.helpers import at_once, gen_some_key
from mpcache.testing.mutex_base import IN_VAIN, SOON, asks, needs_gevent
from mpcache.testing.mutex_processes import _AmongProcesses
from mpcache.testing.process_actors import Tally

KEYS: tuple[Any, ...] = (
    *("", " ", "a b", " a b", "a\nb", "a\r\nb", "a\0b", "a\0", "ä ß 漢字 🐍", "*?[]{}", "../a/b", "%s", "0" * 10_000),
    *(b"bytes", b"\0\xff\n", b"1" * 10_000),
)
"""Keys that are all different."""


class MutexConformance(_AmongProcesses):
    """Tests one kind of mutex against its ``guarantees``; cases of guarantees that it does not give are left out.

    ::

        class TestMine(MutexConformance):
            mutex = "mine"
            arguments = {"directory": "locks"}

    :cvar mutex: its name, or a factory that takes a key; the factory must be picklable by its name, since other
        processes use it, too.
    :cvar arguments: keyword arguments of the mutex.  Give a leased mutex a ``lease`` of about a second, or some
        tests take many seconds.
    :cvar patience: seconds after which an event that must happen counts as missing.
    :cvar takeover: seconds from the death of a holder until another actor can acquire it; None: as in the guarantees,
        or the lease and one second.
    :cvar tells_processes: whether contenders in other processes learn whether the value was stored.
    """

    # -- one at a time -------------------------------------------------------------------------------

    @asks(threads=True)
    def test_threads_exclude_each_other(self) -> None:
        def work(me: int) -> None:
            tally = Tally(self._tally())
            for _ in range(25):
                with self._make():
                    tally.pass_through(1 + me)

        at_once(4, work)
        assert self._seen() == (100, 0)

    @asks(threads=True)
    def test_two_objects_of_one_key(self) -> None:
        one, other = self._make(), self._make()
        assert [one.acquire(), other.acquire(False), other.owned()] == [True, False, False]
        one.release()
        assert [other.acquire(False), one.acquire(False)] == [True, False]
        other.release()

    def test_it_can_be_had_again(self) -> None:
        mutex = self._make()
        for _ in range(3):
            assert [mutex.acquire(), mutex.owned()] == [True, True]
            mutex.release()
            assert not mutex.owned()
            with mutex:
                assert mutex.owned()
            assert not mutex.owned()

    def test_other_keys_nest(self) -> None:
        one, other = self._make(), self._make(gen_some_key())
        with one:
            for _ in range(2):
                assert other.acquire(timeout=self.patience)
                other.release()

    def test_whatever_is_a_key(self) -> None:
        held = [self._make(key) for key in KEYS]
        assert [mutex.acquire(False) for mutex in held] == [True] * len(KEYS), "two of the keys are the same to it"
        if self._guarantees().threads:
            assert [self._make(key).acquire(False) for key in KEYS] == [False] * len(KEYS)
        for mutex in held:
            mutex.release()
        assert not any(self._make(key).locked() for key in KEYS)

    @asks(threads=True)
    def test_namespaces_keep_equal_keys_apart(self) -> None:
        arguments = {name: value for name, value in self.arguments.items() if name != "namespace"}
        factory: Any = self._recipe().factory
        here, there = (factory.for_region(name, **arguments) for name in ("here", "there"))
        with here(self.key):
            assert there(self.key).acquire(timeout=self.patience), "its namespace has no effect"
            assert not here(self.key).acquire(False)

    # -- how long it takes ---------------------------------------------------------------------------

    @asks(threads=True)
    def test_a_try_does_not_wait(self) -> None:
        held, other = self._held(), self._make()
        assert self._in_thread(self._quickest, 5, lambda: other.acquire(False)) < IN_VAIN
        assert self._in_thread(self._quickest, 5, lambda: other.acquire(timeout=0)) < IN_VAIN
        held.release()

    @asks(threads=True)
    @pytest.mark.parametrize("verb", ["acquire", "contend"])
    def test_a_timeout_is_a_deadline(self, verb: str) -> None:
        held, outcomes, took = self._held(), [], []
        for _ in range(3):
            began = time.monotonic()
            outcomes.append(self._in_thread(getattr(self._make(), verb), timeout=IN_VAIN))
            took.append(time.monotonic() - began)
        assert outcomes == [False if verb == "acquire" else Outcome.TIMEOUT] * 3
        assert min(took) >= IN_VAIN, "it gave up too early"
        assert min(took) < IN_VAIN + SOON, "it waited for longer than the timeout"
        assert held.owned()
        held.release()

    @asks(threads=True)
    def test_a_waiter_has_it_when_it_is_released(self) -> None:
        held, other = self._held(), self._make()
        waiting = self._begin(other.acquire, timeout=self.patience)
        self._still(waiting)
        held.release()
        assert waiting.result(self.patience)
        other.release()

    @pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan])
    def test_a_timeout_that_is_none(self, timeout: float) -> None:
        mutex = self._make()
        for verb in (mutex.acquire, mutex.contend):
            with pytest.raises(ValueError, match="timeout"):
                verb(timeout=timeout)
        assert not mutex.owned()
        assert self._is_free()

    # -- whose it is ---------------------------------------------------------------------------------

    def test_another_thread_may_release(self) -> None:
        mutex = self._make()
        assert mutex.acquire()
        self._in_thread(mutex.release)
        assert not mutex.owned()
        assert self._is_free()

    def test_a_stranger_may_not(self) -> None:
        held, stranger = self._held(), self._make()
        for _ in range(2):
            with pytest.raises(NotHeld):
                stranger.release()
        assert held.owned()
        assert not self._guarantees().threads or not stranger.acquire(False)
        held.release()

    def test_nor_may_anybody_twice(self) -> None:
        mutex = self._make()
        mutex.acquire()
        mutex.release()
        with pytest.raises(NotHeld) as refusal:
            mutex.release()
        assert refusal.value.key == self.key
        successor = self._held()
        with pytest.raises(NotHeld):
            mutex.release()
        assert successor.owned()
        assert not self._guarantees().threads or not mutex.acquire(False)
        successor.release()

    @asks(threads=True)
    def test_to_wait_for_oneself_is_refused(self) -> None:
        mine, again = self._make(), self._make()
        mine.acquire()
        for verb in (again.acquire, again.contend, mine.acquire):
            for timeout in (None, self.patience):
                with pytest.raises(DeadlockError, match=self.key) as refusal:
                    verb(timeout=timeout)
                assert refusal.value.key == self.key
        assert [again.acquire(False), mine.acquire(False), mine.owned()] == [False, False, True]
        mine.release()
        assert self._is_free()

    @asks(threads=True)
    def test_who_inherits_the_context_waits(self) -> None:
        assert self._process_actor().ask("play", inprocess_cases.contexts, self.key, self.patience) == []

    @asks(threads=True)
    def test_what_is_handed_over_is_not_mine(self) -> None:
        mutex = self._make()
        mutex.acquire()
        mutex.hand_over()
        assert not self._make().acquire(timeout=IN_VAIN)
        assert mutex.owned()
        self._in_thread(mutex.release)
        assert self._is_free()

    def test_what_is_dropped_while_held_is_released(self) -> None:
        mutex = self._make()
        mutex.acquire()
        with pytest.warns(ResourceWarning, match=self.key):
            del mutex
        assert self._is_free()

    # -- signals -------------------------------------------------------------------------------------

    @asks(threads=True)
    def test_an_exception_while_waiting_leaves_nothing_taken(self) -> None:
        assert self._process_actor().ask("play", inprocess_cases.interrupted_while_waiting, self.key, 10) == []

    def test_an_exception_at_any_moment_leaves_nothing_taken(self) -> None:
        wrong = self._process_actor().ask("play", inprocess_cases.interrupted_at_any_moment, self.key, 40)
        assert wrong == [], wrong

    @asks(threads=True)
    def test_signals_change_no_wait(self) -> None:
        told = (self.key, IN_VAIN, self.patience)
        *in_vain, (got, _) = self._process_actor().ask("play", inprocess_cases.waits_under_signals, *told)
        assert [outcome for outcome, _ in in_vain] == [False] * 3
        took = min(seconds for _, seconds in in_vain)
        assert IN_VAIN <= took < IN_VAIN + SOON
        assert got

    # -- what it says --------------------------------------------------------------------------------

    @asks(threads=True)
    def test_whether_it_is_locked_can_be_asked_from_everywhere(self) -> None:
        mine, everywhere = self._make(), [self._make().locked, lambda: self._in_thread(self._make().locked)]
        if self._guarantees().processes:
            actors = [self._process_actor("fork"), self._process_actor("spawn")]
            everywhere += [functools.partial(actor.ask, "locked", self.key) for actor in actors]
        for _ in range(2):
            assert not any(ask() for ask in [mine.locked, *everywhere])
            assert mine.acquire(False), "asking has acquired it"
            assert all(ask() for ask in [mine.locked, *everywhere])
            mine.release()

    @asks(threads=True)
    @pytest.mark.parametrize("stored", [True, False])
    def test_contenders_learn_what_became_of_the_value(self, stored: bool) -> None:
        def attempt(other: Any) -> Outcome:
            outcome: Outcome = other.contend(timeout=self.patience)
            if outcome is Outcome.ACQUIRED:  # it began so late that the holder had released
                other.release(stored)
            return outcome

        def contend(held: Any) -> list[Outcome]:
            waiting = [self._begin(attempt, self._make()) for _ in range(3)]
            self._still(waiting[0])
            held.release(stored)
            return [outcome.result(self.patience) for outcome in waiting]

        told = Outcome.RELEASED if stored else Outcome.UNSTORED
        outcomes = contend(self._held())
        assert set(outcomes) <= {told, Outcome.ACQUIRED}
        kind = self._recipe().factory
        own_way = getattr(kind, "_contend", None) not in (None, Mutex._contend)
        assert told in outcomes or not own_way, "the contenders went on one after another"
        assert self._is_free()

    def test_who_contends_for_what_is_free_has_it(self) -> None:
        mutex = self._make()
        assert mutex.contend() is Outcome.ACQUIRED
        assert mutex.owned()
        mutex.release()

    def test_its_repr_names_key_and_state(self) -> None:
        mutex, other = self._make(), self._make()
        assert [repr(self.key) in repr(mutex), "free" in repr(mutex)] == [True, True]
        with mutex:
            assert f"held by pid {os.getpid()}" in repr(mutex)
            assert ("held" in repr(other)) is self._guarantees().threads
        assert "free" in repr(mutex)

    def test_its_guarantees_are_data(self) -> None:
        guarantees = getattr(self._recipe().factory, "guarantees", None)
        assert isinstance(guarantees, Guarantees), (
            "it has no guarantees: the suite tests what they promise, and nothing else"
        )
        takeover = guarantees.takeover
        assert {type(value) for value in guarantees._replace(takeover=True)} == {bool}
        assert takeover is None or (takeover >= 0 and guarantees.survives_death)
        assert guarantees.processes or not guarantees.hosts
        assert guarantees.threads or not guarantees.processes
        assert guarantees.survives_death or not guarantees.leased
        assert isinstance(self._make(), CacheMutex)
        assert inspect.signature(self._make().acquire).parameters.keys() >= {"wait", "timeout"}

    # -- greenlets and tasks -------------------------------------------------------------------------

    @needs_gevent
    @asks(threads=True)
    def test_greenlets_exclude_each_other(self) -> None:
        actor = self._process_actor("gevent")
        told = (inprocess_cases.greenlets, self.key, self._tally(), 3, 8)
        self._undisturbed(lambda: (None, actor.ask("play", *told)))
        passages, overlaps = self._seen()
        assert [passages % 24, passages > 0, overlaps] == [0, True, 0]

    @asks(threads=True)
    def test_tasks_of_a_loop_create_a_value_once(self) -> None:
        actor = self._process_actor("spawn")
        created = self._undisturbed(lambda: actor.ask("play", inprocess_cases.tasks, gen_some_key(), 5))
        assert created == (1, {"value 1"})
