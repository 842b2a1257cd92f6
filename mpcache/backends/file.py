"""The dbm store: values in a file that many processes read and one process at a time writes.

Depends on dbm, which handles the file, on _fill_files and the file mutex for creations, and on codec for the epoch that
a value is stored with.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mpcache._support.hints import warn_of_unknown
from mpcache._wire import codec
from mpcache.api import (
    NO_VALUE,
    BackendArguments,
    BytesBackend,
    CacheMutex,
    Keeping,
    KeyType,
    SerializedReturnType,
    guard_of,
)
from mpcache.backends._fill_files import Fill, Fills
from mpcache.backends._fill_guard import BaseFillGuard
from mpcache.backends.dbm import Damaged, DbmFile
from mpcache.exception import ValidationError
from mpcache.invalidation import SharedInvalidation, is_over
from mpcache.mutexes import lockfiles
from mpcache.mutexes.file import FileMutex
from mpcache.mutexes.greenlets import sleep_of_hub
from mpcache.mutexes.two_level import POLL_FIRST, POLL_LAST

__all__ = ["AbstractFileLock", "DBMBackend", "FileLock"]

R = TypeVar("R")


# -- locks for readers and writers ------------------------------------------------------------------------------


class AbstractFileLock:
    """Many readers or one writer.  The base of locks that users bring (``lock_factory``).

    :param filename: a file that the lock may use.
    """

    def __init__(self, filename: str) -> None:
        raise NotImplementedError

    def acquire(self, wait: bool = True) -> bool | None:
        """Take the writer's lock."""
        return self.acquire_write_lock(wait)

    def release(self) -> None:
        """Release the writer's lock."""
        self.release_write_lock()

    @contextmanager
    def read(self) -> Iterator[None]:
        """Hold the readers' lock."""
        self.acquire_read_lock(True)
        try:
            yield
        finally:
            self.release_read_lock()

    @contextmanager
    def write(self) -> Iterator[None]:
        """Hold the writer's lock."""
        self.acquire_write_lock(True)
        try:
            yield
        finally:
            self.release_write_lock()

    @property
    def is_open(self) -> bool:
        """Return whether this thread holds the lock.  Optional."""
        raise NotImplementedError

    def acquire_read_lock(self, wait: bool) -> bool | None:
        """Take the readers' lock; with ``wait=False`` return False if a writer holds it."""
        raise NotImplementedError

    def acquire_write_lock(self, wait: bool) -> bool | None:
        """Take the writer's lock; with ``wait=False`` return False if another holds it."""
        raise NotImplementedError

    def release_read_lock(self) -> None:
        """Release the readers' lock."""
        raise NotImplementedError

    def release_write_lock(self) -> None:
        """Release the writer's lock."""
        raise NotImplementedError


class FileLock(AbstractFileLock):
    """A lock of flock(2), among threads and processes; the kernel releases it when its holder dies.  Not reentrant.

    A forked child holds no lock, and keeps no lock of its parent held.
    """

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self._mine = threading.local()

    @property
    def is_open(self) -> bool:
        file = getattr(self._mine, "file", None)
        return file is not None and not file.closed

    def acquire_read_lock(self, wait: bool) -> bool:
        return self._acquire(wait, fcntl.LOCK_SH)

    def acquire_write_lock(self, wait: bool) -> bool:
        return self._acquire(wait, fcntl.LOCK_EX)

    def release_read_lock(self) -> None:
        self._release()

    release_write_lock = release_read_lock

    def _acquire(self, wait: bool, how: int) -> bool:
        try:
            file = lockfiles.own_shared(self.filename)
        except OSError as error:
            text = f"the lock file cannot be opened: {error.strerror}; rw_lockfile names another place"
            raise OSError(error.errno, text, self.filename) from error
        try:
            got = _flock(file, how, wait)
        except BaseException:
            file.forget()
            raise
        if got:
            self._mine.file = file
        else:
            file.forget()
        return got

    def _release(self) -> None:
        file = getattr(self._mine, "file", None)
        if file is None:
            return
        self._mine.file = None
        if file.intact:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
        file.forget()


def _flock(file: lockfiles.OwnFile, how: int, wait: bool) -> bool:
    pause = POLL_FIRST
    sleep = sleep_of_hub(cooperates=False)
    polls = not wait or sleep is not None  # waiting in C would stop every greenlet
    while True:
        try:
            fcntl.flock(file.fileno(), how | fcntl.LOCK_NB if polls else how)
        except BlockingIOError:
            if not wait:
                return False
        else:
            return True
        (sleep or time.sleep)(pause)
        pause = min(pause * 1.5, POLL_LAST)


# -- epochs -----------------------------------------------------------------------------------------------------


_Three = tuple[int, int, int]


