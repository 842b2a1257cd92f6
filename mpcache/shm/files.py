"""The files of a segment's name: which layout and which use a file has.

    .4@NAME   the segment of stores, of layout 4; each layout has a file of its own, so versions run side by side
    NAME      the segment of mutexes, of any layout: versions that cannot share it must refuse each other.
              Of layout 2, it is the segment of stores and of mutexes

No legal name begins with a dot.  Depends on directory and the engine.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import Any

from mpcache.shm import _engine
from mpcache.shm.directory import checked_directory, directory

LAYOUT = _engine.LAYOUT
"""The layout that this version reads and writes."""

LAST_SHARED = 2
"""The last layout in which stores and mutexes share the file that has the bare name."""

_OF_STORES = re.compile(r"\.([1-9]\d{0,8})@([^.].*)", re.DOTALL)
_START = struct.Struct("=QI")
"""The first words of a segment of every layout: magic and layout."""


@dataclass(frozen=True)
class SegmentFile:
    """A file with the name of a segment.

    :ivar name: the segment's.
    :ivar layout: that of its file name, or else the one in the file; None: it is not a segment.
    """

    name: str
    path: str
    layout: int | None

    @property
    def other(self) -> bool:
        """Return whether it has another layout than this version's."""
        return self.layout not in (None, LAYOUT)

    @property
    def bare(self) -> bool:
        """Return whether its file name is the segment's name alone."""
        return os.path.basename(self.path) == self.name

    @property
    def use(self) -> str:
        """Return what uses it: ``"stores"`` or ``"mutexes"``; empty where that cannot be known."""
        if not self.bare:
            return "stores"
        return "mutexes" if self.layout is not None and self.layout > LAST_SHARED else ""


def file_name(name: str, for_mutexes: bool = False) -> str:
    """Return the name of the file that a segment of this version's layout has."""
    return name if for_mutexes or LAYOUT <= LAST_SHARED else f".{LAYOUT}@{name}"


def path_of(name: Any, for_mutexes: bool = False) -> str:
    """Return the path of the segment of that name, in this version's layout.

    :param for_mutexes: the segment of mutexes without a store.
    :raises ValueError: it is no name for a segment.
    :raises SegmentError, SegmentRefused: the directory of segments cannot be made, or other users may use it.
    """
    if not isinstance(name, str) or not name or "/" in name or "\0" in name or name.startswith("."):
        raise ValueError(f"segment name {name!r}: a name is a text without '/' that does not begin with a dot")
    if len(os.fsencode(name)) > 200:
        raise ValueError(f"segment name of {len(os.fsencode(name))} bytes: {name[:40]!r}...; it may have 200")
    return os.path.join(checked_directory(), file_name(name, for_mutexes))


def parsed(file: str) -> tuple[str, int | None] | None:
    """Return the segment's name and the layout that a file name says; None: it is no segment's."""
    match = _OF_STORES.fullmatch(file)
    if match is None:
        return None if file.startswith(".") else (file, None)
    return (match[2], int(match[1])) if int(match[1]) > LAST_SHARED else None


def name_of(path: str) -> str:
    """Return the segment's name that a path has."""
    file = os.path.basename(path)
    return (parsed(file) or (file, None))[0]


def _listed() -> list[tuple[str, str, int | None]]:
    """Return file name, segment's name and layout of each file that has a name of a segment."""
    try:
        files = os.listdir(directory())
    except FileNotFoundError:
        return []
    return [(file, *known) for file in files if (known := parsed(file)) is not None]


def names() -> list[str]:
    """Return the names of this user's segments, each once, sorted."""
    return sorted({name for _, name, _ in _listed()})


def files_of(name: str | None = None) -> list[SegmentFile]:
    """Return the files of a name, or of all names: this version's first, then stores' before mutexes'."""
    found = [_described(*listed) for listed in _listed() if name in (None, listed[1])]
    return sorted(found, key=lambda file: (file.name, file.other, file.bare, file.layout or 0))


def _described(file: str, name: str, layout: int | None) -> SegmentFile:
    path = os.path.join(directory(), file)
    return SegmentFile(name, path, _layout_in(path) if layout is None else layout)


def _layout_in(path: str) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return layout_of(fd)
    finally:
        os.close(fd)


def layout_of(fd: int) -> int | None:
    """Return the layout of the segment behind a descriptor, whatever it is; None: it is not a segment."""
    try:
        start = os.pread(fd, _START.size, 0)
    except OSError:  # a directory, a pipe
        return None
    magic, layout = _START.unpack(start) if len(start) == _START.size else (0, 0)
    return layout if magic == _engine.MAGIC else None
