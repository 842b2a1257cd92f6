"""Other processes for a test: each does with its mutexes what it is told, and tells what came of it.

Leans on the public names; not on pytest, since what is started anew has to be there soon.
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

_PR_SET_PDEATHSIG = 1

_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from mpcache.testing.process_actors import _serve_fresh
_serve_fresh({line}, {parent}, {patience})
"""
_PATCH = "from gevent import monkey; monkey.patch_all()\n"


class Recipe(NamedTuple):
    """How to make mutexes, in words that another process understands: pickled, the factory goes by its name."""

    factory: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __call__(self, key: Any) -> Any:
        return self.factory(key, **self.arguments)

    def region(self) -> mpcache.CacheRegion:
        """One whose values are this process's own, and whose creators all processes elect."""
        arguments = dict(self.arguments)
        return mpcache.make_region().configure("mpcache.memory", mutex=self.factory, mutex_arguments=arguments)


class Tally:
    """Tells by two signs that two were inside at once: an occupancy word, and increments that are lost.

    :param path: a file that all of them name; made by whoever comes first.
    """

    _OCCUPANT, _PASSAGES, _OVERLAPS = range(3)

    def __init__(self, path: str) -> None:
        with open(path, "a+b") as file:
            if os.fstat(file.fileno()).st_size < mmap.PAGESIZE:
                file.truncate(mmap.PAGESIZE)
            self._words = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")

    def pass_through(self, me: int) -> None:
        """Go in and out again; whoever is not excluded comes meanwhile."""
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
        """How many there were, less those that were lost."""
        return self._words[self._PASSAGES]

    @property
    def overlaps(self) -> int:
        """How many of those who went in or out met somebody."""
        return self._words[self._OVERLAPS]


class ProcessActor:
    """A process that plays another user of the same mutexes.  It ends with whoever made it.

    :param recipe: of its mutexes.
    :param how: ``"fork"``; ``"spawn"``, begun anew; ``"gevent"``, begun anew and patched before anything else.
    :param inherited: mutexes by their keys, which a forked one has instead of making its own.
    :param patience: seconds until an answer that does not come counts as missing; three times that, and it ends.
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
                _Body(recipe, its, inherited or {}).live()
        else:
            os.set_inheritable(its.fileno(), True)
            program = _PROGRAM.format(path=sys.path, line=its.fileno(), parent=parent, patience=patience)
            command = [sys.executable, "-c", (_PATCH if how == "gevent" else "") + program]
            self.pid = os.posix_spawn(sys.executable, command, os.environ)
            self._line.send(recipe)
        its.close()

    # -- what it is told -----------------------------------------------------------------------------

    def ask(self, verb: str, *args: Any) -> Any:
        """What it returns; raises what it raises.

        :param verb: a method of the body, such as ``"acquire"``; its first argument is the key, mostly.
        """
        self.begin(verb, *args)
        return self.answer()

    def begin(self, verb: str, *args: Any) -> None:
        """As :meth:`ask`, without waiting for the answer."""
        self._line.send((verb, args))

    def arrive(self) -> ProcessActor:
        """Itself, as soon as it can do something at once."""
        self.ask("arrive")
        return self

    def answers(self, within: float) -> bool:
        """Whether it says something within so many seconds."""
        return self._line.poll(within)

    def answer(self) -> Any:
        """What came of what it was told last."""
        assert self.answers(self._patience), f"pid {self.pid} does not answer within {self._patience:g} s"
        returned, value, story = self._line.recv()
        if not returned:
            raise value from RuntimeError(f"in pid {self.pid}: {story}")
        return value

    # -- what happens to it --------------------------------------------------------------------------

    def fork(self) -> ProcessActor:
        """A child of it, which has inherited all that it has, and outlives it."""
        child = ProcessActor.__new__(ProcessActor)
        child._patience, child._reaped = self._patience, True  # whoever adopts it reaps it
        child._line, its = Pipe()
        self.begin("fork")
        reduction.send_handle(self._line, its.fileno(), self.pid)
        its.close()
        child.pid = self.answer()
        return child

    def die(self) -> None:
        """SIGKILL; it is a zombie when this returns, whose pid is that of nobody else yet."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns.  May be called again."""
        if self._line.closed:
            return
        os.kill(self.pid, signal.SIGKILL)
        if self._reaped:
            self._hear_the_end()
        else:
            os.waitpid(self.pid, 0)
            self._reaped = True
        self._line.close()

    def _hear_the_end(self) -> None:
        try:
            while self._line.poll(self._patience):
                self._line.recv()
        except (EOFError, ConnectionResetError):
            pass

    def stop(self) -> None:
        """SIGSTOP; it stands still when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> ProcessActor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()


class _Body:
    """The actor itself, in the process that it is."""

    def __init__(self, recipe: Recipe, line: Connection, mutexes: Mapping[Any, Any]) -> None:
        self._recipe, self._line, self._mutexes = recipe, line, dict(mutexes)

    def live(self) -> None:
        """Do as told until nobody is left who could tell; does not return."""
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
            story = traceback.format_exc()
            return False, error if _travels(error) else RuntimeError(repr(error)), story

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
        """Go through a place where only one may be, again and again."""
        tally = Tally(path)
        for _ in range(times):
            with self._recipe(key):
                tally.pass_through(os.getpid())

    def play(self, scene: Callable[..., Any], *args: Any) -> Any:
        """What a function of some module returns for the recipe and the arguments."""
        return scene(self._recipe, *args)

    def create(self, key: str, value: Any) -> None:
        """Be the creator of a region's value, and stay that until :meth:`finish`."""
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
            _end_some_time()
            self.live()
        line.close()
        return pid


def _travels(error: BaseException) -> bool:
    try:
        reduction.ForkingPickler.loads(reduction.ForkingPickler.dumps(error))
    except Exception:
        return False
    return True


def _serve_fresh(line: int, parent: int, patience: float) -> None:
    _end_with(parent, patience)
    mine = Connection(line)
    _Body(mine.recv(), mine, {}).live()


_lifetime = 60


def _end_with(parent: int, patience: float) -> None:
    """Have the kernel end this process when its parent dies, where it can, and when its time is up, everywhere."""
    global _lifetime
    _lifetime = int(patience * 3) + 1
    _end_some_time()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _end_some_time() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_lifetime)