class Epochs:
    """Invalidation for all processes that share the file: three numbers in a file beside it, replaced as a whole.

    ::

        epoch hard soft    the present epoch; values of epochs before the second one are hidden, before the third stale

    If the file vanishes while a process uses it, what it hid is unknown: then all values are hidden.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._were_there = False

    def now(self) -> _Three:
        """Return (epoch, hard, soft); all are 0 until the first invalidation."""
        try:
            with open(self._path, "rb") as file:
                epoch, hard, soft = map(int, file.read(200).split())
        except FileNotFoundError:
            if not self._were_there:
                return 0, 0, 0
        except ValueError:
            pass
        else:
            self._were_there = True
            return epoch, hard, soft
        return self._write(lambda epoch, hard, soft: (epoch, epoch, soft), (0, 0, 0))

    def invalidate(self, hard: bool) -> None:
        """Begin a new epoch.  The caller holds the write lock."""
        if hard:
            self._write(lambda epoch, _, soft: (epoch, epoch, soft), self.now())
        else:
            self._write(lambda epoch, hard, _: (epoch, hard, epoch), self.now())

    def _write(self, change: Callable[[int, int, int], _Three], now: _Three) -> _Three:
        # Greater than any epoch before it, also if those are lost.
        new = change(max(now[0] + 1, time.time_ns() // 1000), now[1], now[2])
        fresh = f"{self._path}.{os.getpid()}.{threading.get_ident()}"
        try:
            with open(fresh, "w") as file:
                file.write("{} {} {}\n".format(*new))
            os.replace(fresh, self._path)
        except OSError as error:  # for instance of a full disk, which names no file
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            text = f"mpcache.dbm cannot note an invalidation: {error.strerror}"
            raise OSError(error.errno, text, self._path) from error
        self._were_there = True
        return new


class _Guard(BaseFillGuard):
    """A fill belongs to the epoch in which its creation began.

    :param fill: None: no file says that it began, and no change can void it.
    """

    def __init__(self, epoch: int, fill: Fill | None) -> None:
        super().__init__()
        self.epoch, self._fill = epoch, fill

    @property
    def wanted(self) -> bool:
        return self._fill is None or self._fill.wanted

    def close(self) -> None:
        if self.live and self._fill is not None:
            self._fill.end()
        super().close()


def _with_epoch(wire: bytes, epoch: int) -> bytes:
    """Return the value with its epoch; as it is, until the first invalidation of the file."""
    return codec.with_epoch(wire, epoch) if epoch else wire


# -- the store --------------------------------------------------------------------------------------------------

_ARGUMENTS = ("dogpile_lockfile", "filename", "lock_factory", "rw_lockfile")


class DBMBackend(BytesBackend):
    """``mpcache.dbm``.

    Arguments: ``filename``, to which some dbm modules append suffixes; ``rw_lockfile`` (None: the filename and
    ``.rw.lock``; False: readers and writers are not kept apart); ``dogpile_lockfile`` (None: the filename and
    ``.dogpile.lock``; the keys that are being created have a file each in the directory of that name and an ``s``;
    False: each process creates for itself); ``lock_factory`` (:class:`FileLock`), which makes the first of the two.

    The file is opened and closed for each operation.  It is not bounded: what has expired stays until it is replaced,
    or deleted.

    :raises ValidationError: there is no ``filename``, or what it names is no dbm file.
    :raises OSError: the file cannot be made, or read, or written; it names the file, and says why.
    """

    shared = True
    keeping = Keeping("processes of one machine", "a reboot", "nothing", "a file opened, unpickling", "file")

    def __init__(self, arguments: BackendArguments) -> None:
        warn_of_unknown("mpcache.dbm", arguments, _ARGUMENTS)
        if not isinstance(arguments.get("filename"), str | os.PathLike):
            raise ValidationError("mpcache.dbm needs the argument 'filename', the path of its file")
        self.filename = os.path.abspath(os.fspath(arguments["filename"]))
        self.lock_factory = arguments.get("lock_factory") or FileLock
        rw_lockfile = _lockfile(arguments, "rw_lockfile", self.filename + ".rw.lock")
        dogpile_lockfile = _lockfile(arguments, "dogpile_lockfile", self.filename + ".dogpile.lock")
        self._rw_lock = None if rw_lockfile is None else self.lock_factory(rw_lockfile)
        self._locks = None if dogpile_lockfile is None else dogpile_lockfile + "s"
        self._fills = None if self._locks is None else Fills(self._locks)
        self._file = DbmFile(self.filename, alone=rw_lockfile is not None)
        self._epochs = Epochs(self.filename + ".epochs")
        if not self._is_there():
            self._write(lambda values: None)

    def _is_there(self) -> bool:
        """Return whether the file exists, read without a lock, which a reader may not have: only True is reliable."""
        try:
            return self._file.kind is not None
        except (Damaged, ValidationError):
            return False

    # -- one file, many readers or one writer ---------------------------------------------------------

    def _locked(self, writes: bool) -> Any:
        if self._rw_lock is None:
            return contextlib.nullcontext()
        return self._rw_lock.write() if writes else self._rw_lock.read()

    def _read(self, act: Callable[[Any], R]) -> R:
        try:
            with self._locked(writes=False):
                return self._file.read(act)
        except Damaged as damage:
            with self._locked(writes=True):
                self._file.discard(damage)
        return act({})

    def _write(self, act: Callable[[Any], R]) -> R:
        with self._locked(writes=True):
            try:
                return self._file.write(act)
            except Damaged as damage:
                self._file.discard(damage)
            return self._file.write(act)

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        return self.get_serialized_multi([key])[0]

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        wanted = [_bytes(key) for key in keys]
        return self._read(lambda values: [values.get(key, NO_VALUE) for key in wanted])

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        self.set_serialized_multi({key: value})

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        guards: dict[KeyType, Any] = {key: guard for key in mapping if (guard := guard_of(self, key)) is not None}
        now = self._epochs.now()[0] if len(guards) < len(mapping) else 0
        ready = {
            key: (_bytes(key), _with_epoch(wire, guards[key].epoch if key in guards else now))
            for key, wire in mapping.items()
        }
        self._void(name for key, (name, _) in ready.items() if key not in guards)
        refused = self._write(functools.partial(_put, ready, guards))
        for key, guard in guards.items():
            guard.outcome = key not in refused

    def delete(self, key: KeyType) -> bool:
        return bool(self.delete_multi([key]))

    def delete_multi(self, keys: Sequence[KeyType]) -> list[KeyType]:
        if not keys:
            return []
        names = [_bytes(key) for key in keys]
        self._void(names)
        dropped = self._write(functools.partial(_drop, names))
        hard_at = self._epochs.now()[1]
        return [key for key, wire in zip(keys, dropped, strict=True) if wire is not None and _lives(wire, hard_at)]

    def _void(self, names: Iterable[bytes]) -> None:
        if self._fills is not None:
            self._fills.void(names)

    # -- creation and invalidation -------------------------------------------------------------------------------

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        return None if self._locks is None else FileMutex(key, directory=self._locks)

    def begin_fill(self, key: KeyType) -> _Guard:
        return _Guard(self._epochs.now()[0], None if self._fills is None else self._fills.begin(_bytes(key)))

    def invalidation(self) -> SharedInvalidation:
        return SharedInvalidation(self)

    def epochs(self) -> tuple[int, int, int]:
        """Return (epoch, hard_at, soft_at) of the file."""
        return self._epochs.now()

    def invalidate(self, hard: bool = True) -> None:
        """Hide what was begun before, or make it stale, in all processes."""
        with self._locked(writes=True):
            self._epochs.invalidate(hard)

    # -- the whole ------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Return the module that reads the file, the number of values, and the bytes of the files."""
        with self._locked(writes=False):
            kind, items = self._file.kind, self._file.read(len)
            return {"module": kind, "items": items, "bytes": self._file.size}

    def __repr__(self) -> str:
        return f"<DBMBackend {self.filename!r} {self._file.describe()}>"


