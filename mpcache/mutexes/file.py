"""The file mutex: a locked file for each key that is held, freed by the kernel when its holder dies.

Depends on lockfiles, and on the filelock library for the lock itself.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from mpcache.api import Guarantees, Outcome
from mpcache.exception import MutexError, NotHeld
from mpcache.mutexes import lockfiles
from mpcache.mutexes.two_level import ProcessLock, TwoLevelMutex

_SUFFIX = ".lock"
_MARK = 0
"""The byte that a holder also locks: the other lock has no query, only an attempt to take it."""


class FileMutex(TwoLevelMutex):
    """A mutex among all processes of this user that can reach a directory.

    ::

        no file           the key is free
        a locked file     it is held
        a file, unlocked  its holder was killed: the next process that locks it has the key

    The holder removes the file before it unlocks it.  So a waiter that then locks a file without a name knows that the
    holder has released the key; the length of that file, 0 or 1, says whether a value was stored.

    :param key: str or bytes.
    :param directory: of this user alone, made if it is not there; None: beside the segments of shared memory.
    :param namespace: keeps equal keys of different programs apart.
    :raises MutexError: from an acquire, when the directory or the file cannot be used; the message says what to do.
    """

    guarantees = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=0.1)

    def __init__(self, key: str | bytes, *, directory: str | None = None, namespace: str = "") -> None:
        super().__init__(key)
        self.path = os.path.join(lockfiles.folder_of(directory), lockfiles.digest(namespace, key).hex() + _SUFFIX)

    @classmethod
    def unlink(cls, directory: str | None = None) -> int:
        """Remove the files that killed holders left in a directory; files of living holders stay.

        :return: how many have been removed.
        """
        folder = lockfiles.folder_of(directory)
        try:
            names = [name for name in os.listdir(folder) if name.endswith(_SUFFIX) and len(name) == 32 + len(_SUFFIX)]
        except FileNotFoundError:
            return 0
        return sum(_remove(os.path.join(folder, name)) for name in names)

    def _process_lock(self) -> ProcessLock:
        return _FileLock(self.path)

    def _subject(self) -> Any:
        return (FileMutex, self.path)

    def _locked(self) -> bool:
        return lockfiles.bytes_are_locked(self.path, _MARK)


def _remove(path: str) -> bool:
    lock = _FileLock(path)
    free = lock.acquire()
    lock.release(True)
    return free


class _FileLock(ProcessLock):
    """The lock of one file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._file: lockfiles.OwnFile | None = None
        self._asked = self._taken = self._waits = False
        self._lost: bool | None = None
        self._heard: Outcome | None = None

    def acquire(self) -> bool:
        while True:
            if self._file is None:
                self._file = lockfiles.own_or_make(self._path)
            file, self._asked = self._file, True  # until it is certain, release() has to look
            try:
                got = _lock(file)
            except MutexError:
                self._asked = False
                raise
            if not got:
                self._asked = False
                return False
            if file.named:
                self._taken = True
                _mark(file)
                return True
            self._heard = Outcome.UNSTORED if os.fstat(file.fileno()).st_size else Outcome.RELEASED
            self._close(file)
            if self._waits:
                return False

    def wait(self, most: float | None) -> Outcome | None:
        self._waits = True
        heard, self._heard = self._heard, None
        return heard or super().wait(most)

    def release(self, stored: bool) -> None:
        file = self._file
        if file is None:
            return
        named = file.named
        if self._taken and self._lost is None:
            self._lost = not named
        if named and (self._taken or (self._asked and _lock(file))):
            self._remove(file, stored)
        self._close(file)
        if self._lost:
            raise NotHeld(
                f"FileMutex: pid {os.getpid()} has lost {self._path}; another program removed or replaced it, or"
                " this one closed its descriptor, while it was held, and another may hold the key now",
                path=self._path,
                pid=os.getpid(),
            )

    def stop_waiting(self) -> None:
        if not self._taken:
            self.release(True)

    def owned(self) -> bool:
        return self._taken and self._file is not None and self._file.named

    def _remove(self, file: lockfiles.OwnFile, stored: bool) -> None:
        try:
            # A length needs no space, also on a full disk.  It may already be 1, if a holder was killed just here.
            os.ftruncate(file.fileno(), 0 if stored else 1)
            os.unlink(self._path)
        except OSError:
            pass  # the directory is not writable any more: the file stays, and is unlocked

    def _close(self, file: lockfiles.OwnFile) -> None:
        try:
            if file.intact:
                _filelock().unlock_descriptor(file.fileno())  # if C code has forked, the child has the descriptor, too
        except OSError:
            pass  # closing the file unlocks it
        file.forget()
        self._file, self._asked, self._taken = None, False, False


@functools.cache
def _filelock() -> Any:
    import filelock

    return filelock


def _lock(file: lockfiles.OwnFile) -> bool:
    try:
        return bool(_filelock().lock_descriptor(file.fileno(), blocking=False))
    except OSError as error:
        raise lockfiles.locks_unsupported(error, file.path) from error


def _mark(file: lockfiles.OwnFile) -> None:
    try:
        lockfiles.lock_bytes(file, _MARK)
    except OSError as error:
        raise lockfiles.locks_unsupported(error, file.path) from error
