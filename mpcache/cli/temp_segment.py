"""How the command behaves in shared memory that is others': it trusts little, and leaves nothing behind.

Leans on shm.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from mpcache.shm import segment
from mpcache.shm.segment import Segment

ANY_MODE = 0o777
"""To look into a segment is no risk, whoever may write to it; only to unpickle from it would be."""


@contextmanager
def temp_segment(name: str, size: int) -> Iterator[Segment]:
    """A new segment that is gone afterwards, and the directory with it if that had to be made.

    :raises SegmentError: there is no shared memory to make it in.
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
        pass  # somebody else uses it by now


def user_name(user: int) -> str:
    """Return the name of a user id, or the id as text where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def leftovers(name: str) -> list[str]:
    """Files of that name in the shared memory."""
    directory = segment.directory()
    found = []
    for folder in (directory, os.path.dirname(directory)):
        if os.path.isdir(folder):
            found += [os.path.join(folder, file) for file in os.listdir(folder) if name in file]
    return found
