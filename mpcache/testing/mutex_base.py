"""The base of the mutex suite: which cases apply to which guarantees, other processes, and measured times.

Depends on process_actors, helpers and pytest.
"""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any, ClassVar, TypeVar

import pytest

from mpcache.api import Guarantees
from mpcache.mutexes import resolve
from mpcache.testing.helpers import PATIENCE, gen_some_key
from mpcache.testing.process_actors import ProcessActor, Recipe, Tally

_F = TypeVar("_F", bound=Callable[..., Any])

IN_VAIN = 0.05
"""Seconds of a wait that must time out."""

SOON = 0.5
"""Seconds within which the fastest of several attempts without a wait ends, even on a busy machine."""

STILL = 0.1
"""Seconds for which a waiter is watched that must go on waiting."""

WATCHED = 0.25
"""Seconds for which a loop is watched during a wait."""

LATENESS = 0.050
"""Seconds by which a loop may be late."""


def asks(**promises: bool) -> Callable[[_F], _F]:
    """Apply a case only to mutexes with these guarantees."""

    def note(case: _F) -> _F:
        case.asks = promises  # type: ignore[attr-defined]
        return case

    return note


either_way = pytest.mark.parametrize("how", ["fork", "spawn"])

needs_gevent = pytest.mark.skipif(not importlib.util.find_spec("gevent"), reason="gevent is not installed")


class _MutexFixture:
    """A kind of mutex, and threads and processes that use it.  :class:`.MutexConformance` explains the attributes."""

    mutex: ClassVar[str | Callable[..., Any]]
    arguments: ClassVar[Mapping[str, Any]] = {}
    patience: ClassVar[float] = PATIENCE
    takeover: ClassVar[float | None] = None
    tells_processes: ClassVar[bool] = False

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        if "mutex" not in cls.__dict__:
            return
        guarantees = getattr(resolve(cls.mutex), "guarantees", None)
        for name in dir(cls):
            asked: dict[str, bool] = getattr(getattr(cls, name), "asks", {})
            if any(getattr(guarantees, what, None) is not promised for what, promised in asked.items()):
                setattr(cls, name, None)  # pytest does not collect it

    def setup_method(self, method: Any) -> None:
        self._actors: list[ProcessActor] = []
        self._directory = tempfile.TemporaryDirectory(prefix="mpcache-")
        self.key = gen_some_key()

    def teardown_method(self, method: Any) -> None:
        for actor in self._actors:
            actor.kill()
        self._directory.cleanup()

    # -- what the cases are made of ------------------------------------------------------------------

    def _recipe(self) -> Recipe:
        return Recipe(resolve(self.mutex), self.arguments)

    def _make(self, key: Any = None) -> Any:
        return self._recipe()(self.key if key is None else key)

    def _guarantees(self) -> Guarantees:
        guarantees: Guarantees = self._recipe().factory.guarantees  # type: ignore[attr-defined]
        return guarantees

    def _process_actor(self, how: str = "fork", inherited: Mapping[Any, Any] | None = None) -> ProcessActor:
        self._actors.append(ProcessActor(self._recipe(), how, inherited, self.patience))
        return self._actors[-1]

    def _begin(self, act: Callable[..., Any], *args: Any, **kw: Any) -> Future[Any]:
        """Run ``act`` in a new thread: a thread that has held the key before could be taken for its present holder."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(act(*args, **kw))
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(
            target=run, daemon=True
        ).start()  # a thread that never ends does not keep the interpreter alive
        return done

    def _in_thread(self, act: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        return self._begin(act, *args, **kw).result(self.patience)

    def _held(self) -> Any:
        """Return a mutex that another thread has acquired."""
        mutex = self._make()
        assert self._in_thread(mutex.acquire, timeout=self.patience)
        return mutex

    def _is_free(self) -> bool:
        """Return whether the mutex can be acquired."""
        mutex = self._make()
        got: bool = mutex.acquire(timeout=0)
        if got:
            mutex.release()
        return got

    def _tally(self) -> str:
        return os.path.join(self._directory.name, "tally")

    def _bound(self) -> float:
        lease = self.arguments.get("lease", 10.0) + 1.0 if self._guarantees().leased else self._guarantees().takeover
        bound = lease if self.takeover is None else self.takeover
        assert bound is not None, "survives_death is promised without a takeover: declare the time"
        return float(bound)

    def _seen(self) -> tuple[int, int]:
        tally = Tally(self._tally())
        return tally.passages, tally.overlaps

    def _quickest(self, attempts: int, act: Callable[[], Any]) -> float:
        """Return the seconds of the fastest attempt, since a busy machine does not delay every attempt."""

        def once(_: int) -> float:
            began = time.monotonic()
            act()
            return time.monotonic() - began

        return min(map(once, range(attempts)))

    def _still(self, waiting: Future[Any]) -> None:
        """Assert that a wait goes on."""
        assert not wait([waiting], STILL).done, waiting.result()

    def _undisturbed(self, play: Callable[[], tuple[Any, float]]) -> Any:
        """Return the result of ``play`` if the loop runs in one of three attempts: blocking code would block all."""
        latenesses: list[float] = []
        while len(latenesses) < 3 or (math.inf in latenesses and len(latenesses) < 9):
            came_to, latest = play()
            latenesses.append(latest)
            if latest < LATENESS:
                return came_to
        raise AssertionError(f"the loop was late in each attempt, by {latenesses} seconds")
