"""The folder of a run, and all that a run creates: removed at its end, or by the next run if it was killed.

Depends on shm, mutexes and third_party_locks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mpcache.shm import segment
from mpcache.stress import third_party_locks
from mpcache.stress.errors import CannotRun


def base() -> Path:
    """Return the directory of the directories of runs.  Raises CannotRun: other users can write to it."""
    path = Path(tempfile.gettempdir()) / f"mpcache-stress-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(0o700)
    there = path.lstat()  # with a link, another user could choose what sweep() removes
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o022:
        raise CannotRun(
            f"{path} is not a directory of uid {os.getuid()} that no other user can write to;"
            " remove it, or set TMPDIR to a directory of your own"
        )
    return path


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make a directory for one run.  A lock on it tells :func:`sweep` that the run lives."""
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base()))
    try:
        with open(folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_YOUNG = 60.0
"""Seconds for which a directory without a lock file may be one whose run is just starting."""


def sweep() -> list[str]:
    """Remove what killed runs have left; return the names of these runs."""
    swept = []
    for folder in sorted(base().iterdir()):
        if folder.is_dir() and not folder.is_symlink() and _abandoned(folder):
            remove_named(folder)
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder.name)
    return swept


def _abandoned(folder: Path) -> bool:
    try:
        with open(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > _YOUNG
    return True


def name_of(folder: Path) -> str:
    """Return the name of what a run creates outside of its folder."""
    return f"stress-{folder.name}"


def remove_named(folder: Path) -> None:
    """Remove what a run has created outside of its folder: segments, semaphores and third-party locks."""
    segment.unlink(name_of(folder))
    segment.unlink(f"{name_of(folder)}-locks")
    if (folder / "locks").exists():
        from mpcache.mutexes.semaphore import SemaphoreMutex

        SemaphoreMutex.unlink(str(folder / "locks"))
    third_party_locks.clear(folder, name_of(folder))
