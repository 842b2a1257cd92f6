"""Turn an OSError about the place of the segments into a SegmentError that names the remedy.

Depends on exception and capacity; knows no segment.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mpcache.exception import NoRoom, SegmentError
from mpcache.shm import capacity

ELSEWHERE = "set MPCACHE_SHM to another tmpfs"

_REMEDIES = {
    errno.EROFS: "the file system is read-only: mount -o remount,rw {mount}, or " + ELSEWHERE,
    errno.EACCES: "uid {user} may not use it: see to its owner and permissions, or " + ELSEWHERE,
    errno.EPERM: "uid {user} may not use it: see to its owner and permissions, or " + ELSEWHERE,
    errno.EOPNOTSUPP: "the file system cannot make files without a name: " + ELSEWHERE,
    errno.EISDIR: "the file system cannot make files without a name: " + ELSEWHERE,
    errno.ENOENT: "it is not there: make it, or " + ELSEWHERE,
    errno.ENOTDIR: "a part of this path is no directory: remove it, or " + ELSEWHERE,
    errno.EMFILE: "this process has too many open files: raise ulimit -n, or LimitNOFILE in the unit",
    errno.ENFILE: "this machine has too many open files: raise fs.file-max",
    errno.ENOLCK: "the kernel has no room for locks: " + ELSEWHERE,
}
_FULL = {errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT}

NO_PROC = (
    "/proc is not mounted here, and a new segment gets its name through it: mount -t proc proc /proc, or attach the"
    " segment before the chroot"
)


@contextmanager
def explained(path: str, act: str, wanted: int | None = None) -> Iterator[None]:
    """Raise what goes wrong inside as SegmentError, or NoRoom, with the remedy that helps.

    :param path: the file or directory that the calls inside are about.
    :param act: what they do, for the message: ``"make"``.
    :param wanted: bytes, for NoRoom.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # no system call's, but a signal handler's TimeoutError
            raise
        raise explanation(error, path, act, wanted) from error


def explanation(error: OSError, path: str, act: str, wanted: int | None = None) -> SegmentError:
    """Return the SegmentError that says what an OSError means, and what to do."""
    said = f"cannot {act} {path}: {error.strerror}"
    if error.errno in _FULL:
        out_of_inodes = error.errno == errno.ENOSPC and capacity.lacks_inodes(_existing(path))
        return NoRoom(f"{said}; {capacity.INODES if out_of_inodes else capacity.REMEDY}", wanted=wanted)
    if error.errno == errno.ENOENT and not os.path.exists("/proc/self/fd"):
        return SegmentError(f"{said}; {NO_PROC}")
    remedy = _REMEDIES.get(error.errno or 0, f"mpcache keeps its segments there: {ELSEWHERE}")
    return SegmentError(f"{said}; {remedy.format(mount=_mount_point(path), user=os.geteuid())}")


def _existing(path: str) -> str:
    """The path, or the nearest directory above it that is there."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _mount_point(path: str) -> str:
    path = _existing(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
