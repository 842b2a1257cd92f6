"""Bugs that the engine once had, built into one engine: the probe of each finds it, and finds nothing without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mpcache.stress.builds import Build, engine
from tests.processes.support import PACKAGE, environment

from .probes import PROBES


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One build for all, since each probe asks for one thing."""
    folder = tmp_path_factory.mktemp("faulty")
    return engine(Build(",".join(name.upper() for name in PROBES)), folder) / "mpcache"


def play(probe: str, package: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.shm.probes", probe]
    done = subprocess.run(command, cwd=folder, env=environment(package), capture_output=True, text=True)
    print(done.stdout, done.stderr)
    return done


@pytest.mark.parametrize("probe", PROBES)
def test_the_rule_is_kept(probe: str, tmp_path: Path) -> None:
    assert play(probe, PACKAGE, tmp_path).returncode == 0


@pytest.mark.parametrize("probe", PROBES)
def test_a_broken_rule_is_found(probe: str, faulty: Path, tmp_path: Path) -> None:
    done = play(probe, faulty, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
