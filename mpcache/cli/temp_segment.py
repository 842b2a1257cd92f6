"""Shared memory as the command uses it: segments that are removed afterwards, and users' names.

Depends on shm.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from mpcache.shm import segment
from mpcache.shm.segment import Segment

ANY_MODE = 0o777
"""Reading a segment is safe even if other users can write to it; only unpickling from it would not be."""


@contextmanager
def temp_segment(name: str, size: int) -> Iterator[Segment]:
    """Make a segment and remove it afterwards, and its directory if that had to be made.

    :raises SegmentError: there is no room in shared memory, or there is none.
    """
    there_before = os.path.isdir(segment.directory())
    try:
        yield segment.attach(name, size)
    finally:
        segment.unlink(name)
        if not there_before:
            _remove_if_empty(segment.directory())


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        pass  # another process uses it by now


def user_name(user: int) -> str:
    """Return the name of a user id, or the id as text where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def leftovers(name: str) -> list[str]:
    """Return the files in shared memory whose names contain this name."""
    directory = segment.directory()
    found = []
    for folder in (directory, os.path.dirname(directory)):
        if os.path.isdir(folder):
            found += [os.path.join(folder, file) for file in os.listdir(folder) if name in file]
    return found
