"""The dogpile lock: the protocol as a table, then with threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from mpcache._region.holding import HandedOver, adapt, release_quietly, run_in_background
from mpcache.api import CacheMutex, Freshness, Guarantees, Outcome
from mpcache.exception import DeadlockError, LockTimeout, NotHeld
from mpcache.lock import (
    NOT_REGENERATED,
    Create,
    Lock,
    NeedRegenerationException,
    Steps,
    elect,
    renew,
    run,
)
from mpcache.mutexes.base import Hold, Mutex
from mpcache.mutexes.local import LocalHold
from mpcache.mutexes.null import NullMutex
from mpcache.mutexes.thread import Scope, ThreadMutex
from tests.conftest import Clock, Gate, Waiters

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT

Spawn = Callable[..., Future[Any]]


class Script:
    """A Work and a mutex in one object, which follow a script and record their calls."""

    key = "k"

    def __init__(
        self,
        looks: list[Freshness],
        mutex: list[Outcome] | None = None,
        create: Any = "made",
        keep: Any = True,
        background: Callable[[Any], Any] | None = None,
    ) -> None:
        self.looks, self.outcomes = iter(looks), iter(mutex or [])
        self._create, self._keep = create, keep
        self.background = background and self._in_background
        self._runner = background
        self.log: list[str] = []

    def look(self) -> tuple[str, Freshness]:
        worth = next(self.looks)
        self.log.append("look")
        return worth.value, worth

    def acquire(self, wait: bool = True) -> bool:
        assert wait is False
        outcome = next(self.outcomes)
        self.log.append(f"try:{outcome.value}")
        return outcome is Outcome.ACQUIRED

    def contend(self, timeout: float | None) -> Outcome:
        assert timeout is None or 0 <= timeout <= 5
        outcome = next(self.outcomes)
        self.log.append(f"wait:{outcome.value}")
        return outcome

    def release(self, stored: bool = True) -> None:
        self.log.append(f"release:{stored}")

    def begin(self) -> None:
        self.log.append("begin")

    def end(self) -> None:
        self.log.append("end")

    def create(self) -> Steps:
        return (yield Create(self._created))

    def _created(self) -> Any:
        self.log.append("create")
        if isinstance(self._create, Exception):
            raise self._create
        return self._create

    def store(self, value: Any) -> bool:
        self.log.append("store")
        if isinstance(self._keep, Exception):
            raise self._keep
        return self._keep

    def create_unlocked(self) -> Steps:
        self.log.append("unlocked")
        return "unlocked"
        yield

    def _in_background(self, mutex: Any) -> None:
        self.log.append("background")
        self._runner(mutex)

    def __repr__(self) -> str:
        return "<Script 'k' held by pid 811>"


GOT, LET_GO, UNSTORED, LATE = Outcome.ACQUIRED, Outcome.RELEASED, Outcome.UNSTORED, Outcome.TIMEOUT
MAKE = "begin look create store end release:True"


@pytest.mark.parametrize(
    ("looks", "mutex", "value", "log"),
    [
        pytest.param([FRESH], [], "fresh", "look", id="B1-a-hit-looks-once"),
        pytest.param([STALE], [LATE], "stale", "look try:timeout", id="B2-a-stale-hit-looks-once"),
        pytest.param([STALE, STALE], [GOT], "made", f"look try:acquired {MAKE}", id="stale-and-elected"),
        pytest.param(
            [STALE, FRESH], [GOT], "fresh", "look try:acquired begin look end release:True",
            id="stale-and-elected-but-another-was-quicker",
        ),
        pytest.param([ABSENT, ABSENT], [GOT], "made", f"look wait:acquired {MAKE}", id="B1-a-miss-looks-2x"),
        pytest.param(
            [ABSENT, FRESH], [GOT], "fresh", "look wait:acquired begin look end release:True",
            id="B3-not-made-again-after-the-wait",
        ),
        pytest.param([ABSENT, FRESH], [LET_GO], "fresh", "look wait:released look", id="the-other-made-it"),
        pytest.param(
            [ABSENT, ABSENT, ABSENT], [LET_GO, GOT], "made", f"look wait:released look wait:acquired {MAKE}",
            id="B4-the-other-failed",
        ),
        pytest.param(
            [ABSENT, STALE], [LET_GO, LATE], "stale", "look wait:released look try:timeout",
            id="what-came-is-stale-and-a-third-one-makes-the-next",
        ),
        pytest.param(
            [ABSENT, ABSENT], [UNSTORED, LATE], "unlocked", "look wait:unstored look try:timeout unlocked",
            id="B5-not-stored-so-no-waiter-queues",
        ),
        pytest.param(
            [ABSENT, ABSENT, ABSENT], [UNSTORED, GOT], "made", f"look wait:unstored look try:acquired {MAKE}",
            id="B5-not-stored-and-one-of-those-that-go-on-may-store",
        ),
        pytest.param([ABSENT, FRESH], [UNSTORED], "fresh", "look wait:unstored look", id="B5-but-one-stored"),
        pytest.param([ABSENT, FRESH], [LATE], "fresh", "look wait:timeout look", id="F8-in-the-last-moment"),
        pytest.param([ABSENT, STALE], [LATE], "stale", "look wait:timeout look", id="F8-late-but-stale"),
    ],
)  # fmt: skip
def test_the_protocol(looks: list[Freshness], mutex: list[Outcome], value: str, log: str) -> None:
    script = Script(looks, mutex)
    assert run(elect(script, script, 5), script) == value
    assert " ".join(script.log) == log


def test_the_first_look_may_have_been_taken() -> None:
    script = Script([])
    assert run(elect(script, script, None, ("v", FRESH)), script) == "v"
    assert script.log == []


def test_F8_nothing_in_time() -> None:
    script = Script([ABSENT, ABSENT], [LATE])
    with pytest.raises(LockTimeout, match=r"held by pid 811.*within 5 s \(creation_wait\).*larger") as caught:
        run(elect(script, script, 5), script)
    assert (caught.value.key, caught.value.waited) == ("k", 5)
    assert isinstance(caught.value, TimeoutError)


def test_B4_a_creator_that_raises_lets_go_and_those_who_wait_contend_anew() -> None:
    script = Script([ABSENT, ABSENT], [GOT], create=KeyError("mine"))
    with pytest.raises(KeyError, match="mine"):
        run(elect(script, script, 5), script)
    assert script.log[-3:] == ["create", "end", "release:True"]


def test_F8_no_time_is_left() -> None:
    """Release the mutex at the end of the time: the task looks the value up, and does not wait again."""
    script = Script([ABSENT, ABSENT], [LET_GO])
    with pytest.raises(LockTimeout):
        run(elect(script, script, 0), script)
    assert run(elect(Script([ABSENT, FRESH]), Script([], [LET_GO]), 0), script) == "fresh"


class Circle(Script):
    """A script whose waits raise first."""

    def __init__(self, error: DeadlockError, outcomes: list[Outcome]) -> None:
        super().__init__([ABSENT], outcomes)
        self.errors = [error]

    def contend(self, timeout: float | None) -> Outcome:
        if self.errors:
            raise self.errors.pop()
        return super().contend(timeout)


@pytest.mark.parametrize(
    ("outcomes", "log"),
    [([GOT], f"wait:acquired {MAKE}"), ([LET_GO, UNSTORED, GOT], f"wait:released wait:unstored wait:acquired {MAKE}")],
)
def test_a_refresh_holds_the_mutex(outcomes: list[Outcome], log: str) -> None:
    for wait in (5, None):
        script = Script([ABSENT], outcomes)
        assert run(renew(script, script, wait), script) == "made"
        assert " ".join(script.log) == log


@pytest.mark.parametrize(("outcome", "wait"), [(LATE, 5), (LET_GO, 0)])
def test_a_refresh_in_vain(outcome: Outcome, wait: float) -> None:
    script = Script([], [outcome])
    with pytest.raises(LockTimeout, match=f"within {wait} s"):
        run(renew(script, script, wait), script)
    assert script.log == [f"wait:{outcome.value}"]


def test_a_refresh_within_its_own_creation_releases_nothing() -> None:
    script = Circle(DeadlockError("it holds the key itself"), [])
    assert run(renew(script, script, 5), script) == "made"
    assert script.log == ["begin", "look", "create", "store", "end"]


def test_a_refresh_in_a_circle_of_tasks_fails() -> None:
    error = DeadlockError("a circle")
    error.cycle = ("a", "b")  # type: ignore[attr-defined]
    with pytest.raises(DeadlockError, match="a circle"):
        circle = Circle(error, [])
        run(renew(circle, circle, 5), circle)


def test_the_time_of_a_refresh_is_one_for_all_its_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lefts = iter((100.0, 101.0, 104.5)), []

    class Telling(Script):
        def contend(self, timeout: float | None) -> Outcome:
            lefts.append(timeout)
            return super().contend(timeout)

    monkeypatch.setattr("mpcache.lock.time.monotonic", lambda: next(now))
    script = Telling([ABSENT], [LET_GO, GOT])
    run(renew(script, script, 5), script)
    assert lefts == [4.0, 0.5]


class Abandoned(Script):
    """A mutex that records its release."""

    def abandon(self) -> None:
        self.log.append("abandon")


def test_what_an_exception_leaves_held_is_given_back() -> None:
    script = Abandoned([ABSENT, ABSENT], [GOT], create=KeyError("mine"))
    with pytest.raises(KeyError):
        run(elect(script, script, 5), script)
    assert script.log[-1] == "abandon"


def test_a_lock_by_itself_gives_its_mutex_back() -> None:
    script = Abandoned([], [GOT])

    def creator() -> Any:
        raise KeyError("mine")

    def missing() -> Any:
        raise NeedRegenerationException

    with pytest.raises(KeyError), Lock(script, creator, missing, None):
        pass
    assert script.log[-1] == "abandon"


def test_B4_a_creator_may_raise_stop_iteration() -> None:
    """Raise StopIteration in a creator: a generator must not raise it, and the protocol is a generator."""
    script = Script([ABSENT, ABSENT], [GOT], create=StopIteration("mine"))
    with pytest.raises(StopIteration, match="mine") as caught:
        run(elect(script, script, 5), script)
    assert script.log[-3:] == ["create", "end", "release:True"]
    assert caught.value.__cause__ is None


def test_a_runtime_error_of_the_protocol_is_one() -> None:
    script = Script([ABSENT, ABSENT], [GOT], create=RuntimeError("mine"))
    with pytest.raises(RuntimeError, match="mine"):
        run(elect(script, script, 5), script)


@pytest.mark.parametrize("keep", [False, OSError("full")])
def test_B5_those_who_wait_learn_that_nothing_was_stored(keep: Any) -> None:
    script = Script([ABSENT, ABSENT], [GOT], keep=keep)
    if keep is False:
        assert run(elect(script, script, 5), script) == "made"
    else:
        with pytest.raises(OSError, match="full"):
            run(elect(script, script, 5), script)
    assert script.log[-3:] == ["store", "end", "release:False"]


def test_whatever_the_end_brings_the_mutex_is_released() -> None:
    script = Script([ABSENT, ABSENT], [GOT])

    def end() -> None:
        raise OSError("gone")

    script.end = end  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        run(elect(script, script, 5), script)
    assert script.log[-1] == "release:True"


def test_F7_a_lost_mutex_costs_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    script = Script([ABSENT, ABSENT], [GOT])

    def release(stored: bool) -> None:
        raise NotHeld("the lease lapsed")

    script.release = release  # type: ignore[method-assign]
    assert run(elect(script, script, 5), script) == "made"
    assert "the lease lapsed" in caplog.text


class Leased(Script):
    """A mutex at a server that answers, or raises, what the test sets."""

    guarantees = Guarantees(processes=True, hosts=True, survives_death=True, fair=False, leased=True)
    answer: Any = True

    def owned(self) -> bool:
        self.log.append("owned")
        return self._answer()

    def release(self, stored: bool = True) -> None:
        super().release(stored)
        self._answer()

    def _answer(self) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "steps", "said"),
    [
        (True, "create owned store end release:True", []),
        (False, "create owned end release:False", ["was lost while its value was created"]),
        (
            ConnectionError("gone"),
            "create owned end release:False",
            ["may be lost, since it cannot be asked: gone", "could not be released, and lapses by itself: gone"],
        ),
    ],
)
def test_F7_a_lease_is_asked_for_before_the_value_is_stored_and_whatever_it_says_the_caller_has_the_value(
    caplog: pytest.LogCaptureFixture, answer: Any, steps: str, said: list[str]
) -> None:
    script = Leased([ABSENT, ABSENT], [GOT])
    script.answer = answer
    assert run(elect(script, script, 5), script) == "made"
    assert " ".join(script.log) == f"look wait:acquired begin look {steps}"
    assert len(caplog.messages) == len(said)
    for message, text in zip(caplog.messages, said, strict=True):
        assert f"<Script 'k' held by pid 811> {text}" in message


def test_an_error_of_a_mutex_without_a_lease_is_told() -> None:
    script = Script([ABSENT, ABSENT], [GOT])

    def release(stored: bool) -> None:
        raise ConnectionError("gone")

    script.release = release  # type: ignore[method-assign]
    with pytest.raises(ConnectionError, match="gone"):
        run(elect(script, script, 5), script)


def test_B9_in_the_background_the_stale_value_is_served_and_the_runner_lets_go() -> None:
    handed: list[Any] = []
    script = Script([STALE, STALE], [GOT], background=handed.append)
    assert run(elect(script, script, 5), script) == "stale"
    assert script.log == ["look", "try:acquired", "begin", "look", "background"]


def test_B9_nothing_is_made_in_the_background_while_there_is_no_value() -> None:
    script = Script([ABSENT, ABSENT], [GOT], background=pytest.fail)
    assert run(elect(script, script, 5), script) == "made"


class TestRunInBackground:
    def setup_method(self) -> None:
        self.mutex = ThreadMutex("k", Scope())
        self.mutex.acquire()
        self.ended = 0

    def end(self) -> bool:
        self.ended += 1
        return True

    def test_B9_any_thread_releases(self, spawn: Spawn) -> None:
        run_in_background(lambda handed: spawn(handed.release).result(), self.mutex, self.end)
        assert not self.mutex.locked()
        assert self.ended == 1

    def test_B9_a_runner_that_fails_has_released(self) -> None:
        def runner(handed: Any) -> None:
            raise ValueError("no thread to be had")

        with pytest.raises(ValueError, match="no thread to be had"):
            run_in_background(runner, self.mutex, self.end)
        assert not self.mutex.locked()
        assert self.ended == 1

    def test_B9_a_runner_that_fails_after_its_release_is_not_masked(self) -> None:
        def runner(handed: Any) -> None:
            handed.release()
            raise ValueError("afterwards")

        with pytest.raises(ValueError, match="afterwards"):
            run_in_background(runner, self.mutex, self.end)

    def test_B9_an_end_that_fails_does_not_keep_the_mutex(self) -> None:
        def end() -> bool:
            raise OSError("gone")

        held: list[Any] = []
        run_in_background(held.append, self.mutex, end)
        with pytest.raises(OSError, match="gone"):
            held[0].release()
        assert not self.mutex.locked()

    def test_F7_a_mutex_that_was_lost_meanwhile_is_told_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        held: list[Any] = []
        run_in_background(held.append, self.mutex, self.end)
        self.mutex.release()
        held[0].release()
        assert "lost before its release" in caplog.text

    def test_B9_what_is_handed_over_is_a_mutex(self) -> None:
        def runner(handed: Any) -> None:
            assert isinstance(handed, CacheMutex)
            assert handed.locked()
            assert not handed.acquire(False)
            assert handed.key == "k"
            assert "'k'" in repr(handed)
            handed.release()
            with pytest.raises(NotHeld):
                handed.release()

        run_in_background(runner, self.mutex, self.end)

    def test_B9_a_hold_that_was_handed_over_is_no_longer_mine(self) -> None:
        held: list[Any] = []
        run_in_background(held.append, self.mutex, self.end)
        again = ThreadMutex("k", self.mutex._scope)
        assert again.acquire(timeout=0) is False  # it waits until its limit, instead of raising DeadlockError
        held[0].release()


class Sloppy:
    """A mutex written for dogpile.cache; an acquire that waits may return None."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.log: list[Any] = []

    def acquire(self, wait: bool = True) -> Any:
        self.log.append(wait)
        return self.answer

    def release(self) -> None:
        self.log.append("release")

    def __repr__(self) -> str:
        return "<Sloppy>"


