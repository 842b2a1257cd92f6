"""An actor: one thread of a worker, with what scenarios do through it and what it records.

Depends on round_plan, actor_log, scoreboard and checked_values.  The process around it is worker's part.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpcache.exception import DeadlockError, NotHeld
from mpcache.stress.actor_log import ActorLog
from mpcache.stress.checked_values import TornValue, number_of
from mpcache.stress.history import Kind, Outcome
from mpcache.stress.round_plan import RoundPlan, add_finding
from mpcache.stress.scoreboard import FINDINGS, HOLDING, OCCUPANT, TIMES, Scoreboard, Words


class Refused(Exception):
    """A mutex was not acquired, as its contract allows: not in time, or because of a deadlock."""


class ProcessResources:
    """What the actors of one process share.

    :ivar region: None where the scenario uses the mutex alone.
    :ivar mutex: makes a mutex of a key.
    """

    def __init__(self, plan: RoundPlan, store: bool) -> None:
        self.region: Any = plan.environment.region() if store else None
        self.mutex = plan.environment.mutexes()
        if plan.environment.original and self.region is not None and not plan.settings.mutex:
            self.mutex = self.region._mutex  # the mutex of dogpile.cache's region, which has no name in mpcache


class Actor:
    """One thread of a worker.

    :ivar number: life << 8 | thread; unique in a round.
    :ivar random: a generator that depends on the seed, the round and the number alone.
    """

    def __init__(
        self, plan: RoundPlan, scoreboard: Scoreboard, place: tuple[int, int], life: int, resources: ProcessResources
    ) -> None:
        worker, thread = place
        self.plan, self.settings, self.scoreboard = plan, plan.settings, scoreboard
        self.number = life << 8 | thread
        self.row: Words = scoreboard.row(worker, thread)
        self.log = ActorLog(plan.folder, self.number)
        self.random = random.Random(f"{plan.settings.seed}/{plan.round}/{life}/{thread}")
        self.region, self._mutex = resources.region, resources.mutex
        self._values = 0

    # names and numbers

    def key_name(self, key: int, generation: int = 0) -> str:
        """Return the name of a key, which no other round uses."""
        return f"{self.plan.round}.{key}.{generation}"

    def mutex(self, key: int) -> Any:
        """Return a new mutex object of a key."""
        return self._mutex(self.key_name(key))

    def extra_mutex(self, name: str) -> Any:
        """Return a mutex of a key that is not on the scoreboard, and that only users of this name contend for."""
        return self._mutex(f"{self.plan.round}.{name}")

    def new_value(self) -> int:
        """Return the number of a new value, unique in the round."""
        self._values += 1
        return self.number << 24 | self._values

    def work(self, most: float) -> None:
        """Take a random time, up to ``most`` seconds: sleep, compute, or do next to nothing."""
        how, long = self.random.random(), self.random.random() * most
        if how < 0.4:
            time.sleep(long)
        elif how < 0.7:
            until = time.perf_counter() + long
            while time.perf_counter() < until:
                pass

    def report(self, check: str, text: str, key: int | None = None) -> None:
        """Report a violation that no log would show; it ends the round."""
        add_finding(self.plan.folder, check, f"{text} (pid {os.getpid()})", key)
        self.scoreboard.head[FINDINGS] += 1

    # operations that are recorded

    @contextmanager
    def hold(self, key: int, within: float | None = None) -> Iterator[Any]:
        """Hold the mutex of a key, and record it as the checker's exclusion check describes.

        :param within: seconds; None: wait without limit.
        :raises Refused: the mutex was not acquired.
        """
        log, row, word = self.log, self.row, self.scoreboard.key(key)
        mutex = self.mutex(key)
        at = log.begin(Kind.HOLD, key)
        try:
            if not acquire(mutex, within):
                raise Refused(f"key {key} was not had within {within} s")
        except (Refused, DeadlockError) as refusal:
            log.end(at, Outcome.REFUSED)
            raise Refused(str(refusal)) from refusal
        found, word[OCCUPANT] = word[OCCUPANT], self.number
        times, outer = word[TIMES], row[HOLDING]
        log.got(at, getattr(mutex, "fence", None) or 0, found, times)
        row[HOLDING] = key + 1
        try:
            yield mutex
        finally:
            outcome = Outcome.DONE
            if word[OCCUPANT] == self.number:
                word[TIMES] = times + 1
                word[OCCUPANT] = 0
            else:
                outcome = Outcome.INTRUDED
            row[HOLDING] = outer
            log.end(at, Outcome.LEAVING)
            try:
                mutex.release()
            except NotHeld:
                outcome = Outcome.LOST
            log.amend(at, outcome)

    def read(self, kind: Kind, key: int, name: str, ask: Callable[[], Any]) -> int:
        """Call ``ask`` and record its result for a key; return the number of the value, 0 if there is none."""
        at = self.log.begin(kind, key)
        return self.record_result(at, name, key, ask())

    def record_result(self, at: int, name: str, key: int, value: Any) -> int:
        """End the entry ``at`` with the value that its operation returned; return as :meth:`read` does."""
        if not isinstance(value, bytes):  # NO_VALUE of mpcache or of dogpile.cache
            self.log.end(at)
            return 0
        try:
            number = number_of(name, value)
        except TornValue as torn:
            self.log.end(at, Outcome.REFUSED)
            self.report("torn value", str(torn), key)
            return 0
        self.log.end(at, Outcome.DONE, number)
        return number


def acquire(mutex: Any, within: float | None) -> bool:
    """Acquire a mutex of any kind, within so many seconds, or without limit; return whether it was acquired."""
    if within is None:
        return mutex.acquire() is not False  # the acquire() of some mutexes returns None
    if hasattr(mutex, "contend"):
        return bool(mutex.acquire(timeout=within))
    deadline = time.monotonic() + within
    while not mutex.acquire(False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001)
    return True
