"""Many keys at once: claim, create, publish, then wait.

Depends on lock and creation.
One round::

    look      look up each key that has no value yet, once
    claim     take the mutexes that are free, without waiting: at most 256
    create    look up the claimed keys again, since another task may have been quicker; create the rest in one call
    publish   store all values in one write, and release all claims
    wait      holding nothing, wait for a key that another task creates; then begin again

A call never waits while it holds a key, so that no two calls can wait for each other, whatever the order of their keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from mpcache._region.binding import Binding
from mpcache._region.creation import made
from mpcache._region.fills import Fills, begin_fill, filling, outcome_of, was_stored
from mpcache._region.holding import abandon, adapt, owned, release_quietly, too_late
from mpcache._region.requests import (
    CREATED,
    CREATING,
    FAILED,
    HITS,
    MISSES,
    REFUSED,
    STALE,
    TOO_LARGE,
    UNLOCKED,
    UNSTORED,
    WAITED,
    WAITING,
    count_stored,
)
from mpcache._region.ttl import checked, end_for, is_to_be_stored
from mpcache._region.value_io import packed, stored_bytes
from mpcache._region.values import in_order
from mpcache.api import NO_VALUE, FillGuard, Freshness, KeyType, Outcome
from mpcache.invalidation import Begin

MOST = 256
"""The most keys that one round holds: the entries of all holders, in all processes, share one table."""

GRACE = 1.0
"""Seconds after creation_wait during which free keys with a usable stale value are still tried."""


class Claim:
    """A key that this call holds, or is about to hold.  It is added to the claims before its mutex is taken, so that
    the cleanup after an exception finds it and releases the key."""

    __slots__ = ("guard", "held", "mutex", "stored")

    def __init__(self, mutex: Any) -> None:
        self.mutex = mutex
        self.guard: FillGuard | None = None
        self.held = False
        self.stored = True

    def take(self) -> bool:
        """Take the mutex if it is free."""
        self.held = bool(self.mutex.acquire(False))
        return self.held

    def wait(self, most: float | None) -> Outcome:
        """Wait for the mutex, or for its holder, for at most so many seconds; None: without limit."""
        outcome: Outcome = self.mutex.contend(most)
        self.held = outcome is Outcome.ACQUIRED
        return outcome

    def release(self) -> None:
        """Release the guard and the mutex.  May be called again, if an exception came in between."""
        try:
            if self.guard is not None:
                self.guard.close()
        finally:
            if self.held:
                self.held = False  # set before the release: a third party's mutex must not be released twice
                release_quietly(self.mutex, self.stored)
            else:
                abandon(self.mutex)


class Claims:
    """The keys that one call holds at the same time.

    :param function: the FunctionCounts of the decorated function whose call this is; None: it is not one.
    """

    _mangled: dict[KeyType, KeyType]
    _begun: Begin
    """The begin of the running creation."""

    def __init__(self, binding: Binding, function: Any = None) -> None:
        self._binding, self._function = binding, function
        self._outcomes: dict[KeyType, int] = {}
        self._sizes: dict[KeyType, int | None] = {}
        self._creator_began = 0
        self._took: int | None = None
        self._deadline = None if binding.creation_wait is None else time.monotonic() + binding.creation_wait
        self._claims: dict[KeyType, Claim] = {}

    def _begin(self, keys: Iterable[KeyType]) -> None:
        """Record that the creation of these claimed keys begins now."""
        self._begun = Begin(self._binding.invalidator)
        for key in keys:
            self._claims[key].guard = begin_fill(self._binding, self._mangled[key])

    def _count_begins(self, keys: Iterable[KeyType]) -> None:
        """Record that the creator is about to be called for these keys."""
        self._outcomes, self._sizes, self._took = dict.fromkeys(keys, FAILED), {}, None
        self._creator_began = time.monotonic_ns()

    def _count_made(self) -> None:
        """Record that the creator has returned; values that are not offered to the store count as refused."""
        self._took = time.monotonic_ns() - self._creator_began
        self._outcomes = dict.fromkeys(self._outcomes, REFUSED)

    def _count_ends(self) -> None:
        """Count the outcome of each key, and the creator's time once.  May be called again."""
        outcomes, self._outcomes = self._outcomes, {}
        counts, function = self._binding.requests, self._function
        for outcome in sorted(set(outcomes.values())):
            counts.note(outcome, list(outcomes.values()).count(outcome), function)
        if not outcomes or self._took is None:
            return
        counts.observe(CREATING, self._took // 1000)
        for key in [key for key, outcome in outcomes.items() if outcome == CREATED]:
            count_stored(counts, function, self._took // len(outcomes), self._sizes.get(key))

    def _take(self, key: KeyType) -> bool:
        claim = self._claims[key] = Claim(self._mutex(key))
        if not claim.take():
            del self._claims[key]
        return claim.held

    def _mutex(self, key: KeyType) -> Any:
        return adapt(self._binding.mutex(self._mangled[key]))

    def _fills(self, claims: dict[KeyType, Claim]) -> Fills:
        return Fills(self._binding, {self._mangled[key]: claim.guard for key, claim in claims.items()}, self._begun)

    def _left(self) -> float | None:
        """Return seconds until the deadline; None: there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _release_all(self) -> None:
        """Release all claims, even if some raise, and then raise the first error."""
        failures: list[BaseException] = []
        for key, claim in reversed(list(self._claims.items())):
            try:
                claim.release()
                del self._claims[key]
            except BaseException as error:
                failures.append(error)
        try:
            if failures:
                raise failures[0]
        finally:
            failures.clear()  # otherwise error and frame form a cycle, and keep what the frame refers to


class ManyCreation(Claims):
    """One running get_or_create_multi.

    :raises TypeError: the keys cannot be sorted.
    """

    def __init__(
        self,
        binding: Binding,
        keys: Iterable[KeyType],
        lifetime: float | None,
        creator: Callable[..., Iterable[Any]],
        should_cache_fn: Callable[[Any], bool] | None,
        ttl: Any = None,
        function: Any = None,
    ) -> None:
        super().__init__(binding, function)
        self._lifetime, self._ttl = lifetime, checked(ttl)
        self._creator, self._should_cache = creator, should_cache_fn
        self._keys = _sorted(keys)
        self._mangled = {key: binding.mangled(key) for key in self._keys}
        # All tasks try these keys in this order, so that one task gets them all, rather than each task some.
        self._missing = dict.fromkeys(sorted(self._keys, key=lambda key: str(self._mangled[key])))
        self._stale: dict[KeyType, Any] = {}
        self._unlocked: set[KeyType] = set()
        self._values: dict[KeyType, Any] = {}
        self._fresh = HITS
        """How a fresh value counts: from the second look on, another task has created it meanwhile."""
        self._answers: dict[KeyType, int] = {}
        self._began = time.monotonic_ns()

    def run(self) -> dict[KeyType, Any]:
        """Return a value for each key."""
        try:
            return self._rounds()
        finally:  # all is released: an exception that arrives in here costs counts only
            self._count_ends()
            self._count_answers()

    def _rounds(self) -> dict[KeyType, Any]:
        try:
            while True:
                self._look(self._missing)
                self._fresh = WAITED
                busy = self._claim()
                began = time.monotonic()
                self._create()
                self._release_all()
                if not self._missing:
                    return self._values
                if self._deadline is not None:
                    self._deadline += time.monotonic() - began  # the time of creating does not count as waiting
                if busy is not None:
                    self._wait_for(busy)
        finally:
            try:
                self._release_all()
            finally:
                self._release_all()  # release what is left if an exception interrupted the first call

    def _serve(self, key: KeyType, value: Any, answer: int) -> None:
        self._values[key] = value
        self._answers[key] = answer
        del self._missing[key]
        if answer == WAITED:
            self._binding.requests.observe(WAITING, (time.monotonic_ns() - self._began) // 1000)

    def _count_answers(self) -> None:
        """Count the request of each key once; a key that an error left without an answer is a miss."""
        answers = [self._answers.get(key, MISSES) for key in self._keys]
        for answer in sorted(set(answers)):
            self._binding.requests.note(answer, answers.count(answer), self._function)

    def _look(self, keys: Iterable[KeyType]) -> None:
        looked_for = list(keys)
        if not looked_for:
            return
        try:
            found = self._binding.value_io.read_multi([self._mangled[key] for key in looked_for])
        except TypeError as error:
            self._binding.name_key(error, *looked_for)
            raise
        for key, one in zip(looked_for, found, strict=True):
            value, worth = self._binding.worth(key, one, self._lifetime)
            self._stale.pop(key, None)
            if worth is Freshness.FRESH:
                self._serve(key, value, self._fresh)
            elif worth is Freshness.STALE:
                self._stale[key] = value

    def _claim(self) -> KeyType | None:
        """Claim all free keys; return a key to wait for, if nothing else is left to do."""
        busy = None
        for key in [key for key in self._missing if key not in self._claims]:
            if len(self._claims) >= MOST:
                return None  # create these first; more keys may be free then
            if self._is_late(GRACE):  # with a slow server, each try takes time, which counts here
                if busy is not None:
                    return busy
                if key in self._stale:
                    self._serve(key, self._stale[key], STALE)
                    continue
            if self._take(key):
                continue
            if key in self._stale:
                self._serve(key, self._stale[key], STALE)
            elif busy is None and key not in self._unlocked:
                busy = key
        return busy

    def _create(self) -> None:
        claimed = [key for key in self._claims if key in self._missing]
        self._begin(claimed)
        self._look(claimed)
        wanted = [key for key in self._keys if key in self._missing and (key in self._claims or key in self._unlocked)]
        if not wanted:
            return
        for key in wanted:
            if key not in self._claims:
                self._binding.counters.created_unlocked()
        values = made(self._binding, wanted, self._lifetime, lambda: self._by_key(wanted))
        self._publish({key: values.get(key, NO_VALUE) for key in wanted})
        self._count_ends()
        for key in wanted:
            answer = STALE if key not in values and key in self._stale else MISSES
            self._serve(key, values[key] if key in values else self._stale.get(key, NO_VALUE), answer)

    def _by_key(self, keys: list[KeyType]) -> dict[KeyType, Any]:
        name = getattr(self._creator, "__qualname__", repr(self._creator))
        self._count_begins(keys)
        values = dict(zip(keys, in_order(self._creator(*keys), f"the creator {name}"), strict=False))
        self._count_made()
        return values

    def _publish(self, values: dict[KeyType, Any]) -> None:
        """Store the values that are to be stored, and record for waiting tasks which keys were not stored."""
        claims = {key: self._claims[key] for key in values if key in self._claims}
        for claim in claims.values():
            claim.stored = False  # if anything raises now, waiting tasks need not queue for these keys
        self._outcomes = {key: FAILED if key in claims else UNLOCKED for key in values}
        created, value_io = self._begun.created, self._binding.value_io
        ends = {key: end_for(self._ttl, values[key]) for key in claims if self._is_to_be_kept(values[key])}
        ready = {  # all are packed before the first write
            self._mangled[key]: packed(value_io, key, values[key], created, end)
            for key, end in ends.items()
            if is_to_be_stored(end) and owned(claims[key].mutex)
        }
        for key in claims:
            kept = key in ends and is_to_be_stored(ends[key])
            self._outcomes[key] = FAILED if self._mangled[key] in ready else REFUSED if kept else UNSTORED
        if ready:
            self._write(claims, ready)

    def _write(self, claims: dict[KeyType, Claim], ready: dict[KeyType, Any]) -> None:
        with filling(self._binding, self._fills(claims)):
            refused = self._binding.value_io.write_multi(ready)
        if refused:
            self._binding.backend.delete_multi(list(refused))  # older values would be served as the newest
        for key, claim in claims.items():
            mangled = self._mangled[key]
            if mangled in refused:
                self._outcomes[key] = TOO_LARGE
                self._binding.counters.too_large(key, refused[mangled])
            elif mangled in ready:
                claim.stored = was_stored(claim.guard)
                self._outcomes[key], self._sizes[key] = outcome_of(claim.guard), stored_bytes(ready[mangled])

    def _is_to_be_kept(self, value: Any) -> bool:
        return value is not NO_VALUE and (not self._should_cache or bool(self._should_cache(value)))

    def _wait_for(self, key: KeyType) -> None:
        """Wait until the holder has released the key, or the time is over."""
        claim = self._claims[key] = Claim(self._mutex(key))
        left = self._left()
        outcome = claim.wait(left)
        if outcome is not Outcome.ACQUIRED:
            del self._claims[key]
        if outcome is Outcome.UNSTORED:
            self._unlocked.add(key)
        elif outcome is Outcome.TIMEOUT or (left == 0 and outcome is Outcome.RELEASED):
            self._look(self._missing)
            for other in [other for other in self._missing if other in self._stale]:
                self._serve(other, self._stale[other], STALE)
            if key in self._missing:
                raise too_late(claim.mutex, self._binding.creation_wait)

    def _is_late(self, by: float) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline + by


def _sorted(keys: Iterable[KeyType]) -> list[KeyType]:
    given = list(keys)
    try:
        return sorted(set(given))
    except TypeError as error:
        raise TypeError(
            f"the creator gets its keys sorted, and these cannot be sorted: {error}; ask for keys of one type at a time"
        ) from error
