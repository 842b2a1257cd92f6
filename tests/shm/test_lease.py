"""Leases: which process holds a key, waits, takes over, or learns that it waits for itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mpcache.exception import DeadlockError, NotHeld
from mpcache.mutexes import ShmMutex
from mpcache.shm import _engine, segment

pytestmark = pytest.mark.engine

ACQUIRED, RELEASED, UNSTORED, TIMEOUT, DEADLOCK = range(5)
Fork = Callable[..., Any]


def take(space: _engine.Namespace, key: str) -> _engine.Lease:
    lease = space.lease(key, True)
    assert lease.acquire(10, False, ()) == ACQUIRED
    return lease


def hold_until_told(space: _engine.Namespace, key: str, read: int) -> Callable[[Any], Any]:
    def act(send: Any) -> None:
        lease = take(space, key)
        send("held")
        os.read(read, 1)
        lease.release(True)

    return act


def test_one_holder(space: _engine.Namespace) -> None:
    one, two = space.lease("k", True), space.lease("k", True)
    assert one.acquire(0, False, ()) == ACQUIRED
    assert two.acquire(0, False, ()) == TIMEOUT
    assert one.held
    assert not two.held
    assert space.holder("k", True) == os.getpid()
    assert one.release(True) is True
    assert one.release(True) is False
    assert two.acquire(0, False, ()) == ACQUIRED
    assert two.fence > one.fence


def test_a_record_and_a_mutex_of_one_name_are_different_keys(space: _engine.Namespace) -> None:
    take_record = space.lease("k", True)
    take_mutex = space.lease("k", False)
    assert take_record.acquire(0, False, ()) == ACQUIRED
    assert take_mutex.acquire(0, False, ()) == ACQUIRED


def test_a_dropped_lease_is_given_back(space: _engine.Namespace) -> None:
    lease = take(space, "k")
    del lease
    assert space.holder("k", True) is None


def test_a_timeout_is_a_deadline(space: _engine.Namespace) -> None:
    held = take(space, "k")
    start = time.monotonic()
    assert space.lease("k", True).acquire(0.05, False, ()) == TIMEOUT
    assert 0.05 <= time.monotonic() - start < 0.5
    assert held.held


def test_waiters_learn_how_it_ended(space: _engine.Namespace) -> None:
    for stored, expected in ((True, RELEASED), (False, UNSTORED)):
        holder = take(space, "k")
        outcomes: list[int] = []

        def wait(outcomes: list[int] = outcomes) -> None:
            outcomes.append(space.lease("k", True).acquire(10, True, ()))

        waiters = [threading.Thread(target=wait) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        while sum(waiter.is_alive() for waiter in waiters) < 4:
            pass
        deadline = time.monotonic() + 0.03  # they are in the kernel by then, or learn it from the entry
        while time.monotonic() < deadline:
            threading.Event().wait(0.001)
        holder.release(stored)
        for waiter in waiters:
            waiter.join(10)
        assert outcomes == [expected] * 4


def test_a_dead_holder_is_taken_over(space: _engine.Namespace, fork: Fork) -> None:
    child = fork(lambda send: (take(space, "k"), send("held"), signal.pause()))
    assert child.next() == "held"
    assert space.lease("k", True).acquire(0, False, ()) == TIMEOUT
    assert space.holder("k", True) == child.pid
    child.kill()
    start = time.monotonic()
    lease = space.lease("k", True)
    assert lease.acquire(5, False, ()) == ACQUIRED
    assert time.monotonic() - start < 0.1
    assert lease.took_over
    assert space.engine.stats()["takeovers"] == 1
    assert space.holder("k", True) == os.getpid()


def test_a_zombie_is_dead(space: _engine.Namespace, fork: Fork) -> None:
    child = fork(lambda send: (take(space, "k"), send("held"), signal.pause()))
    child.next()
    os.kill(child.pid, signal.SIGKILL)  # and not reaped
    lease = space.lease("k", True)
    assert lease.acquire(5, False, ()) == ACQUIRED
    assert lease.took_over


def test_who_only_tries_takes_over_too(space: _engine.Namespace, fork: Fork) -> None:
    """A caller with a stale value never waits: if a mere try did not find a dead holder, it would be stale for ever."""
    child = fork(lambda send: (take(space, "k"), send("held"), signal.pause()))
    child.next()
    child.kill()
    lease = space.lease("k", True)
    assert lease.acquire(0, False, ()) == ACQUIRED
    assert lease.took_over


def test_a_stopped_holder_is_not_dead(space: _engine.Namespace, fork: Fork) -> None:
    read, write = os.pipe()
    child = fork(hold_until_told(space, "k", read))
    child.next()
    child.signal(signal.SIGSTOP)
    assert space.lease("k", True).acquire(0.2, False, ()) == TIMEOUT
    child.signal(signal.SIGCONT)
    os.write(write, b"x")
    assert space.lease("k", True).acquire(5, False, ()) == ACQUIRED


def test_a_waiter_that_waits_already_takes_over_within_100_ms(space: _engine.Namespace, fork: Fork) -> None:
    """At the first try, or on a busy machine at one of the next ones: there a waiter may queue for a core as long."""
    for _ in range(5):
        child = fork(lambda send: (take(space, "k"), send("held"), signal.pause()))
        child.next()
        took: list[float] = []

        def wait() -> None:
            lease = space.lease("k", True)
            assert lease.acquire(10, False, ()) == ACQUIRED
            took.append(time.monotonic())  # noqa: B023
            lease.release(True)

        waiter = threading.Thread(target=wait)
        waiter.start()
        threading.Event().wait(0.03)
        child.kill()
        died = time.monotonic()  # reaped: under AddressSanitizer the kernel takes a quarter of a second to end it
        waiter.join(10)
        if took[0] - died < 0.1:
            return
    pytest.fail(f"it took {took[0] - died:.3f} s, also at the fifth try")


def test_a_forked_child_owns_nothing(space: _engine.Namespace, fork: Fork) -> None:
    lease = take(space, "k")

    def act(send: Any) -> tuple[Any, ...]:
        return lease.held, lease.release(True), space.lease("k", True).acquire(0, False, ())

    assert fork(act).next() == (False, False, TIMEOUT)
    assert lease.held
    assert lease.release(True) is True


def test_what_a_forked_child_drops_stays_the_parents(space: _engine.Namespace, fork: Fork) -> None:
    lease = take(space, "k")
    guard = space.guard("g")

    def act(send: Any) -> bool:
        nonlocal lease, guard
        del lease, guard
        return True

    assert fork(act).next()
    assert lease.held
    assert guard.live


def test_the_death_of_a_forked_parent_is_seen_while_its_child_lives(space: _engine.Namespace, fork: Fork) -> None:
    """The child inherited the description that the parent's liveness stands on, and must have closed it."""

    def parent(send: Any) -> None:
        take_it = space.lease("k", True)
        assert take_it.acquire(0, False, ()) == ACQUIRED
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        send(pid)
        signal.pause()

    child = fork(parent)
    grandchild = child.next()
    try:
        child.kill()
        lease = space.lease("k", True)
        assert lease.acquire(5, False, ()) == ACQUIRED
        assert lease.took_over
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_a_circle_of_two_processes_is_told(space: _engine.Namespace, fork: Fork) -> None:
    def act(first: str, second: str, ready: int, go: int) -> Callable[[Any], Any]:
        def run(send: Any) -> int:
            lease = take(space, first)
            os.write(ready, b"x")
            os.read(go, 1)
            other = space.lease(second, True)
            outcome = other.acquire(10, False, (lease,))
            lease.release(True)
            return outcome

        return run

    ready_read, ready = os.pipe()
    go_read, go = os.pipe()
    one = fork(act("a", "b", ready, go_read))
    two = fork(act("b", "a", ready, go_read))
    assert len(os.read(ready_read, 1) + os.read(ready_read, 1)) == 2
    start = time.monotonic()
    os.write(go, b"xx")
    assert sorted([one.next(), two.next()]) == [ACQUIRED, DEADLOCK]
    assert time.monotonic() - start < 1


