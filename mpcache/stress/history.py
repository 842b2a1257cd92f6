"""A worker's diary: what it did and when, in a file of words that outlives SIGKILL, one for each thread.

Leans on nothing of mpcache.  Nobody shares a diary, so nobody locks one.  An entry is seven words of 64 bits, in a
file that is mapped, so that what was written is there though the writer is not::

    0  kind, outcome, key   kind 0: no entry.  Written last when an entry begins
    1  began                all times are CLOCK_MONOTONIC in ns, which processes share
    2  got                  when it had what it asked for; 0: never
    3  ended                written last; 0: never
    4  value                what was read, written, created or granted, as a number
    5  extra
    6  times
"""

from __future__ import annotations

import mmap
import os
import time
from array import array
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

PAGE = 2048
"""Entries; a page is taken when the one before is nearly full, between two operations."""
PAGES = 16
"""In a diary.  Whoever has filled one ends, and another worker begins."""
MOST = 512
"""Entries that one operation may write."""

_WORDS = 7
_BYTES = PAGE * _WORDS * 8  # a multiple of what the kernel calls a page

now = time.monotonic_ns


class Kind(IntEnum):
    """What an entry is about.

    HOLD        a mutex was asked for at ``began``, held from ``got`` to ``ended``; ``value`` is its fence, ``extra``
                who was found in it, ``times`` how often it had been held
    ASK         a value was asked for, by a get_or_create; ``value`` is what came
    CREATE      a creator ran, and made ``value``
    READ        a get; ``value`` 0: none was there
    WRITE       a set; ``value`` 0: a delete
    INVALIDATE  an invalidation of all there is
    """

    HOLD = 1
    ASK = 2
    CREATE = 3
    READ = 4
    WRITE = 5
    INVALIDATE = 6


class Outcome(IntEnum):
    """How it ended.

    DONE     as it should
    LOST     the mutex was lost meanwhile, and the holder was told
    LEAVING  it had ended, and was being given back: who was killed then cannot say what came of that
    INTRUDED another's number stood where the holder had written his own
    ALONE    created without the mutex, since the last creator's value was not stored
    REFUSED  by an error that the contract allows: it did not happen, or not for certain
    """

    DONE = 0
    LOST = 1
    INTRUDED = 2
    ALONE = 3
    REFUSED = 4
    LEAVING = 5


class Entry(NamedTuple):
    """One entry, read.  ``actor`` is whose: life << 8 | thread.  ``until`` is when it ended, or its actor; or never."""

    kind: int
    outcome: int
    key: int
    began: int
    got: int
    ended: int
    value: int
    extra: int
    times: int
    actor: int
    until: int


class Diary:
    """The diary of one thread, to be written.

    :raises OSError: there is no room for it.
    """

    def __init__(self, folder: Path, actor: int) -> None:
        self._path = folder / f"diary-{actor}"
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._pages = 0
        self._turn()

    def _turn(self) -> None:
        """A new page."""
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            at = self._pages * _BYTES
            os.posix_fallocate(fd, at, _BYTES)  # what cannot be had later would be a SIGBUS
            self._words = memoryview(mmap.mmap(fd, _BYTES, offset=at)).cast("Q")
        finally:
            os.close(fd)
        self._pages += 1
        self._next = 0

    def ready(self) -> bool:
        """Make room for what an operation may write; False: it is full.  Not while an entry has not ended."""
        if self._next > (PAGE - MOST) * _WORDS:
            if self._pages == PAGES:
                return False
            self._turn()
        return True

    def begin(self, kind: Kind, key: int) -> int:
        """A new entry, begun now; where it is."""
        at, words = self._next, self._words
        self._next += _WORDS
        words[at + 1] = now()
        words[at] = kind | key << 32
        return at

    def got(self, at: int, value: int = 0, extra: int = 0, times: int = 0) -> None:
        """It has what it asked for, from now on."""
        words = self._words
        words[at + 4], words[at + 5], words[at + 6] = value, extra, times
        words[at + 2] = now()

    def end(self, at: int, outcome: Outcome = Outcome.DONE, value: int | None = None) -> None:
        """It has ended."""
        words = self._words
        if value is not None:
            words[at + 4] = value
        words[at] |= outcome << 8
        words[at + 3] = now()

    def amend(self, at: int, outcome: Outcome) -> None:
        """Its outcome was another, as it turns out."""
        self._words[at] = self._words[at] & ~0xFF00 | outcome << 8


NEVER = 1 << 63
"""A time later than all others."""


def read(path: Path, died: int | None) -> Iterator[Entry]:
    """The entries of one file, in the order in which they began.

    :param died: when the signal was sent that killed its writer; None: nobody did.
    """
    actor, last, words = int(path.name.partition("-")[2]), died or NEVER, array("Q")
    data = path.read_bytes()
    words.frombytes(data[: len(data) // _BYTES * _BYTES])  # its writer may have been killed while he made a page
    for page in range(0, len(words), PAGE * _WORDS):
        for at in range(page, page + PAGE * _WORDS, _WORDS):
            head, began, got, ended, value, extra, times = words[at : at + _WORDS]
            if not head:
                break
            kind, outcome, key = head & 0xFF, head >> 8 & 0xFF, head >> 32
            yield Entry(kind, outcome, key, began, got, ended, value, extra, times, actor, ended or last)