class TestAdapt:
    def test_ours_stay_as_they_are(self) -> None:
        mutex = NullMutex("k")
        assert adapt(mutex) is mutex

    @pytest.mark.parametrize(("answer", "outcome"), [(None, GOT), (True, GOT), (False, LATE)])
    def test_F8_only_false_means_too_late(self, answer: Any, outcome: Outcome) -> None:
        foreign = Sloppy(answer)
        mutex = adapt(foreign)
        assert mutex.contend(5) is outcome
        assert mutex.acquire(False) is bool(answer)
        mutex.release(stored=False)
        assert foreign.log == [True, False, "release"]
        assert mutex.answer is answer
        assert repr(mutex) == "<Sloppy>"

    def test_a_plain_lock_will_do(self) -> None:
        lock = threading.Lock()
        script = Script([ABSENT, ABSENT])
        assert run(elect(script, adapt(lock), 5), lock) == "made"
        assert not lock.locked()


class Value:
    """The data of a Lock: a value with a time, and a creator that counts its calls."""

    def __init__(self, clock: Clock, stored: tuple[Any, float] | None = None) -> None:
        self.clock, self.stored = clock, stored
        self.looks = self.created = 0

    def look(self) -> tuple[Any, float]:
        self.looks += 1
        if self.stored is None:
            raise NeedRegenerationException
        return self.stored

    def create(self) -> tuple[Any, float]:
        self.created += 1
        self.stored = (f"made {self.created}", self.clock.now)
        return self.stored


