"""What both mutexes that the kernel frees must show: killed, forked, interrupted, robbed, and out of room."""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mpcache.api import Outcome
from mpcache.exception import MutexError, NotHeld
from tests.processes.support import LONG, PATIENCE, Child, queued, state_of, wait_until


class Board:
    """Some 64-bit words that a process and the children that it forks see alike."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 4096)

    def __getitem__(self, word: int) -> int:
        return int(struct.unpack_from("=q", self._page, word * 8)[0])

    def __setitem__(self, word: int, value: int) -> None:
        struct.pack_into("=q", self._page, word * 8, value)

    def wait_for(self, word: int, value: int = 1) -> None:
        wait_until(lambda: self[word] == value, f"{value} in word {word}")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def queued_until_now(pid: int) -> int:
    """Nanoseconds for which another process could have run and had no core, see ``queued``."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    except FileNotFoundError:
        return 0


@contextmanager
def interrupted(handler: Callable[..., object], every: float = 0.002) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Interruption(Exception):
    pass


OCCUPANT, WAITING, TAKEN_AT, QUEUED, DOUBLES, DONE, KILLED = range(7)


class LocalMutexSuite:
    """``kind`` is the class; ``clean`` looks whether it left anything behind in its directory."""

    kind: ClassVar[Any]

    def make(self, folder: str, key: str | bytes = "key") -> Any:
        return self.kind(key, directory=folder)

    def clean(self, folder: str) -> bool:
        raise NotImplementedError

    @contextmanager
    def held_by_a_child(self, folder: str, board: Board, then: Callable[[Any], object]) -> Iterator[Child]:
        """A child that holds the key, and does something more when it is told to."""

        def live() -> None:
            mutex = self.make(folder)
            mutex.acquire()
            board[WAITING] = 1
            board.wait_for(DONE)
            then(mutex)

        child = Child(live)
        try:
            board.wait_for(WAITING)
            yield child
        finally:
            child.end()

    # -- death ---------------------------------------------------------------------------------------

    def test_twenty_holders_are_killed(self, folder: str, board: Board) -> None:
        """After each, the waiter has the key: alone, and soon.  Hundreds are in tests/processes."""

        def heir() -> None:
            mutex = self.make(folder)
            board[WAITING] = os.getpid()
            mutex.acquire()
            now = time.monotonic_ns()
            board[DOUBLES] += board[OCCUPANT] != board[KILLED]
            board[OCCUPANT] = os.getpid()
            board[QUEUED] = queued()
            board[TAKEN_AT] = now
            signal.pause()

        took: list[float] = []
        holder = Child(heir)
        try:
            wait_until(lambda: board[OCCUPANT] == holder.pid, "first holder")
            for _ in range(20):
                waiter = Child(heir)
                wait_until(lambda: board[WAITING] == waiter.pid and state_of(waiter.pid) == "S", "waiter")  # noqa: B023
                assert board[OCCUPANT] == holder.pid
                board[KILLED] = holder.pid
                before = queued_until_now(waiter.pid)
                killed_at = time.monotonic_ns()
                holder.kill()
                wait_until(lambda: board[OCCUPANT] == waiter.pid, "take-over")  # noqa: B023
                wait_until(lambda: board[TAKEN_AT] > killed_at, "time of it")  # noqa: B023
                took.append((board[TAKEN_AT] - killed_at - (board[QUEUED] - before)) / 1e9)
                holder.end()
                holder = waiter
        finally:
            holder.end()
        took.sort()
        print(f"take-overs: median {took[10] * 1e3:.1f} ms, longest {took[-1] * 1e3:.1f} ms")
        assert board[DOUBLES] == 0
        assert took[10] < 0.1

    # -- fork ----------------------------------------------------------------------------------------

    def test_a_child_that_was_forked_while_the_parent_held_keeps_nothing_alive(self, folder: str, board: Board) -> None:
        def hold_and_fork() -> None:
            mutex = self.make(folder)
            mutex.acquire()
            Child(lambda: board.wait_for(DONE))
            board[WAITING] = 1
            signal.pause()

        parent = Child(hold_and_fork)
        board.wait_for(WAITING)
        mutex = self.make(folder)
        assert not mutex.acquire(False)
        parent.end()
        assert mutex.acquire(timeout=PATIENCE)
        mutex.release()
        board[DONE] = 1

    def test_a_child_cannot_release_and_its_end_releases_nothing(self, folder: str) -> None:
        mutex = self.make(folder)
        mutex.acquire()

        def child() -> None:
            with pytest.raises(NotHeld, match="before fork"):
                mutex.release()
            assert not self.make(folder).acquire(False)
            assert self.make(folder).locked()

        assert Child(child).wait() == 0
        assert mutex.owned()
        assert Child(lambda: os._exit(self.make(folder).acquire(False))).wait() == 0
        mutex.release()
        assert not mutex.locked()

    def test_parent_and_child_exclude_each_other_after_both_have_used_it(self, folder: str, board: Board) -> None:
        with self.make(folder):
            pass
        with self.held_by_a_child(folder, board, lambda mutex: mutex.release()) as child:
            mutex = self.make(folder)
            assert not mutex.acquire(False)
            board[DONE] = 1
            assert mutex.acquire(timeout=PATIENCE)
            assert child.wait() == 0
            mutex.release()

    def test_forks_by_one_thread_while_others_acquire(self, folder: str) -> None:
        """A child that got hold of a description in the instant of its opening would keep the key of a dead parent."""
        keys = [f"key {number}" for number in range(3)]

        def parent() -> None:
            stop = threading.Event()

            def work(key: str) -> None:
                while not stop.is_set():
                    with self.make(folder, key):
                        pass

            threads = [threading.Thread(target=work, args=(key,)) for key in keys]
            for thread in threads:
                thread.start()
            orphans = [Child(lambda: signal.alarm(int(PATIENCE)) or signal.pause()) for _ in range(40)]
            stop.set()
            for thread in threads:
                thread.join()
            held = [self.make(folder, key) for key in keys]
            assert all(mutex.acquire() for mutex in held)
            for key in keys:
                assert Child(lambda: os._exit(self.make(folder, key).acquire(False))).wait() == 0  # noqa: B023
            print(*(orphan.pid for orphan in orphans), file=pids)
            pids.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        with open(f"{folder}.pids", "w+") as pids:
            Child(parent).wait()
            pids.seek(0)
            orphans = [int(pid) for pid in pids.read().split()]
        try:
            assert len(orphans) == 40
            for key in keys:
                mutex = self.make(folder, key)
                assert mutex.acquire(timeout=5), f"an orphan keeps {key}"
                mutex.release()
        finally:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)

    # -- hand-over -------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("stored", "outcome"), [(True, Outcome.RELEASED), (False, Outcome.UNSTORED)])
    def test_who_contends_hears_what_came_of_it(
        self, folder: str, board: Board, stored: bool, outcome: Outcome
    ) -> None:
        """Not each time: a contender that looks just then acquires the key itself, and that is as good."""
        heard = set()
        for _ in range(20):
            board[WAITING] = board[DONE] = 0
            with self.held_by_a_child(folder, board, lambda mutex: mutex.release(stored)) as holder:
                mutex = self.make(folder)
                waiting = threading.Thread(target=lambda: heard.add(mutex.contend(PATIENCE)))  # noqa: B023
                waiting.start()
                wait_until(lambda: self.waits(waiting), "waiter")  # noqa: B023
                board[DONE] = 1
                waiting.join()
                assert holder.wait() == 0
            if mutex.owned():
                mutex.release()
            if outcome in heard:
                break
        assert outcome in heard
        assert heard <= {outcome, Outcome.ACQUIRED}

    @staticmethod
    def waits(thread: threading.Thread) -> bool:
        try:
            with open(f"/proc/self/task/{thread.native_id}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "S"
        except FileNotFoundError:
            return False

    def test_a_stranger_to_the_key_hears_nothing(self, folder: str, board: Board) -> None:
        with self.held_by_a_child(folder, board, lambda mutex: None):
            other = self.make(folder, "another")
            for _ in range(20):
                other.acquire()
                other.release(stored=False)
            assert self.make(folder).contend(0.05) is Outcome.TIMEOUT

    def test_increments_are_not_lost(self, folder: str, board: Board) -> None:
        def count() -> None:
            for _ in range(300):
                with self.make(folder, b"counter"):
                    board[0] += 1

        children = [Child(count) for _ in range(4)]
        assert [child.wait() for child in children] == [0] * 4
        assert board[0] == 1200
        assert self.clean(folder)

    # -- signals -----------------------------------------------------------------------------------------

    def test_signals_every_two_milliseconds(self, folder: str, board: Board) -> None:
        caught: list[int] = []
        with self.held_by_a_child(folder, board, lambda mutex: mutex.release()) as holder:
            with interrupted(lambda *_: caught.append(1)):
                mutex = self.make(folder)
                began = time.monotonic()
                assert not mutex.acquire(timeout=0.1)
                assert time.monotonic() - began >= 0.1
                board[DONE] = 1
                assert mutex.acquire(timeout=PATIENCE)
                mutex.release()
                assert holder.wait() == 0
            assert len(caught) > 3

    def test_the_exception_of_a_signal_handler_comes_through(self, folder: str, board: Board) -> None:
        def interrupt(*_: object) -> None:
            raise Interruption

        with self.held_by_a_child(folder, board, lambda mutex: None):
            for _ in range(5):
                before = signal.signal(signal.SIGALRM, interrupt)
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.03)
                    with pytest.raises(Interruption):
                        self.make(folder).acquire(timeout=PATIENCE)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    signal.signal(signal.SIGALRM, before)
            assert signal.SIGALRM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    @pytest.mark.filterwarnings("ignore:the mutex of key:ResourceWarning")
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_interrupted_anywhere_it_holds_nothing(self, folder: str) -> None:
        """An exception at a random moment of acquire and release: then the key is free, and no file is left open."""
        moments, hits = random.Random(4), 0

        def interrupt(*_: object) -> None:
            raise Interruption

        with self.make(folder):
            pass
        files = open_files()
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for _ in range(300):
                try:
                    signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-6, 4e-4))
                    for _ in range(40):
                        with self.make(folder):
                            pass
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interruption:
                    hits += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert Child(lambda: os._exit(self.make(folder).acquire(False))).wait() == 1 if hits % 50 == 1 else True
                mutex = self.make(folder)
                assert mutex.acquire(False)
                mutex.release()
        except Interruption:  # it came after the timer was stopped
            pass
        finally:
            signal.signal(signal.SIGALRM, before)
        assert hits > 50
        assert open_files() <= files + 1

    # -- bounds ------------------------------------------------------------------------------------------

    def test_nothing_is_left_of_many_keys(self, folder: str) -> None:
        files = open_files()
        for number in range(100_000 if LONG else 10_000):
            mutex = self.kind(b"%d" % number, directory=folder)
            mutex.acquire()
            mutex.release()
        assert self.clean(folder)
        assert open_files() <= files + 1

    # -- keys --------------------------------------------------------------------------------------------

    def test_keys_and_namespaces_are_told_apart(self, folder: str) -> None:
        made = [
            self.kind(key, directory=folder, namespace=namespace)
            for key, namespace in [
                ("a", ""),
                (b"a", ""),
                ("a", "b"),
                ("", "ab"),
                ("b", "a"),
                ("ab", ""),
                ("\udc80", ""),
            ]
        ]
        assert [mutex.acquire(False) for mutex in made] == [True] * len(made)
        for mutex in made:
            mutex.release()
        assert len({mutex._subject() for mutex in made}) == len(made)

    def test_another_type_of_key_is_refused(self, folder: str) -> None:
        with pytest.raises(TypeError, match="takes str or bytes"):
            self.kind(7, directory=folder)

    # -- where it lives ----------------------------------------------------------------------------------

    def test_the_default_directory_is_beside_the_segments(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mpcache.shm import segment

        monkeypatch.setenv("MPCACHE_SHM", str(tmp_path))
        with self.kind("key"):
            assert segment.names() == []
            (where,) = (tmp_path / f"mpcache-{os.geteuid()}").iterdir()
            assert where.stat().st_mode & 0o777 == 0o700
        self.kind.unlink()
        assert list(where.iterdir()) == []

    def test_a_directory_that_others_can_use_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o770)
        (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "file").write_text("")
        for name in "open", "link", "file":
            with pytest.raises(MutexError, match=f"{name} is not a directory that only uid"):
                self.make(str(tmp_path / name)).acquire()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_another_users_directory_is_refused(self, folder: str) -> None:
        os.mkdir(folder, 0o700)
        os.chown(folder, 65534, -1)
        with pytest.raises(MutexError, match=r"\(owner 65534, mode drwx------\)"):
            self.make(folder).acquire()

    def test_a_directory_without_a_parent_is_an_error(self, folder: str) -> None:
        with pytest.raises(MutexError, match="make its parent first"):
            self.make(f"{folder}/deeper").acquire()

    def test_a_directory_that_vanishes_is_made_again(self, folder: str) -> None:
        import shutil

        for _ in range(3):
            with self.make(folder) as mutex:
                assert mutex.owned()
            shutil.rmtree(folder)

    def test_the_file_is_removed_while_it_is_held(self, folder: str) -> None:
        """The holder learns of it, at the latest when it releases; later processes exclude each other."""
        robbed, late = self.make(folder), self.make(folder)
        robbed.acquire()
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
        assert not robbed.owned()

        def two_of_them() -> None:
            first, second = self.make(folder), self.make(folder)
            assert first.acquire(False)
            assert Child(lambda: os._exit(second.acquire(False))).wait() == 0
            first.release()

        assert Child(two_of_them).wait() == 0
        with pytest.raises(NotHeld, match="another program removed"):
            robbed.release()
        with late:
            assert late.owned()

    def test_a_program_closes_every_descriptor(self, folder: str, tmp_path: Path) -> None:
        """And opens others, which then have the numbers: they stay open, and unlocked."""

        def daemon() -> None:
            mutex, other = self.make(folder), self.make(folder, "other")
            mutex.acquire()
            os.closerange(3, 1024)
            mine = [os.open(tmp_path / f"mine {number}", os.O_RDWR | os.O_CREAT) for number in range(30)]
            assert not mutex.owned()
            with pytest.raises(NotHeld):
                mutex.release()
            with other:
                assert Child(lambda: os._exit(self.make(folder, "other").acquire(False))).wait() == 0
            del mutex, other
            for fd in mine:
                os.fstat(fd)

        assert Child(daemon).wait() == 0

    def test_a_full_disk(self, folder: str) -> None:
        """A file system of its own, in a mount namespace of its own, on which nothing fits any more."""
        script = (
            "import os, sys\n"
            f"from {self.kind.__module__} import {self.kind.__name__} as Kind\n"
            "folder = sys.argv[1] + '/locks'\n"
            "with Kind('k', directory=folder): pass\n"
            "held = Kind('held', directory=folder); held.acquire()\n"
            "with open(sys.argv[1] + '/filler', 'wb', 0) as file:\n"
            "    try:\n"
            "        while True: file.write(bytes(4096))\n"
            "    except OSError: pass\n"
            "n = 0\n"
            "try:\n"
            "    while True: open(sys.argv[1] + f'/inode{n}', 'x').close(); n += 1\n"
            "except OSError: pass\n"
            "try:\n"
            "    with Kind('other', directory=folder): print('held')\n"
            "except Exception as error: print(type(error).__name__, error)\n"
            "held.release(stored=False)\n"
            "print(Kind('held', directory=folder).locked())\n"
        )
        said = in_a_small_file_system(folder, script)
        assert said[0] == "held" or ("MutexError" in said[0] and "the file system is full" in said[0])
        assert said[1] == "False"

    def test_a_read_only_file_system(self, folder: str) -> None:
        script = (
            "import subprocess, sys\n"
            f"from {self.kind.__module__} import {self.kind.__name__} as Kind\n"
            "subprocess.run(['mount', '-o', 'remount,ro', sys.argv[1]], check=True)\n"
            "try:\n"
            "    with Kind('k', directory=sys.argv[1]): print('held')\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        (said,) = in_a_small_file_system(folder, script)
        assert "MutexError cannot open" in said
        assert "name a directory that can be written to" in said


def in_a_small_file_system(folder: str, script: str) -> list[str]:
    """What a script says that is run with a tmpfs of 64 KiB and 32 inodes as its argument."""
    os.mkdir(folder, 0o700)
    mount = 'mount -t tmpfs -o size=64k,nr_inodes=32,mode=700 none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", folder, sys.executable, script]
    if os.geteuid() == 0:
        command.remove("--map-root-user")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if (ended.returncode and "unshare" in ended.stderr) or "mount:" in ended.stderr:
        pytest.skip(f"no file system can be mounted here: {ended.stderr.strip()}")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
