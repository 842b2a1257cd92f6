"""Mutexes with a fault each, and the sound ones that they are made from.

Depends on base.  The classes are in a module of their own because other processes import them by name.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from hashlib import sha1
from typing import Any

from mpcache.api import Guarantees, Outcome
from mpcache.exception import DeadlockError
from mpcache.mutexes.base import Hold, Mutex, current_holds
from mpcache.mutexes.leased import LeasedLock
from mpcache.mutexes.local import LocalHold, Scope
from mpcache.mutexes.null import NullMutex
from mpcache.mutexes.thread import ThreadMutex
from mpcache.mutexes.two_level import TwoLevelMutex

AMONG_PROCESSES = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=0.1)

FOLDER = os.path.join(tempfile.gettempdir(), f"mpcache-faulty-{os.getuid()}")

_C, _C_WITH_GIL = ctypes.CDLL(None), ctypes.PyDLL(None)


def _path(key: Any) -> str:
    os.makedirs(FOLDER, 0o700, exist_ok=True)
    return os.path.join(FOLDER, sha1(repr(key).encode()).hexdigest())


# -- sound ones ------------------------------------------------------------------------------------------


class Flock(Mutex):
    """A mutex that polls a locked file.  Only this process has the locked description open."""

    guarantees = AMONG_PROCESSES
    _held: set[int] = set()

    def __init__(self, key: Any, namespace: str = "") -> None:
        super().__init__(key)
        self.path = _path((namespace, key))

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._try(hold):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._rest()
        return True

    def _try(self, hold: Hold) -> bool:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._held.add(fd)
        hold.token = fd
        return True

    def _rest(self) -> None:
        time.sleep(0.002)

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        fcntl.flock(hold.token, fcntl.LOCK_UN)
        Flock._held.discard(hold.token)
        os.close(hold.token)

    def _locked(self) -> bool:
        probe = Hold(self)
        if not Flock._try(self, probe):
            return True
        probe.release(True)
        return False


def _close_those_of_the_parent() -> None:
    while Flock._held:
        os.close(Flock._held.pop())


os.register_at_fork(after_in_child=_close_those_of_the_parent)


class Lease(TwoLevelMutex):
    """A lease that is written into a file, while the file is locked."""

    guarantees = AMONG_PROCESSES._replace(leased=True, takeover=None)

    def __init__(self, key: Any, lease: float = 0.3, namespace: str = "") -> None:
        super().__init__(key)
        self.path, self.lease = _path((namespace, key)), lease

    def _process_lock(self) -> Any:
        return self.lock(self.path, self.lease)

    def _locked(self) -> bool:
        with _page(self.path) as page:
            return bool(page)

    class lock(LeasedLock):
        def __init__(self, path: str, lease: float) -> None:
            super().__init__(lease, "a lease in a file")
            self.path, self.token = path, os.urandom(8).hex()

        def _acquire_at_server(self) -> bool:
            with _page(self.path) as page:
                return not page and self._write(page)

        def _write(self, page: dict[str, Any]) -> bool:
            page.update(token=self.token, ends=time.monotonic() + self.lease)
            return True

        def _extend(self) -> bool:
            with _page(self.path) as page:
                return page.get("token") == self.token and self._write(page)

        def _release_at_server(self, stored: bool) -> bool:
            with _page(self.path) as page:
                mine = page.get("token") == self.token
                if mine:
                    page.clear()
                return mine

        def _is_mine(self) -> bool:
            with _page(self.path) as page:
                return page.get("token") == self.token


@contextlib.contextmanager
def _page(path: str) -> Any:
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        page = json.loads(file.read() or "{}")
        if page and page["ends"] < time.monotonic():
            page.clear()
        yield page
        file.truncate(0)
        file.write(json.dumps(page))


# -- whose it is -----------------------------------------------------------------------------------------


class Ownerless(ThreadMutex):
    """Any process can release it, the holder or another."""

    def release(self, stored: bool = True) -> None:
        turn = next((turn for (_, key), turn in self._scope.holds.items() if key == self.key), None)
        if turn is not None:
            turn.release(stored)
            if self._hold is not None:
                self._hold.token = None


class Lenient(ThreadMutex):
    """A release of a key that is not held raises no error."""

    def release(self, stored: bool = True) -> None:
        if self.owned():
            super().release(stored)


class Reentrant(ThreadMutex):
    """A holder can acquire its key again."""

    def _acquire_hold(self, wait: bool, timeout: float | None, acquire: Any) -> Outcome:
        if any(hold.key == self.key for hold in current_holds()):
            return Outcome.ACQUIRED
        return super()._acquire_hold(wait, timeout, acquire)


class ThreadBound(ThreadMutex):
    """Only the thread that acquired it can release it: a release by another thread does nothing."""

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        self._thread = threading.get_ident()
        return super().acquire(wait, timeout)

    def release(self, stored: bool = True) -> None:
        if threading.get_ident() == self._thread:
            super().release(stored)


_keys: ContextVar[tuple[Any, ...]] = ContextVar("keys", default=())


class Contextual(ThreadMutex):
    """Takes a thread or task that inherited a context for the owner of the original context."""

    def _acquire_hold(self, wait: bool, timeout: float | None, acquire: Any) -> Outcome:
        if wait and self.key in _keys.get():
            raise DeadlockError("held in this context", key=self.key)
        outcome = super()._acquire_hold(wait, timeout, acquire)
        if outcome is Outcome.ACQUIRED:
            _keys.set((*_keys.get(), self.key))
        return outcome


class Possessive(ThreadMutex):
    """A hold that was handed over stays with its first owner."""

    def hand_over(self) -> None:
        pass


class Clinging(ThreadMutex):
    """A list keeps dropped holds alive."""

    _kept: list[Hold] = []

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        self._kept.append(hold)
        return super()._acquire(hold, timeout)


class ChildReleases(Flock):
    """A child that unlocks the descriptor that it inherited unlocks the parent's key."""

    def _try(self, hold: Hold) -> bool:
        got = super()._try(hold)
        self._held.discard(hold.token)
        return got

    def release(self, stored: bool = True) -> None:
        hold = self._hold
        if hold is not None and hold.foreign:
            fcntl.flock(hold.token, fcntl.LOCK_UN)
        super().release(stored)


