"""A lock for many readers or one writer, among threads.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)


class LockError(Exception):
    """The thread that released a :class:`ReadWriteMutex` does not hold it."""


class ReadWriteMutex:
    """A lock of threads: many readers, or one writer.  A waiting writer keeps new readers out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writer: int | None = None

    def acquire_read_lock(self, wait: bool = True) -> bool | None:
        """Acquire a read lock.  With ``wait=False`` return whether it was acquired; else None."""
        with self._changed:
            if not wait and self._writer is not None:
                return False
            self._changed.wait_for(lambda: self._writer is None)
            self._readers += 1
            log.debug("%r: read lock acquired", self)
        return None if wait else True

    def release_read_lock(self) -> None:
        """Release a read lock.  Raises LockError if there is none."""
        with self._changed:
            if not self._readers:
                raise LockError("the read lock is not held; acquire it before releasing it")
            self._readers -= 1
            log.debug("%r: read lock released", self)
            self._changed.notify_all()

    def acquire_write_lock(self, wait: bool = True) -> bool | None:
        """Acquire the write lock.  With ``wait=False`` return whether it was acquired; else None."""
        with self._changed:
            if not wait and (self._readers or self._writer is not None):
                return False
            self._changed.wait_for(lambda: self._writer is None)
            self._writer = threading.get_ident()
            try:
                self._changed.wait_for(lambda: not self._readers)
            except BaseException:
                self._leave()
                raise
            log.debug("%r: write lock acquired", self)
        return None if wait else True

    def release_write_lock(self) -> None:
        """Release the write lock.  Raises LockError if this thread does not hold it."""
        with self._changed:
            if self._writer != threading.get_ident():
                raise LockError("this thread does not hold the write lock; its holder has to release it")
            self._leave()
            log.debug("%r: write lock released", self)

    def _leave(self) -> None:
        self._writer = None
        self._changed.notify_all()
