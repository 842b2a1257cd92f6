"""The log of one actor: a mapped file of entries, which survives the SIGKILL of its writer.

Depends on history for what an entry means.  Each actor writes a file of its own, so writing needs no lock.  An entry is
seven words of 64 bits::

    0  kind, outcome, key   kind 0: no entry.  Written last when an entry begins
    1  began                all times are CLOCK_MONOTONIC in ns
    2  got                  when the operation had its object; 0: never
    3  ended                written last; 0: never
    4  value                the number of the value that was read, written or created; or the fence
    5  extra
    6  times
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from mpcache.stress.history import NEVER, Entry, Kind, Outcome, now

PAGE = 2048
"""Entries of a page; a page is allocated when the one before is nearly full, between two operations."""
PAGES = 16
"""Pages of a log.  An actor whose log is full ends, and another worker takes its place."""
MOST = 512
"""Entries that one operation may write."""

_WORDS = 7
_BYTES = PAGE * _WORDS * 8  # a multiple of the kernel's page size

_PREFIX = "log-"


def paths(folder: Path) -> list[tuple[int, Path]]:
    """Return the logs of a round: actor numbers and files."""
    return [(int(path.name.removeprefix(_PREFIX)), path) for path in folder.glob(f"{_PREFIX}*")]


class ActorLog:
    """Writer of one actor's log.

    :raises OSError: there is no room for it.
    """

    def __init__(self, folder: Path, actor: int) -> None:
        self._path = folder / f"{_PREFIX}{actor}"
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._pages = 0
        self._add_page()

    def _add_page(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            at = self._pages * _BYTES
            os.posix_fallocate(fd, at, _BYTES)  # without it, a full disk would be a SIGBUS at a later write
            self._words = memoryview(mmap.mmap(fd, _BYTES, offset=at)).cast("Q")
        finally:
            os.close(fd)
        self._pages += 1
        self._next = 0

    def ready(self) -> bool:
        """Make room for one operation's entries; return False if the log is full.  Not to be called in an entry."""
        if self._next > (PAGE - MOST) * _WORDS:
            if self._pages == PAGES:
                return False
            self._add_page()
        return True

    def begin(self, kind: Kind, key: int) -> int:
        """Begin an entry now; return its position."""
        at, words = self._next, self._words
        self._next += _WORDS
        words[at + 1] = now()
        words[at] = kind | key << 32
        return at

    def got(self, at: int, value: int = 0, extra: int = 0, times: int = 0) -> None:
        """Record that the operation has its object from now on."""
        words = self._words
        words[at + 4], words[at + 5], words[at + 6] = value, extra, times
        words[at + 2] = now()

    def end(self, at: int, outcome: Outcome = Outcome.DONE, value: int | None = None) -> None:
        """Record that the operation ends now."""
        words = self._words
        if value is not None:
            words[at + 4] = value
        words[at] |= outcome << 8
        words[at + 3] = now()

    def amend(self, at: int, outcome: Outcome) -> None:
        """Replace the outcome of an entry."""
        self._words[at] = self._words[at] & ~0xFF00 | outcome << 8


def read(path: Path, died: int | None) -> Iterator[Entry]:
    """Yield the entries of one log, in the order in which they began.

    :param died: when SIGKILL was sent to its writer; None: the writer was not killed.
    """
    actor, last, words = int(path.name.removeprefix(_PREFIX)), died or NEVER, array("Q")
    data = path.read_bytes()
    words.frombytes(data[: len(data) // _BYTES * _BYTES])  # a writer killed in _add_page() leaves part of a page
    for page in range(0, len(words), PAGE * _WORDS):
        for at in range(page, page + PAGE * _WORDS, _WORDS):
            head, began, got, ended, value, extra, times = words[at : at + _WORDS]
            if not head:
                break
            kind, outcome, key = head & 0xFF, head >> 8 & 0xFF, head >> 32
            yield Entry(kind, outcome, key, began, got, ended, value, extra, times, actor, ended or last)
