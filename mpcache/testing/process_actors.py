"""Other processes for a test: each runs the commands that the test sends, and returns the results.

Depends on the public names; not on pytest, so that a fresh process starts fast.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import reduction
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import mpcache
from mpcache._support.durations import plain

_PR_SET_PDEATHSIG = 1

_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from mpcache.testing.process_actors import _serve_fresh
_serve_fresh({line}, {parent}, {patience})
"""
_PATCH = "from gevent import monkey; monkey.patch_all()\n"


class Recipe(NamedTuple):
    """How to make mutexes, as data that can be sent to another process: the factory is pickled by its name."""

    factory: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __call__(self, key: Any) -> Any:
        return self.factory(key, **self.arguments)

    def region(self) -> mpcache.CacheRegion:
        """Return a region whose values belong to this process alone, and whose mutex all processes share."""
        arguments = dict(self.arguments)
        return mpcache.make_region().configure("mpcache.memory", mutex=self.factory, mutex_arguments=arguments)


class Tally:
    """Detects two actors in one critical section, by an occupancy word and by lost increments.

    :param path: a file that all actors share; the first one makes it.
    """

    _OCCUPANT, _PASSAGES, _OVERLAPS = range(3)

    def __init__(self, path: str) -> None:
        with open(path, "a+b") as file:
            if os.fstat(file.fileno()).st_size < mmap.PAGESIZE:
                file.truncate(mmap.PAGESIZE)
            self._words = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")

    def pass_through(self, me: int) -> None:
        """Pass through the critical section; an actor that is not excluded overlaps."""
        words = self._words
        words[self._OVERLAPS] += words[self._OCCUPANT] != 0
        words[self._OCCUPANT] = me
        passages = words[self._PASSAGES]
        time.sleep(0.0002)
        words[self._PASSAGES] = passages + 1
        words[self._OVERLAPS] += words[self._OCCUPANT] != me
        words[self._OCCUPANT] = 0

    @property
    def passages(self) -> int:
        """Return the number of passages, less lost increments."""
        return self._words[self._PASSAGES]

    @property
    def overlaps(self) -> int:
        """Return how often an actor met another one when it entered or left."""
        return self._words[self._OVERLAPS]