def _bytes(key: Any) -> bytes:
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if not isinstance(key, bytes):
        raise TypeError(f"key {key!r} is of type {type(key).__name__}; a dbm file takes str or bytes; see key_mangler")
    return key


def _put(ready: Mapping[KeyType, tuple[bytes, bytes]], guards: Mapping[KeyType, _Guard], values: Any) -> list[KeyType]:
    """Store the values that are wanted; return the keys of the others."""
    refused = [key for key, guard in guards.items() if not guard.wanted]
    for key, (name, wire) in ready.items():
        if key not in refused:
            values[name] = wire
    return refused


def _drop(keys: list[bytes], values: Any) -> list[bytes | None]:
    """Delete the keys, and return their values."""
    dropped: list[bytes | None] = []
    for key in keys:
        dropped.append(values.get(key, None))
        values.pop(key, None)
    return dropped


def _lives(wire: bytes, hard_at: int) -> bool:
    """Return whether a value's time to live has not ended, and it is not invalidated."""
    return not is_over(codec.expires_at(wire)) and (codec.take_epoch(wire)[0] or 0) >= hard_at


def _lockfile(arguments: BackendArguments, name: str, otherwise: str) -> str | None:
    given = arguments.get(name)
    if given is None:
        return otherwise
    return None if given is False else os.path.abspath(os.fspath(given))
