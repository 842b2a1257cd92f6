"""What histories prove of time: who waited too long, who was passed over.

Leans on checker.  A machine may be busy with other things, so what is judged is far beyond what is promised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median

from mpcache.stress.checker import Story, Violation, actor, takeovers
from mpcache.stress.history import Entry, Kind

_ENOUGH = 20
"""Take-overs, from which on their median says something."""

_BUSY = 0.5
"""Seconds that a busy machine may add to the median."""

_VERY_BUSY = 5.0
"""Seconds that it may add to one."""

_PASSED_OVER = 1.0
"""Seconds by which one must have come first, to be first in turn."""


def taken_over(story: Story) -> Iterator[Violation]:
    """What a dead holder had is soon somebody else's: half of the time within what the mutex says, never far beyond."""
    found = sorted(takeovers(story), key=lambda one: one[0])
    guarantee = f"{story.takeover:g} s are what a death may cost"
    if len(found) >= _ENOUGH and (half := median(took for took, _ in found) / 1e9) > story.takeover + _BUSY:
        yield Violation("slow take-over", f"half of {len(found)} take-overs took {half:.3f} s or more; {guarantee}")
    for took, heir in found:
        if took / 1e9 > story.takeover + _VERY_BUSY:
            text = f"key {heir.key}: {actor(heir.actor)} had it {took / 1e9:.3f} s after its holder had been killed"
            yield Violation("late take-over", f"{text}; {guarantee}", heir.key, heir.got, (heir,))


def in_turn(story: Story) -> Iterator[Violation]:
    """Nobody gets a key before one who had come much earlier.  Of a mutex that promises to be fair."""
    for key, holds in story.holds().items():
        last: Entry | None = None  # of those who had it already, the one that had come last
        for hold in holds:
            early = 0 if last is None else last.began - hold.began
            if last is not None and early > _PASSED_OVER * 1e9 and not story.stopped(hold):
                text = f"key {key}: {actor(last.actor)} had it before {actor(hold.actor)}, who had come"
                yield Violation("out of turn", f"{text} {early / 1e9:.3f} s earlier", key, hold.got, (last, hold))
                break
            if last is None or hold.began > last.began:
                last = hold


def stampedes(story: Story) -> list[int]:
    """ns from the end of a creator until one who had waited for its value has it."""
    created = {create.value: create for create in story.of(Kind.CREATE) if create.ended}
    return [
        ask.ended - create.ended
        for ask in story.of(Kind.ASK)
        if (create := created.get(ask.value)) is not None
        and ask.actor != create.actor
        and ask.began < create.ended < ask.ended
    ]


def shares(story: Story) -> dict[str, float]:
    """How unequal the shares of those are who lived to the end, and what the longest wait was."""
    killed = {signal.life for signal in story.signals if signal.kind == "kill"}
    holds = [hold for hold in story.of(Kind.HOLD) if hold.got and hold.actor >> 8 not in killed]
    if not holds:
        return {}
    had = Counter(hold.actor for hold in holds)
    return {
        "holds of the luckiest, of the unluckiest": max(had.values()) / min(had.values()),
        "longest wait, s": max(hold.got - hold.began for hold in holds) / 1e9,
    }
