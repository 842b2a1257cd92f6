"""The board: words in a mapped file that all processes of a play see at once.

Leans on nothing of mpcache.  One row for each thread of each worker, one for each key, and a head.  It is for
counting, aiming and watching; what is judged stands in the diaries, except who was found in a mutex.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

STOP, KILLS, STOPS, FINDINGS, BEGAN, BURIED = range(6)
"""The head: whether all are to end; signals sent; things that workers found amiss; when the play began (ns), or 0; what
those had done who are dead and whose rows are others'.
"""

WHO, DONE, SINCE, HOLDING = range(4)
"""A thread's row: its actor's number; operations done; when this one began (ns), or 0; the key it holds, plus one."""

OCCUPANT, TIMES, GENERATION = range(3)
"""A key's row: who is in its mutex; how often that was held; which generation of its value is asked for."""

_ROW = 8
KEYS = 1024

Words = memoryview


class Board:
    """The board of a play.

    :param path: of its file, which is made if there is none.
    """

    def __init__(self, path: Path, workers: int, threads: int) -> None:
        self.workers, self.threads = workers, threads
        size = 8 * _ROW * (1 + workers * threads + KEYS)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)  # what cannot be had later would be a SIGBUS
            self._words = memoryview(mmap.mmap(fd, size)).cast("Q")
        finally:
            os.close(fd)
        self.head = self._words[:_ROW]

    def row(self, worker: int, thread: int) -> Words:
        """Of that thread of the worker at that place."""
        at = _ROW * (1 + worker * self.threads + thread)
        return self._words[at : at + _ROW]

    def rows(self, worker: int) -> list[Words]:
        """Of all its threads."""
        return [self.row(worker, thread) for thread in range(self.threads)]

    def key(self, key: int) -> Words:
        """The row of a key."""
        at = _ROW * (1 + self.workers * self.threads + key)
        return self._words[at : at + _ROW]

    def everybody(self) -> list[Words]:
        """All rows of threads."""
        return [row for worker in range(self.workers) for row in self.rows(worker)]