class TestLock:
    @pytest.fixture
    def value(self, clock: Clock) -> Value:
        return Value(clock)

    def lock(self, value: Value, expiretime: float | None = 10, mutex: Any = None, **kw: Any) -> Lock:
        return Lock(mutex or ThreadMutex("k", Scope()), value.create, value.look, expiretime, **kw)

    def test_1_9_creates_then_finds(self, value: Value) -> None:
        for _ in range(2):
            with self.lock(value) as found:
                assert found == "made 1"
        assert (value.created, value.looks) == (1, 3)

    def test_1_9_the_mutex_is_free_in_the_body(self, value: Value) -> None:
        mutex = threading.Lock()
        with self.lock(value, mutex=mutex):
            assert not mutex.locked()

    def test_1_9_a_created_time_of_zero_is_no_value(self, value: Value) -> None:
        value.stored = ("old", 0)
        with self.lock(value, None) as found:
            assert found == "made 1"

    def test_1_9_stale_after_expiretime_and_never_without(self, value: Value, clock: Clock) -> None:
        value.create()
        clock.forward(10)
        with self.lock(value) as found:
            assert found == "made 1"
        clock.forward(0.1)
        with self.lock(value, None) as found:
            assert found == "made 1"
        with self.lock(value) as found:
            assert found == "made 2"

    def test_1_9_the_async_creator_gets_the_mutex(self, value: Value, clock: Clock) -> None:
        value.create()
        clock.forward(11)
        mutex, handed = ThreadMutex("k", Scope()), []
        with self.lock(value, mutex=mutex, async_creator=handed.append) as found:
            assert found == "made 1"
        assert mutex.locked()
        assert value.created == 1
        handed[0].release()
        assert not mutex.locked()

    def test_1_9_there_is_a_token_for_no_value(self, value: Value) -> None:
        seen: list[Any] = []

        class Nosy(Mutex):
            def contend(self, timeout: float | None = None) -> Outcome:
                seen.append(timeout)
                return GOT

            def release(self, stored: bool = True) -> None:
                seen.append(stored)

        with self.lock(value, mutex=Nosy("k")):
            assert seen == [None, True]  # without limit, as ever
        assert NOT_REGENERATED is not None