def test_a_chain_is_no_circle(space: _engine.Namespace, fork: Fork) -> None:
    read, write = os.pipe()
    last = fork(hold_until_told(space, "c", read))
    last.next()

    def middle(send: Any) -> int:
        lease = take(space, "b")
        send("held")
        return space.lease("c", True).acquire(10, False, (lease,))

    between = fork(middle)
    between.next()
    mine = take(space, "a")
    assert space.lease("b", True).acquire(0.15, False, (mine,)) == TIMEOUT
    os.write(write, b"x")
    assert between.next() == ACQUIRED


def test_a_full_bucket_is_waited_for_like_a_held_key(found: segment.Segment) -> None:
    """More keys at once than the table has entries: some wait until their deadline, none gets in twice."""
    space = found.engine.namespace("")
    leases = [space.lease(f"k{i}", True) for i in range(20_000)]
    outcomes = [lease.acquire(0, False, ()) for lease in leases]
    assert set(outcomes) == {ACQUIRED, TIMEOUT}
    assert outcomes.count(ACQUIRED) == found.engine.stats()["leases"]
    late = leases[outcomes.index(TIMEOUT)]
    assert late.acquire(0.02, False, ()) == TIMEOUT
    for lease in leases:
        lease.release(True)
    assert late.acquire(0, False, ()) == ACQUIRED
    assert found.engine.stats()["leases"] == 1


def test_signals_come_through_while_waiting(space: _engine.Namespace) -> None:
    class Arrived(Exception):
        pass

    def handler(number: int, frame: Any) -> None:
        raise Arrived

    held = take(space, "k")
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        start = time.monotonic()
        with pytest.raises(Arrived):
            space.lease("k", True).acquire(10, False, ())
        assert time.monotonic() - start < 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert held.held


