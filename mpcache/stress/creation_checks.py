"""Checks of creations: each value is created once, by one creator, and every caller gets that value.

Depends on checker.  Keys of these checks are generations: a scenario asks for a new key instead of deleting an old one,
so a key is created again only after an invalidation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mpcache.stress.checker import Violation
from mpcache.stress.history import Entry, History, Kind, Outcome, actor_name

_STORED = 500_000_000
"""ns in which a created value is stored or dropped, and in which a worker that got SIGCONT has released its locks."""

_GIVES_UP = 100_000_000
"""ns for which the shm store waits for a shard, or for its table of creators, whose owner makes no progress."""


def one_creator(history: History) -> Iterator[Violation]:
    """Check that exactly one creator of each key runs, unless it dies before its value is stored."""
    asks = _asks(history)
    for key, made in history.by_key(Kind.CREATE).items():
        made.sort(key=lambda create: create.began)
        for one, again in pairwise(made):
            stored = asks.get((one.actor, key, one.value))
            if Outcome.ALONE in (one.outcome, again.outcome) or _excused(history, one, stored):
                continue
            if again.began < one.until:
                text = f"key {key}: {actor_name(again.actor)} created it while {actor_name(one.actor)} did"
                yield Violation("two creators", text, key, again.began, (one, again))
            if stored is None or not 0 < stored.ended < again.began:
                continue
            if not _invalidated(history, stored.began, again.began):
                text = f"key {key}: {actor_name(again.actor)} created what {actor_name(one.actor)} had stored"
                yield Violation("created again", text, key, again.began, (one, stored, again))


def one_value(history: History) -> Iterator[Violation]:
    """Check that all callers that ask for a key get the value of one creator."""
    made, given = {create.value: create for create in history.of(Kind.CREATE)}, _asks(history)
    for key, asks in history.by_key(Kind.ASK).items():
        first: Entry | None = None
        since = min(ask.began for ask in asks)
        for ask in asks:
            if not ask.ended or ask.outcome != Outcome.DONE:
                continue
            create = made.get(ask.value)
            if create is None or create.key != key:
                text = f"key {key}: {actor_name(ask.actor)} got value {ask.value:#x}, which no creator made for it"
                yield Violation("foreign value", text, key, ask.ended, (ask,))
                continue
            own = given.get((create.actor, key, create.value))
            if create.outcome != Outcome.ALONE and not _excused(history, create, own):
                first = first or ask
                later = max(made[first.value].began, create.began)
                if first.value != ask.value and not _invalidated(history, since, later):
                    text = f"key {key}: {actor_name(first.actor)} and {actor_name(ask.actor)} got different values"
                    yield Violation("two values", text, key, ask.ended, (first, ask))


def _invalidated(history: History, low: int, high: int) -> bool:
    """Return whether an invalidation was under way between two moments.

    :param low: when the creator's process asked for the value: the store counts a creation as begun before the creator
        is called and records its own beginning.
    """
    return any(call.began < high and call.until > low for call in history.of(Kind.INVALIDATE))


def _asks(history: History) -> dict[tuple[int, int, int], Entry]:
    """Return the asks by actor, key and resulting value; under a creator's actor, the ask in which the creator ran."""
    return {(ask.actor, ask.key, ask.value): ask for ask in history.of(Kind.ASK)}


def _excused(history: History, create: Entry, ask: Entry | None) -> bool:
    """Return whether the creation may rightly be repeated: its lease may have lapsed, or the store refused its value.

    A stopped worker keeps its guard of the key in the store, or its shard, while a lease at a server goes to another
    worker.  The store's own mutex is that guard, or reports that there was none; then the next creator is ALONE.
    """
    if history.leased and any(history.stopped(entry) for entry in (create, ask) if entry is not None):
        return True
    if ask is not None and _given_up(history, create, ask):
        return True
    low, high = create.began - _STORED, create.until + _STORED
    return not history.own and any(halt.sent < high and halt.over > low for halt in history.halts)


def _given_up(history: History, create: Entry, ask: Entry) -> bool:
    """Return whether the store may have dropped the value, or had no guard: a worker was stopped in a change of it."""
    if not history.gives_up:
        return False
    if ask.until - create.until >= _GIVES_UP:
        return True
    waited = create.began - ask.began >= _GIVES_UP
    return waited and any(halt.sent < create.began and halt.over > ask.began for halt in history.halts)
