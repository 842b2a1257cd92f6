"""The directory of this user's segments: its path, its owner, and its lock.

Depends on exception and errors.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mpcache.exception import SegmentError, SegmentRefused
from mpcache.shm import _engine
from mpcache.shm.errors import explained

DEFAULT = "/dev/shm"

_IN_MEMORY = {0x01021994, 0x858458F6, 0x958458F6}
"""f_type of tmpfs, ramfs and hugetlbfs."""

_OF_A_USER = re.compile(r"mpcache-(\d+)")


def parent() -> str:
    """Return the directory in which each user's directory is: $MPCACHE_SHM, or /dev/shm where that is empty or not set.

    :raises SegmentError: it is a relative path, which would be another directory in each working directory.
    """
    path = os.environ.get("MPCACHE_SHM") or DEFAULT
    if not os.path.isabs(path):
        raise SegmentError(
            f"MPCACHE_SHM={path!r} is a relative path, so that processes with different working directories would not"
            f" share their segments; set it to an absolute one, such as {os.path.abspath(path)}"
        )
    return path


def directory() -> str:
    """Return where this user's segments are: ``mpcache-<uid>`` in ``/dev/shm``, or in what MPCACHE_SHM names.

    :raises SegmentError: MPCACHE_SHM is a relative path.
    """
    return os.path.join(parent(), f"mpcache-{os.geteuid()}")


def checked_directory() -> str:
    """Return the directory after making it, if it is not there, and checking that it is this user's alone.

    :raises SegmentError: it cannot be made.
    :raises SegmentRefused: other users may use it.
    """
    path = directory()
    with explained(path, "make"):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SegmentRefused(
            f"{path} is not a directory that only uid {os.geteuid()} can use (owner {found.st_uid}, mode"
            f" {stat.filemode(found.st_mode)}); another user may have made it: remove it or set MPCACHE_SHM"
        )
    _warn_of_a_disk(path)
    return path


def in_memory(path: str) -> bool:
    """Return whether the file system of a path keeps its files in memory; True where that cannot be found out."""
    try:
        return _engine.kind_of_file_system(path) in _IN_MEMORY
    except OSError:
        return True


_warned: set[str] = set()


def _warn_of_a_disk(path: str) -> None:
    if path in _warned or in_memory(path):
        return
    _warned.add(path)
    warnings.warn(
        f"{path} is on a disk, to which the kernel writes every change of a segment; set MPCACHE_SHM to a directory on"
        " a tmpfs",
        UserWarning,
        stacklevel=5,
    )


def other_users() -> list[int]:
    """Return the ids of the other users who have a directory for segments here, sorted."""
    found = []
    try:
        with os.scandir(parent()) as entries:
            for entry in entries:
                match = _OF_A_USER.fullmatch(entry.name)
                if match and entry.is_dir(follow_symlinks=False) and int(match[1]) != os.geteuid():
                    found.append(int(match[1]))
    except FileNotFoundError:
        pass
    return sorted(found)


# -- descriptors, and the lock ----------------------------------------------------------------------------------

_passing: set[int] = set()
"""Descriptors that are open only briefly: a child that is forked meanwhile must not keep them open."""


@contextmanager
def briefly(fd: int) -> Iterator[int]:
    """Close a descriptor at the end, also in a child that is forked meanwhile."""
    _passing.add(fd)
    try:
        yield fd
    finally:
        _passing.discard(fd)
        os.close(fd)


@contextmanager
def exclusive(path: str) -> Iterator[int]:
    """Hold the lock of a path's directory: one process at a time creates or removes.

    The kernel frees it when its process dies.  The lock belongs to the open file description, which a child that is
    forked meanwhile shares; so it is unlocked before the descriptor is closed.

    :return: a descriptor of the directory.
    """
    with briefly(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)


def _in_the_child() -> None:
    while _passing:
        os.close(_passing.pop())


os.register_at_fork(after_in_child=_in_the_child)
