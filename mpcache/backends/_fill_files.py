"""Creations under way, in files beside a store that cannot keep them itself: a change of a key refuses its fill.

Depends on lockfiles, for a directory that only this user can write to::

    no file     a value that is being created for the key, if any, is out of date
    a file      the value of the creator that wrote the random text in it may be stored; or the creator was killed
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress

from mpcache.mutexes import lockfiles

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


class Fills:
    """The creations under way of one store.  The order of the steps makes them correct:

    - A creator begins the fill, reads what the value is made of, and stores the value, if it is still wanted, while no
      other process can write.
    - A process that sets or deletes a key voids the fill first, and then writes, while no other process can write.  Its
      write replaces a fill that was stored before.

    :param folder: of this user alone; made when it is needed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def begin(self, key: bytes) -> Fill:
        """Note that the key's value is about to be created.  Of two creations that have begun only the later is wanted.

        :raises MutexError: the directory is not this user's alone, or cannot be made.
        :raises OSError: the file cannot be made, or written; it is named.
        """
        lockfiles.see_to(self._folder)
        try:
            return Fill(self._path(key))
        except FileNotFoundError:  # the directory was removed since
            lockfiles.see_to(self._folder, again=True)
            return Fill(self._path(key))

    def void(self, keys: Iterable[bytes]) -> None:
        """Refuse what is being created for these keys.

        :raises OSError: a fill cannot be voided; its file is named.
        """
        for key in keys:
            try:
                os.unlink(self._path(key))
            except _NOT_THERE:
                pass
            except OSError as error:
                text = f"mpcache.dbm cannot tell a creator that its key is being changed: {error.strerror}"
                raise OSError(error.errno, text, error.filename) from error

    def _path(self, key: bytes) -> str:
        return os.path.join(self._folder, lockfiles.digest("", key).hex() + ".fill")


class Fill:
    """One creation.  It belongs to the process that began it; a forked child cannot store its value."""

    def __init__(self, path: str) -> None:
        self._path, self._pid = path, os.getpid()
        self._token = secrets.token_bytes(16)
        try:
            self._write()
        except OSError as error:  # for instance of a full disk, which names no file
            text = f"mpcache.dbm cannot note that a key is being created: {error.strerror}"
            raise OSError(error.errno, text, path) from error

    def _write(self) -> None:
        file = os.open(self._path, _NEW, 0o600)
        try:
            os.write(file, self._token)
        except OSError:
            os.unlink(self._path)
            raise
        finally:
            os.close(file)

    @property
    def wanted(self) -> bool:
        """Return whether the key is unchanged since the creation began; False, if that cannot be read."""
        if os.getpid() != self._pid:
            return False
        try:
            with open(self._path, "rb") as file:
                return file.read(len(self._token) + 1) == self._token
        except OSError:
            return False

    def end(self) -> None:
        """End the creation: the value was stored, or will not be."""
        if self.wanted:
            with suppress(OSError):  # if the directory is not writable any more, the file stays, and does no harm
                os.unlink(self._path)