# -- exclusion -------------------------------------------------------------------------------------------


class NobodyExcluded(NullMutex):
    """Declares that it excludes threads, and excludes none."""

    guarantees = NullMutex.guarantees._replace(threads=True)


class ThreadsOnly(ThreadMutex):
    """Declares that it excludes processes, and excludes threads only."""

    guarantees = AMONG_PROCESSES


class NoSecondLook(ThreadMutex):
    """A waiter that was woken takes the key for its own without another attempt."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        other = self._try(hold)
        if other is not None and other.wait(timeout) is Outcome.TIMEOUT:
            return False
        hold.token = hold.token or LocalHold(self._scope, self.key)
        return True


class Once(ThreadMutex):
    """One object can be acquired only once."""

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        used, self._used = getattr(self, "_used", False), True
        return not used and super().acquire(wait, timeout)


class OneForAll(ThreadMutex):
    """All keys share one lock."""

    def __init__(self, key: Any, *scope: Scope) -> None:
        super().__init__(key, *scope)
        self.key = "the one"


class Trimming(ThreadMutex):
    """White space around a key is removed."""

    def __init__(self, key: Any, *scope: Scope) -> None:
        super().__init__(key.strip(), *scope)


class Spaceless(ThreadMutex):
    """All namespaces share their keys."""

    @classmethod
    def for_region(cls, namespace: str, /, **arguments: Any) -> Callable[[Any], ThreadMutex]:
        return cls


class Unhad(ThreadMutex):
    """contend() reports a hold that it has released already."""

    def contend(self, timeout: float | None = None) -> Outcome:
        outcome = super().contend(timeout)
        if outcome is Outcome.ACQUIRED:
            self.release()
        return outcome


# -- waiting ---------------------------------------------------------------------------------------------


class Slow(ThreadMutex):
    """An acquire without waiting waits for a moment."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        time.sleep(0.1)
        return super()._acquire(hold, timeout)

    def contend(self, timeout: float | None = None) -> Outcome:
        return Outcome.ACQUIRED if self.acquire(timeout=timeout) else Outcome.TIMEOUT


class Deaf(ThreadMutex):
    """The timeout is ignored."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        return super()._acquire(hold, None)

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        return super()._contend(hold, None)


class Hasty(ThreadMutex):
    """Gives up after half of the timeout."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        return super()._acquire(hold, timeout and timeout / 2)

    def contend(self, timeout: float | None = None) -> Outcome:
        return super().contend(timeout and timeout / 2)


class Unchecked(ThreadMutex):
    """A negative timeout counts as 0."""

    def _acquire_hold(self, wait: bool, timeout: float | None, acquire: Any) -> Outcome:
        return super()._acquire_hold(wait, timeout and max(0.0, timeout), acquire)


class Sleeper(ThreadMutex):
    """A release wakes no waiter, and a waiter tries again only when its timeout ends."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        if self._try(hold) is None:
            return True
        time.sleep(timeout or 0)
        return False


class SleeperAmongProcesses(Flock):
    """The same fault, with waiters in other processes."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        if self._try(hold):
            return True
        time.sleep(10 if timeout is None else timeout)
        return False


class Uninformed(ThreadMutex):
    """contend() does not report that no value was stored."""

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        outcome = super()._contend(hold, timeout)
        return Outcome.RELEASED if outcome is Outcome.UNSTORED else outcome


class Queueing(ThreadMutex):
    """A waiter for the value acquires the key before it goes on."""

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        return (
            Outcome.ACQUIRED if ThreadMutex._acquire(_Plain(self.key, self._scope), hold, timeout) else Outcome.TIMEOUT
        )


