"""Third-party locks, under names that ``--mutex`` takes; the scenarios find what each of them lacks.

Depends on api.  Each class uses its lock as a program would that has nothing else; it is tested for exclusion and for
surviving the death of a holder.  The names are those of the locks' own libraries, and only the stress tool knows them.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpcache.api import Guarantees

STRIPES = 64
"""Number of locks of a kind whose names or descriptors must be known beforehand; each key maps to one of them."""

ASSUMED = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=1.0)


def _stripe(key: Any) -> int:
    return int.from_bytes(hashlib.blake2b(str(key).encode(), digest_size=2).digest(), "little") % STRIPES


class ThirdPartyLock:
    """The lock of a key: acquire and release.

    :param directory: of the run.
    :param name: of the run.
    """

    guarantees = ASSUMED

    inherited = False
    """Whether it must be made before the fork, so that another program cannot have it."""

    def __init__(self, key: Any, *, directory: str, name: str) -> None:
        self.key = key
        self.directory, self.name = directory, name

    @classmethod
    def prepare(cls, directory: str, name: str) -> None:
        """Make what workers inherit, before they are forked."""

    @classmethod
    def clear(cls, directory: Path, name: str) -> None:
        """Remove what outlives a run."""

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Acquire it; return False if it was not acquired in time."""
        raise NotImplementedError

    def release(self) -> None:
        """Release it."""
        raise NotImplementedError

    def _polled(self, attempt: Callable[[], bool], wait: bool, timeout: float | None) -> bool:
        deadline = time.monotonic() + timeout if timeout is not None else None
        while not attempt():
            if not wait or (deadline is not None and time.monotonic() >= deadline):
                return False
            time.sleep(0.001)
        return True


class MultiprocessingLock(ThirdPartyLock):
    """``multiprocessing.Lock``, made before the fork: a POSIX semaphore without a name and without an owner."""

    inherited = True

    @classmethod
    def prepare(cls, directory: str, name: str) -> None:
        _locks()

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        return bool(_locks()[_stripe(self.key)].acquire(wait, timeout))

    def release(self) -> None:
        _locks()[_stripe(self.key)].release()


@functools.cache
def _locks() -> list[Any]:
    return [multiprocessing.get_context("fork").Lock() for _ in range(STRIPES)]


class PosixSemaphore(ThirdPartyLock):
    """A named POSIX semaphore of the initial value 1, as ``posix_ipc.Semaphore`` makes it: no owner is recorded."""

    def __init__(self, key: Any, *, directory: str, name: str) -> None:
        super().__init__(key, directory=directory, name=name)
        self._semaphore = _semaphore(_semaphore_name(name, _stripe(key)))

    @classmethod
    def clear(cls, directory: Path, name: str) -> None:
        try:
            import posix_ipc
        except ImportError:
            return
        for stripe in range(STRIPES):
            with suppress(posix_ipc.ExistentialError):
                posix_ipc.unlink_semaphore(_semaphore_name(name, stripe))

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        import posix_ipc

        try:
            self._semaphore.acquire(timeout if wait else 0)
        except posix_ipc.BusyError:
            return False
        return True

    def release(self) -> None:
        self._semaphore.release()


def _semaphore_name(name: str, stripe: int) -> str:
    return f"/{name}-{stripe}"


@functools.cache
def _semaphore(name: str) -> Any:
    import posix_ipc

    return posix_ipc.Semaphore(name, posix_ipc.O_CREAT, mode=0o600, initial_value=1)


class InheritedFlock(ThirdPartyLock):
    """``flock`` on a file that was opened before the fork: to the kernel, all that inherited it are one holder."""

    inherited = True

    @classmethod
    def prepare(cls, directory: str, name: str) -> None:
        for stripe in range(STRIPES):
            _opened(directory, stripe)

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        return self._polled(self._try, wait, timeout)

    def _try(self) -> bool:
        try:
            fcntl.flock(_opened(self.directory, _stripe(self.key)), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.flock(_opened(self.directory, _stripe(self.key)), fcntl.LOCK_UN)


@functools.cache
def _opened(directory: str, stripe: int) -> int:
    return os.open(os.path.join(directory, f"flock-{stripe}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


class RecordLock(ThirdPartyLock):
    """``fcntl.lockf`` on a file opened for each hold: threads do not exclude each other, and any close unlocks it."""

    _fd = -1

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        path = os.path.join(self.directory, f"lockf-{_stripe(self.key)}")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._polled(self._try, wait, timeout):
            return True
        os.close(self._fd)
        return False

    def _try(self) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self) -> None:
        os.close(self._fd)


class PidFile(ThirdPartyLock):
    """A file made with O_EXCL that contains its holder's pid; a process that finds the holder dead removes it."""

    @property
    def _path(self) -> str:
        return os.path.join(self.directory, f"pid-{_stripe(self.key)}")

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        return self._polled(self._try, wait, timeout)

    def _try(self) -> bool:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            self._break()
            return False
        os.write(fd, str(os.getpid()).encode())
        os.close(fd)
        return True

    def _break(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(Path(self._path).read_text())
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                os.unlink(self._path)  # a race: it may be another holder's by now

    def release(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path)


TABLE: dict[str, type[ThirdPartyLock]] = {
    "multiprocessing.Lock": MultiprocessingLock,
    "posix_ipc.Semaphore": PosixSemaphore,
    "fcntl.flock": InheritedFlock,
    "fcntl.lockf": RecordLock,
    "pidfile": PidFile,
}


def clear(directory: Path, name: str) -> None:
    """Remove what the locks of a run leave outside of its folder."""
    for kind in TABLE.values():
        kind.clear(directory, name)
