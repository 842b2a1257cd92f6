"""The dogpile lock: which task creates a value, which tasks wait for it, and which are served the stale value.

Depends on _region.holding.  Knows no storage, no mutex and no event loop: they are handed in.

The protocol is written once, as a generator of steps (:func:`elect`).  It does nothing that could block: where a task
has to wait for another one, or to run the creator, it yields a step, and a driver carries the step out and sends the
answer back.  There are two drivers, :func:`run` for threads and ``_region.creation_async.run`` for coroutines.  What a
step raises is thrown into the generator, at the place where the step was yielded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeAlias

from mpcache._region.holding import abandon, adapt, owned, release_quietly, run_in_background, too_late
from mpcache.api import Freshness, Outcome
from mpcache.exception import DeadlockError

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT

Seen = tuple[Any, Freshness]


class NeedRegenerationException(Exception):
    """Raised by the look-up function of :class:`Lock`: there is no value, or none that may be served."""


NOT_REGENERATED = object()
"""Stands for the value that a failed look-up did not find."""


# -- the protocol ---------------------------------------------------------------------------------------------------


class Wait(NamedTuple):
    """A step: wait for the mutex, or until its holder has created the value.  The answer is an :class:`.Outcome`.

    :ivar left: seconds to wait at most; None: without limit.
    """

    mutex: Any
    left: float | None


class Create(NamedTuple):
    """A step: call the creator.  The answer is the value."""

    make: Callable[[], Any]


Steps: TypeAlias = "Generator[Wait | Create, Any, Any]"
"""A running protocol.  Its return value is the value that the task is served."""


class Work(Protocol):
    """The operations on one key that the protocol calls.  None of them waits for another task."""

    def look(self) -> Seen:
        """Return the stored value, and whether it is fresh, stale or absent."""

    def begin(self) -> None:
        """Record that the mutex is held and a creation begins: a change of the key from now on keeps its value out."""

    def create(self) -> Steps:
        """Yield the step that calls the user's creator; return its value."""

    def store(self, value: Any) -> bool:
        """Store the value; return whether it was stored."""

    def end(self) -> None:
        """Record that the creation is over, with or without a value."""

    def create_unlocked(self) -> Steps:
        """Create the value for this task alone, without the mutex; it is not stored."""

    @property
    def background(self) -> Callable[[Any], Any] | None:
        """Return the function that is given the held mutex and creates the value elsewhere; None: there is none."""


def elect(work: Work, mutex: Any, wait: float | None, seen: Seen | None = None) -> Steps:
    """Return the steps to the value of a key: found, created here, created by another task, or stale.

    ::

        fresh     return it
        stale     a task that gets the mutex at once creates the next value; the others return the stale one
        absent    the first task that gets the mutex creates the value; the others wait for the value, not for the mutex
                  (a mutex that was written for dogpile.cache has them queue)

    A task that finds a value looks once.  A task that gets the mutex looks again: another task may have been quicker.

    :param mutex: see ``mpcache._region.holding.adapt``.
    :param wait: seconds to wait for another task's value at most; None: without limit.
    :param seen: the first look, if the caller has taken it.
    :raises LockTimeout: no value came in time.
    """
    value, freshness = seen or work.look()
    deadline = None if wait is None or freshness is FRESH else time.monotonic() + wait
    while freshness is not FRESH:
        if freshness is STALE:
            if not mutex.acquire(False):
                return value
            return (yield from create_and_store(work, mutex))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        outcome = yield Wait(mutex, left)
        if outcome is Outcome.ACQUIRED:
            return (yield from create_and_store(work, mutex))
        value, freshness = work.look()
        # Out of time.  So is RELEASED if no time is left: the creator may have raised, and another round would wait.
        if outcome is Outcome.TIMEOUT or (left == 0 and outcome is Outcome.RELEASED):
            return _last_resort(value, freshness, mutex, wait)
        if outcome is Outcome.UNSTORED and freshness is ABSENT:
            return (yield from _create_without_a_queue(work, mutex))
    return value


def renew(work: Work, mutex: Any, wait: float | None) -> Steps:
    """Return the steps of a refresh: take the mutex, then create a value even if a fresh one is stored.

    A creation that is under way is waited for, since its value may be the older one.  Where this task itself holds the
    mutex, the refresh is a part of its creation: the mutex is neither taken nor released.

    :raises LockTimeout: the mutex was not released in time.
    :raises DeadlockError: its holder waits in turn for what this task holds.
    """
    deadline = None if wait is None else time.monotonic() + wait
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            outcome = yield Wait(mutex, left)
        except DeadlockError as error:
            if is_of_several(error):
                raise
            return (yield from create_and_store(work, _HeldAlready()))
        if outcome is Outcome.ACQUIRED:
            return (yield from create_and_store(work, mutex))
        if outcome is Outcome.TIMEOUT or left == 0:
            raise too_late(mutex, wait)


