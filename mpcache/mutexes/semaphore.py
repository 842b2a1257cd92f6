"""The semaphore mutex: a lock of the kernel on a byte is the hold, and a POSIX semaphore the bell that ends waiting.

Leans on files, and on the posix_ipc library for the semaphores.  A semaphore by itself has no owner: it stays taken
when its holder is killed, and anybody may post it.  So it only says that it is worth trying again.
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

from mpcache.api import Guarantees, Outcome
from mpcache.exception import NotHeld
from mpcache.mutexes import lockfiles
from mpcache.mutexes.greenlets import sleep_of_hub
from mpcache.mutexes.two_level import POLL_LAST, ProcessLock, TwoLevelMutex
from mpcache.signal_handlers import raised_by_signal_handler

BELLS = 256
"""Semaphores of one directory, whatever the number of keys."""

_SLOTS = 3 * BELLS
_WORD = struct.Struct("=Q")
_ANNOUNCED = 40_000_000
"""Nanoseconds for which a waiter says that he waits: twice the time between two of his looks."""

_STORED = 1 << 16

_FILE = "semaphores"

log = logging.getLogger("mpcache.mutexes")


class SemaphoreMutex(TwoLevelMutex):
    """A mutex among all processes of this user, with one open file for all keys, and no file for any of them.

    ::

        the lock file    [bells: 256 words][notes: 768 words]          a word has 64 bits, native order
                         until when somebody waits there (monotonic, in ns)
                                           what a release had to say: 47 bits of the key, stored or not, a count
        a key            one byte of it, far behind its end, locked for writing as long as the key is held

    Words are hints: to lose one, or all, costs a waiter 20 ms.

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
    """One process's way to one byte."""

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
                    raise lockfiles.trouble_with_locks(error, self._path) from error
                got = True  # of a descriptor that is no more
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
            self._note(file, stored)  # before anybody can have it again: it must not be said of the next one
        if file.intact:
            lockfiles.unlock_bytes(file, self._byte)
        self._file = None
        if lost:
            raise NotHeld(
                f"SemaphoreMutex: pid {os.getpid()} has lost its byte of {self._path}; somebody removed the file, or"
                " closed its descriptor, while it was held, and another may hold the key now",
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
            return heard  # to try once more, now that a release will ring
        if sleep_of_hub(cooperates=False):  # to listen in C would stop every greenlet
            return super().wait(most)
        woken = _listen(self._path, self._bell, POLL_LAST if most is None else min(POLL_LAST, most))
        heard = self._hear(file)
        if heard and woken:
            _ring(self._path, self._bell)  # for the next one who waits for this key
        elif woken is not False:
            self._false_alarm(most, woken)
        return heard

    def _false_alarm(self, most: float | None, woken: bool | None) -> None:
        """It rang for another key, or a stranger rang, or there is no bell: sleep, so that nobody makes us spin."""
        self._false_alarms += 1
        if woken and self._false_alarms < 3:
            _ring(self._path, self._bell)
        super().wait(most)

    def _hear(self, file: lockfiles.OwnFile) -> Outcome | None:
        """What a release has said of this key since the last look; None: nothing."""
        before, self._noted = self._noted, _read(file, self._slot)
        if before is None or before == self._noted or self._noted >> 17 != self._tag:
            return None
        return Outcome.RELEASED if self._noted & _STORED else Outcome.UNSTORED

    def _note(self, file: lockfiles.OwnFile, stored: bool) -> None:
        count = (_read(file, self._slot) + 1) & 0xFFFF
        _write(file, self._slot, self._tag << 17 | stored << 16 | count)


_files: dict[str, lockfiles.OwnFile] = {}


def _opened(path: str) -> lockfiles.OwnFile:
    """The one description of this process, through which it holds all its bytes of a file."""
    file = _files.get(path)
    if file is None or file.closed:
        _files.pop(path, None)
        file = _files.setdefault(path, lockfiles.own_or_make(path))
    return file


@atexit.register
def _close_all() -> None:
    """Lest Python warns of them; but daemon threads may work to the very end, under what they hold."""
    if threading.active_count() == 1:
        while _files:
            _files.popitem()[1].forget()


def _retire(file: lockfiles.OwnFile, byte: int) -> None:
    """The name leads elsewhere, or the descriptor does: what is taken from now on is taken there."""
    if file.intact:
        lockfiles.unlock_bytes(file, byte)  # and leave it open: others may hold bytes of it still
    else:
        file.forget()
    if _files.get(file.path) is file:
        del _files[file.path]


def _read(file: lockfiles.OwnFile, word: int) -> int:
    try:
        return int(_WORD.unpack(os.pread(file.fileno(), _WORD.size, word * _WORD.size))[0])
    except (OSError, ValueError, struct.error):  # the file is shorter, since nobody has written that far
        return 0


def _write(file: lockfiles.OwnFile, word: int, value: int) -> None:
    try:
        os.pwrite(file.fileno(), _WORD.pack(value), word * _WORD.size)
    except (OSError, ValueError):
        pass  # the disk is full, or the file is no more: it is a hint


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
    """Once, however many ring: one who goes rings for the next one."""
    try:
        bell = _posix_ipc().Semaphore(_bell_name(path, number))
        if bell.value == 0:
            bell.release()
        bell.close()
    except Exception as error:  # it was removed, or is another user's: those who wait look by themselves
        if raised_by_signal_handler(error):
            raise
        log.debug("the bell %s cannot be rung: %s", _bell_name(path, number), error)


def _listen(path: str, number: int, seconds: float) -> bool | None:
    """Whether it rang within so many seconds; None: there is no bell to be had."""
    posix_ipc = _posix_ipc()
    try:
        bell = posix_ipc.Semaphore(_bell_name(path, number), posix_ipc.O_CREAT, mode=0o600, initial_value=0)
    except (posix_ipc.Error, OSError) as error:
        log.debug("the bell %s cannot be opened: %s", _bell_name(path, number), error)
        return None
    try:
        return _acquire(posix_ipc, bell, seconds)
    finally:
        bell.close()


_ASYNCHRONOUS = signal.valid_signals() - {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS)
}


def _acquire(posix_ipc: Any, bell: Any, seconds: float) -> bool:
    """In the main thread signals are held back meanwhile: posix_ipc would swallow what their handlers raise."""
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
            except BaseException:  # a handler's, at this door: another thread took the signal
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                raise
    return True


def _remove_bell(path: str, number: int) -> None:
    try:
        _posix_ipc().unlink_semaphore(_bell_name(path, number))
    except _posix_ipc().ExistentialError:
        pass
