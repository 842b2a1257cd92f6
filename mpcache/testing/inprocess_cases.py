"""Cases within one process: signals, greenlets, an event loop.  Each case runs in a process actor.

Depends on process_actors.  A case gets a recipe and returns what it observed; the suite asserts on that.
"""

from __future__ import annotations

import math
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpcache.testing.process_actors import Recipe, Tally


def held_by_a_thread(make: Recipe, key: Any) -> Any:
    """Return a mutex that another thread holds."""
    mutex = make(key)
    taking = threading.Thread(target=mutex.acquire)
    taking.start()
    taking.join()
    return mutex


# -- signals ---------------------------------------------------------------------------------------------


class Interruption(Exception):
    """Raised by a signal handler."""


def _interrupt(*_: object) -> None:
    raise Interruption


@contextmanager
def _signals(handler: Callable[..., None], first: float, every: float = 0.0) -> Iterator[None]:
    """Send SIGALRM after ``first`` seconds, and then every ``every`` seconds."""
    handled_before = signal.signal(signal.SIGALRM, handler)
    ends_before = signal.setitimer(signal.ITIMER_REAL, first, every)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.signal(signal.SIGALRM, handled_before)
            signal.setitimer(signal.ITIMER_REAL, *ends_before)


def interrupted_while_waiting(make: Recipe, key: Any, times: int) -> list[str]:
    """Interrupt waits by exceptions of a signal handler; return what is wrong afterwards."""
    holder, wrong = held_by_a_thread(make, key), []
    for _ in range(times):
        waiter = make(key)
        try:
            with _signals(_interrupt, random.uniform(0.001, 0.030)):
                waiter.acquire()
            wrong.append("a mutex that another thread holds was acquired")
        except Interruption:
            pass
        if waiter.owned():
            wrong.append("an interrupted waiter owns it")
    holder.release()
    after = make(key)
    if after.acquire(False):
        after.release()
    else:
        wrong.append("after its holder had released it, it was not free")
    return wrong


def interrupted_at_any_moment(make: Recipe, key: Any, times: int) -> list[str]:
    """Interrupt acquire and release at random moments; return what is wrong afterwards.

    A server may read a request from an interrupted connection after one from the next connection.  Then no process
    holds the lease until it lapses; one such case is accepted.
    """
    warnings.simplefilter("ignore", ResourceWarning)  # a mutex that was just acquired is dropped, which is right here
    sys.unraisablehook = lambda _: None  # Python prints exceptions of __del__ only
    wrong, interruptions, late = list[str](), list[int](), list[int]()

    def interrupt(*_: object) -> None:
        interruptions.append(1)
        raise Interruption

    for number in range(times):
        mutex = None
        moment = random.uniform(0.00005, 0.003)
        try:
            with _signals(interrupt, moment):
                while len(interruptions) == number:
                    mutex = make(key)
                    mutex.acquire()
                    mutex.release()
        except Interruption:
            pass
        del mutex
        after = make(key)
        if not after.acquire(timeout=1.0):
            late.append(number)
            promised: Any = getattr(after, "guarantees", None)
            lapses = promised is not None and promised.leased and len(late) == 1
            if not (lapses and after.acquire(timeout=promised.takeover)):
                wrong.append(f"interrupted after {moment:.6f} s, it stayed taken")
                continue
        after.release()
    return wrong


def wait_under_signals(make: Recipe, key: Any, timeout: float) -> tuple[bool, float]:
    """Acquire with a signal every 2 ms; return whether it was acquired, and the seconds."""
    mutex = make(key)
    began = time.monotonic()
    with _signals(lambda *_: None, 0.002, 0.002):
        got: bool = mutex.acquire(timeout=timeout)
    took = time.monotonic() - began
    if got:
        mutex.release()
    return got, took


def waits_under_signals(make: Recipe, key: Any, timeout: float, patience: float) -> list[tuple[bool, float]]:
    """Wait under signals three times in vain, and once until the holder releases; return the results of each."""
    holder = held_by_a_thread(make, key)
    outcomes = [wait_under_signals(make, key, timeout) for _ in range(3)]
    threading.Timer(timeout, holder.release).start()
    return [*outcomes, wait_under_signals(make, key, patience)]


# -- loops -----------------------------------------------------------------------------------------------


