"""The suite of mutexes, cases with several processes: exclusion, forks, deaths, stops, and loops that go on running.

Depends on mutex_base; and on inprocess_cases, which run in other processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mpcache.api import Outcome
from mpcache.exception import NotHeld
from mpcache.testing import inprocess_cases
from mpcache.testing.mutex_base import IN_VAIN, SOON, STILL, WATCHED, _MutexFixture, asks, either_way, needs_gevent
from mpcache.testing.process_actors import ProcessActor


class _AmongProcesses(_MutexFixture):
    """Cases with other processes."""

    # -- one at a time -------------------------------------------------------------------------------

    @asks(processes=True)
    @either_way
    def test_processes_exclude_each_other(self, how: str) -> None:
        crowd = [self._process_actor(how) for _ in range(3)]
        for actor in crowd:
            actor.arrive()
        for actor in crowd:
            actor.begin("pass_through", self.key, self._tally(), 15)
        for actor in crowd:
            actor.answer()
        assert self._seen() == (45, 0)

    @asks(processes=True)
    @either_way
    def test_what_another_process_holds(self, how: str) -> None:
        mine, other = self._make(), self._process_actor(how)
        assert other.ask("acquire", self.key)
        assert [mine.acquire(False), mine.acquire(timeout=IN_VAIN), mine.locked()] == [False, False, True]
        other.ask("release", self.key)
        assert mine.acquire(timeout=self.patience)
        assert [other.ask("acquire", self.key, False), other.ask("locked", self.key)] == [False, True]
        mine.release()
        assert [other.ask("locked", self.key), other.ask("acquire", self.key)] == [False, True]

    @asks(processes=True)
    def test_a_waiter_in_another_process_has_it_when_it_is_released(self) -> None:
        mine, other = self._make(), self._process_actor()
        assert mine.acquire()
        other.begin("acquire", self.key)
        assert not other.answers(STILL)
        mine.release()
        assert other.answer()

    def test_a_forked_child_owns_nothing(self) -> None:
        mine = self._make()
        assert mine.acquire()
        child = self._process_actor("fork", {self.key: mine})
        assert not child.ask("owned", self.key)
        with pytest.raises(NotHeld):
            child.ask("release", self.key)
        assert mine.owned()
        if self._guarantees().processes:
            assert child.ask("locked", self.key)
            assert not self._process_actor("fork").ask("acquire", self.key, False), "the child has released it"
        child.kill()
        assert mine.owned()
        assert not self._guarantees().threads or not self._make().acquire(False), "the child's death has released it"
        mine.release()

    @asks(processes=True)
    def test_a_forked_child_gets_what_its_parent_releases(self) -> None:
        mine = self._make()
        assert mine.acquire()
        child = self._process_actor("fork", {self.key: mine})
        assert not child.ask("acquire", self.key, False)
        child.begin("acquire", self.key)
        assert not child.answers(STILL)
        mine.release()
        assert child.answer()
        assert [self._make().acquire(False), child.ask("owned", self.key)] == [False, True]
        child.ask("release", self.key)
        assert self._make().acquire(timeout=self.patience)

    @asks(processes=True, survives_death=True)
    def test_the_death_of_its_holder_frees_it(self) -> None:
        def die() -> None:
            holder, mine = self._process_actor(), self._make()
            assert holder.ask("acquire", self.key)
            waiting = self._begin(mine.acquire, timeout=self.patience)
            holder.die()
            assert waiting.result(2 * self.patience), "no process takes over from the dead holder"
            mine.release()

        leased = self._guarantees().leased
        assert self._quickest(1 if leased else 3, die) < self._bound() + SOON

    @asks(processes=True, survives_death=True)
    def test_its_death_frees_it_though_a_child_of_it_lives(self) -> None:
        holder, mine = self._process_actor(), self._make()
        assert holder.ask("acquire", self.key)
        child = holder.fork()
        self._actors.append(child)
        assert not child.ask("acquire", self.key, False)
        holder.kill()
        assert mine.acquire(timeout=self.patience)
        assert not child.ask("owned", self.key)
        assert not child.ask("acquire", self.key, False)
        mine.release()

    @asks(processes=True, leased=True)
    def test_who_sleeps_for_longer_than_his_lease_has_lost_it(self) -> None:
        sleeper, mine = self._process_actor(), self._make()
        assert sleeper.ask("acquire", self.key)
        sleeper.stop()
        assert mine.acquire(timeout=self._bound() + self.patience)
        sleeper.go_on()
        assert not sleeper.ask("owned", self.key)
        with pytest.raises(NotHeld):
            sleeper.ask("release", self.key)
        assert mine.owned()
        assert not sleeper.ask("acquire", self.key, False)
        mine.release()

    @asks(processes=True, leased=True)
    def test_who_works_for_longer_than_his_lease_keeps_it(self) -> None:
        holder = self._process_actor()
        assert holder.ask("acquire", self.key)
        assert not self._make().acquire(timeout=self._bound())
        assert holder.ask("owned", self.key)
        holder.ask("release", self.key)

    @asks(processes=True, leased=False)
    def test_a_sleeper_keeps_it(self) -> None:
        sleeper = self._process_actor()
        assert sleeper.ask("acquire", self.key)
        sleeper.stop()
        assert not self._make().acquire(timeout=max(STILL, 2 * (self._guarantees().takeover or 0)))
        assert self._make().locked()
        sleeper.go_on()
        assert sleeper.ask("owned", self.key)
        sleeper.ask("release", self.key)
        assert self._make().acquire(timeout=self.patience)

    @asks(processes=True, survives_death=True, leased=False)
    def test_signals_delay_no_take_over(self) -> None:
        holder, heir = self._process_actor(), self._process_actor()
        assert holder.ask("acquire", self.key)
        heir.begin("play", inprocess_cases.wait_under_signals, self.key, self.patience)
        assert not heir.answers(STILL)
        holder.kill()
        got, took = heir.answer()
        assert got
        assert took < STILL + self._bound() + 2 * SOON

    @asks(processes=True)
    @pytest.mark.parametrize("stored", [True, False])
    def test_contenders_in_other_processes_learn_it(self, stored: bool) -> None:
        held, other = self._held(), self._process_actor()
        assert other.ask("contend", self.key, IN_VAIN) is Outcome.TIMEOUT
        other.begin("contend", self.key, self.patience)
        assert not other.answers(STILL)
        held.release(stored)
        told = Outcome.RELEASED if stored else Outcome.UNSTORED
        might_say = {told} if self.tells_processes else {told, Outcome.RELEASED, Outcome.ACQUIRED}
        assert other.answer() in might_say

    def _waits_for_another_process(self, waiter: ProcessActor, case: Callable[..., Any]) -> tuple[bool, float]:
        mine = self._make()
        assert mine.acquire()
        waiter.begin("play", case, self.key, self.patience)
        assert not waiter.answers(WATCHED)
        mine.release()
        outcome: tuple[bool, float] = waiter.answer()
        return outcome

    @needs_gevent
    @asks(processes=True)
    def test_a_greenlet_waits_for_another_process(self) -> None:
        actor = self._process_actor("gevent").arrive()
        assert self._undisturbed(lambda: self._waits_for_another_process(actor, inprocess_cases.a_greenlet_waits))

    @asks(processes=True)
    def test_a_thread_of_a_loop_waits_for_another_process(self) -> None:
        actor = self._process_actor("spawn").arrive()
        assert self._undisturbed(
            lambda: self._waits_for_another_process(actor, inprocess_cases.a_thread_of_the_loop_waits)
        )

    @asks(processes=True)
    def test_a_task_awaits_the_value_of_another_process(self) -> None:
        creator, waiter = self._process_actor(), self._process_actor("spawn").arrive()

        def play() -> tuple[str, float]:
            creator.ask("create", self.key, "theirs")
            waiter.begin("play", inprocess_cases.a_task_awaits_a_value, self.key)
            assert not waiter.answers(WATCHED), "it did not wait"
            creator.ask("finish")
            outcome: tuple[str, float] = waiter.answer()
            return outcome

        assert self._undisturbed(play) == "mine", "a region of memory has no value but its own"
