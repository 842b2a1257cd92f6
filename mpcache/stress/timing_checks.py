"""Times in histories: checks of take-overs and of fairness, and the measured waits that a report shows.

Depends on checker and _support.durations.  A busy machine delays everything, so the limits of the checks are far beyond
the guarantees.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from statistics import median

from mpcache._support.durations import plain
from mpcache.stress.checker import Violation
from mpcache.stress.history import Entry, History, Kind, actor_name

_ENOUGH = 20
"""Take-overs from which on their median says anything."""

_BUSY = 0.5
"""Seconds that a busy machine may add to the median take-over."""

_VERY_BUSY = 5.0
"""Seconds that a busy machine may add to a single take-over."""

_PASSED_OVER = 1.0
"""Seconds by which an actor must have asked earlier, to have to be served earlier."""


def taken_over(history: History) -> Iterator[Violation]:
    """Check take-overs after a holder's death: half of them within the guarantee, none far beyond it."""
    found = sorted(takeovers(history), key=lambda one: one[0])
    guarantee = f"the mutex promises {plain(history.takeover)} s at most"
    if len(found) >= _ENOUGH and (half := median(took for took, _ in found) / 1e9) > history.takeover + _BUSY:
        yield Violation("slow take-over", f"half of {len(found)} take-overs took {half:.3f} s or more; {guarantee}")
    for took, heir in found:
        if took / 1e9 > history.takeover + _VERY_BUSY:
            text = f"key {heir.key}: {actor_name(heir.actor)} had it {took / 1e9:.3f} s after its holder was killed"
            yield Violation("late take-over", f"{text}; {guarantee}", heir.key, heir.got, (heir,))


def in_turn(history: History) -> Iterator[Violation]:
    """Check, of a fair mutex, that no actor gets a key before another actor that had asked much earlier."""
    for key, holds in history.holds().items():
        last: Entry | None = None  # of the holds so far, the one that was asked for last
        for hold in holds:
            early = 0 if last is None else last.began - hold.began
            if last is not None and early > _PASSED_OVER * 1e9 and not history.stopped(hold):
                text = f"key {key}: {actor_name(last.actor)} had it before {actor_name(hold.actor)}, which had asked"
                yield Violation("out of turn", f"{text} {early / 1e9:.3f} s earlier", key, hold.got, (last, hold))
                break
            if last is None or hold.began > last.began:
                last = hold


# -- measured waits -------------------------------------------------------------------------------------------------


def takeovers(history: History) -> list[tuple[int, Entry]]:
    """Return the take-overs: ns from the SIGKILL of a holder until another actor held the key, and that hold.

    Only deaths count at whose moment an actor was waiting; and only the time in which an actor was waiting, since
    waiters may be killed, too.
    """
    found = []
    killed, asked = history.killed(), history.by_key(Kind.HOLD)
    for key, holds in history.holds().items():
        asks = deque(sorted(asked[key], key=lambda ask: ask.began))
        waiting: list[Entry] = []
        for one, heir in pairwise(holds):
            if one.ended or one.actor >> 8 not in killed or heir.got < one.until:
                continue
            while asks and asks[0].began < heir.got:
                waiting.append(asks.popleft())
            waiting = [ask for ask in waiting if _waits_until(ask) > one.until and not history.stopped(ask)]
            if any(ask.began < one.until for ask in waiting):
                found.append((_covered(waiting, one.until, heir.got), heir))
    return found


def _waits_until(ask: Entry) -> int:
    return ask.got or ask.until


def _covered(waiting: Iterable[Entry], low: int, high: int) -> int:
    """Return the ns between two moments in which at least one of these was waiting; sorted by their beginnings."""
    covered, reached = 0, low
    for ask in waiting:
        end = min(_waits_until(ask), high)
        if end > reached:
            covered += end - max(ask.began, reached)
            reached = end
    return covered


def handoffs(history: History) -> list[int]:
    """Return the hand-offs: ns from a release until an actor that was waiting held the key."""
    return [
        heir.got - one.ended
        for holds in history.holds().values()
        for one, heir in pairwise(holds)
        if one.ended and heir.began < one.ended <= heir.got
    ]


def stampedes(history: History) -> list[int]:
    """Return the ns from a creator's end until an actor that was waiting for its value had it."""
    created = {create.value: create for create in history.of(Kind.CREATE) if create.ended}
    return [
        ask.ended - create.ended
        for ask in history.of(Kind.ASK)
        if (create := created.get(ask.value)) is not None
        and ask.actor != create.actor
        and ask.began < create.ended < ask.ended
    ]


def shares(history: History) -> dict[str, float]:
    """Return how unequal the shares of the surviving actors are, and the longest wait, as figures of a report."""
    killed = {signal.life for signal in history.signals if signal.kind == "kill"}
    holds = [hold for hold in history.of(Kind.HOLD) if hold.got and hold.actor >> 8 not in killed]
    if not holds:
        return {}
    had = Counter(hold.actor for hold in holds)
    return {
        "holds of the luckiest, of the unluckiest": max(had.values()) / min(had.values()),
        "longest wait, s": max(hold.got - hold.began for hold in holds) / 1e9,
    }