class ProcessActor:
    """A process that uses the same mutexes as the test.  It ends with the process that made it.

    :param recipe: of its mutexes.
    :param how: ``"fork"``; ``"spawn"``, a fresh process; ``"gevent"``, a fresh process with gevent's patches.
    :param inherited: mutexes by their keys, which a forked process uses instead of making its own.
    :param patience: seconds after which a missing answer is an error; after three times that the process exits.
    """

    def __init__(
        self, recipe: Recipe, how: str = "fork", inherited: Mapping[Any, Any] | None = None, patience: float = 20.0
    ) -> None:
        self._patience, self._reaped, parent = patience, False, os.getpid()
        self._line, its = Pipe()
        if how == "fork":
            self.pid = os.fork()
            if not self.pid:
                self._line.close()
                _end_with(parent, patience)
                _Body(recipe, its, inherited or {}).serve()
        else:
            os.set_inheritable(its.fileno(), True)
            program = _PROGRAM.format(path=sys.path, line=its.fileno(), parent=parent, patience=patience)
            command = [sys.executable, "-c", (_PATCH if how == "gevent" else "") + program]
            self.pid = os.posix_spawn(sys.executable, command, os.environ)
            self._line.send(recipe)
        its.close()

    # -- commands -----------------------------------------------------------------------------------

    def ask(self, verb: str, *args: Any) -> Any:
        """Run a command; return its result, or raise its exception.

        :param verb: a method of :class:`_Body`, such as ``"acquire"``; its first argument is usually the key.
        """
        self.begin(verb, *args)
        return self.answer()

    def begin(self, verb: str, *args: Any) -> None:
        """Send a command without waiting for its result."""
        self._line.send((verb, args))

    def arrive(self) -> ProcessActor:
        """Wait until the process is ready; return self."""
        self.ask("arrive")
        return self

    def answers(self, within: float) -> bool:
        """Return whether a result comes within so many seconds."""
        return self._line.poll(within)

    def answer(self) -> Any:
        """Return the result of the last command, or raise its exception."""
        assert self.answers(self._patience), f"pid {self.pid} does not answer within {plain(self._patience)} s"
        returned, value, trace = self._line.recv()
        if not returned:
            raise value from RuntimeError(f"in pid {self.pid}: {trace}")
        return value

    # -- signals and death --------------------------------------------------------------------------

    def fork(self) -> ProcessActor:
        """Fork a child of the process, which inherits all that it has, and outlives it."""
        child = ProcessActor.__new__(ProcessActor)
        child._patience, child._reaped = self._patience, True  # the process that adopts it reaps it
        child._line, its = Pipe()
        self.begin("fork")
        reduction.send_handle(self._line, its.fileno(), self.pid)
        its.close()
        child.pid = self.answer()
        return child

    def die(self) -> None:
        """Send SIGKILL; the process is a zombie when this returns, so its pid is not reused yet."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        """Send SIGKILL and reap the process.  May be called again."""
        if self._line.closed:
            return
        os.kill(self.pid, signal.SIGKILL)
        if self._reaped:
            self._wait_for_end()
        else:
            os.waitpid(self.pid, 0)
            self._reaped = True
        self._line.close()

    def _wait_for_end(self) -> None:
        try:
            while self._line.poll(self._patience):
                self._line.recv()
        except (EOFError, ConnectionResetError):
            pass

    def stop(self) -> None:
        """Send SIGSTOP; the process is stopped when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """Send SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> ProcessActor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()


class _Body:
    """The loop in the actor's process; its methods are the commands."""

    def __init__(self, recipe: Recipe, line: Connection, mutexes: Mapping[Any, Any]) -> None:
        self._recipe, self._line, self._mutexes = recipe, line, dict(mutexes)

    def serve(self) -> None:
        """Run commands until the other end of the pipe is closed; does not return."""
        while True:
            try:
                verb, args = self._line.recv()
            except (EOFError, OSError):
                os._exit(0)
            self._line.send(self._outcome(verb, args))

    def _outcome(self, verb: str, args: Any) -> tuple[bool, Any, str]:
        try:
            return True, getattr(self, verb)(*args), ""
        except BaseException as error:
            trace = traceback.format_exc()
            return False, error if _can_be_pickled(error) else RuntimeError(repr(error)), trace

    def _mutex(self, key: Any) -> Any:
        if key not in self._mutexes:
            self._mutexes[key] = self._recipe(key)
        return self._mutexes[key]

    def arrive(self) -> None:
        pass

    def acquire(self, key: Any, wait: bool = True, timeout: float | None = None) -> bool:
        got: bool = self._mutex(key).acquire(wait, timeout)
        return got

    def contend(self, key: Any, timeout: float | None = None) -> Any:
        return self._mutex(key).contend(timeout)

    def release(self, key: Any, stored: bool = True) -> None:
        self._mutex(key).release(stored)

    def locked(self, key: Any) -> bool:
        locked: bool = self._mutex(key).locked()
        return locked

    def owned(self, key: Any) -> bool:
        owned: bool = self._mutex(key).owned()
        return owned

    def pass_through(self, key: Any, path: str, times: int) -> None:
        """Pass through the critical section several times."""
        tally = Tally(path)
        for _ in range(times):
            with self._recipe(key):
                tally.pass_through(os.getpid())

    def play(self, case: Callable[..., Any], *args: Any) -> Any:
        """Run a function of a module with the recipe and the arguments; return its result."""
        return case(self._recipe, *args)

    def create(self, key: str, value: Any) -> None:
        """Create a region's value; the creation lasts until :meth:`finish`."""
        inside, self._finish = threading.Event(), threading.Event()

        def creator() -> Any:
            inside.set()
            self._finish.wait()
            return value

        region = self._recipe.region()
        self._creation = threading.Thread(target=region.get_or_create, args=(key, creator), daemon=True)
        self._creation.start()
        inside.wait()

    def finish(self) -> None:
        self._finish.set()
        self._creation.join()

    def fork(self) -> int:
        line = Connection(reduction.recv_handle(self._line))
        pid = os.fork()
        if not pid:
            self._line.close()
            self._line = line
            _limit_lifetime()
            self.serve()
        line.close()
        return pid


def _can_be_pickled(error: BaseException) -> bool:
    try:
        reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(error))
    except Exception:
        return False
    return True


def _serve_fresh(line: int, parent: int, patience: float) -> None:
    _end_with(parent, patience)
    mine = Connection(line)
    _Body(mine.recv(), mine, {}).serve()


_lifetime = 60


def _end_with(parent: int, patience: float) -> None:
    """End this process when its parent dies, on Linux, and when its lifetime is over, everywhere."""
    global _lifetime
    _lifetime = int(patience * 3) + 1
    _limit_lifetime()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit_lifetime() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_lifetime)
