"""Do forked children and the programs that they become leave alone what their parents hold?

Leans on scenario.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from mpcache.stress.checker import EXCLUSION
from mpcache.stress.scenario import Scenario
from mpcache.stress.timing_checks import taken_over
from mpcache.stress.worker import Actor, die_with, had

_CLAIMS = {
    1: "says that it owns its parent's hold of {}",
    2: "could release its parent's hold of {}",
    4: "got {}, which its parent held",
    8: "could not have a key of its own while its parent held {}",
}
"""What a child does wrong, by the bits of its exit status."""

_PATIENCE = 5.0
"""Seconds that a busy machine may take."""

_one_orphan = threading.Lock()
"""Held while a thread has a pipe open that others' children would keep open."""


class ForkAndExec(Scenario):
    """Do forked children and the programs that they become leave alone what their parents hold?

    Workers that were forked and programs that were not compete for a few keys.  Holders fork inside their holds: the
    child owns nothing, cannot release it, cannot have it, and may have other keys.  And where a holder dies whose
    child lives on, forked or as another program, the key is had again by others.
    """

    programs = True
    kills = 8.0
    checks = (*EXCLUSION, taken_over)

    def act(self, actor: Actor) -> None:
        key, dice = self.pick(actor), actor.random.random()
        if dice < 0.1:
            self._leave_an_orphan(actor)
            return
        with actor.hold(key) as mutex:
            actor.work(0.002)
            if dice < 0.4:
                self._fork_inside(actor, key, mutex)

    def _fork_inside(self, actor: Actor, key: int, mutex: Any) -> None:
        status = os.waitstatus_to_exitcode(os.waitpid(_fork(lambda: self._claim(actor, key, mutex)), 0)[1])
        if status not in range(16):
            actor.find("child", f"a child that was forked in a hold of key {key} ended with {status}", key)
            return
        if status & 4 and self.arena.leased and not mutex.owned():
            status -= 4  # the parent was stopped for longer than its lease
        for bit, text in _CLAIMS.items():
            if status & bit:
                actor.find("child", f"a child that was forked in a hold {text.format(f'key {key}')}", key)

    def _claim(self, actor: Actor, key: int, mutex: Any) -> int:
        """What the child does; returns what of it was wrong."""
        wrong = 1 if hasattr(mutex, "owned") and mutex.owned() else 0
        if self.arena.processes and actor.mutex(key).acquire(False):
            wrong |= 4
        try:
            mutex.release()
        except Exception:
            pass  # NotHeld, or whatever its kind of mutex raises
        else:
            wrong |= 2
        another = actor.named(f"child-{os.getpid()}")
        if not had(another, _PATIENCE):
            return wrong | 8
        another.release()
        return wrong

    def _leave_an_orphan(self, actor: Actor) -> None:
        """A holder dies, and a child that it forked in its hold lives on."""
        name, program = f"orphan-{actor.number}", actor.random.random() < 0.5
        with _one_orphan:
            read, write = os.pipe()
            holder = _fork(lambda: _hold_and_die(actor.named(name), read, write, program))
            os.close(read)
            try:
                ended = os.waitstatus_to_exitcode(os.waitpid(holder, 0)[1])
                if ended != -signal.SIGKILL:
                    actor.find("child", f"a child that was to hold a key of its own ended with {ended}")
                elif not had(mutex := actor.named(name), self.arena.takeover + _PATIENCE):
                    what = "a program that it had started" if program else "its child"
                    actor.find("child", f"a key was not had again after its holder was killed, while {what} lived on")
                else:
                    mutex.release()
            finally:
                os.close(write)  # with which the orphan's life ends


def _fork(do: Callable[[], int]) -> int:
    """A child that ends with what ``do`` returns, or with its parent; its number."""
    parent, pid = os.getpid(), os.fork()
    if pid:
        return pid
    try:
        die_with(parent)
        os._exit(do())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(100)


def _hold_and_die(mutex: Any, read: int, write: int, program: bool) -> NoReturn:
    mutex.acquire()
    if os.fork() == 0:
        os.close(write)
        if program:
            os.dup2(read, 0)
            os.execvp("cat", ["cat"])
        os.read(read, 1)  # nothing comes, until nobody has the other end open
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")
