"""The scoreboard: words in a mapped file that all processes of a round share.

Depends on nothing of mpcache.  It has a head, a row for each thread of each worker, and a row for each key.  It serves
to count, to choose victims of signals and to show progress.  Checks read the logs, not the scoreboard; only what a
holder finds in its key's word goes from here into its log.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

STOP, KILLS, STOPS, FINDINGS, BEGAN, REAPED = range(6)
"""Words of the head: whether all actors are to end; signals sent; findings; when the round began (ns), or 0; operations
of reaped workers, whose rows others have taken.
"""

WHO, DONE, SINCE, HOLDING = range(4)
"""Words of a thread's row: its actor number; operations done; when the present operation began (ns), or 0; the number
of the key that it holds, plus one.
"""

OCCUPANT, TIMES, GENERATION = range(3)
"""Words of a key's row: the actor number of its holder; the number of holds so far; the generation of its value that
actors ask for.
"""

_ROW = 8
KEYS = 1024
"""Keys that have a row."""

Words = memoryview


class Scoreboard:
    """The scoreboard of a round.

    :param path: of its file, which is made if it does not exist.
    """

    def __init__(self, path: Path, workers: int, threads: int) -> None:
        self.workers, self.threads = workers, threads
        size = 8 * _ROW * (1 + workers * threads + KEYS)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)  # without it, a full disk would be a SIGBUS at a later write
            self._words = memoryview(mmap.mmap(fd, size)).cast("Q")
        finally:
            os.close(fd)
        self.head = self._words[:_ROW]

    def row(self, worker: int, thread: int) -> Words:
        """Return the row of a thread of the worker at a place."""
        at = _ROW * (1 + worker * self.threads + thread)
        return self._words[at : at + _ROW]

    def rows(self, worker: int) -> list[Words]:
        """Return the rows of all threads of the worker at a place."""
        return [self.row(worker, thread) for thread in range(self.threads)]

    def key(self, key: int) -> Words:
        """Return the row of a key."""
        at = _ROW * (1 + self.workers * self.threads + key)
        return self._words[at : at + _ROW]

    def all_rows(self) -> list[Words]:
        """Return the rows of all threads."""
        return [row for worker in range(self.workers) for row in self.rows(worker)]
