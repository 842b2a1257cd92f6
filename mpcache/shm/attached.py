"""Keep one Engine for each segment file to which this process is attached, however often it attaches it.

Depends on the engine.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakValueDictionary

from mpcache.shm import _engine

_engines: WeakValueDictionary[tuple[int, int], _engine.Engine] = WeakValueDictionary()
"""By file.  A lease may outlive the Segment, and the process must not take a second process slot."""

attaching = threading.RLock()
"""Guards the tables of attached segments."""


def file_of(fd: int) -> tuple[int, int]:
    """Return the identity of the file behind a descriptor: device and inode."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def engine_of(fd: int, path: str | None) -> _engine.Engine:
    """Return this process's Engine of a segment's file; attach it first if need be.

    :param path: where the file can be opened again; None: nowhere.
    :raises SegmentError, OSError: the engine refuses the file.
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