class Metronome:
    """Measures how late a task runs that should run every 5 ms: the longest time in which no other task could run.

    A loaded machine makes it late, too; therefore the time that this thread has spent in the queue for a core is
    left out, which the kernel counts (proc(5), schedstat).
    """

    BEAT = 0.005
    LEAST = 0.09

    def __init__(self) -> None:
        self.latest = 0.0
        self._born = time.monotonic()
        self.begin()

    def begin(self) -> None:
        """Note that the task goes to sleep for a beat."""
        self._began = _own_time()

    def beat(self) -> None:
        """Note that the task runs again; at the end, that the present beat counts if it is late already."""
        self.latest = max(self.latest, _own_time() - self._began - self.BEAT)

    def of_a_wait(self) -> float:
        """Return the worst lateness; infinite if the watched time was too short to tell."""
        return self.latest if time.monotonic() - self._born > self.LEAST else math.inf

    async def run(self) -> None:
        """Run as a task."""
        import asyncio

        while True:
            self.beat()  # the first beat counts from the creation of this object
            self.begin()
            await asyncio.sleep(self.BEAT)

    def run_as_greenlet(self) -> None:
        """Run as a greenlet."""
        while True:
            self.beat()
            self.begin()
            time.sleep(self.BEAT)


def _own_time() -> float:
    try:
        with open("/proc/thread-self/schedstat") as file:
            queued = int(file.read().split()[1])
    except (FileNotFoundError, IndexError):
        queued = 0
    return (time.monotonic_ns() - queued) / 1e9


def greenlets(make: Recipe, key: Any, path: str, crowd: int, times: int) -> float:
    """Let greenlets pass through the critical section; return the worst lateness of the hub."""
    import gevent

    tally, metronome = Tally(path), Metronome()

    def work(me: int) -> None:
        for _ in range(times):
            with make(key):
                tally.pass_through(me)

    ticking = gevent.spawn(metronome.run_as_greenlet)
    gevent.joinall([gevent.spawn(work, 1 + which) for which in range(crowd)], raise_error=True)
    metronome.beat()
    ticking.kill()
    return metronome.latest


def a_greenlet_waits(make: Recipe, key: Any, patience: float) -> tuple[bool, float]:
    """Acquire, in a greenlet, what another process holds at first; return whether, and the hub's lateness."""
    import gevent

    mutex, metronome = make(key), Metronome()
    ticking = gevent.spawn(metronome.run_as_greenlet)
    waiting = gevent.spawn(mutex.acquire, timeout=patience)
    got: bool = waiting.get()
    metronome.beat()
    ticking.kill()
    if got:
        mutex.release()
    return got, metronome.of_a_wait()


def _in_a_loop(act: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    """Return the result of a coroutine, and the worst lateness of the loop meanwhile."""
    import asyncio

    metronome = Metronome()

    async def main() -> Any:
        ticking = asyncio.create_task(metronome.run())
        try:
            return await act()
        finally:
            metronome.beat()
            ticking.cancel()

    return asyncio.run(main()), metronome.of_a_wait()


def a_thread_of_the_loop_waits(make: Recipe, key: Any, patience: float) -> tuple[bool, float]:
    """Acquire, in a thread of the loop, what another process holds at first; return whether, and the lateness."""
    import asyncio

    async def act() -> bool:
        mutex, loop = make(key), asyncio.get_running_loop()
        got: bool = await loop.run_in_executor(None, mutex.acquire, True, patience)
        if got:
            await loop.run_in_executor(None, mutex.release)
        return got

    return _in_a_loop(act)


def a_task_awaits_a_value(make: Recipe, key: str) -> tuple[str, float]:
    """Return the value of aget_or_create, while another process is creating at first; and the lateness."""

    async def creator() -> str:
        return "mine"

    async def act() -> Any:
        return await make.region().aget_or_create(key, creator)

    return _in_a_loop(act)


def tasks(make: Recipe, key: str, crowd: int) -> tuple[tuple[int, set[str]], float]:
    """Let tasks of one loop request one value; return the number of creations, the values, and the lateness."""
    import asyncio

    region, calls = make.region(), 0

    async def creator() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.1)
        return f"value {calls}"

    async def act() -> tuple[int, set[str]]:
        asked = [asyncio.create_task(region.aget_or_create(key, creator)) for _ in range(crowd)]
        return calls, set(await asyncio.gather(*asked))

    (_, values), latest = _in_a_loop(act)
    return (calls, values), latest


def contexts(make: Recipe, key: Any, patience: float) -> list[str]:
    """Let a task and a thread, which inherit the holder's context, request a held key; return what is wrong."""
    import asyncio

    wrong: list[str] = []

    async def ask(who: str, mutex: Any) -> None:
        try:
            got = mutex.acquire(timeout=0.01)
        except Exception as error:
            wrong.append(f"{who}: {error!r}")
        else:
            if got:
                wrong.append(f"{who} has acquired what another holds")

    async def act() -> None:
        holder, waiter = make(key), make(key)
        holder.acquire(False)
        await asyncio.create_task(ask("a task", make(key)))
        in_a_thread = asyncio.create_task(asyncio.to_thread(waiter.acquire, timeout=patience))
        await asyncio.sleep(0.02)
        if in_a_thread.done():
            wrong.append("a thread did not wait")
        holder.release()
        if not await in_a_thread:
            wrong.append("a thread waited in vain")
        waiter.release()

    asyncio.run(act())
    return wrong
