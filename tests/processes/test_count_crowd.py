"""Requests and calls are counted exactly, whatever process counted them and however it ended.

Depends on count_crowd, whose processes follow a script.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.processes.support import play

pytestmark = [pytest.mark.slow, pytest.mark.engine]

PENDING = 1023
"""The most calls of one function that a killed process may not have added yet."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return play("count_crowd", folder=tmp_path_factory.mktemp("crowd"), seconds=300)


def test_the_processes_ended_as_the_script_says(report: dict[str, Any]) -> None:
    codes = [wave["codes"] for wave in report["waves"]]
    died, ended = -signal.SIGKILL, 0
    assert codes == [[ended] * 8, [died, died, ended, ended] * 2, [died, died, ended, ended] * 2]


def test_requests_and_creations_are_exact_also_of_what_was_killed(report: dict[str, Any]) -> None:
    for wave in report["waves"]:
        for wanted, found in zip(wave["wanted"], wave["found"], strict=True):
            names = {name for name in wanted.keys() | found.keys() if not name.startswith("f_")}
            assert {name: found.get(name, 0) for name in names} == {name: wanted.get(name, 0) for name in names}
            assert found["f_created"] == wanted["f_created"]


def test_calls_are_exact_of_what_ended_and_nearly_so_of_what_was_killed(report: dict[str, Any]) -> None:
    for wave in report["waves"]:
        for wanted, found in zip(wave["wanted"], wave["found"], strict=True):
            for name in ("f_calls", "f_hits"):
                assert wanted[name] - PENDING * wave["killed"] <= found[name] <= wanted[name]


def test_no_sum_ever_falls(report: dict[str, Any]) -> None:
    assert report["looks"] > 20
    assert report["fallen"] == 0