class _Plain(ThreadMutex):
    pass


class Rash(Flock):
    """contend() reports a release at once."""

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        return Outcome.ACQUIRED if self._try(hold) else Outcome.RELEASED


# -- signals ---------------------------------------------------------------------------------------------


class Careless(ThreadMutex):
    """Acquires the key, and records the hold a moment later."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        got = super()._acquire(hold, timeout)
        turn, hold.token = hold.token, None
        time.sleep(0.0002)
        hold.token = turn
        return got


class CarelessWaiter(ThreadMutex):
    """A waiter whose wait ends with an exception takes the key, and keeps it."""

    def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
        other = self._try(hold)
        if other is None:
            return Outcome.ACQUIRED
        try:
            return other.wait(timeout)
        except BaseException:
            other.release(True)
            LocalHold(self._scope, self.key).acquire()
            raise


class Starting(ThreadMutex):
    """Restarts the timeout after every signal, like a wait in C that does not read the clock."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        while self._try(hold) is not None:
            if not timeout or _C.poll(None, 0, int(timeout * 1000)) == 0:
                return False
        return True


class Restless(Flock):
    """Tries again only after a sleep that no signal interrupted."""

    def _rest(self) -> None:
        while _C.poll(None, 0, 20) != 0:
            pass


# -- death and sleep -------------------------------------------------------------------------------------


class Immortal(Mutex):
    """A directory as a lock, which no process removes when its holder dies."""

    guarantees = AMONG_PROCESSES

    def __init__(self, key: Any, namespace: str = "") -> None:
        super().__init__(key)
        self.path = _path((namespace, key)) + ".d"

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        deadline = time.monotonic() + (60 if timeout is None else timeout)
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        hold.token = self.path
        return True

    def _try(self) -> bool:
        try:
            os.symlink(str(os.getpid()), self.path)
        except FileExistsError:
            return False
        return True

    @staticmethod
    def _release(hold: Hold, stored: bool) -> None:
        os.unlink(hold.token)

    def _locked(self) -> bool:
        return os.path.lexists(self.path)


class KnownByPid(Immortal):
    """Takes a process with the holder's pid for the holder; a zombie has that pid, too."""

    def _try(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            try:
                os.kill(int(os.readlink(self.path)), 0)
            except ProcessLookupError:
                os.unlink(self.path)
        return super()._try()


class Inherited(Flock):
    """A child keeps its parent's locked descriptor open."""

    def _try(self, hold: Hold) -> bool:
        got = super()._try(hold)
        self._held.discard(hold.token)
        return got


class Impatient(Flock):
    """Takes the key from a holder that works for long, although it declares no lease."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        if not super()._acquire(hold, None if timeout is None else min(timeout, 0.15)):
            if timeout is not None and timeout < 0.15:
                return False
            os.unlink(self.path)
        return hold.token is not None or super()._acquire(hold, timeout)


class Lapsing(Lease):
    """The lease is not renewed."""

    class lock(Lease.lock):
        def _extend(self) -> bool:
            return True


class Overwriting(Lease):
    """Releases a key that it has lost meanwhile, from its new holder."""

    class lock(Lease.lock):
        def _release_at_server(self, stored: bool) -> bool:
            with _page(self.path) as page:
                page.clear()
            return True


# -- what it says ----------------------------------------------------------------------------------------


class Grasping(ThreadMutex):
    """locked() acquires the key."""

    def locked(self) -> bool:
        return not self.acquire(False)


class Mute(ThreadMutex):
    """Its repr does not say which process holds the key."""

    __repr__ = object.__repr__  # type: ignore[assignment]


class Boastful(ThreadMutex):
    """Its guarantees are a bare tuple that does not name what is promised."""

    guarantees = (True, True)  # type: ignore[assignment]


# -- greenlets and tasks ---------------------------------------------------------------------------------


class Blocking(Flock):
    """Waits in C, in short sleeps, and declares that greenlets can run meanwhile."""

    cooperates = True

    def _rest(self) -> None:
        _C.usleep(120_000)


class Grabbing(Flock):
    """Waits in C and keeps the GIL."""

    def _rest(self) -> None:
        _C_WITH_GIL.usleep(300_000)


class SlowToTry(Flock):
    """An attempt that fails takes a while."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        got = super()._acquire(hold, timeout)
        if not got:
            time.sleep(0.12)
        return got


class SlowToTryAmongThreads(ThreadMutex):
    """contend() takes a while, also among threads."""

    def contend(self, timeout: float | None = None) -> Outcome:
        time.sleep(0.12)
        return super().contend(timeout)


class Unpatched(ThreadMutex):
    """Greenlets are not excluded from each other, since they run in one thread."""

    def _acquire(self, hold: Hold, timeout: float | None) -> bool:
        hold.token = turn = LocalHold(self._scope, (self.key, threading.current_thread().native_id))
        turn.acquire()
        return True
