"""Lock files: where they are, which user owns them, and how to open one so that no forked child keeps it open.

Depends on exception.  A kernel lock belongs to the open file description, which a fork shares: a child that kept it
would keep the locks of a dead parent, and a child that unlocked it would release those of a living parent.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import io
import os
import stat
import struct
import threading
import time
import weakref
from typing import Any

from mpcache.exception import MutexError

_FLOCK = struct.Struct("hhqqi0q")  # struct flock of 64-bit Linux: type, whence, start, length, pid


_BESIDE_THE_SEGMENTS = ".locks"  # no segment's name begins with a dot
_checked: set[tuple[int, str]] = set()


def default_directory() -> str:
    """Return where this user's locks are: in the directory of the segments."""
    from mpcache.shm import segment  # loads the engine, which a program that names a directory does not need

    folder = segment.directory()
    see_to(folder)
    return os.path.join(folder, _BESIDE_THE_SEGMENTS)


def folder_of(directory: str | None) -> str:
    """Return the absolute path of a directory that the user named; None: of the default directory."""
    return os.path.abspath(default_directory() if directory is None else directory)


def see_to(path: str, *, again: bool = False) -> None:
    """Make a directory, or check, once in a process, that only this user can use it: others could hold any key in it.

    :param again: check again, since a file in it could not be made.
    :raises MutexError: others can use it, or it cannot be made.
    """
    if again or (os.geteuid(), path) not in _checked:
        _make_or_check(path)
        _checked.add((os.geteuid(), path))


