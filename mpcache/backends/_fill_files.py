"""Creations under way, of a store that has no place for them of its own: whoever changes a key tells its creator.

Leans on files, for a directory that nobody else can write to::

    no file     whatever is being created for the key is out of date, if anything is
    a file      what its creator makes may be stored, who is told by the random text in it; or he was killed
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
    """Those of the keys of one store.  The order makes them right:

    - Who creates a value begins the fill, reads what it is made of, and stores it, if it is still wanted, while nobody
      else can write.
    - Who sets or deletes a key voids its fill first, and then writes, when nobody else does.  A fill that was stored
      before is replaced by that.

    :param folder: of this user alone; made when it is needed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def begin(self, key: bytes) -> Fill:
        """Note that the key's value is about to be created.  Of two that have begun the later is wanted.

        :raises MutexError: the directory is not this user's alone, or cannot be made.
        :raises OSError: the file cannot be made, or written; it is named.
        """
        lockfiles.see_to(self._folder)
        try:
            return Fill(self._path(key))
        except FileNotFoundError:  # somebody has tidied up since
            lockfiles.see_to(self._folder, again=True)
            return Fill(self._path(key))

    def void(self, keys: Iterable[bytes]) -> None:
        """What is being created for these keys is not wanted any more.

        :raises OSError: somebody's fill cannot be voided; its file is named.
        """
        for key in keys:
            try:
                os.unlink(self._path(key))
            except _NOT_THERE:
                pass
            except OSError as error:
                text = f"mpcache.dbm cannot tell a creator that his key is being changed: {error.strerror}"
                raise OSError(error.errno, text, error.filename) from error

    def _path(self, key: bytes) -> str:
        return os.path.join(self._folder, lockfiles.digest("", key).hex() + ".fill")


class Fill:
    """One creation.  It belongs to the process that began it; a child that is forked meanwhile cannot store it."""

    def __init__(self, path: str) -> None:
        self._path, self._pid = path, os.getpid()
        self._token = secrets.token_bytes(16)
        try:
            self._write()
        except OSError as error:  # of a full disk, say, which names no file
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
        """Whether nobody has changed the key since it began; no, where that cannot be told."""
        if os.getpid() != self._pid:
            return False
        try:
            with open(self._path, "rb") as file:
                return file.read(len(self._token) + 1) == self._token
        except OSError:
            return False

    def end(self) -> None:
        """It was stored, or will not be."""
        if self.wanted:
            with suppress(OSError):  # if the directory cannot be written to any more, the file stays, in nobody's way
                os.unlink(self._path)
