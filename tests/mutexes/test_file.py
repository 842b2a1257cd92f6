"""The file mutex: what only it has.  The rest is in ``local``."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from mpcache import mutexes
from mpcache.exception import MutexError, NotHeld
from mpcache.mutexes.file import FileMutex
from tests.mutexes.local import LocalMutexSuite, few_descriptors, open_files
from tests.processes.support import Child, wait_until


class TestFileMutex(LocalMutexSuite):
    kind = FileMutex

    def clean(self, folder: str) -> bool:
        return os.listdir(folder) == []

    def test_it_goes_by_its_name(self) -> None:
        assert mutexes.resolve("file") is FileMutex

    def test_a_held_key_is_a_file_of_its_own(self, folder: str) -> None:
        with FileMutex("a/../b\0", directory=folder) as mutex:
            (name,) = os.listdir(folder)
            assert f"{folder}/{name}" == mutex.path  # type: ignore[attr-defined]
            assert len(name) == 32 + len(".lock")
            assert os.stat(mutex.path).st_mode & 0o777 == 0o600  # type: ignore[attr-defined]
        assert os.listdir(folder) == []

    def test_filelock_itself_is_excluded(self, folder: str) -> None:
        import filelock

        with FileMutex("key", directory=folder) as mutex:
            other = filelock.FileLock(mutex.path, timeout=0)  # type: ignore[attr-defined]
            with pytest.raises(filelock.Timeout):
                other.acquire()

    def test_too_many_open_files(self, folder: str) -> None:
        with FileMutex("first", directory=folder):
            pass
        held: list[Any] = []
        with few_descriptors(50):
            with pytest.raises(MutexError, match=r"ulimit -n.*semaphore mutex") as told:
                for number in range(10_000):
                    held.append(FileMutex(str(number), directory=folder))
                    held[-1].acquire()
            assert told.value.errno == errno.EMFILE  # type: ignore[attr-defined]
            assert 40 <= len(held) < 500  # those that other tests leave to the garbage collector may become free
            for mutex in held[:-1]:
                mutex.release()
            with FileMutex("again", directory=folder):
                pass
        assert os.listdir(folder) == []

    def test_who_waits_in_vain_leaves_no_file_open(self, folder: str) -> None:
        mutex = FileMutex("key", directory=folder)
        mutex.acquire()
        files = open_files()

        def ask() -> None:
            before = open_files()
            for _ in range(50):
                assert not FileMutex("key", directory=folder).acquire(False)
            assert open_files() == before

        assert Child(ask).wait() == 0
        assert open_files() == files
        mutex.release()

    def test_unlink_removes_what_the_dead_left_and_nothing_else(self, folder: str) -> None:
        def die() -> None:
            mutex = FileMutex("dead", directory=folder)
            mutex.acquire()
            os.kill(os.getpid(), 9)

        assert FileMutex.unlink(folder) == 0
        Child(die).wait()
        Path(folder, "notes.lock").write_text("of another program")
        with FileMutex("living", directory=folder) as mutex:
            assert len(os.listdir(folder)) == 3
            assert Child(lambda: os._exit(FileMutex.unlink(folder))).wait() == 1
            assert FileMutex.unlink(folder) == 0
            assert mutex.owned()
        assert os.listdir(folder) == ["notes.lock"]

    @pytest.mark.parametrize("what", ["directory", "pipe", "link", "dangling"])
    def test_something_else_in_the_place_of_the_file(self, folder: str, tmp_path: Path, what: str) -> None:
        mutex = FileMutex("key", directory=folder)
        os.mkdir(folder, 0o700)
        if what == "directory":
            os.mkdir(mutex.path)
        elif what == "pipe":
            os.mkfifo(mutex.path)
        else:
            if what == "link":
                (tmp_path / "target").write_text("text of another program")
            os.symlink(tmp_path / "target", mutex.path)
        with pytest.raises(MutexError, match="remove"):
            mutex.acquire(timeout=1)
        if what == "link":
            assert (tmp_path / "target").read_text() == "text of another program"

    def test_a_file_that_is_replaced_again_and_again(self, folder: str) -> None:
        """A process that locks a file that has lost its name goes on to the file that has the name."""
        stop = f"{folder}.stop"

        def replace() -> None:
            path = FileMutex("key", directory=folder).path
            while not os.path.exists(stop):
                fd = os.open(f"{folder}/new", os.O_CREAT | os.O_WRONLY, 0o600)
                os.close(fd)
                os.rename(f"{folder}/new", path)

        os.mkdir(folder, 0o700)
        vandal = Child(replace)
        try:
            wait_until(lambda: os.listdir(folder), "vandal")
            for _ in range(20):
                mutex = FileMutex("key", directory=folder)
                assert mutex.acquire(timeout=20)
                try:
                    mutex.release()
                except NotHeld:  # it was replaced while it was held
                    pass
        finally:
            Path(stop).touch()
            assert vandal.wait() == 0

    def test_a_file_system_without_locks_is_named(self, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Never a soft lock, which would outlive its holder."""

        def refuse(fd: int, what: int) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(fcntl, "flock", refuse)
        files = open_files()
        with pytest.raises(MutexError, match=r"the file system of /.* \(\w+\) has no locks that end with their holder"):
            FileMutex("key", directory=folder).acquire()
        assert open_files() == files
