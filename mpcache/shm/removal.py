"""Remove a segment's file and give its memory back, however many processes are attached.

Depends on directory and attached.  A remover that is killed leaves what another process finds and finishes:

    retired, under its name       found by the next process that attaches or removes the segment
    set aside, memory not given   found by the next process that creates a segment: no process has locked the file
"""

from __future__ import annotations

import fcntl
import os

from mpcache.exception import SegmentError
from mpcache.shm._engine import Engine
from mpcache.shm.attached import engine_of
from mpcache.shm.directory import briefly, exclusive
from mpcache.shm.errors import explained

_ASIDE = ".removed-"


def remove(path: str, engine: Engine) -> int:
    """Retire a segment, remove its file, and give the memory of its shards back.

    :return: how many shards keep their memory until the processes that are attached leave the segment.
    :raises SegmentError: this process may not remove the file; nothing was changed.
    """
    with explained(path, "remove"):
        try:
            mark = _mark(path)
        except FileNotFoundError:
            return _remove_unnamed(path, engine)
        with briefly(mark):
            with exclusive(path) as folder:
                hidden = _set_aside(path, mark, engine, folder)
            return _finish(hidden, engine)


def remove_locked(path: str, engine: Engine, folder: int) -> int:
    """Do as :func:`remove`, for a caller that holds the directory's lock, and has it open as ``folder``."""
    with explained(path, "remove"), briefly(_mark(path)) as mark:
        return _finish(_set_aside(path, mark, engine, folder), engine)


def _mark(path: str) -> int:
    """Open the file.  As long as the descriptor is locked, its remover is alive."""
    if os.path.exists(path) and not os.access(os.path.dirname(path), os.W_OK | os.X_OK, effective_ids=True):
        raise SegmentError(
            f"uid {os.geteuid()} may not remove {path}, since its directory is not writable; nothing was changed:"
            " remove the segment as its owner"
        )
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _remove_unnamed(path: str, engine: Engine) -> int:
    """Remove a segment whose file does not have its name: it was removed by hand, or by a process still at it."""
    if os.fstat(engine.fd).st_nlink == 0:
        return _give_back(engine)
    if engine.retired:
        return 0
    raise SegmentError(
        f"{path} cannot be found from here, although the segment has a name: this process is in a chroot, or the file"
        " was renamed; nothing was changed: remove it with 'mpcache rm' from outside"
    )


def _set_aside(path: str, mark: int, engine: Engine, folder: int) -> str | None:
    """Retire the segment and rename its file, so that the next segment can have the name at once.

    :return: the new path; None: the name is not this segment's, so another process has removed it.
    """
    file = os.fstat(mark)
    name = os.path.basename(path)
    if not (os.path.samestat(file, os.fstat(engine.fd)) and has_name(name, file, folder)):
        return None
    fcntl.flock(mark, fcntl.LOCK_EX)
    engine.retire()
    hidden = f"{_ASIDE}{file.st_ino}-{name}"
    os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)
    return os.path.join(os.path.dirname(path), hidden)


def has_name(name: str, file: os.stat_result, folder: int) -> bool:
    """Return whether a name in a directory, given by its descriptor, is that file's."""
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), file)
    except FileNotFoundError:
        return False


def _finish(hidden: str | None, engine: Engine) -> int:
    if hidden is None:
        return 0
    try:
        return _give_back(engine)
    finally:
        _unlink(hidden)


def _give_back(engine: Engine) -> int:
    try:
        return engine.remove()
    except SegmentError:  # retired it is
        return engine.shards


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def finish_others(folder: str) -> None:
    """Finish what killed removers have begun in a directory, whose lock the caller holds."""
    for name in os.listdir(folder):
        if name.startswith(_ASIDE):
            _finish_one(os.path.join(folder, name))


def _finish_one(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    with briefly(fd):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _finish(path, engine_of(fd, None))
        except BlockingIOError:
            pass  # its remover is alive
        except (SegmentError, OSError):  # it cannot be attached
            _unlink(path)
