"""The command line: what it takes, what it prints, and its exit status, which tells the truth.

Depends on commands: called in this process if no run is played, and started as a program otherwise.
"""

from __future__ import annotations

import json
import operator
import os
import pty
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mpcache._console import Console
from mpcache.stress import faults, scenarios
from mpcache.stress.commands import main, settings_for
from mpcache.stress.console import StressConsole
from mpcache.stress.faults import fault_check
from mpcache.stress.interrupts import signals_as_ctrl_c
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED
from mpcache.stress.settings import Settings
from tests.processes.support import PATIENCE, ROOT

WORKING = ["--seconds", "0.8", "--plain"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written where one is."""
    monkeypatch.chdir(tmp_path)


def program(*words: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stress", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def test_list_names_every_scenario_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == HELD
    said = capsys.readouterr().out
    for name in scenarios.names():
        assert f"{name} " in said
        assert scenarios.load(name).question().endswith("?")
        assert scenarios.load(name).question() in said


def test_held(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "exclusion", *WORKING]) == HELD
    said = capsys.readouterr().out
    assert "✓ held" in said
    assert "again:  mpcache stress run exclusion --backend shm --workers 6" in said
    assert list(tmp_path.iterdir()) == []


def test_violated_and_played_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "exclusion", "--mutex", "null", *WORKING]) == VIOLATED
    said = capsys.readouterr().out
    assert "✗ violated" in said
    assert "two holders: key" in said
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json"}
    assert f"again:  mpcache stress replay {folder.name}" in said
    assert main(["replay", str(folder), "--times", "2", "--plain"]) == VIOLATED
    assert "2 of 2 violated" in capsys.readouterr().out


def test_a_report_of_what_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "there"
    assert main(["run", "exclusion", "--mutex", "shm", "--mutex", "file", "--report", str(folder), *WORKING]) == HELD
    assert (folder / "report.html").exists()
    assert main(["replay", str(folder), "--plain"]) == HELD
    assert "0 of 2 violated" in capsys.readouterr().out


def test_what_cannot_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "exlusion"]) == COULD_NOT_RUN
    assert "there is no scenario 'exlusion'; there are exclusion," in capsys.readouterr().err
    assert main(["run", "exclusion", "--mutex", "spoon"]) == COULD_NOT_RUN
    assert "no mutex is named 'spoon'" in capsys.readouterr().err
    assert main(["run", "exclusion", "--workers", "0"]) == COULD_NOT_RUN
    assert "--workers" in capsys.readouterr().err
    assert main(["run", "exclusion", "--mutex-arguments", "spoon"]) == COULD_NOT_RUN
    assert "this is not JSON" in capsys.readouterr().err
    assert main(["replay", "nowhere"]) == COULD_NOT_RUN
    assert "nowhere" in capsys.readouterr().err


def test_what_was_played_counts_though_the_rest_could_not_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcache.testing.servers.Redis.program", "no-such-server")
    words = ["run", "exclusion", "--mutex", "redis", *WORKING]
    assert main([*words, "--mutex", "null"]) == VIOLATED
    said = capsys.readouterr().out
    assert "could not run  exclusion on redis: no-such-server is not installed" in said
    assert "again:  mpcache stress replay" in said
    assert len(list(tmp_path.glob("*/report.html"))) == 1
    assert main([*words, "--mutex", "file"]) == COULD_NOT_RUN


def test_a_report_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "soak", "--report", str(tmp_path / "file" / "there"), "--seconds", "600"]) == COULD_NOT_RUN
    assert "there" in capsys.readouterr().err

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpcache.stress.report.write", full)
    assert main(["run", "exclusion", "--mutex", "null", *WORKING]) == VIOLATED
    assert "no report: [Errno 28] No space left on device" in capsys.readouterr().out


def test_an_error_of_the_tool_is_no_violation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpcache.stress.scenarios.load", lambda name: 1 / 0)
    assert main(["run", "exclusion"]) == COULD_NOT_RUN
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--seconds", "nan"), ("--seconds", "inf"), ("--kills", "nan")])
def test_what_is_no_number(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "exclusion", option, value]) == COULD_NOT_RUN
    assert "is not a finite number" in capsys.readouterr().err


def test_nobody_reads_what_it_says() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "stress", "list"]
    with os.fdopen(write) as closed:
        run = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=closed, timeout=PATIENCE)
    assert run.returncode == COULD_NOT_RUN


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_ctrl_c():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_ends_a_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    folder = tmp_path / "there"
    assert main(["run", "exclusion", "--report", str(folder), *WORKING]) == HELD
    (report,) = json.loads((folder / "report.json").read_text())
    interrupted = {**report, "interrupted": True}
    monkeypatch.setattr("mpcache.stress.commands._play", lambda settings, console, reports: reports.append(interrupted))
    assert main(["replay", str(folder), "--times", "9"]) == HELD
    assert "0 of 1 violated" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["console.StressConsole.verdict", "report.write"])
def test_what_was_found_is_told_if_a_signal_comes_meanwhile(
    moment: str, number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    goes_on = operator.attrgetter(moment.partition(".")[2])(import_module(f"mpcache.stress.{moment.partition('.')[0]}"))

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(number)
        return goes_on(*arguments)

    monkeypatch.setattr(f"mpcache.stress.{moment}", interrupted)
    assert main(["run", "exclusion", "--mutex", "null", *WORKING]) == VIOLATED
    said = capsys.readouterr()
    assert ("again:  mpcache stress replay" in said.out, said.err) == (True, "")
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json"}


def test_locks_of_others_and_stores_of_one_process_go_by_their_names() -> None:
    given: dict[str, Any] = {"backend": "shm", "workers": None, "kills": None, "stops": None, "threads": None}
    assert settings_for("exclusion", "pidfile", given).workers == scenarios.load("exclusion").workers
    alone = settings_for("one_creator", "", given | {"backend": "memory"})
    assert (alone.workers, alone.kills) == (1, 0.0)


def test_settings_are_what_was_said_and_what_suits() -> None:
    given: dict[str, Any] = {"backend": "shm", "workers": None, "kills": None, "stops": None, "threads": None}
    kind = scenarios.load("exclusion")
    assert settings_for("exclusion", "", given) == Settings("exclusion", workers=kind.workers, kills=kind.kills)
    assert settings_for("exclusion", "", given | {"kills": 0.0, "workers": 3}).kills == 0.0
    of_threads = settings_for("exclusion", "thread", given)
    assert (of_threads.workers, of_threads.threads) == (1, kind.workers)


def test_settings_survive_json_and_words() -> None:
    told = Settings("exclusion", "redis", "file", {"url": "x"}, {"a b": 1}, 3, 2, 7.5, 1.0, 2.0, True, "s", "bug")
    assert Settings.of(told.json()) == told
    words = told.words()
    assert words[:5] == ["exclusion", "--backend", "redis", "--mutex", "file"]
    assert words[words.index("--mutex-arguments") + 1] == json.dumps({"a b": 1})
    assert {"--delays", "--fault", "--seed"} <= {*words}


def test_known_bugs_are_listed_and_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "--list"]) == HELD
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(faults.ALL) >= 20
    assert main(["faults", "never-looks-again", "--controls", "--plain"]) == HELD
    said = capsys.readouterr().out
    assert "✓ never-looks-again" in said
    assert "1 of 1 caught, 1 of 1 controls held" in said
    assert main(["faults", "spoon"]) == COULD_NOT_RUN
    assert "there is no known bug 'spoon'; there are head-first," in capsys.readouterr().err


def test_a_bug_that_is_not_caught_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    settings = faults.ALL["keys-collide"].settings
    missed = fault_check.FaultResult("keys-collide", faults.DOGPILE, "keys collide", settings, HELD, "", "", 40.0)
    caught = missed._replace(status=VIOLATED, check="two values", seconds=2.0)
    console = StressConsole(Console())
    for one in (missed, caught):
        console.caught(one)
    console.summary([missed, caught])
    said = capsys.readouterr().out
    assert "✗ keys-collide" in said
    assert "held, 40.0 s" in said
    assert "two values, 2.0 s" in said
    assert "1 of 2 caught; the slowest took 40.0 s" in said
    assert (fault_check.status([missed, caught]), fault_check.status([caught])) == (VIOLATED, HELD)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_verdict(number: signal.Signals) -> None:
    run = program("run", "exclusion", "--seconds", "600", "--plain")
    try:
        assert run.stdout is not None
        assert "0 violations" in run.stdout.readline()  # the first line of progress
        began = time.monotonic()
        run.send_signal(number)
        said, complaint = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
    assert (run.returncode, complaint) == (HELD, "")
    assert "✓ held" in said
    assert ", interrupted" in said
    assert time.monotonic() - began < PATIENCE


@pytest.mark.slow
def test_on_a_terminal_it_is_shown_while_it_runs() -> None:
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "stress", "run", "exclusion", "--seconds", "1.5"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120"}
    run = subprocess.Popen(command, env=env, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    said = b""
    try:
        while True:
            try:
                said += os.read(mine, 1 << 16)
            except OSError:  # the other end is closed
                break
    finally:
        run.kill()
        os.close(mine)
    text = said.decode()
    for shown in ("s left", "operations/s", "hold", "kills", "0 violations", "acquire  median", "✓ held"):
        assert shown in text


def test_mpcache_stress_is_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    from mpcache.cli import main as mpcache

    assert mpcache(["stress", "list"]) == HELD
    assert "Can two actors hold one mutex at the same time?" in capfd.readouterr().out
    assert mpcache(["stress", "run", "exlusion"]) == COULD_NOT_RUN
    assert mpcache(["stress", "--help"]) == HELD
    assert "Can this lock be trusted" in capfd.readouterr().out
