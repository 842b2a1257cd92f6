"""Segments with names of their own, which must be gone from the directory when the test is over.

Depends on support, and on mpcache's segments.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from mpcache.shm import segment
from tests.processes.support import Child

_numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a segment.  Whatever has it is removed after the test, and nothing of it may remain."""
    name = f"test-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}"
    try:
        yield name
    finally:
        segment.unlink(name)
    assert [left for left in os.listdir(segment.directory()) if name in left] == []


@pytest.fixture
def fork(name: str) -> Iterator[Callable[[Callable[[], object]], Child]]:
    """``fork(act)``: a child that runs it, and is gone before the segment is."""
    children: list[Child] = []

    def fork(act: Callable[[], object]) -> Child:
        children.append(Child(act))
        return children[-1]

    yield fork
    for child in children:
        child.end()