def create_and_store(work: Work, mutex: Any) -> Steps:
    """Return the steps of a task that holds the mutex: look again, create the value, store it, release the mutex.

    A background job that has taken over a held mutex begins here.
    """
    mine, stored = True, True
    try:
        work.begin()
        value, freshness = work.look()
        if freshness is FRESH:
            return value
        if freshness is STALE and work.background is not None:
            mine = False  # also if this call fails: from here on the other side releases the mutex
            work.background(mutex)
            return value
        value = yield from work.create()  # if it raises, the tasks that wait contend again, and one of them creates
        stored = False  # if storing raises, they go on at once: a queue would get them nothing
        stored = owned(mutex) and work.store(value)
        return value
    finally:
        if mine:
            try:
                work.end()
            finally:
                release_quietly(mutex, stored)


def _create_without_a_queue(work: Work, mutex: Any) -> Steps:
    """Create after a creation that stored nothing: the next one may store nothing either, so no task queues for it."""
    if mutex.acquire(False):
        return (yield from create_and_store(work, mutex))
    return (yield from work.create_unlocked())


def _last_resort(value: Any, freshness: Freshness, mutex: Any, wait: float | None) -> Any:
    if freshness is ABSENT:
        raise too_late(mutex, wait)
    return value


def run(steps: Steps, mutex: Any) -> Any:
    """Carry out the steps in this thread, and return the value: the driver for threads and greenlets.

    :param mutex: that of the steps.  If an exception arrives between any two instructions (from a signal handler, or a
     time limit), the steps are closed, and what is still held is given back.
    """
    try:
        return _carry_out(steps)
    except BaseException:
        try:
            steps.close()
        finally:
            abandon(mutex)
        raise


def _carry_out(steps: Steps) -> Any:
    resume: Callable[[Any], Wait | Create] = steps.send
    answer: Any = None
    while True:
        try:
            step = resume(answer)
        except StopIteration as end:
            return end.value
        except RuntimeError as error:
            if not isinstance(answer, StopIteration) or error.__cause__ is not answer:
                raise
            break  # a creator has raised StopIteration, which a generator cannot raise (PEP 479)
        try:
            resume, answer = steps.send, step.make() if isinstance(step, Create) else step.mutex.contend(step.left)
        except BaseException as error:
            resume, answer = steps.throw, error
    raise answer


def is_of_several(error: DeadlockError) -> bool:
    """Return whether several tasks wait in a circle, rather than one task for a key that it holds itself."""
    return hasattr(error, "cycle")


class _HeldAlready:
    """Stands for the mutex of a task that holds it: there is nothing to release."""

    def release(self, stored: bool = True) -> None:
        """Do nothing."""


# -- without a region ------------------------------------------------------------------------------------------------


class Lock:
    """The dogpile lock without a region, over look-ups and creators of your own.

    ::

        with Lock(mutex, creator, value_and_created_fn, expiretime) as value:
            ...                                           # the mutex is not held here

    :param mutex: the mutex of this value.
    :param creator: creates and stores the value: ``() -> (value, created)``, created in seconds since the Unix epoch.
    :param value_and_created_fn: looks the value up: ``() -> (value, created)``; a ``created`` of 0 or less, or a
        NeedRegenerationException, means that there is none.
    :param expiretime: seconds after which the value is stale; None: never.
    :param async_creator: if there is a stale value, gets the held mutex, creates the next value, releases the mutex.
    """

    def __init__(
        self,
        mutex: Any,
        creator: Callable[[], tuple[Any, float]],
        value_and_created_fn: Callable[[], tuple[Any, float]],
        expiretime: float | None,
        async_creator: Callable[[Any], Any] | None = None,
    ) -> None:
        self.mutex = mutex
        self.creator = creator
        self.value_and_created_fn = value_and_created_fn
        self.expiretime = expiretime
        self.async_creator = async_creator

    def __enter__(self) -> Any:
        mutex = adapt(self.mutex)
        return run(elect(_LockWork(self), mutex, None), mutex)

    def __exit__(self, *exc_info: object) -> None:
        pass


class _LockWork:
    """The Work of a :class:`Lock`, whose creator stores the value itself."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    @property
    def background(self) -> Callable[[Any], None] | None:
        return self._in_background if self._lock.async_creator else None

    def look(self) -> Seen:
        try:
            value, created = self._lock.value_and_created_fn()
        except NeedRegenerationException:
            return NOT_REGENERATED, ABSENT
        if created <= 0:
            return NOT_REGENERATED, ABSENT
        lifetime = self._lock.expiretime
        return value, STALE if lifetime is not None and time.time() - created > lifetime else FRESH

    def create(self) -> Steps:
        value, _ = yield Create(self._lock.creator)
        return value

    create_unlocked = create

    def store(self, value: Any) -> bool:
        return True

    def begin(self) -> None:
        pass

    end = begin

    def _in_background(self, mutex: Any) -> None:
        run_in_background(self._lock.async_creator, mutex, lambda: True)  # type: ignore[arg-type]
