"""Do forked children, and programs that they execute, leave their parents' holds alone?

Depends on scenario and actor.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from mpcache.stress.actor import Actor, acquire
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.scenario import Scenario
from mpcache.stress.timing_checks import taken_over
from mpcache.stress.worker import die_with

_CLAIMS = {
    1: "reported that it owned its parent's hold of {}",
    2: "could release its parent's hold of {}",
    4: "acquired {}, which its parent held",
    8: "could not acquire another key while its parent held {}",
}
"""What a child did wrong, by the bits of its exit status."""

_PATIENCE = 5.0
"""Seconds that a busy machine may add."""

_one_orphan = threading.Lock()
"""Held while a thread has a pipe open, which the children of other threads would keep open."""


class ForkAndExec(Scenario):
    """Do forked children, and programs that they execute, leave their parents' holds alone?

    Forked workers and programs compete for a few keys.  Holders fork inside their holds: the child owns nothing, can
    neither release nor acquire the held key, and can acquire other keys.  If a holder dies whose child lives on,
    forked or as another program, other workers can acquire the key again.
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
            actor.report("child", f"a child that was forked in a hold of key {key} ended with {status}", key)
            return
        if status & 4 and self.environment.leased and not mutex.owned():
            status -= 4  # the parent was stopped for longer than its lease
        for bit, text in _CLAIMS.items():
            if status & bit:
                actor.report("child", f"a child that was forked in a hold {text.format(f'key {key}')}", key)

    def _claim(self, actor: Actor, key: int, mutex: Any) -> int:
        """Try, in the child, what it must not do; return the bits of what succeeded."""
        wrong = 1 if hasattr(mutex, "owned") and mutex.owned() else 0
        if self.environment.processes and actor.mutex(key).acquire(False):
            wrong |= 4
        try:
            mutex.release()
        except Exception:
            pass  # NotHeld, or another error of this kind of mutex
        else:
            wrong |= 2
        another = actor.extra_mutex(f"child-{os.getpid()}")
        if not acquire(another, _PATIENCE):
            return wrong | 8
        another.release()
        return wrong

    def _leave_an_orphan(self, actor: Actor) -> None:
        """Let a holder die whose child, forked in the hold, lives on; then acquire its key."""
        name, program = f"orphan-{actor.number}", actor.random.random() < 0.5
        with _one_orphan:
            read, write = os.pipe()
            holder = _fork(lambda: _hold_and_die(actor.extra_mutex(name), read, write, program))
            os.close(read)
            try:
                ended = os.waitstatus_to_exitcode(os.waitpid(holder, 0)[1])
                if ended != -signal.SIGKILL:
                    actor.report("child", f"a child that should have held a key of its own ended with {ended}")
                elif not acquire(mutex := actor.extra_mutex(name), self.environment.takeover + _PATIENCE):
                    what = "a program that it had started" if program else "its child"
                    actor.report(
                        "child", f"a key could not be acquired after its holder was killed, while {what} lived on"
                    )
                else:
                    mutex.release()
            finally:
                os.close(write)  # which ends the orphan


def _fork(do: Callable[[], int]) -> int:
    """Fork a child that exits with the result of ``do``, or ends with its parent; return its pid."""
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
        os.read(read, 1)  # returns when the other end is closed
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")
