"""The models in proofs/ hold, and their seeded faults are found: the short form of `make prove`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROOFS = Path(__file__).resolve().parents[1] / "proofs"


@pytest.mark.slow
def test_the_models_hold_and_find_their_faults() -> None:
    done = subprocess.run([sys.executable, PROOFS / "check.py", "--short"], capture_output=True, text=True, timeout=110)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = done.stdout.splitlines()
    assert len([row for row in rows if row.endswith("  holds")]) == 5
    assert len([row for row in rows if row.endswith("  found")]) == 5
