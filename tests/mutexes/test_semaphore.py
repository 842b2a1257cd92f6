"""The semaphore mutex: what only it has.  The rest is in ``local``."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import posix_ipc
import pytest

from mpcache import mutexes
from mpcache.exception import MutexError
from mpcache.mutexes import lockfiles, semaphore
from mpcache.mutexes.semaphore import BELLS, SemaphoreMutex
from tests.mutexes.local import LocalMutexSuite, few_descriptors, open_files
from tests.processes.support import PATIENCE, Child, wait_until


def bells(folder: str) -> list[str]:
    prefix = "sem." + semaphore._bell_prefix(f"{folder}/semaphores")[1:]
    return [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]


@pytest.fixture(autouse=True)
def no_bell_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for number in range(BELLS):
        semaphore._remove_bell(str(tmp_path / "locks" / "semaphores"), number)


class TestSemaphoreMutex(LocalMutexSuite):
    kind = SemaphoreMutex

    def clean(self, folder: str) -> bool:
        return os.listdir(folder) == ["semaphores"] and len(bells(folder)) <= BELLS

    def test_it_goes_by_its_name(self) -> None:
        assert mutexes.resolve("semaphore") is SemaphoreMutex

    def test_bells_and_descriptors_are_bounded(self, folder: str) -> None:
        """A process that holds every byte lets a waiter for each of many keys come to its bell."""
        path = SemaphoreMutex("key", directory=folder).path
        stranger = lockfiles.own_or_make(path)
        assert lockfiles.lock_bytes(stranger, *lockfiles.WHOLE)
        before = open_files()
        for number in range(1500):
            assert not SemaphoreMutex(str(number), directory=folder).acquire(timeout=1e-4)
        assert BELLS * 0.9 < len(bells(folder)) <= BELLS
        assert open_files() <= before + 1
        assert not SemaphoreMutex.unlink(folder)
        stranger.forget()
        assert SemaphoreMutex.unlink(folder)
        assert (bells(folder), os.listdir(folder)) == ([], [])

    def test_an_uncontended_key_has_no_bell(self, folder: str) -> None:
        for number in range(100):
            with SemaphoreMutex(str(number), directory=folder):
                pass
        assert bells(folder) == []

    def test_many_keys_need_one_descriptor(self, folder: str) -> None:
        held = [SemaphoreMutex(str(number), directory=folder) for number in range(2000)]
        with few_descriptors(5):
            assert all(mutex.acquire() for mutex in held)
            assert Child(lambda: os._exit(SemaphoreMutex("1999", directory=folder).acquire(False))).wait() == 0
            for mutex in held:
                mutex.release()

    def test_the_lock_file_is_of_the_owner_alone(self, folder: str) -> None:
        with SemaphoreMutex("key", directory=folder) as mutex:
            assert os.stat(mutex.path).st_mode & 0o777 == 0o600  # type: ignore[attr-defined]

    def test_a_release_rings(self, folder: str, board: Any) -> None:
        """Judged by the fastest of some: no machine is loaded all the time, and polling would take 10 ms."""
        quickest = PATIENCE

        def hold() -> None:
            mutex = SemaphoreMutex("key", directory=folder)
            for number in range(1, 21):
                mutex.acquire()
                board[0] = number
                board.wait_for(1, number)
                board[2] = time.monotonic_ns()
                mutex.release()
                board.wait_for(3, number)

        holder = Child(hold)
        for number in range(1, 21):
            board.wait_for(0, number)
            mutex = SemaphoreMutex("key", directory=folder)
            taken: list[int] = []

            def wait() -> None:
                mutex.acquire()  # noqa: B023
                taken.append(time.monotonic_ns())  # noqa: B023

            waiter = threading.Thread(target=wait)
            waiter.start()
            wait_until(lambda: listening(folder, "key") and self.waits(waiter), "waiter")  # noqa: B023
            board[1] = number
            waiter.join()
            quickest = min(quickest, (taken[0] - board[2]) / 1e9)
            mutex.release()
            board[3] = number
        assert holder.wait() == 0
        assert quickest < 0.002

    def test_removed_bells_cost_twenty_milliseconds(self, folder: str, board: Any) -> None:
        def vandal() -> None:
            while not board[1]:
                for number in range(BELLS):
                    semaphore._remove_bell(f"{folder}/semaphores", number)

        self.count_together(folder, board, vandal)

    def test_bells_that_a_stranger_rings(self, folder: str, board: Any) -> None:
        def vandal() -> None:
            while not board[1]:
                for name in bells(folder):
                    try:
                        bell = posix_ipc.Semaphore("/" + name.removeprefix("sem."))
                    except posix_ipc.ExistentialError:
                        continue
                    for _ in range(20):
                        bell.release()
                    bell.close()

        self.count_together(folder, board, vandal)

    def count_together(self, folder: str, board: Any, vandal: Any) -> None:
        def count() -> None:
            for _ in range(100):
                with SemaphoreMutex("counter", directory=folder):
                    board[0] += 1

        hostile, children = Child(vandal), [Child(count) for _ in range(3)]
        try:
            assert [child.wait(60) for child in children] == [0] * 3
        finally:
            board[1] = 1
            hostile.wait()
        assert board[0] == 300

    def test_a_bell_that_always_rings_makes_nobody_spin(self, folder: str, board: Any) -> None:
        with self.held_by_a_child(folder, board, lambda mutex: None):
            mutex = SemaphoreMutex("key", directory=folder)
            name = semaphore._bell_name(mutex.path, mutex._process_lock()._bell)  # type: ignore[attr-defined]
            bell = posix_ipc.Semaphore(name, posix_ipc.O_CREAT, mode=0o600)
            for _ in range(10_000):
                bell.release()
            bell.close()
            used = time.thread_time()
            assert not mutex.acquire(timeout=0.3)
            assert time.thread_time() - used < 0.1

    def test_bells_of_another_user(self, folder: str, board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        class Denied:
            def __init__(self, *args: Any, **how: Any) -> None:
                raise posix_ipc.PermissionsError("Permission denied")

        monkeypatch.setattr(posix_ipc, "Semaphore", Denied)
        with self.held_by_a_child(folder, board, lambda mutex: mutex.release()) as holder:
            mutex = SemaphoreMutex("key", directory=folder)
            assert not mutex.acquire(timeout=0.05)
            board[5] = 1
            assert mutex.acquire(timeout=PATIENCE)
            mutex.release()
            assert holder.wait() == 0

    def test_random_words_in_the_file(self, folder: str, board: Any) -> None:
        """They are hints: whatever they say, the key has one holder."""

        def vandal() -> None:
            fd = os.open(f"{folder}/semaphores", os.O_RDWR)
            while not board[1]:
                os.pwrite(fd, os.urandom(8192), 0)
                os.ftruncate(fd, 100)

        with SemaphoreMutex("key", directory=folder):
            pass
        self.count_together(folder, board, vandal)

    def test_unlink_while_others_use_it(self, folder: str, board: Any) -> None:
        """A process that has the removed file open goes on in the new one."""
        with SemaphoreMutex("key", directory=folder):
            pass
        assert Child(lambda: os._exit(SemaphoreMutex.unlink(folder))).wait() == 1
        assert os.listdir(folder) == []
        with self.held_by_a_child(folder, board, lambda mutex: None):
            assert not SemaphoreMutex("key", directory=folder).acquire(False)
            assert not SemaphoreMutex.unlink(folder)
        assert SemaphoreMutex.unlink(folder)
        assert SemaphoreMutex.unlink(folder)

    def test_something_else_in_the_place_of_the_file(self, folder: str, tmp_path: Path) -> None:
        os.mkdir(folder, 0o700)
        os.symlink(tmp_path, f"{folder}/semaphores")
        with pytest.raises(MutexError, match="remove"):
            SemaphoreMutex("key", directory=folder).acquire()

    def test_a_file_system_without_locks_is_named(
        self,
        folder: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*args: Any) -> bool:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(lockfiles, "lock_bytes", refuse)
        with pytest.raises(MutexError, match=r"the file system of /.* \(\w+\) has no locks that end with their holder"):
            SemaphoreMutex("key", directory=folder).acquire()

    @pytest.mark.parametrize("unstored", [True, False])
    def test_a_word_of_another_key_is_no_message(self, folder: str, unstored: bool) -> None:
        mutex = SemaphoreMutex("key", directory=folder)
        lock, other = mutex._process_lock(), SemaphoreMutex("key", directory=folder)._process_lock()
        other._tag ^= 1  # type: ignore[attr-defined]
        file = semaphore._opened(mutex.path)
        assert lock._hear(file) is None  # type: ignore[attr-defined]
        other._note(file, not unstored)  # type: ignore[attr-defined]
        assert lock._hear(file) is None  # type: ignore[attr-defined]
        lock._note(file, not unstored)  # type: ignore[attr-defined]
        assert lock._hear(file) is not None  # type: ignore[attr-defined]
        assert lock._hear(file) is None  # type: ignore[attr-defined]


def listening(where: str, key: str) -> bool:
    mutex = SemaphoreMutex(key, directory=where)
    lock: Any = mutex._process_lock()
    return semaphore._read(semaphore._opened(mutex.path), lock._bell) > time.monotonic_ns()
