"""The segments that this process is attached to: one Engine for each file, however often it is attached.

Depends on the engine.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakValueDictionary

from mpcache.shm import _engine

_engines: WeakValueDictionary[tuple[int, int], _engine.Engine] = WeakValueDictionary()
"""A lease may outlive the Segment; the process must not appear in the segment a second time."""

attaching = threading.RLock()
"""Guards the tables of what is attached."""


def file_of(fd: int) -> tuple[int, int]:
    """Return what tells the file behind a descriptor from every other: device and inode."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def engine_of(fd: int, path: str | None) -> _engine.Engine:
    """Return this process's Engine of a segment's file, which is attached if it is not yet.

    :param path: where the file can be opened again; None: nowhere.
    :raises SegmentError, OSError: what the engine says of the file.
    """
    file = file_of(fd)
    with attaching:
        engine = _engines.get(file)
        if engine is None:
            engine = _engines[file] = _engine.Engine(fd, path)
        return engine


def _in_the_child() -> None:
    global attaching
    attaching = threading.RLock()


os.register_at_fork(after_in_child=_in_the_child)
