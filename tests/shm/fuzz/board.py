"""The board of a fuzz: words in memory that its processes share, from which the director sees where each stands."""

from __future__ import annotations

import mmap
from enum import IntEnum

WIDTH = 16
"""Words of each process."""


class Word(IntEnum):
    """What a word says.  The first three stand in row 0, which belongs to no process."""

    EPISODE = 0
    READY = 1  # its segment is there, plus one
    DONE = 2  # it is over, plus one
    CALLS = 3
    STRUCK = 4
    ERRORS = 5
    STARTED = 6  # when the call began (monotonic, ns); 0: none is under way
    CALL = 7
    FENCED = 8


class Board:
    """The words, made before the processes are forked."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("B").cast("Q")

    def get(self, row: int, word: Word) -> int:
        return self._words[row * WIDTH + word]

    def put(self, row: int, word: Word, value: int) -> None:
        self._words[row * WIDTH + word] = value

    def add(self, row: int, word: Word, value: int = 1) -> None:
        self._words[row * WIDTH + word] += value
