"""The semaphore mutex: the hold is a kernel lock on one byte, and a POSIX semaphore is the bell that ends waiting.

Depends on lockfiles, and on the posix_ipc library for the semaphores.  A semaphore by itself has no owner: it stays
taken when its holder is killed, and any process may post it.  So it only says that another try is worthwhile.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import signal
import struct
import threading
import time
from typing import Any

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Guarantees, Outcome
from mpcache.exception import NotHeld
from mpcache.mutexes import lockfiles
from mpcache.mutexes.greenlets import sleep_of_hub
from mpcache.mutexes.two_level import POLL_LAST, ProcessLock, TwoLevelMutex

BELLS = 256
"""Semaphores of one directory, whatever the number of keys."""

_SLOTS = 3 * BELLS
_WORD = struct.Struct("=Q")
_ANNOUNCED = 40_000_000
"""Nanoseconds for which a waiter announces that it waits: twice the time between two of its tries."""

_STORED = 1 << 16

_FILE = "semaphores"

log = logging.getLogger("mpcache.mutexes")


class SemaphoreMutex(TwoLevelMutex):
    """A mutex among all processes of this user, with one open file for all keys, and no file for any of them.

    ::

        the lock file    [bells: 256 words][notes: 768 words]          a word has 64 bits, native order
                         until when a process waits there (monotonic, in ns)
                                           what a release said: 47 bits of the key, stored or not, a count
        a key            one byte, far behind the end of the file, locked for writing while the key is held

    Words are hints: losing one, or all, costs a waiter 20 ms.

    :param key: str or bytes.
    :param directory: of this user alone, made if it is not there; None: beside the segments of shared memory.
    :param namespace: keeps equal keys of different programs apart.
    :raises MutexError: from an acquire, when the directory or the file cannot be used; the message says what to do.
    """

    guarantees = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=0.1)

    def __init__(self, key: str | bytes, *, directory: str | None = None, namespace: str = "") -> None:
        super().__init__(key)
        self.path = os.path.join(lockfiles.folder_of(directory), _FILE)
        self.hash = int.from_bytes(lockfiles.digest(namespace, key, _WORD.size), "little")

    @classmethod
    def unlink(cls, directory: str | None = None) -> bool:
        """Remove the file and the semaphores of a directory; False: some key is held, and nothing was removed."""
        path = os.path.join(lockfiles.folder_of(directory), _FILE)
        if os.path.lexists(path):
            file = lockfiles.own_or_make(path)
            try:
                if not lockfiles.lock_bytes(file, *lockfiles.WHOLE):
                    return False
                os.unlink(path)
            finally:
                file.forget()
        for number in range(BELLS):
            _remove_bell(path, number)
        return True

    @property
    def _byte(self) -> int:
        return (1 << 62) + (self.hash >> 2)

    def _process_lock(self) -> ProcessLock:
        return _SemaphoreLock(self.path, self.hash, self._byte)

    def _subject(self) -> Any:
        return (SemaphoreMutex, self.path, self._byte)

    def _locked(self) -> bool:
        return lockfiles.bytes_are_locked(self.path, self._byte)


class _SemaphoreLock(ProcessLock):
    """The lock of one byte."""

    def __init__(self, path: str, key: int, byte: int) -> None:
        super().__init__()
        self._path, self._byte = path, byte
        self._file: lockfiles.OwnFile | None = None
        self._taken = False
        self._bell = key % BELLS
        self._slot = BELLS + key % _SLOTS
        self._tag = key >> 17
        self._noted: int | None = None
        self._false_alarms = 0

    def acquire(self) -> bool:
        while True:
            file = self._file = _opened(self._path)
            try:
                got = lockfiles.lock_bytes(file, self._byte)
            except (OSError, ValueError) as error:
                if file.intact and isinstance(error, OSError):
                    raise lockfiles.locks_unsupported(error, self._path) from error
                got = True  # the descriptor was closed: see below
            if not got:
                self._file = None
                return False
            if file.named:
                self._taken = True
                return True
            _retire(file, self._byte)

    def release(self, stored: bool) -> None:
        file = self._file
        if file is None or file.closed:  # with the process's end
            return
        lost = self._taken and not file.named
        if not (stored or lost):
            self._note(
                file, stored
            )  # before another process can acquire it: the note must not count as the next holder's
        if file.intact:
            lockfiles.unlock_bytes(file, self._byte)
        self._file = None
        if lost:
            raise NotHeld(
                f"SemaphoreMutex: pid {os.getpid()} has lost its byte of {self._path}; another program removed the"
                " file, or this one closed its descriptor, while it was held, and another may hold the key now",
                path=self._path,
                pid=os.getpid(),
            )
        if _read(file, self._bell) > time.monotonic_ns():
            if stored:
                self._note(file, stored)
            _ring(self._path, self._bell)

    def owned(self) -> bool:
        return self._taken and self._file is not None and self._file.named

    def wait(self, most: float | None) -> Outcome | None:
        file = _opened(self._path)
        begins = self._noted is None
        heard = self._hear(file)
        _write(file, self._bell, time.monotonic_ns() + _ANNOUNCED)
        if begins or heard:
            return heard  # try once more, now that a release will ring
        if sleep_of_hub(cooperates=False):  # waiting in C would stop every greenlet
            return super().wait(most)
        woken = _listen(self._path, self._bell, POLL_LAST if most is None else min(POLL_LAST, most))
        heard = self._hear(file)
        if heard and woken:
            _ring(self._path, self._bell)  # for the next waiter for this key
        elif woken is not False:
            self._false_alarm(most, woken)
        return heard

    def _false_alarm(self, most: float | None, woken: bool | None) -> None:
        """Sleep, so that no bell makes this loop spin: it rang for another key, or wrongly, or there is none."""
        self._false_alarms += 1
        if woken and self._false_alarms < 3:
            _ring(self._path, self._bell)
        super().wait(most)

    def _hear(self, file: lockfiles.OwnFile) -> Outcome | None:
        """Return what a release has said of this key since the last call; None: nothing."""
        before, self._noted = self._noted, _read(file, self._slot)
        if before is None or before == self._noted or self._noted >> 17 != self._tag:
            return None
        return Outcome.RELEASED if self._noted & _STORED else Outcome.UNSTORED

    def _note(self, file: lockfiles.OwnFile, stored: bool) -> None:
        count = (_read(file, self._slot) + 1) & 0xFFFF
        _write(file, self._slot, self._tag << 17 | stored << 16 | count)


_files: dict[str, lockfiles.OwnFile] = {}


def _opened(path: str) -> lockfiles.OwnFile:
    """Return the one open file description through which this process holds all its bytes of a file."""
    file = _files.get(path)
    if file is None or file.closed:
        _files.pop(path, None)
        file = _files.setdefault(path, lockfiles.own_or_make(path))
    return file


@atexit.register
def _close_all() -> None:
    """Close the files, so that Python does not warn of them; not while daemon threads may still hold bytes."""
    if threading.active_count() == 1:
        while _files:
            _files.popitem()[1].forget()


def _retire(file: lockfiles.OwnFile, byte: int) -> None:
    """Forget a file whose name or descriptor refers to another file now: later locks are taken in that file."""
    if file.intact:
        lockfiles.unlock_bytes(file, byte)  # and leave it open: other threads may still hold bytes of it
    else:
        file.forget()
    if _files.get(file.path) is file:
        del _files[file.path]


def _read(file: lockfiles.OwnFile, word: int) -> int:
    try:
        return int(_WORD.unpack(os.pread(file.fileno(), _WORD.size, word * _WORD.size))[0])
    except (OSError, ValueError, struct.error):  # the file is shorter: nothing was written there yet
        return 0


def _write(file: lockfiles.OwnFile, word: int, value: int) -> None:
    try:
        os.pwrite(file.fileno(), _WORD.pack(value), word * _WORD.size)
    except (OSError, ValueError):
        pass  # the disk is full, or the file was removed: a word is a hint


# -- bells ------------------------------------------------------------------------------------------------------


@functools.cache
def _posix_ipc() -> Any:
    import posix_ipc

    return posix_ipc


@functools.cache
def _bell_prefix(path: str) -> str:
    place = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=8).hexdigest()
    return f"/mpcache-{os.geteuid()}-{place}-"


def _bell_name(path: str, number: int) -> str:
    return f"{_bell_prefix(path)}{number}"


def _ring(path: str, number: int) -> None:
    """Ring a bell, once for any number of calls: a waiter that was woken rings for the next one."""
    try:
        bell = _posix_ipc().Semaphore(_bell_name(path, number))
        if bell.value == 0:
            bell.release()
        bell.close()
    except Exception as error:  # it was removed, or is another user's: waiters try again without it
        if raised_by_signal_handler(error):
            raise
        log.debug("the bell %s cannot be rung: %s", _bell_name(path, number), error)


def _listen(path: str, number: int, seconds: float) -> bool | None:
    """Return whether a bell rang within so many seconds; None: it cannot be opened."""
    posix_ipc = _posix_ipc()
    try:
        bell = posix_ipc.Semaphore(_bell_name(path, number), posix_ipc.O_CREAT, mode=0o600, initial_value=0)
    except (posix_ipc.Error, OSError) as error:
        log.debug("the bell %s cannot be opened: %s", _bell_name(path, number), error)
        return None
    try:
        return _await(posix_ipc, bell, seconds)
    finally:
        bell.close()


_ASYNCHRONOUS = signal.valid_signals() - {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS)
}


def _await(posix_ipc: Any, bell: Any, seconds: float) -> bool:
    """Wait for a semaphore.  In the main thread signals are blocked: posix_ipc would swallow what handlers raise."""
    mine = threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if mine else None
    try:
        if mine:
            signal.pthread_sigmask(signal.SIG_BLOCK, _ASYNCHRONOUS)
        bell.acquire(seconds)
    except (posix_ipc.BusyError, posix_ipc.SignalError):
        return False
    finally:
        if before is not None:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            except BaseException:  # a handler's: another thread took the signal
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                raise
    return True


def _remove_bell(path: str, number: int) -> None:
    try:
        _posix_ipc().unlink_semaphore(_bell_name(path, number))
    except _posix_ipc().ExistentialError:
        pass
