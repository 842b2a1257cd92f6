"""A dbm file that survives its writers: which module reads it, what is done when it is damaged, how it is written.

Depends on exception, and on the modules of Python's dbm package.  They differ in what a SIGKILL in a write leaves:

    sqlite3     the value from before, or the new one
    dumb        anything; therefore this module writes the same format in another way
    gnu, ndbm   anything; therefore a marker lies beside the file while it is written, and a process that finds it
                without a writer begins an empty file: a cache may lose values, and must not serve wrong ones
"""

from __future__ import annotations

import ast
import dbm
import errno
import functools
import importlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, TypeVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.exception import ValidationError

log = logging.getLogger("mpcache.backends")

R = TypeVar("R")

MODULES = ("dbm.sqlite3", "dbm.gnu", "dbm.ndbm", "dbm.dumb")
"""In the order of preference for a new file."""

_SUFFIXES = {
    "dbm.sqlite3": ("", "-wal", "-shm", "-journal"),
    "dbm.gnu": ("",),
    "dbm.ndbm": (".db", ".pag", ".dir"),
    "dbm.dumb": (".dir", ".bak", ".dat"),
}

_OPAQUE = ("dbm.gnu", "dbm.ndbm")

_BLOCK = 512
"""Bytes to a multiple of which a value's place in a .dat file is aligned."""


class Damaged(Exception):
    """The content of the file contradicts itself, so that it cannot be used any more.

    :ivar kind: the module whose format the file has.
    :ivar seen: identifies the file.
    """

    def __init__(self, why: str, kind: str, seen: object) -> None:
        super().__init__(why)
        self.kind, self.seen = kind, seen


@functools.cache
def module(name: str) -> Any:
    """Return one of the dbm modules; None: this Python was built without it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_gate = threading.RLock()
"""Held while a file is open, so that no fork happens: SQLite's record of its locks would be wrong in the child."""


def _in_the_child() -> None:
    global _gate
    _gate = threading.RLock()


os.register_at_fork(
    before=lambda: _gate.acquire() and None, after_in_parent=lambda: _gate.release(), after_in_child=_in_the_child
)


