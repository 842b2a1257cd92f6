"""Segments: create one under a name, find it again, check it, and replace it.

Depends on exception, sizes, capacity, directory, files, attached, removal, other_layouts and the engine.  Only the
engine reads and writes the contents of a segment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Any
from weakref import WeakValueDictionary

from mpcache._support.hints import warn
from mpcache._support.sizes import mebibytes, parse_size
from mpcache.exception import NoRoom, SegmentError, SegmentRefused, SegmentTooSmall
from mpcache.shm import _engine, attached, capacity, other_layouts, removal
from mpcache.shm.directory import briefly, directory, exclusive, other_users
from mpcache.shm.errors import explained, explanation
from mpcache.shm.files import LAYOUT, SegmentFile, file_name, files_of, layout_of, name_of, names, path_of

DEFAULT_SIZE = "64MB"

__all__ = [
    "LAYOUT",
    "Segment",
    "SegmentFile",
    "attach",
    "directory",
    "file_name",
    "files_of",
    "find",
    "in_use",
    "names",
    "other_users",
    "path_of",
    "replace",
    "smallest",
    "unlink",
]

BORN_ELSEWHERE = 8
"""How often other processes may remove the segment between finding and creating it before attach() gives up."""

CHUNK = 4 << 20
"""Bytes that are allocated by one call."""

LARGE_PAGE = 2 << 20
LARGE_CHUNK = 64 << 20
"""Bytes for which one call requests huge pages; each call interrupts all cores."""

LARGE_PATIENCE = 0.3
"""Seconds after which a new segment gets no more huge pages: the kernel, or a host, may have to find memory first."""


def default_shards(size: int) -> int:
    """Return the number of shards: the next power of two from twice the cores, of 16 MiB each at least, 64 at most."""
    wanted = 2 * (os.cpu_count() or 1)
    most = min(_engine.MAX_SHARDS, max(1, size // (16 << 20)))
    shards = 1
    while shards < wanted and shards * 2 <= most:
        shards *= 2
    return shards


# -- the segment --------------------------------------------------------------------------------------------


class Segment:
    """A segment to which this process is attached: one object for all threads and stores of the process.

    :ivar engine: the contents.
    """

    def __init__(self, name: str | None, path: str | None, engine: _engine.Engine) -> None:
        self.name = name
        self.path = path
        self.engine = engine

    @property
    def size(self) -> int:
        """Return the bytes of the segment."""
        return self.engine.size

    @property
    def for_mutexes(self) -> bool:
        """Return whether only mutexes without a store use it."""
        return self.path is not None and os.path.basename(self.path) != file_name(name_of(self.path))

    def unlink(self) -> int:
        """Remove the segment: every process that uses it attaches a new one of that name at its next call.

        If other processes are attached, this takes a quarter of a second, in which they end what they have begun.

        :return: how many shards keep their memory until these processes leave the segment; usually 0.
        :raises SegmentError: this process may not remove the file; nothing was changed.
        """
        return self.engine.remove() if self.path is None else removal.remove(self.path, self.engine)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name is not None:
            mutexes = (0o600, None, False, True) if self.for_mutexes else ()
            return attach, (self.name, self.size, *mutexes)
        return _from_descriptor, (_travelling(self.engine.fd),)

    def __repr__(self) -> str:
        state = ", retired" if self.engine.retired else ""
        return f"<Segment {self.name or 'anonymous'!r} {self.size >> 20} MiB, {self.engine.shards} shards{state}>"


_attached: WeakValueDictionary[tuple[int, int], Segment] = WeakValueDictionary()


def _adopt(name: str | None, path: str | None, fd: int) -> Segment:
    """Return this process's Segment of a file."""
    with attached.attaching, explained(path or "the anonymous segment", "attach"):
        segment = _attached.get(attached.file_of(fd))
        if segment is None:
            segment = _attached[attached.file_of(fd)] = Segment(name, path, attached.engine_of(fd, path))
        return segment


# -- finding ------------------------------------------------------------------------------------------------


def _refuse(path: str, why: str) -> SegmentRefused:
    return SegmentRefused(f"{path}: {why}; remove it with 'mpcache rm {name_of(path)}' or take another name")


def _check_file(path: str, found: os.stat_result, mode: int) -> None:
    """Raise SegmentRefused unless only this user can have written the file: a writer chooses what is unpickled."""
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(path, "not a regular file")
    if found.st_uid != os.geteuid():
        raise _refuse(path, f"owned by uid {found.st_uid}, and this process is uid {os.geteuid()}")
    if found.st_mode & 0o077 & ~mode:
        raise _refuse(path, f"its mode {stat.filemode(found.st_mode)} lets other users in, which was not asked for")
    if found.st_nlink > 1:
        raise _refuse(path, f"it has {found.st_nlink} names; a segment has one")


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refuse(path, "a symbolic link") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EISDIR):
            raise _refuse(path, f"cannot be opened: {error.strerror}") from error
        raise explanation(error, path, "open") from error