def _make_or_check(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        if os.path.basename(path) != _BESIDE_THE_SEGMENTS:
            raise _mutex_error(error, path, "make", "make its parent first") from error
        _make_or_check(os.path.dirname(path))
        _make_or_check(path)
    except OSError as error:
        raise _mutex_error(error, path, "make", _remedy(error, "name another directory")) from error
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise MutexError(
            f"{path} is not a directory that only uid {os.geteuid()} can use (owner {found.st_uid}, mode"
            f" {stat.filemode(found.st_mode)}): others could hold any key there; remove it, or name another",
            path=path,
        )


def digest(namespace: str, key: str | bytes, size: int = 16) -> bytes:
    """Return a digest of ``size`` bytes of a key in a namespace.

    :raises TypeError: the key is neither str nor bytes.
    """
    if isinstance(key, str):
        kind, plain = b"s", key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        kind, plain = b"b", key
    else:
        raise TypeError(f"key {key!r} is of type {type(key).__name__}; a mutex in a file takes str or bytes")
    space = namespace.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(b"%d:%b%b%b" % (len(space), space, kind, plain), digest_size=size).digest()


# -- files that no child inherits -------------------------------------------------------------------------------

_open_ones: dict[int, weakref.ref[OwnFile]] = {}
_forking: set[int] = set()
_era = object()


def _a_fork_begins() -> None:
    global _era
    _forking.add(threading.get_ident())
    _era = object()


def _a_fork_is_over() -> None:
    global _era
    _era = object()
    _forking.discard(threading.get_ident())


def _in_the_child() -> None:
    _forking.clear()
    for reference in list(_open_ones.values()):
        file = reference()
        if file is not None:
            file.forget()
    _open_ones.clear()


os.register_at_fork(before=_a_fork_begins, after_in_parent=_a_fork_is_over, after_in_child=_in_the_child)

# Called from C, so that no signal handler's exception comes between the open and its file object.
_OPENER = functools.partial(os.open, mode=0o600)


class OwnFile(io.FileIO):
    """An open file whose description is this process's alone.  Dropped, it is closed, and its locks are gone.

    :ivar path: its name.
    :ivar identity: (device, inode) when it was opened.
    """

    path: str
    identity: tuple[int, int] | None = None

    @property
    def intact(self) -> bool:
        """Return whether the descriptor is still this file's: some programs close all descriptors that they find."""
        try:
            here = os.fstat(self.fileno())
        except (OSError, ValueError):
            return False
        return self.identity in (None, (here.st_dev, here.st_ino))

    @property
    def named(self) -> bool:
        """Return whether, besides, the name is: other processes that open the name get the same file."""
        try:
            there = os.lstat(self.path)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self.identity and self.intact

    def forget(self) -> None:
        """Close it, which unlocks it unless a child has it, too."""
        _open_ones.pop(id(self), None)
        if self.intact:
            self.close()
        elif not self.closed:
            _buried.append(self)


_buried: list[OwnFile] = []
"""Files whose descriptor other code has closed: closing it again might close another file's descriptor."""


def own(path: str, *, exclusively: bool = False) -> OwnFile:
    """Open a file for reading and writing; ``exclusively`` makes it, with the mode 0600.

    :raises OSError: as ``open``; FileNotFoundError and FileExistsError are for the caller to try the other way.
    :raises MutexError: it is not a lock file.
    """
    file = _open(path, "x+" if exclusively else "r+", _OPENER)
    found = os.fstat(file.fileno())
    if exclusively or (stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not os.path.islink(path)):
        return file
    file.forget()
    raise MutexError(
        f"{path} is not a lock file of uid {os.geteuid()}; it is of another kind, or a link (owner {found.st_uid}, mode"
        f" {stat.filemode(found.st_mode)}); remove it, or name another directory",
        path=path,
    )


def own_shared(path: str) -> OwnFile:
    """Open a file, or make it with the mode that the user's umask leaves: other users may share it.

    :raises OSError: as ``open``.
    """
    return _open(path, "a+", None)


def _open(path: str, how: str, opener: Any) -> OwnFile:
    while True:
        era = _era
        file = OwnFile(path, how, opener=opener)
        found = os.fstat(file.fileno())
        file.path, file.identity = path, (found.st_dev, found.st_ino)
        _open_ones[id(file)] = weakref.ref(file)
        if era is _era and not _forking - {threading.get_ident()}:
            return file
        file.forget()  # a child that another thread has forked meanwhile may have inherited it, and does not know it
        how = how.replace("x", "r")
        time.sleep(0.0005)


def own_or_make(path: str) -> OwnFile:
    """Open a lock file, or make it, and its directory.

    :raises MutexError: it cannot be had; the message says what to do.
    """
    make = True
    see_to(os.path.dirname(path))
    for _ in range(1000):
        try:
            return own(path, exclusively=make)
        except FileExistsError:
            make = False
        except FileNotFoundError as error:
            if make:
                see_to(os.path.dirname(path), again=True)
            elif os.path.islink(path):  # it is dangling
                raise _mutex_error(error, path, "open", "it is a symbolic link: remove it") from error
            make = True
        except OSError as error:
            raise _mutex_error(error, path, "open", _remedy(error, "remove what is there")) from error
    raise MutexError(
        f"{path} was removed a thousand times while it was being opened: end the program that removes it", path=path
    )


_REMEDIES = {
    errno.EMFILE: "each held FileMutex is an open file: hold fewer at a time, raise 'ulimit -n', or take the"
    " semaphore mutex, which needs one for all of them",
    errno.ENFILE: "the whole machine has no file left to open",
    errno.ENOSPC: "the file system is full, or out of inodes",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "name a directory that can be written to",
    errno.EACCES: "name a directory of this user's",
    errno.ENOTDIR: "name a directory",
}


def _remedy(error: OSError, otherwise: str) -> str:
    return _REMEDIES.get(error.errno or 0, otherwise)


def _mutex_error(error: OSError, path: str, act: str, remedy: str) -> MutexError:
    return MutexError(f"cannot {act} {path}: {error.strerror}; {remedy}", path=path, errno=error.errno)


def locks_unsupported(error: OSError, path: str) -> MutexError:
    """Return the error for a file system that does not support locks."""
    return MutexError(
        f"cannot lock {path}: {error.strerror}; the file system {_file_system(path)} has no locks that end with their"
        " holder: name a directory on a local one",
        path=path,
        errno=error.errno,
    )


def _file_system(path: str) -> str:
    """Return type and mount point of the file system that a path is on, if /proc says it."""
    best, kind, folder = "", "", os.path.realpath(os.path.dirname(path))
    try:
        with open("/proc/self/mounts") as mounts:
            for line in mounts:
                _, point, what = line.split()[:3]
                if len(point) >= len(best) and os.path.commonpath((point, folder)) == point:
                    best, kind = point, what
    except OSError:
        return "there"
    return f"of {best} ({kind})"


# -- locks on ranges of bytes that belong to the description ----------------------------------------------------

WHOLE = (0, 0)
"""All bytes that a file can have."""


def lock_bytes(file: OwnFile, start: int, length: int = 1) -> bool:
    """Lock bytes for writing, and return True; False: another description has locked one of them."""
    try:
        fcntl.fcntl(file.fileno(), fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock_bytes(file: OwnFile, start: int, length: int = 1) -> None:
    """Unlock bytes, if they were locked through this file."""
    fcntl.fcntl(file.fileno(), fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def bytes_are_locked(path: str, start: int, length: int = 1) -> bool:
    """Return whether any process, this one included, has locked one of these bytes.  Locks nothing.

    :raises MutexError: the file cannot be opened.
    """
    try:
        file = own(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _mutex_error(error, path, "open", _remedy(error, "remove what is there")) from error
    asked: Any = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(file.fileno(), fcntl.F_OFD_GETLK, asked))
    file.forget()
    return bool(kind != fcntl.F_UNLCK)
