"""A worker that hangs, and one that a busy machine keeps waiting: only the first is found."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpcache.stress import idle_time
from mpcache.stress.history import now
from mpcache.stress.idle_time import IdleTime
from mpcache.stress.round_plan import LIMIT
from mpcache.stress.round_runner import RoundRunner
from mpcache.stress.scoreboard import SINCE, Scoreboard
from mpcache.stress.signal_injector import Worker
from tests.processes.support import Child, state_of, wait_until

MOMENT = 100_000_000  # ns


def spin() -> None:
    while True:
        pass


@pytest.fixture
def busy() -> Iterator[Child]:
    child = Child(spin)
    yield child
    child.end()


@pytest.fixture
def asleep() -> Iterator[Child]:
    child = Child(signal.pause)
    wait_until(lambda: state_of(child.pid) == "S", "it sleeps")
    yield child
    child.end()


def worker(child: Child, folder: Path) -> Worker:
    """A worker whose operation begins now."""
    row = Scoreboard(folder / "scoreboard", 1, 1).row(0, 0)
    row[SINCE] = now()
    return Worker(0, 1, child.pid, [row])


def test_a_process_that_waits_for_a_core_is_not_idle(busy: Child, asleep: Child) -> None:
    idle, began = (IdleTime(busy.pid), IdleTime(asleep.pid)), now()
    wait_until(lambda: idle[1].ns() > 3 * MOMENT, "the time passes")
    assert idle[0].ns() < (now() - began) / 2
    assert idle_time._busy(busy.pid) > 0


def test_without_the_kernel_all_time_is_idle(busy: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_time, "_busy_thread", lambda schedstat: 0)
    idle = IdleTime(busy.pid)
    wait_until(lambda: idle.ns() > MOMENT, "the time passes")


def test_an_idle_worker_hangs_after_the_patience(asleep: Child, tmp_path: Path) -> None:
    sleeper, began = worker(asleep, tmp_path), now()
    assert not sleeper.hangs(MOMENT)
    wait_until(lambda: sleeper.hangs(MOMENT), "it is found")
    assert now() - began >= MOMENT


def test_a_busy_worker_hangs_when_the_limit_is_reached(busy: Child, tmp_path: Path) -> None:
    spinner, patience = worker(busy, tmp_path), 2 * MOMENT
    wait_until(lambda: spinner.hangs(patience), "it is found")
    assert spinner.longest() > 2 * patience  # idle time alone would have found it after once the patience
    wait_until(lambda: spinner.longest() > LIMIT * patience, "the limit")
    assert spinner.hangs(patience)


def test_a_new_operation_begins_with_new_patience(asleep: Child, tmp_path: Path) -> None:
    sleeper = worker(asleep, tmp_path)
    wait_until(lambda: sleeper.hangs(MOMENT), "it is found")
    sleeper.rows[0][SINCE] = now()
    assert not sleeper.hangs(10 * MOMENT)
    assert sleeper.idle is None


@pytest.mark.parametrize("child", ["asleep", "busy"])
def test_after_the_round_the_same_rule(child: str, tmp_path: Path, request: Any) -> None:
    """A sleeper is given up after once the patience, one that is always busy after LIMIT times that."""
    play: Any = RoundRunner.__new__(RoundRunner)
    play.plan, play.signals, play._beat, play.patience = type("P", (), {"folder": tmp_path}), [], now(), MOMENT
    play.workers = {(pid := request.getfixturevalue(child).pid): Worker(0, 1, pid, [])}
    began = now()
    assert not play._all_end()
    took = (now() - began) / MOMENT
    assert took < LIMIT - 1 if child == "asleep" else took > 2