def find(name: str, mode: int = 0o600, replace: bool = False, for_mutexes: bool = False) -> Segment | None:
    """Attach the segment of that name, and return it; None if there is none.

    :param mode: permissions that it may have.
    :param replace: remove a retired segment, and one of another layout that no process uses.
    :param for_mutexes: the segment of mutexes without a store.
    :raises SegmentRefused: there is something of that name which is not to be trusted, or not a segment.
    """
    path = path_of(name, for_mutexes)
    fd = _open(path)
    if fd is None:
        return None
    with briefly(fd):
        segment = _believe(name, path, fd, mode, replace)
    if segment is None or not segment.engine.retired:
        return segment
    if replace:
        removal.remove(path, segment.engine)  # the process that retired it was killed before it could
    return None


def _believe(name: str, path: str, fd: int, mode: int, replace: bool) -> Segment | None:
    """Return the segment, which may be retired, or None where the file has lost its name."""
    found = os.fstat(fd)
    if found.st_nlink == 0:
        return None
    _check_file(path, found, mode)
    if layout_of(fd) not in (None, LAYOUT):
        if replace and other_layouts.remove_abandoned(path, fd):
            return None
        raise _refuse_layout(path, fd)
    try:
        return _adopt(name, path, fd)
    except SegmentRefused as error:
        raise _refuse(path, str(error)) from error


def _refuse_layout(path: str, fd: int) -> SegmentRefused:
    said = f"{path}: made by another layout version of mpcache (its layout is {layout_of(fd)}, this version's {LAYOUT})"
    if _engine.anyone_alive(fd):
        return SegmentRefused(f"{said}, and processes use it; end the processes of that version, or take another name")
    name = name_of(path)
    return SegmentRefused(f"{said}; no process uses it: attach {name!r}, or remove it with 'mpcache rm {name}'")


# -- birth --------------------------------------------------------------------------------------------------


def gives_large_pages() -> bool:
    """Return whether this kernel has pages of 2 MiB for segments, and one of them now."""
    with briefly(os.memfd_create("mpcache", os.MFD_CLOEXEC)) as fd:
        os.ftruncate(fd, LARGE_PAGE)
        return _engine.make_large(fd, 0, LARGE_PAGE)


def _take_large_pages(fd: int, size: int) -> None:
    """Take as many huge pages as the kernel has; the rest of the file stays a hole."""
    os.ftruncate(fd, size)
    until = time.monotonic() + LARGE_PATIENCE
    for at in range(0, size, LARGE_CHUNK):
        if time.monotonic() > until or not _engine.make_large(fd, at, min(at + LARGE_CHUNK, size)):
            return


def _fill_file(fd: int, size: int, shards: int | None, where: str) -> None:
    """Allocate every page now: a full file system is an error here, instead of a SIGBUS in the middle of a set."""
    try:
        _take_large_pages(fd, size)
        for at in range(0, size, CHUNK):  # kernels start a call again that a timer's signal interrupts
            os.posix_fallocate(fd, at, min(CHUNK, size - at))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise
        text = f"{where} could not hold {size} bytes: {error.strerror}; {capacity.REMEDY}"
        raise NoRoom(text, wanted=size) from error
    try:
        _engine.format(fd, size, default_shards(size) if shards is None else shards)
    except SegmentTooSmall as error:
        least = smallest(1 if shards is None else shards)
        raise SegmentTooSmall(
            f"size={size}: the smallest segment with shards={shards} has {least} bytes", wanted=size, least=least
        ) from error


def smallest(shards: int = 1) -> int:
    """Return the bytes of the smallest segment with so many shards: tables, and 256 KiB for each shard."""
    return _engine.smallest(shards)


def _give_birth(path: str, folder: int, size: int, mode: int, shards: int | None) -> None:
    """Write the segment completely, then give it its name: a process that is killed in here leaves nothing."""
    where = os.path.dirname(path)
    with explained(where, "create a segment in", size):
        removal.finish_others(where)
        capacity.require(where, size)
        with briefly(os.open(where, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)) as fd:
            os.fchmod(fd, mode)
            _fill_file(fd, size, shards, where)
            os.link(f"/proc/self/fd/{fd}", os.path.basename(path), dst_dir_fd=folder, follow_symlinks=True)


def _check_size(size: int) -> int:
    if size < smallest():
        least = smallest()
        meant = f"; did you mean size='{size}MB'?" if 0 < size < 4096 else ""
        raise SegmentTooSmall(f"size={size}: the smallest segment has {least} bytes{meant}", wanted=size, least=least)
    return size


