"""Segments of other layouts, which other versions of mpcache made: tell whether they are in use, and remove them.

Nothing in them is read but what every layout has at one place: magic, layout, the word ``retired``, and the liveness
bytes.  A process of the other version sees ``retired`` at its next call and goes on in another segment of its layout.

Depends on directory, files, removal and the engine.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from mpcache.exception import SegmentError
from mpcache.shm import _engine
from mpcache.shm.directory import briefly, exclusive
from mpcache.shm.errors import explained
from mpcache.shm.files import LAYOUT, files_of, layout_of
from mpcache.shm.removal import has_name

_RETIRED, _IN_USE = struct.pack("=I", 1), struct.pack("=I", 0)


@contextmanager
def _opened(path: str) -> Iterator[int | None]:
    """Open a segment of any layout, to retire it; None: it is none, or another user's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    with briefly(fd):
        yield fd if _is_ours(fd) else None


def _is_ours(fd: int) -> bool:
    file = os.fstat(fd)
    whole = stat.S_ISREG(file.st_mode) and file.st_size >= _engine.RETIRED_AT + len(_RETIRED)
    return whole and file.st_uid == os.geteuid() and layout_of(fd) is not None


def in_use(path: str) -> bool:
    """Return whether a living process uses the segment of that file, whatever its layout is."""
    with _opened(path) as fd:
        return fd is not None and _engine.anyone_alive(fd)


def remove_abandoned(path: str, fd: int) -> bool:
    """Remove a segment of another layout unless a living process uses it.

    :param fd: a descriptor of the file, for reading and writing.
    :return: whether the file is gone.
    :raises SegmentError: this process may not remove it.
    """
    with explained(path, "remove"), exclusive(path) as folder:
        if not has_name(os.path.basename(path), os.fstat(fd), folder):
            return True
        if _engine.anyone_alive(fd) or not _retire_unused(fd):
            return False
        os.unlink(os.path.basename(path), dir_fd=folder)
        return True


def _retire_unused(fd: int) -> bool:
    """Retire a segment that no process used a moment ago; return False, and undo it, if a process uses it now.

    A process that registers reads ``retired`` afterwards.  So either it sees the removal and begins nothing, or it is
    seen here.  It may then hold a lock, and must keep its segment; a process that saw ``retired`` meanwhile attaches
    the same segment again.
    """
    os.pwrite(fd, _RETIRED, _engine.RETIRED_AT)
    if not _engine.anyone_alive(fd):
        return True
    os.pwrite(fd, _IN_USE, _engine.RETIRED_AT)
    return False


def sweep(name: str, path: str) -> None:
    """Remove the segments of a name that have other layouts and that no living process uses.

    :param path: the file that the caller is about to attach, which is not touched.
    """
    try:
        for file in files_of(name):
            if file.other and file.path != path:
                _sweep(file.path)
    except (SegmentError, OSError):
        pass  # the caller does not need its removal; `mpcache rm` says why it fails


def _sweep(path: str) -> None:
    with _opened(path) as fd:
        if fd is not None and layout_of(fd) != LAYOUT:
            remove_abandoned(path, fd)


def discard(path: str) -> bool:
    """Remove a file that this version cannot attach, in use or not; return whether there was one.

    If it is a segment, processes that use it leave it at their next call, and its memory is freed when they have.

    :raises SegmentError: this process may not remove it.
    :raises IsADirectoryError: it is a directory.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    with explained(path, "remove"), exclusive(path) as folder:
        return discard_locked(path, folder)


def discard_locked(path: str, folder: int) -> bool:
    """Do as :func:`discard`, for a caller that holds the directory's lock, and has it open as ``folder``."""
    with _opened(path) as fd:
        if fd is not None:
            os.pwrite(fd, _RETIRED, _engine.RETIRED_AT)
    try:
        os.unlink(os.path.basename(path), dir_fd=folder)
    except FileNotFoundError:
        return False
    return True