def test_a_timer_every_2_ms_keeps_nobody_from_taking_over(space: _engine.Namespace, fork: Fork) -> None:
    child = fork(lambda send: (take(space, "k"), send("held"), signal.pause()))
    child.next()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        child.kill()
        start = time.monotonic()
        assert space.lease("k", True).acquire(5, False, ()) == ACQUIRED
        assert time.monotonic() - start < 0.2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- the mutex that users hold in hand --------------------------------------------------------------------------


@pytest.fixture
def mutex(name: str) -> Callable[[str], ShmMutex]:
    return lambda key: ShmMutex(key, segment=name)


def test_the_mutex_names_its_holder(mutex: Callable[[str], ShmMutex]) -> None:
    one, two = mutex("k"), mutex("k")
    assert repr(one) == "<ShmMutex 'k' free>"
    with one:
        assert repr(two) == f"<ShmMutex 'k' held by pid {os.getpid()}>"
        assert two.locked()
        assert one.fence is not None
        assert two.acquire(wait=False) is False
    assert not two.locked()


def test_the_same_task_is_told_that_it_would_wait_for_itself(mutex: Callable[[str], ShmMutex]) -> None:
    with mutex("k"), pytest.raises(DeadlockError, match="'k'") as told:
        mutex("k").acquire()
    assert told.value.key == "k"


def test_another_thread_waits_and_may_release(mutex: Callable[[str], ShmMutex]) -> None:
    one, two = mutex("k"), mutex("k")
    one.acquire()
    took: list[bool] = []
    waiter = threading.Thread(target=lambda: took.append(two.acquire(timeout=10)))
    waiter.start()
    releaser = threading.Thread(target=one.release)
    releaser.start()
    releaser.join(10)
    waiter.join(10)
    assert took == [True]
    with pytest.raises(NotHeld):
        one.release()
    two.release()


def test_release_in_a_forked_child_says_who_holds_it(mutex: Callable[[str], ShmMutex], fork: Fork) -> None:
    one = mutex("k")
    one.acquire()

    def act(send: Any) -> str:
        with pytest.raises(NotHeld) as told:
            one.release()
        return str(told.value)

    text = fork(act).next()
    assert f"pid {os.getpid()} acquired it before fork()" in text
    one.release()


def test_a_dropped_mutex_warns_and_gives_back(mutex: Callable[[str], ShmMutex]) -> None:
    one = mutex("k")
    one.acquire()
    with pytest.warns(ResourceWarning, match="'k'"):
        del one
    assert mutex("k").acquire(wait=False)


def test_circles_of_mutexes_name_the_keys(mutex: Callable[[str], ShmMutex]) -> None:
    """Two threads nest A-B and B-A: one is told, the other goes on."""
    barrier = threading.Barrier(2)
    told: list[DeadlockError] = []

    def nest(first: str, second: str) -> None:
        with mutex(first):
            barrier.wait(10)
            try:
                with mutex(second):
                    pass
            except DeadlockError as error:
                told.append(error)

    threads = [threading.Thread(target=nest, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(told) == 1
    assert set(told[0].cycle) <= {"a", "b"}


@pytest.mark.parametrize(("tasks", "kept"), [(65, 0), (150, 0), (3, 70)])
def test_a_circle_is_found_however_long_it_is(mutex: Callable[[str], ShmMutex], tasks: int, kept: int) -> None:
    """And however many other keys its members hold besides, taken before and after the one that matters."""
    barrier, ended = threading.Barrier(tasks), list[str]()

    def hold_and_wait(number: int) -> None:
        others = [mutex(f"{number} {other}") for other in range(2 * kept)]
        for other in others[:kept]:
            other.acquire()
        with mutex(f"circle {number}"):
            for other in others[kept:]:
                other.acquire()
            barrier.wait(30)
            try:
                with mutex(f"circle {(number + 1) % tasks}"):
                    ended.append("went on")
            except DeadlockError:
                ended.append("told")
        for other in others:
            other.release()

    threads = [threading.Thread(target=hold_and_wait, args=(number,)) for number in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert ended.count("told") == 1
    assert ended.count("went on") == tasks - 1


@pytest.mark.parametrize("timeout", [float("nan"), -1, -0.001])
def test_timeouts_that_are_none(space: _engine.Namespace, mutex: Callable[[str], ShmMutex], timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        mutex("k").acquire(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        space.lease("k", True).acquire(timeout, False, ())


def test_a_mutex_takes_the_segment_that_is_there(name: str) -> None:
    segment.attach(name, "8MB")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ShmMutex("k", segment=name):
            pass


def test_B7_a_token_is_one_holds_alone(mutex: Callable[[str], ShmMutex]) -> None:
    """No object, and no thread of the process, gives back what another one of the same key holds."""
    first, second = mutex("k"), mutex("k")
    first.acquire()
    first.release()
    taken = threading.Thread(target=second.acquire)
    taken.start()
    taken.join(10)
    with pytest.raises(NotHeld):
        first.release()
    assert second.locked()
    second.release()
    assert not second.locked()