class TestThreadMutex:
    """Tests beyond the conformance suite of mutexes: scopes, and how waiters of a value are woken."""

    def test_B6_equal_keys_exclude_each_other_and_leave_nothing(self) -> None:
        scope = Scope()
        first, second = ThreadMutex("k", scope), ThreadMutex("k", scope)
        assert [first.acquire(), second.acquire(False), second.locked()] == [True, False, True]
        first.release()
        assert scope.holds == {}
        assert [second.acquire(False), first.locked()] == [True, True]
        second.release()

    def test_scopes_know_nothing_of_each_other(self) -> None:
        mine, theirs = ThreadMutex.for_region("a"), ThreadMutex.for_region("a")
        with mine("k"), theirs("k"), ThreadMutex("k"):
            assert not theirs("other").locked()
            with pytest.raises(DeadlockError, match="'k'"):
                theirs("k").acquire()

    @pytest.mark.parametrize(("stored", "outcome"), [(True, LET_GO), (False, UNSTORED)])
    def test_B5_all_who_wait_are_woken_together(
        self, spawn: Spawn, waiters: Waiters, stored: bool, outcome: Outcome
    ) -> None:
        holder = waiters("k")
        holder.acquire()
        results = [spawn(waiters("k").contend, 20) for _ in range(5)]
        waiters.wait_for(5)
        holder.release(stored)
        assert [result.result(20) for result in results] == [outcome] * 5

    def test_whoever_wants_the_mutex_gets_it_in_the_end(self, spawn: Spawn) -> None:
        scope, log = Scope(), []

        def work(name: int) -> None:
            with ThreadMutex("k", scope):
                log.append(name)
                log.append(name)

        for result in [spawn(work, name) for name in range(8)]:
            result.result(20)
        assert log[::2] == log[1::2]
        assert sorted(log[::2]) == list(range(8))

    def test_time_runs_out(self, spawn: Spawn) -> None:
        scope = Scope()
        with ThreadMutex("k", scope):
            assert spawn(ThreadMutex("k", scope).acquire, True, 0.001).result(20) is False
            assert spawn(ThreadMutex("k", scope).contend, 0.001).result(20) is LATE

    def test_F3_a_forked_child_finds_every_key_free_and_owns_none(self) -> None:
        mutex = ThreadMutex("k", Scope())
        mutex.acquire()
        child = os.fork()
        if child == 0:
            try:
                mutex.release()
            except NotHeld:
                again = ThreadMutex("k", mutex._scope)
                os._exit(0 if not again.locked() and again.acquire(False) else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        mutex.release()

    def test_a_take_that_was_interrupted_gives_back_nothing_of_anothers(self) -> None:
        mutex = ThreadMutex("k", Scope())
        mutex.acquire()
        interrupted = Hold(ThreadMutex("k", mutex._scope))
        interrupted.token = LocalHold(mutex._scope, "k")
        with pytest.warns(ResourceWarning):
            del interrupted
        assert mutex.locked()
        mutex.release()

    def test_a_dropped_mutex_is_released_with_a_warning(self) -> None:
        scope = Scope()
        mutex = ThreadMutex("k", scope)
        mutex.acquire()
        with pytest.warns(ResourceWarning, match="'k' was dropped while held"):
            del mutex
        assert scope.holds == {}


def test_a_stampede_has_one_creator(spawn: Spawn, waiters: Waiters, gate: Callable[..., Gate], clock: Clock) -> None:
    value = Value(clock)
    creator = gate(value.create)

    def ask() -> Any:
        with Lock(waiters("k"), creator, value.look, 10) as found:
            return found

    results = [spawn(ask) for _ in range(8)]
    creator.wait_for_entry()
    waiters.wait_for(7)
    creator.open()
    assert {result.result(20) for result in results} == {"made 1"}
    assert creator.calls == 1


# -- what a change of a single word would break (see docs/decisions/0006-undetected-mutants-are-explained.rst) --


class Told:
    """A mutex that records the arguments of its calls."""

    def __init__(self, outcome: Any = True) -> None:
        self.calls: list[Any] = []
        self._outcome = outcome

    def acquire(self, *args: Any) -> Any:
        self.calls.append(args)
        return self._outcome

    def release(self, *args: Any) -> None:
        self.calls.append(args)


class ToldMore(Told):
    """A mutex whose release takes whether a value was stored."""

    def contend(self, timeout: float | None) -> Outcome:
        self.calls.append(timeout)
        return Outcome.RELEASED


def test_nobody_waits_when_no_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 101.0, 109.0])
    monkeypatch.setattr("time.monotonic", lambda: next(ticks))
    mutex = ToldMore()
    assert run(elect(Script([ABSENT, ABSENT, FRESH]), mutex, 5), mutex) == "fresh"
    assert mutex.calls == [4.0, 0.0]


