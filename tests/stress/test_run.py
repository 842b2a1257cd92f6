"""Whole runs: what they find, what they report, and what they leave, however they end.

Depends on run and environment; scenarios have tests of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpcache.shm import segment
from mpcache.stress import environment, run_folder
from mpcache.stress.errors import CannotRun
from mpcache.stress.history import WHOLE_MACHINE, now
from mpcache.stress.progress import Progress
from mpcache.stress.round_runner import RoundRunner
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED, Run
from mpcache.stress.scoreboard import Scoreboard
from mpcache.stress.settings import Settings
from mpcache.stress.signal_injector import Worker
from mpcache.testing import servers
from tests.processes.support import PATIENCE, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs of these tests have a directory of their own; whatever is in it afterwards was left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    assert list(run_folder.base().iterdir()) == []
    assert [name for name in segment.names() if name.startswith(f"stress-{os.getpid()}-")] == []


def played(scenario: str = "exclusion", seconds: float = 1.0, **settings: Any) -> dict[str, Any]:
    return Run(Settings(scenario, seconds=seconds, **settings)).run()


def test_a_sound_mutex_holds() -> None:
    report = played(kills=20.0, seed="x")
    assert (report["verdict"], report["status"], report["found"]) == ("held", HELD, 0)
    assert report["operations"] > 50
    assert report["kills"] > 3
    assert report["kills"] < report["lives"] <= report["kills"] + 6
    assert report["latencies"]["acquire"]["count"] > 50
    assert sum(operations for _, operations, *_ in report["pulse"]) == report["operations"]
    assert report["settings"]["seed"] == "x"


def test_none_at_all_is_violated() -> None:
    report = played(mutex="null")
    assert (report["verdict"], report["status"]) == ("violated", VIOLATED)
    assert {"two holders", "intruder"} <= {violation["check"] for violation in report["violations"]}
    assert report["timeline"]["violation"] is not None
    assert report["timeline"]["lanes"]


def test_a_mutex_of_threads_is_violated_by_processes_and_held_by_threads() -> None:
    assert played(mutex="thread")["status"] == VIOLATED
    assert played(mutex="thread", workers=1, threads=4)["status"] == HELD


def test_rounds_go_on_with_the_same_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcache.stress.run.ROUND", 0.4)
    report = played("whole_values", seconds=1.3, workers=2)
    assert (report["status"], report["rounds"]) == (HELD, 4)


class Nervous:
    """A mutex that fails."""

    def __init__(self, key: str) -> None:
        pass

    def acquire(self) -> bool:
        raise RuntimeError("not today")


class Sleepy:
    """A mutex that never comes."""

    def __init__(self, key: str) -> None:
        pass

    def acquire(self) -> bool:
        time.sleep(PATIENCE * 10)
        return False


@pytest.fixture
def entry_points(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's mutexes."""
    folder = tmp_path_factory.mktemp("other") / "other-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    lines = [f"{name.lower()} = {__name__}:{name}" for name in ("Nervous", "Sleepy")]
    (folder / "entry_points.txt").write_text("[mpcache.mutexes]\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder.parent), str(ROOT)])


@pytest.mark.usefixtures("entry_points")
def test_an_error_is_a_violation_and_is_shown() -> None:
    report = played(mutex="nervous")
    assert report["status"] == VIOLATED
    assert report["violations"][0]["check"] == "error"
    assert "not today" in report["violations"][0]["text"]


@pytest.mark.usefixtures("entry_points")
def test_who_never_gets_it_hangs() -> None:
    began = time.monotonic()
    report = played(mutex="sleepy", seconds=PATIENCE)
    assert {violation["check"] for violation in report["violations"]} == {"hang"}
    assert time.monotonic() - began < PATIENCE * 1.5


# -- what cannot be played ------------------------------------------------------------------------------------------


def test_unknown_names() -> None:
    with pytest.raises(CannotRun, match=r"no scenario 'exlusion'; there are exclusion,"):
        Run(Settings("exlusion"))
    with pytest.raises(CannotRun, match="no mutex is named 'spoon'"):
        played(mutex="spoon")
    with pytest.raises(CannotRun, match="the name 'spoon' is not registered"):
        played("whole_values", backend="spoon")
    with pytest.raises(CannotRun, match="no known bug 'spoon' to be seeded; there are head-first,"):
        played(fault="spoon")


def test_arguments_that_are_wrong() -> None:
    with pytest.raises(CannotRun, match=r"ended with 1: TypeError: .*unexpected keyword argument 'spoon'"):
        played(mutex_arguments={"spoon": 1})
    with pytest.raises(CannotRun, match="a lease is a number of seconds, not 'long'"):
        played(mutex="redis", mutex_arguments={"lease": "long"})


def test_a_server_that_dies_proves_nothing() -> None:
    others = {*servers._ours}
    with pytest.raises(CannotRun, match="redis-server, which was started for this run, ended with -9"):
        with environment.set_up(Settings("exclusion", mutex="redis"), "4MB"):
            started = {*servers._ours} - others
            for server in started:
                os.kill(server.pid, signal.SIGKILL)
            wait_for(lambda: all(server.ended() is not None for server in started))


def test_a_directory_that_another_could_choose(apart: Path) -> None:
    (apart / "precious").mkdir()
    place = apart / f"mpcache-stress-{os.getuid()}"
    place.symlink_to(apart, target_is_directory=True)
    with pytest.raises(CannotRun, match="is not a directory of uid"):
        played()
    place.unlink()
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(CannotRun, match="that no other user can write to"):
        played()
    place.chmod(0o700)
    (place / "note").write_text("whatever")
    assert run_folder.sweep() == []
    (place / "note").unlink()


def test_a_play_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcache.stress.run._SLACK", -1000.0)
    with pytest.raises(CannotRun, match="did not come to its end"):
        played()


def test_a_board_has_its_room(tmp_path: Path) -> None:
    Scoreboard(tmp_path / "scoreboard", 6, 1)
    told = (tmp_path / "scoreboard").stat()
    assert told.st_blocks * 512 >= told.st_size  # else it would be a SIGBUS where there is none


def test_while_nothing_runs_nobody_hangs() -> None:
    play: Any = RoundRunner.__new__(RoundRunner)
    play.signals, play.workers, play._beat = [], {7: Worker(0, 1, 7, [])}, now()
    assert (play._paused(), play.signals) == (0, [])
    play._beat = before = now() - 20 * 10**9
    assert 20e9 <= play._paused() < 20e9 + PATIENCE * 1e9
    assert play.signals == [("pause", WHOLE_MACHINE, before, play._beat)]
    assert play.workers[7].exempt == play._beat


def test_a_server_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcache.testing.servers.Redis.program", "no-such-server")
    with pytest.raises(CannotRun, match="no-such-server is not installed"):
        played(mutex="redis")


# -- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_verdict_on_what_ran(number: signal.Signals) -> None:
    signals = iter([number])

    def watcher(progress: Progress) -> None:
        if progress.operations > 100:
            for one in signals:
                signal.raise_signal(one)

    began = time.monotonic()
    report = Run(Settings("exclusion", seconds=600.0), watcher).run()
    assert (report["verdict"], report["interrupted"]) == ("held", True)
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("moment", ["_round", "_start", "_check", "report"])
def test_ctrl_c_may_come_at_any_moment(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two lines, too: the round that has been played gets its verdict."""
    goes_on = getattr(Run, moment)
    moments = iter([signal.SIGINT])

    def interrupted(self: Run, *arguments: Any) -> Any:
        for number in moments:
            signal.raise_signal(number)
        return goes_on(self, *arguments)

    monkeypatch.setattr(Run, moment, interrupted)
    monkeypatch.setattr("mpcache.stress.run.ROUND", 0.3)
    report = played(seconds=0.6 if moment == "report" else 600.0)
    assert report["verdict"] == ("held" if report["operations"] else "could not run")
    assert report["rounds"] == (2 if moment == "report" else 1)
    assert report["interrupted"] == (moment != "report")  # by then it was over


def test_who_says_it_twice_gets_no_verdict_on_the_round() -> None:
    def watcher(progress: Progress) -> None:
        if progress.operations:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    report = Run(Settings("exclusion", mutex="redis", seconds=600.0), watcher).run()
    assert (report["verdict"], report["interrupted"]) == ("could not run", True)
    assert (report["rounds"], report["operations"], report["seconds"]) == (0, 0, 0.0)


def test_nothing_ran_is_no_verdict() -> None:
    signals = iter([signal.SIGINT])

    def watcher(progress: Progress) -> None:
        for number in signals:
            signal.raise_signal(number)

    report = Run(Settings("exclusion", seconds=600.0, workers=1, mutex="redis"), watcher).run()
    assert report["status"] in (HELD, COULD_NOT_RUN)  # by whether an operation came to its end meanwhile
    assert (report["status"] == HELD) == (report["operations"] > 0)


def test_before_the_first_round_it_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*whatever: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("mpcache.stress.builds.engines", interrupted)
    report = played(fault="head-first")
    assert (report["verdict"], report["interrupted"]) == ("could not run", True)


RUN = "from mpcache.stress.run import Settings, Run; Run(Settings('exclusion', seconds=600)).run()"


def test_its_children_do_not_outlive_it_and_another_run_sweeps(apart: Path) -> None:
    command = [sys.executable, "-c", RUN]
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: len(children(run.pid)) > 6)
        pids = children(run.pid)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    wait_for(lambda: not any(lives(pid) for pid in pids))
    (left,) = [folder.name for folder in run_folder.base().iterdir()]
    assert [name for name in segment.names() if left in name] != []
    assert run_folder.sweep() == [left]
    assert [name for name in segment.names() if left in name] == []
    assert run_folder.sweep() == []


def test_a_run_that_lives_is_not_swept() -> None:
    with environment.set_up(Settings("exclusion"), "4MB") as mine:
        assert run_folder.sweep() == []
        assert Path(mine.folder).exists()


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> set[int]:
    """Of a process, and theirs."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child} | children(child)
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
