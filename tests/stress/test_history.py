"""Logs and scoreboards: what was written survives the death of its writer.

Depends on actor_log, history and scoreboard.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mpcache.stress import actor_log
from mpcache.stress.actor_log import MOST, PAGE, PAGES, ActorLog
from mpcache.stress.history import NEVER, Entry, Kind, Outcome, now
from mpcache.stress.scoreboard import DONE, OCCUPANT, Scoreboard

WHO = 7 << 8 | 2


def entries(folder: Path, died: int | None = None) -> list[Entry]:
    return list(actor_log.read(folder / f"log-{WHO}", died))


def test_an_entry_in_all_its_parts(tmp_path: Path) -> None:
    mine, before = ActorLog(tmp_path, WHO), now()
    at = mine.begin(Kind.HOLD, 1 << 31)
    mine.got(at, value=(1 << 64) - 1, extra=3, times=4)
    mine.end(at, Outcome.INTRUDED)
    mine.amend(at, Outcome.LOST)
    (entry,) = entries(tmp_path)
    assert (entry.kind, entry.outcome, entry.key, entry.actor) == (Kind.HOLD, Outcome.LOST, 1 << 31, WHO)
    assert (entry.value, entry.extra, entry.times) == ((1 << 64) - 1, 3, 4)
    assert before <= entry.began <= entry.got <= entry.ended == entry.until <= now()


def test_what_has_not_ended_lasts_until_its_writer_dies(tmp_path: Path) -> None:
    mine = ActorLog(tmp_path, WHO)
    mine.begin(Kind.READ, 0)
    mine.end(mine.begin(Kind.READ, 1))
    first, second = entries(tmp_path, died=5)
    assert (first.ended, first.until) == (0, 5)
    assert second.until == second.ended
    assert entries(tmp_path)[0].until == NEVER


def test_it_survives_sigkill(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        mine = ActorLog(tmp_path, WHO)
        for number in range(100):
            mine.end(mine.begin(Kind.WRITE, number), value=number)
        mine.begin(Kind.WRITE, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    written = entries(tmp_path)
    assert [entry.key for entry in written] == [*range(101)]
    assert [bool(entry.ended) for entry in written] == [True] * 100 + [False]


def test_it_says_when_it_is_full_before_it_is(tmp_path: Path) -> None:
    mine, written = ActorLog(tmp_path, WHO), 0
    while mine.ready():
        for _ in range(MOST):
            mine.begin(Kind.READ, written)
            written += 1
    assert (PAGE - MOST) * PAGES <= written <= PAGE * PAGES
    assert [entry.key for entry in entries(tmp_path)] == [*range(written)]


def test_nobody_writes_another_ones(tmp_path: Path) -> None:
    ActorLog(tmp_path, WHO)
    with pytest.raises(FileExistsError):
        ActorLog(tmp_path, WHO)


def test_a_board_is_seen_by_all(tmp_path: Path) -> None:
    mine = Scoreboard(tmp_path / "scoreboard", workers=3, threads=2)
    child = os.fork()
    if child == 0:
        theirs = Scoreboard(tmp_path / "scoreboard", workers=3, threads=2)
        theirs.row(2, 1)[DONE] = 11
        theirs.key(5)[OCCUPANT] = 12
        os._exit(0)
    os.waitpid(child, 0)
    assert mine.row(2, 1)[DONE] == 11
    assert mine.key(5)[OCCUPANT] == 12
    assert [row[DONE] for row in mine.all_rows()] == [0] * 5 + [11]
    assert mine.head[0] == 0
