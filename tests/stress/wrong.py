"""Mutexes and stores that break one promise each, which a scenario must find.

Depends on mpcache.  Workers load these classes by an entry point, see test_scenarios.
"""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from mpcache.api import Guarantees, KeyType, current_fill
from mpcache.backends.shm import ShmBackend
from mpcache.invalidation import SharedInvalidation
from mpcache.mutexes.file import FileMutex

SOON = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=0.1)


def _path(key: str) -> str:
    return os.path.join(tempfile.gettempdir(), f"wrong-{key}")


class Existing:
    """A file whose mere existence is the lock: it outlives its holder."""

    guarantees = SOON

    def __init__(self, key: str) -> None:
        self._path = _path(key)

    def acquire(self, wait: bool = True) -> bool:
        while not self._try():
            if not wait:
                return False
            time.sleep(0.001)
        return True

    def _try(self) -> bool:
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def release(self) -> None:
        os.unlink(self._path)


class Impatient(Existing):
    """The same; a waiter that finds it a tenth of a second old takes its holder for dead."""

    def _try(self) -> bool:
        try:
            if time.time() - os.stat(self._path).st_mtime > 0.1:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        return super()._try()

    def release(self) -> None:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


class Inherited:
    """A lock of the kernel's, as it comes: a forked child has it, too, and gives it back."""

    guarantees = SOON

    def __init__(self, key: str) -> None:
        self._path, self._fd = _path(key), -1

    def acquire(self, wait: bool = True) -> bool:
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            return False
        return True

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


class Deaf(FileMutex):
    """Waits as long as it takes, whatever limit it was told."""

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        return super().acquire(wait)


class Unfair(FileMutex):
    """Says that it is fair, and lets every other process come a second and a half late to where one waits."""

    guarantees = SOON._replace(fair=True)

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        if os.getpid() % 2:
            return super().acquire(wait, timeout)
        if super().acquire(False):
            return True
        time.sleep(1.5)
        return super().acquire(wait, timeout)


class Forgetful(ShmBackend):
    """Forgets most of what it is given, at once."""

    def store(self, key: KeyType, *what: Any) -> None:
        super().store(key, *what)
        if random.random() < 0.8:
            self.delete(key)


class Aged(ShmBackend):
    """Keeps copies of what a process has once read."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self._seen: dict[KeyType, Any] = {}

    def fetch(self, key: KeyType) -> tuple[bytes, float, int] | None:
        found = super().fetch(key)
        return found if found is None else self._seen.setdefault(key, found)


class Alone(ShmBackend):
    """Keeps an invalidation within its process."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self._hidden_until = 0

    def invalidation(self) -> SharedInvalidation:
        return SharedInvalidation(self)

    def epochs(self) -> tuple[int, int, int]:
        epoch, _, _ = super().epochs()
        return epoch, self._hidden_until, 0

    def invalidate(self, hard: bool = True) -> None:
        super().invalidate(hard)
        self._hidden_until = super().epochs()[0]


class Unguarded(ShmBackend):
    """Lets go of a creation's guard before it is used, so that nothing refuses what was begun too early."""

    def store(self, key: KeyType, *what: Any) -> None:
        before = current_fill.get()
        current_fill.set(None)
        try:
            super().store(key, *what)
        finally:
            current_fill.set(before)