def attach(
    name: str | None,
    size: int | str | None = None,
    mode: int = 0o600,
    shards: int | None = None,
    strict_size: bool = False,
    for_mutexes: bool = False,
) -> Segment:
    """Return the segment of that name; create it if there is none.

    Segments of stores that have the name and another layout, and that no living process uses, are removed.

    :param name: None creates an anonymous one, which only children that are forked (or spawned with it) share.
    :param size: bytes, or a text such as ``"64MB"``, which is the default.  An existing segment keeps its own.
    :param mode: permissions of a new one; an existing one may not be wider.
    :param shards: parts with a writers' lock each, a power of two; None chooses by cores and size.
    :param strict_size: refuse a segment of another size instead of warning.
    :param for_mutexes: the segment of mutexes without a store.  It has one file for all layouts, so that versions of
        mpcache with different layouts refuse each other instead of holding one lock twice.
    :raises SegmentError: as NoRoom, SegmentRefused, SegmentTooSmall; the message says what to do.
    """
    wanted = _check_size(parse_size(DEFAULT_SIZE if size is None else size))
    if name is None:
        return _anonymous(wanted, shards)
    path = path_of(name, for_mutexes)
    if not for_mutexes:
        other_layouts.sweep(name, path)
    for _ in range(BORN_ELSEWHERE):
        segment = find(name, mode, replace=True, for_mutexes=for_mutexes)
        if segment is not None:
            if size is not None:
                _compare_size(segment, wanted, strict_size)
            return segment
        with explained(path, "create"), exclusive(path) as folder:
            if not os.path.lexists(path):
                _give_birth(path, folder, wanted, mode, shards)
    raise SegmentError(f"{path} vanished {BORN_ELSEWHERE} times while it was attached: end the program that removes it")


_warned: set[tuple[str | None, int]] = set()


def _compare_size(segment: Segment, wanted: int, strict: bool) -> None:
    if segment.size == wanted:
        return
    text = (
        f"segment {segment.name!r} has {mebibytes(segment.size)} and was asked for with {mebibytes(wanted)}; a segment"
        f" keeps the size it was made with: 'mpcache rm {segment.name}' retires it, and all move to a new one of the"
        " size that is then asked for"
    )
    if strict:
        raise SegmentRefused(text, size=segment.size, wanted=wanted)
    if (segment.name, wanted) not in _warned:
        _warned.add((segment.name, wanted))
        warn(text)


def _memory() -> int:
    return os.memfd_create("mpcache", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _anonymous(size: int, shards: int | None) -> Segment:
    capacity.require(None, size)
    with explained("an anonymous segment", "create", size), briefly(_memory()) as fd:
        _fill_file(fd, size, shards, "memory")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return _adopt(None, None, fd)


# -- travelling ---------------------------------------------------------------------------------------------


def _travelling(fd: int) -> Any:
    from multiprocessing import reduction
    from multiprocessing.context import get_spawning_popen

    if get_spawning_popen() is None:
        raise TypeError(
            "an anonymous segment (name=None) travels only to a process that is being started: give the cache a name,"
            " or hand it over in the arguments of multiprocessing.Process"
        )
    return reduction.DupFd(fd)


def _from_descriptor(travelled: Any) -> Segment:
    with briefly(travelled.detach()) as fd:
        return _adopt(None, None, fd)


# -- removing -----------------------------------------------------------------------------------------------


def unlink(name: str, layout: int | None = None) -> bool:
    """Remove all files of that name in this user's directory, also what is no segment; return whether there was one.

    Processes that use a segment of the name attach a new one at their next call.

    :param layout: remove only the segments of this layout; None: those of all layouts, stores' and mutexes'.
    :raises SegmentError: this process may not remove one; that one is as it was.
    :raises IsADirectoryError: it is a directory.
    """
    path_of(name)  # raises if it is no name
    removed = [_unlink(file) for file in files_of(name) if layout in (None, file.layout)]
    return any(removed)


def in_use(file: SegmentFile) -> bool:
    """Return whether a living process uses the segment of a file, whatever its layout is."""
    return other_layouts.in_use(file.path)


def _unlink(file: SegmentFile) -> bool:
    segment = None if file.other else _find_any(file.name, file.path)
    if segment is None:
        return other_layouts.discard(file.path)
    segment.unlink()
    return True


def _find_any(name: str, path: str) -> Segment | None:
    """Return the segment of that name, also a retired one; None: there is none that can be attached."""
    try:
        fd = _open(path)
        if fd is None:
            return None
        with briefly(fd):
            return _believe(name, path, fd, 0o777, False)
    except SegmentRefused:
        return None


def replace(name: str, size: int | str, for_mutexes: bool = False) -> Segment:
    """Remove the segment of that name and create one of another size before any other process can create one.

    The new one has the same permissions.  Other processes that attach the name meanwhile wait.  Segments of the name
    that have other layouts stay as long as processes use them.

    :param size: bytes, or a text such as ``"64MB"``.
    :param for_mutexes: the segment of mutexes without a store.
    :raises SegmentError: this process may not remove it, or the size is too small, or there will be no room for it;
        nothing was changed.
    """
    wanted, path = _check_size(parse_size(size)), path_of(name, for_mutexes)
    old = _find_any(name, path)
    if old is not None:
        capacity.require(os.path.dirname(path), max(0, wanted - old.engine.shards * old.engine.shard_bytes))
    with explained(path, "replace"), exclusive(path) as folder:
        mode = stat.S_IMODE(os.stat(path).st_mode) if old is not None else 0o600
        if old is not None:
            removal.remove_locked(path, old.engine, folder)
        else:
            other_layouts.discard_locked(path, folder)
        del old  # and its memory, if no other thread uses it
        _give_birth(path, folder, wanted, mode, None)
    return attach(name, wanted, mode, for_mutexes=for_mutexes)