def test_F8_a_mutex_with_a_limit_and_no_key_of_its_own() -> None:
    with pytest.raises(LockTimeout) as late, Lock(Told(False), lambda: ("x", 1), lambda: ("", 0), None):
        pass
    assert [late.value.key, late.value.waited] == [None, None]
    assert "was not released in its own time limit, and no older value" in str(late.value)
    assert str(late.value).endswith("may be served; if creators may take longer, configure a larger creation_wait")


def test_adapted_and_handed_over_mutexes_wait_unless_told_otherwise() -> None:
    for outcome in (True, False):
        mutex = Told(outcome)
        assert [adapt(mutex).acquire(), adapt(mutex).acquire(False)] == [outcome, outcome]
        assert [HandedOver(mutex, lambda: True).acquire(), HandedOver(mutex, lambda: True).acquire(False)] == [
            outcome,
            outcome,
        ]
        assert mutex.calls == [(True,), (False,)] * 2


@pytest.mark.parametrize("stored", [True, False])
def test_those_who_wait_learn_what_became_of_it_in_the_background(stored: bool) -> None:
    mutex = ToldMore()
    HandedOver(mutex, lambda: stored).release()
    assert mutex.calls == [(stored,)]


def test_they_learn_that_nothing_was_stored_if_its_end_fails() -> None:
    mutex = ToldMore()
    with pytest.raises(ZeroDivisionError):
        HandedOver(mutex, lambda: bool(1 / 0)).release()
    assert mutex.calls == [(False,)]


def test_1_9_a_lock_takes_it_that_the_async_creator_stores() -> None:
    mutex = ToldMore()
    with Lock(mutex, lambda: ("x", 1), lambda: ("old", 1), 5, lambda held: held.release()) as value:
        assert value == "old"
    assert mutex.calls == [(False,), (True,)]


@pytest.mark.parametrize(("created", "value"), [(0.5, "found"), (1, "found"), (0, "made"), (-1, "made")])
def test_1_9_a_created_of_zero_or_less_is_no_value(created: float, value: str) -> None:
    with Lock(Told(), lambda: ("made", 1), lambda: ("found", created), None) as got:
        assert got == value


def test_a_lost_mutex_is_told_of_in_these_words(caplog: pytest.LogCaptureFixture) -> None:
    class Lost(ToldMore):
        def release(self, *args: Any) -> None:
            super().release(*args)
            raise NotHeld("it was taken over")

    mutex = Lost()
    release_quietly(mutex)
    assert mutex.calls == [(True,)]
    assert caplog.messages == [
        "The mutex was lost before its release; the value may have been created twice: it was taken over"
    ]