class DbmFile:
    """One dbm file, opened for each use.  The caller keeps writers and readers apart.

    :param filename: as the dbm modules take it; some of them append suffixes.
    :param alone: whether the caller ensures that no process writes while another writes or reads.
    """

    def __init__(self, filename: str, alone: bool) -> None:
        self.filename = filename
        self._alone = alone
        self._marker = filename + ".writing"
        self._directory = _Directory(filename)

    @property
    def kind(self) -> str | None:
        """Return the module whose format the file has; None: there is no file.

        :raises ValidationError: it is not a dbm file, or this Python cannot read it.
        :raises Damaged: a writer was killed and left only a part of one.
        """
        found = dbm.whichdb(self.filename)
        if found:
            if module(found) is None:
                raise self._refuse(f"was made by {found}, which this Python does not have")
            return found
        there = [suffix for suffix in ("", ".db", ".dat", ".dir") if _size(self.filename + suffix)]
        if not there:
            return None  # or it is empty, since the process that began to make it was killed
        if os.path.exists(self._marker) and self._alone:
            kind = "dbm.ndbm" if ".db" in there else "dbm.gnu"
            raise self._damaged("a writer was killed while it wrote", kind)
        if there == [".dat"] and os.path.exists(self.filename + ".bak"):
            raise self._damaged("a writer was killed while it replaced the directory", "dbm.dumb")
        raise self._refuse("is not a dbm file, or has a format that this Python does not know")

    def _refuse(self, why: str) -> ValidationError:
        return ValidationError(f"{self.filename} {why}: remove it, or name another file")

    def _damaged(self, why: str, kind: str) -> Damaged:
        return Damaged(why, kind, self._seen(kind))

    def read(self, act: Callable[[Any], R]) -> R:
        """Return what ``act`` returns of the values; it may use ``get(key, default)`` only.

        :raises Damaged, ValidationError, OSError: the last one names the file and says why it cannot be read.
        """
        return self._use(act, writes=False)

    def write(self, act: Callable[[Any], R]) -> R:
        """Do the same with values that ``act`` may set, or drop by ``pop(key, None)``: all or none are stored."""
        return self._use(act, writes=True)

    def _use(self, act: Callable[[Any], R], writes: bool) -> R:
        kind = self.kind
        if kind is None and not writes:
            return act({})
        kind = kind or self._newest()
        if kind in _OPAQUE and self._alone and os.path.exists(self._marker):
            raise self._damaged("a writer was killed while it wrote", kind)
        seen = self._seen(kind)
        try:
            return self._open_and(act, kind, writes)
        except Exception as error:
            foreign = isinstance(error, (*dbm.error, ValueError)) or _is_of_sqlite(error)
            if not foreign or raised_by_signal_handler(error):
                raise  # the caller's own error
            if _is_damage(error) and seen is not None:
                raise Damaged(str(error), kind, seen) from error
            text = f"mpcache.dbm cannot {'write' if writes else 'read'} the file: {_reason(error)}"
            raise OSError(getattr(error, "errno", None) or errno.EIO, text, self.filename) from error

    def _open_and(self, act: Callable[[Any], R], kind: str, writes: bool) -> R:
        if kind == "dbm.dumb":
            with _Dumb(self.filename, writes, self._directory) as values:
                return act(values)
        marks = writes and kind in _OPAQUE and self._alone
        if marks:
            os.close(os.open(self._marker, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        with _gate, self._opened(kind, writes) as opened:
            result = act(_Plain(opened))
        if marks:
            os.unlink(self._marker)  # not after an exception: the content of the file is unknown then
        return result

    def _opened(self, kind: str, writes: bool) -> Any:
        if writes:
            return module(kind).open(self.filename, "c", 0o666)
        if kind == "dbm.sqlite3" and os.access(self.filename, os.W_OK):
            return module(kind).open(
                self.filename, "w"
            )  # a reader without write access cannot recover what a dead writer left
        return module(kind).open(self.filename, "r")

    @staticmethod
    def _newest() -> str:
        return next(name for name in MODULES if module(name) is not None)

    def _seen(self, kind: str) -> object:
        for suffix in _SUFFIXES[kind]:
            try:
                found = os.stat(self.filename + suffix)
            except FileNotFoundError:
                continue
            return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        return None

    @property
    def size(self) -> int:
        """Return the bytes of all files that belong to it."""
        return sum(_size(self.filename + suffix) for suffix in {name for names in _SUFFIXES.values() for name in names})

    def describe(self) -> str:
        """Return the name of the module, or why there is none."""
        try:
            return self.kind or "not there"
        except (Damaged, ValidationError) as error:
            return str(error)

    def discard(self, damage: Damaged) -> None:
        """Remove the damaged file, unless another process has done so.  The caller holds the write lock."""
        if self._seen(damage.kind) != damage.seen:
            return
        log.warning("%s is damaged, and a new file replaces it; its values are lost: %s", self.filename, damage)
        for name in (*(self.filename + suffix for suffix in _SUFFIXES[damage.kind]), self._marker):
            try:
                os.unlink(name)
            except FileNotFoundError:
                pass


def _size(path: str) -> int:
    """Return the bytes of a file; 0: there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


_ENVIRONMENT = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE),
    *(errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}
_OF_SQLITE = ("malformed", "not a database", "no such table", "no such column", "unsupported file format")


def _is_damage(error: BaseException) -> bool:
    """Return whether an error is about the content of the file, and not about the disk or permissions."""
    if _is_of_sqlite(error):
        return any(text in str(error) for text in _OF_SQLITE)
    return getattr(error, "errno", None) not in _ENVIRONMENT


def _is_of_sqlite(error: BaseException) -> bool:
    return type(error).__module__ in ("dbm.sqlite3", "sqlite3")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


class _Plain:
    """The few methods that all modules have, and that mean the same in all of them."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def get(self, key: bytes, default: Any) -> Any:
        try:
            return self._opened[key]
        except KeyError:
            return default

    def pop(self, key: bytes, default: Any) -> None:
        try:
            del self._opened[key]
        except KeyError:
            pass

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._opened[key] = value

    def __len__(self) -> int:
        try:
            return len(self._opened)
        except TypeError:  # a Berkeley DB behind ndbm
            return len(self._opened.keys())


# -- dbm.dumb, such that a killed writer has written nothing ----------------------------------------------------

Place = tuple[int, int]


class _Dumb(MutableMapping[bytes, bytes]):
    """The format of dbm.dumb, written so that the files are consistent at every instant.

    ::

        name.dir    'key', (position, size)     a line for each value
        name.dat    the values, each at a multiple of 512

    A value is never written over a value that the directory on the disk names, and the directory is replaced as a
    whole, after all values are written.  Space that it no longer names is used again.
    """

    def __init__(self, filename: str, writes: bool, directory: _Directory) -> None:
        self._dir, self._dat, self._directory = filename + ".dir", filename + ".dat", directory
        self._changed = writes and not os.path.exists(self._dir)
        self._index = {} if self._changed else directory.read()
        if writes:
            self._index = dict(self._index)
        self._gaps = _Gaps(self._index.values()) if writes else None

    def __enter__(self) -> _Dumb:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if not self._changed:
            return
        written = False
        try:
            if kind is None:
                self._commit()
                written = True
        finally:
            if not written:
                self._free_unnamed()

    def __getitem__(self, key: bytes) -> bytes:
        position, size = self._index[key]
        with open(self._dat, "rb") as file:
            value = os.pread(file.fileno(), size, position)
        if len(value) < size:
            raise ValueError(f"{self._dat} ends within a value")
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        assert self._gaps is not None
        self._changed = True
        position = self._gaps.take(len(value))
        fd = os.open(self._dat, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            written = 0
            while written < len(value):
                written += os.pwrite(fd, memoryview(value)[written:], position + written)
        finally:
            os.close(fd)
        self._index[key] = (position, len(value))

    def __delitem__(self, key: bytes) -> None:
        del self._index[key]
        self._changed = True

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def _commit(self) -> None:
        os.close(os.open(self._dat, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        with open(self._dir + ".new", "w", encoding="latin-1", newline="\n") as file:
            file.writelines(f"{key.decode('latin-1')!r}, {place!r}\n" for key, place in self._index.items())
        os.replace(self._dir + ".new", self._dir)

    def _free_unnamed(self) -> None:
        """Free, on a full disk, the space that the directory on the disk, the old or the new one, does not name."""
        try:
            if os.path.exists(self._dir + ".new"):
                os.unlink(self._dir + ".new")
            end = _Gaps(self._directory.read().values()).end
            if _size(self._dat) > end:
                os.truncate(self._dat, end)
        except (OSError, ValueError):
            pass


class _Directory:
    """The places of all values, read again when the file has changed.

    What was read is trusted later only if the file was older than ``_AGED`` then: two changes in one tick of the
    file system's clock could look the same.
    """

    def __init__(self, filename: str) -> None:
        self._path, self._dat = filename + ".dir", filename + ".dat"
        self._known: tuple[object, dict[bytes, Place]] = (None, {})

    def read(self) -> dict[bytes, Place]:
        """Return the places, which the caller must not change.

        :raises ValueError: a line is invalid.
        """
        known, places = self._known
        with open(self._path, encoding="latin-1", newline="\n") as file:
            found = os.fstat(file.fileno())
            now = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if now != known:
                places = self._parse(file.read())
                if time.time_ns() - found.st_mtime_ns > _AGED:
                    self._known = (now, places)
        return places

    def _parse(self, text: str) -> dict[bytes, Place]:
        lines, size = text.split("\n"), _size(self._dat)
        lines.pop()  # empty; or an incomplete line, whose writer was killed
        places: dict[bytes, Place] = {}
        for line in lines:
            plain = _LINE.fullmatch(line)
            try:
                key, (position, length) = (
                    (plain[2], (int(plain[3]), int(plain[4]))) if plain else ast.literal_eval(line)
                )
                places[key.encode("latin-1")] = (position, length)
                sound = position >= 0 <= length and position % _BLOCK == 0 and position + length <= size
            except (ValueError, TypeError, SyntaxError, AttributeError, MemoryError, RecursionError):
                sound = False
            if not sound:
                raise ValueError(f"{self._path} has an invalid line: {line[:80]!r}")
        return places


_LINE = re.compile(r"""(['"])([^\\]*)\1, \((\d+), (\d+)\)""")
_AGED = 100_000_000


class _Gaps:
    """The gaps between the values, where a value can be written.

    :raises ValueError: two values overlap.
    """

    def __init__(self, places: Any) -> None:
        self._free: list[Place] = []
        end = 0
        for position, size in sorted(place for place in places if place[1]):
            if position < end:
                raise ValueError(f"two values overlap at {position}")
            if position > end:
                self._free.append((end, position - end))
            end = position + _blocks(size)
        self.end = end

    def take(self, size: int) -> int:
        """Take the first gap that is large enough; return its position."""
        if not size:
            return 0
        wanted = _blocks(size)
        for number, (position, room) in enumerate(self._free):
            if room >= wanted:
                self._free[number] = (position + wanted, room - wanted)
                return position
        position, self.end = self.end, self.end + wanted
        return position


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
