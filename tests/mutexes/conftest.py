"""What the tests of mutexes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutexes.local import Board


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A directory that is not there yet."""
    return str(tmp_path / "locks")
