"""Known bugs are caught, and locks that are not mpcache's found wanting; a selection, the whole is ``stress faults``.

Depends on fault_check, and on histories for the checks of lost leases.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpcache.shm import segment
from mpcache.stress import builds, faults, run_folder, scenarios
from mpcache.stress.builds import Build, engine
from mpcache.stress.checker import holds_are_kept
from mpcache.stress.errors import CannotRun
from mpcache.stress.faults.fault_check import CONTROL, FaultResult, check_faults, status
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED, Run
from mpcache.stress.settings import Settings
from tests.processes.support import LONG
from tests.stress.histories import A, B, Outcome, found, hold, stopped

LOST = Outcome.LOST
WHOLE = pytest.mark.skipif(not LONG, reason="`make long` and `stress faults` play it")


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs have a directory of their own, and leave nothing in it, nor elsewhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = _semaphores()
    yield
    assert list(run_folder.base().iterdir()) == []
    assert [name for name in segment.names() if name.startswith(f"stress-{os.getpid()}-")] == []
    assert _semaphores() - before == set()


def _semaphores() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith(f"sem.stress-{os.getpid()}-")}


# -- the table -----------------------------------------------------------------------------------------------------


def test_there_are_enough_of_them_everywhere() -> None:
    seeded = list(faults.TABLE.values())
    assert len(seeded) >= 15
    assert {fault.where for fault in seeded} == {faults.ENGINE, faults.MUTEX, faults.DOGPILE}
    foreign = {fault.name for fault in faults.ALL.values() if fault.where == faults.THIRD_PARTY}
    assert foreign >= {"multiprocessing.Lock", "posix_ipc.Semaphore", "dogpile.cache.memory", "dogpile.cache.dbm"}


@pytest.mark.parametrize("name", faults.ALL)
def test_each_says_what_it_is_and_how_it_is_found(name: str) -> None:
    fault = faults.ALL[name]
    assert fault.text
    assert fault.settings.scenario in scenarios.names()
    assert fault.settings.seconds <= 60
    assert fault.settings.fault == (name if name in faults.TABLE else "")
    assert (fault.install is not None) + bool(fault.flag) + (fault.where == faults.THIRD_PARTY) == 1


def test_flags_stand_in_the_sources() -> None:
    sources = "".join(path.read_text() for path in builds.PACKAGE.glob("shm/core/*.[ch]"))
    flags = [fault.flag for fault in faults.TABLE.values() if fault.flag]
    assert [flag for flag in flags if f"MPC_FAULT_{flag}\n" not in sources] == []


def test_rows_for_tables() -> None:
    rows = {name: (where, run) for name, where, _, run in faults.rows()}
    assert rows["redis-deletes"] == ("mutex", "exclusion --mutex redis --stops 3")
    assert rows["head-first"][1].endswith("--delays")


# -- playing them --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "checks"),
    [
        pytest.param("no-void", {"late fill", "aged"}, marks=pytest.mark.engine),
        pytest.param("name-unchecked", {"two holders", "found occupied"}, marks=WHOLE),
        pytest.param("rung-is-taken", {"two holders", "found occupied", "not kept"}, marks=WHOLE),
        ("inherited", {"child", "two holders"}),
        ("never-looks-again", {"created again", "two creators", "two values"}),
        pytest.param("keys-collide", {"torn value", "foreign value"}, marks=WHOLE),
        ("refresh-unguarded", {"late fill", "invalidated"}),
        ("fcntl.flock", {"two holders"}),
        pytest.param("posix_ipc.Semaphore", {"hang"}, marks=WHOLE),
    ],
)
def test_it_is_caught(name: str, checks: set[str]) -> None:
    heard: list[FaultResult] = []
    (caught,) = check_faults([name], on_result=heard.append)
    assert caught.status == VIOLATED, caught
    assert caught.check in checks, caught
    assert (caught.right, heard, status([caught])) == (True, [caught], HELD)


@pytest.mark.slow
def test_without_it_nothing_is_found() -> None:
    caught, control = check_faults(["threads-unasked"], controls=True)
    assert (caught.where, caught.status) == (faults.MUTEX, VIOLATED)
    assert (control.where, control.name) == (CONTROL, "exclusion --mutex semaphore --workers 3 --threads 3")
    assert control.status == HELD, control


def test_the_exit_status() -> None:
    def came_to(where: str, outcome: int) -> FaultResult:
        return FaultResult("x", where, "", Settings("exclusion"), outcome, "", "", 0.0)

    found, missed = came_to(faults.MUTEX, VIOLATED), came_to(faults.MUTEX, HELD)
    sound, accused = came_to(CONTROL, HELD), came_to(CONTROL, VIOLATED)
    unplayed = came_to(faults.ENGINE, COULD_NOT_RUN)
    assert status([found, sound]) == HELD
    assert status([found, missed]) == status([found, accused]) == status([unplayed, missed]) == VIOLATED
    assert status([found, unplayed]) == status([]) == COULD_NOT_RUN


def test_ctrl_c_between_two_leaves_what_came_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first = FaultResult("x", faults.MUTEX, "", Settings("exclusion"), VIOLATED, "", "", 0.0)
    before = iter([first])

    def play(*whatever: Any) -> tuple[FaultResult, bool]:
        for one in before:
            return one, False
        raise KeyboardInterrupt

    monkeypatch.setattr(faults.fault_check, "_play", play)
    assert check_faults(["inherited", "keys-collide"]) == [first]
    with pytest.raises(KeyboardInterrupt):  # nothing was played
        check_faults(["inherited", "keys-collide"])


# -- what cannot be played -----------------------------------------------------------------------------------------


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(CannotRun, match=r"no known bug 'nonsense'; there are head-first, "):
        check_faults(["nonsense"])


def test_an_engine_cannot_be_built_without_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "PACKAGE", tmp_path / "site-packages" / "mpcache")
    (caught,) = check_faults(["head-first"])
    assert (caught.status, caught.right) == (COULD_NOT_RUN, False)
    assert "from a checkout, or an unpacked sdist" in caught.said


def test_nor_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(CannotRun, match=r"(?s)head_first-delays cannot be built; it takes a C compiler.*nowhere"):
        engine(Build("HEAD_FIRST", delays=True), tmp_path)


def test_programs_of_their_own_cannot_have_what_is_inherited() -> None:
    report = Run(Settings("fork_and_exec", mutex="multiprocessing.Lock", seconds=1.0)).run()
    assert (report["status"], report["rounds"]) == (COULD_NOT_RUN, 0)
    assert "it is made before the fork" in report["unfit"]


# -- a living holder keeps what it holds -------------------------------------------------------------------------------


def test_what_cannot_lapse_is_not_lost() -> None:
    assert found(holds_are_kept, hold(A, 0, 0, 1), hold(B, 1, 1, 2)) == []
    assert found(holds_are_kept, hold(A, 0, 0, 1, outcome=LOST)) == ["not kept"]
    assert found(holds_are_kept, hold(A, 0, 0, 3, outcome=LOST), stopped(A, 1, 2)) == ["not kept"]


def test_a_lease_is_renewed_while_its_holder_runs() -> None:
    first, second = hold(A, 0, 0, 2, outcome=LOST), hold(B, 2, 2, 4, outcome=LOST)
    assert found(holds_are_kept, first, second, leased=True) == ["not kept", "not kept"]
    assert found(holds_are_kept, first, leased=True) == []  # a machine may be too busy once
    assert found(holds_are_kept, first, second, stopped(A, 0.5, 1.9), leased=True) == []
    assert found(holds_are_kept, first, second, hold(A, 4, 4, 5), leased=True) == ["not kept", "not kept"]
    assert found(holds_are_kept, first, second, hold(A, 4, 4, 7), leased=True) == []  # as long, and kept
