"""What an attack on the mutexes has found: each test is a hole that was there."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import mpcache
from mpcache.api import Outcome
from mpcache.exception import MutexError
from mpcache.mutexes import two_level
from mpcache.mutexes.file import FileMutex
from mpcache.mutexes.local import Scope
from mpcache.mutexes.memcached import MemcachedMutex
from mpcache.mutexes.redis import RedisMutex
from mpcache.mutexes.semaphore import SemaphoreMutex
from mpcache.mutexes.thread import ThreadMutex
from mpcache.mutexes.two_level import ProcessLock, TwoLevelMutex
from tests.mutexes.local import few_descriptors, open_files
from tests.processes.support import PATIENCE, wait_until

PACKAGE = mpcache.__file__.removesuffix("__init__.py")


class Interruption(BaseException):
    pass


def interrupt_everywhere(act: Callable[[], object], after: Callable[[], object]) -> int:
    """Do it again and again, with an exception at its first step, its second, and so on to the last.

    :param after: is called each time.
    :return: how many steps there are.
    """
    step = 0
    while True:
        step += 1
        left = step

        def trace(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if not left:
                    raise Interruption
            return trace

        before = sys.gettrace()
        try:
            sys.settrace(trace)
            act()
        except Interruption:
            pass
        finally:
            sys.settrace(before)
        after()
        if left > 0:
            return step


class Outside:
    """Where all processes meet: which process holds the key, and what a waiter learns."""

    def __init__(self) -> None:
        self.holder: Any = None
        self.waiters = 0
        self.news = threading.Semaphore(0)
        self.trouble: Exception | None = None


class OutsideLock(ProcessLock):
    def __init__(self, outside: Outside) -> None:
        super().__init__()
        self.outside = outside

    def acquire(self) -> bool:
        self.outside.holder = self.outside.holder or self
        return self.outside.holder is self

    def release(self, stored: bool) -> None:
        if self.outside.holder is self:
            self.outside.holder = None

    def wait(self, most: float | None) -> Outcome | None:
        self.outside.waiters += 1
        self.outside.news.acquire(timeout=most)
        if self.outside.trouble is not None:
            raise self.outside.trouble
        return None


class OutsideMutex(TwoLevelMutex):
    def __init__(self, key: Any, outside: Outside) -> None:
        super().__init__(key)
        self.outside = outside

    def _process_lock(self) -> ProcessLock:
        return OutsideLock(self.outside)

    def _locked(self) -> bool:
        return self.outside.holder is not None

    def _subject(self) -> Any:
        return (OutsideMutex, id(self.outside), self.key)


@pytest.mark.filterwarnings("ignore:the mutex of key:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestInterrupted:
    """An exception may come out of a signal's handler between any two steps."""

    def test_a_try_in_vain_leaves_the_front_free(self) -> None:
        outside = Outside()
        outside.holder = "another process"

        def look() -> None:
            assert not [place for place in two_level._threads.holds if place[1][:2] == (OutsideMutex, id(outside))]

        assert interrupt_everywhere(lambda: OutsideMutex("k", outside).acquire(False), look) > 50
        assert outside.holder == "another process"


def test_one_who_stops_waiting_outside_is_no_word_of_the_holder() -> None:
    """The threads that waited behind it ask again; they must not all create, as if nothing had been stored."""
    outside = Outside()
    outside.holder = "another process"
    outside.trouble = TimeoutError("out of patience")
    first, second, heard = OutsideMutex("k", outside), OutsideMutex("k", outside), []
    told: list[Exception] = []

    def lose_patience() -> None:
        try:
            first.acquire()
        except TimeoutError as error:
            told.append(error)

    ahead = threading.Thread(target=lose_patience)
    ahead.start()
    wait_until(lambda: outside.waiters == 1, "waiter outside")
    behind = threading.Thread(target=lambda: heard.append(second.contend(PATIENCE)))
    behind.start()
    wait_until(lambda: _waits(behind), "waiter inside")
    outside.news.release()
    ahead.join()
    outside.trouble = None
    behind.join()
    assert len(told) == 1
    assert heard == [Outcome.RELEASED]


def _waits(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("local.py"):
            return True
        frame = frame.f_back
    return False


def test_a_hold_that_is_dropped_is_no_value_that_was_not_stored() -> None:
    """As after a creator that raised, one of the waiters creates, and not all of them."""
    scope, heard = Scope(), []
    holder, other = ThreadMutex("k", scope), ThreadMutex("k", scope)
    holder.acquire()
    waiter = threading.Thread(target=lambda: heard.append(other.contend(PATIENCE)))
    waiter.start()
    wait_until(lambda: _waits(waiter), "waiter")
    with pytest.warns(ResourceWarning, match="dropped"):
        del holder
    waiter.join()
    assert heard == [Outcome.RELEASED]


@pytest.mark.parametrize("kind", [RedisMutex, MemcachedMutex])
def test_a_number_goes_by_its_digits(kind: Any) -> None:
    """Not by as many bytes of nothing."""
    subject = kind("123456789")._subject()
    assert kind(123456789)._subject() == subject
    assert kind(b"123456789")._subject() == subject
    assert kind(-1)._subject() == kind("-1")._subject()
    with pytest.raises(TypeError, match=r"key \(1, 2\) is of type tuple"):
        kind((1, 2))


@pytest.mark.parametrize("wrong", [{"lease": math.inf}, {"lease": math.nan}, {"poll": math.inf}, {"poll": 0}])
def test_a_lease_has_an_end(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        RedisMutex("k", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [FileMutex, SemaphoreMutex])
class TestLockFiles:
    def test_without_a_descriptor_nobody_can_say_that_a_key_is_free(self, kind: Any, folder: str) -> None:
        other = kind("k", directory=folder)
        with kind("k", directory=folder):
            with few_descriptors(-open_files()), pytest.raises(MutexError, match="ulimit -n"):
                other.locked()
            assert other.locked()

    def test_something_else_in_the_place_of_the_file_can_be_shown(self, kind: Any, folder: str, tmp_path: Path) -> None:
        mutex = kind("k", directory=folder)
        os.mkdir(folder, 0o700)
        os.symlink(tmp_path, mutex.path)
        assert repr(mutex).endswith("in a state that cannot be told: MutexError>")


def test_what_one_says_who_is_killed_in_his_release_is_not_said_of_the_next(folder: str) -> None:
    """Between the word that nothing was stored and the removal of the file."""
    mutex: Any = FileMutex("k", directory=folder)
    os.mkdir(folder, 0o700)
    with open(mutex.path, "x") as file:
        file.write("1")
    mutex.acquire()
    with open(mutex.path) as file:
        mutex.release()
        assert os.fstat(file.fileno()).st_size == 0
