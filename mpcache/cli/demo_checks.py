"""The facts of a demo, and the check of each promise against them.  Pure functions.

Depends on nothing.  Times are nanoseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

TAKE_OVER_WITHIN = 100_000_000
"""Nanoseconds within which a dead creator has a successor, where the kernel reports its death."""

MILLISECOND, MICROSECOND = 1_000_000, 1_000


# -- facts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """What one worker counted under load.

    :ivar hits: requests whose value had been made before.
    :ivar waits: requests whose value another worker made meanwhile.
    :ivar creations: number of creations by this worker, by key.
    :ivar serials: the different values that it got, by key.
    :ivar wrong: number of answers that were values of another key.
    :ivar p50, p99: percentiles of the time of a hit; None without a hit.
    :ivar clock: the part of these times that the clock itself takes.
    """

    worker: int
    pid: int
    requests: int
    hits: int
    waits: int
    creations: Mapping[str, int]
    serials: Mapping[str, Sequence[str]]
    wrong: int = 0
    p50: int | None = None
    p99: int | None = None
    clock: int = 0


@dataclass(frozen=True)
class Moment:
    """An event of a process; ``serial`` names the value that it concerns."""

    pid: int
    at: int
    serial: str = ""


@dataclass(frozen=True)
class Kill:
    """A creator was killed in the middle of its work, while others waited for the value.

    :ivar asked: pids of the waiters.
    :ivar begun, ended: the beginnings and ends of creations.
    :ivar answers: the values that the waiters got, and when.
    """

    victim: int
    killed_at: int
    asked: Sequence[int]
    begun: Sequence[Moment]
    ended: Sequence[Moment]
    answers: Sequence[Moment]

    @property
    def successors(self) -> list[Moment]:
        """Return the creations that other processes than the victim began, in the order of time."""
        return sorted((one for one in self.begun if one.pid != self.victim), key=lambda one: one.at)

    @property
    def take_over(self) -> int | None:
        """Return the nanoseconds from the kill to the beginning of the next creation, or None if there was none."""
        return self.successors[0].at - self.killed_at if self.successors else None


@dataclass(frozen=True)
class Watch:
    """What a process saw that polled a value.

    :ivar old_at: when its last get that returned the value began.
    :ivar gone_at: when it knew that the value was gone; None: never.
    """

    pid: int
    old_at: int
    gone_at: int | None


@dataclass(frozen=True)
class Invalidation:
    """One process called invalidate(), the others polled a value."""

    by: int
    began_at: int
    returned_at: int
    watches: Sequence[Watch]

    @property
    def last_after(self) -> int | None:
        """Return the nanoseconds from the call until the last process knew, or None if a process never knew."""
        known = [watch.gone_at for watch in self.watches if watch.gone_at is not None]
        return max(known) - self.began_at if known and len(known) == len(self.watches) else None


@dataclass
class Facts:
    """All facts, as far as the demo ran."""

    workers: int
    loads: list[Load] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    kills_planned: int = 1
    invalidations: list[Invalidation] = field(default_factory=list)
    invalidations_planned: int = 1
    failures: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    take_over_within: int = TAKE_OVER_WITHIN


# -- checks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A promise, whether it held, and the figures that prove it, or the facts against it."""

    promise: str
    held: bool
    figures: str


def verdicts(facts: Facts) -> list[Verdict]:
    """Check every promise."""
    return [
        one_creation(facts.workers, facts.loads),
        one_value(facts.workers, facts.loads),
        taken_over(facts.kills_planned, facts.kills, facts.take_over_within),
        still_one_value(facts.kills_planned, facts.kills),
        reached_all(facts.invalidations_planned, facts.invalidations),
        left_nothing(facts.failures, facts.leftovers),
    ]


def creations_by_key(loads: Iterable[Load]) -> Counter[str]:
    """Count the creations of each requested key, by all workers together."""
    made: Counter[str] = Counter()
    for load in loads:
        made.update(dict.fromkeys(load.serials, 0))
        made.update(load.creations)
    return made


def one_creation(workers: int, loads: Sequence[Load]) -> Verdict:
    """Check that each value was created exactly once, and that every request is accounted for."""
    made, against = creations_by_key(loads), _missing(workers, len(loads), "worker", "reporting")
    against += [f"{key} was created {_times(made[key])}" for key in sorted(made) if made[key] != 1]
    for load in loads:
        lost = load.requests - load.hits - load.waits - sum(load.creations.values())
        if lost:
            against.append(f"worker {load.worker} asked {load.requests:,} times, {lost:,} of which are unaccounted for")
    if not made:
        against.append("no key was requested")
    asked = sum(load.requests for load in loads)
    figures = f"{len(made)} keys, {made.total()} creations, {asked:,} requests"
    return _verdict("one creation per key", against, figures)


def one_value(workers: int, loads: Sequence[Load]) -> Verdict:
    """Check that all workers got the same value of each key, and never the value of another key."""
    against = _missing(workers, len(loads), "worker", "reporting")
    serials: dict[str, set[str]] = {}
    for load in loads:
        if load.wrong:
            against.append(f"worker {load.worker} got the value of another key {_times(load.wrong)}")
        for key, seen in load.serials.items():
            serials.setdefault(key, set()).update(seen)
    against += [f"{key} had {len(seen)} values" for key, seen in sorted(serials.items()) if len(seen) != 1]
    asked = sum(load.requests for load in loads)
    if not asked:
        against.append("no key was requested")
    return _verdict("one value for all", against, f"{asked:,} answers compared, none differs")


def taken_over(planned: int, kills: Sequence[Kill], within: int) -> Verdict:
    """Check that another creator began soon after the creator's death, and not before it."""
    against, took = _missing(planned, len(kills), "kill", "seen through"), []
    for kill in kills:
        first = kill.take_over
        if first is None:
            against.append(f"no process took over from pid {kill.victim}")
        elif first < 0:
            against.append(f"a second creator began {in_ms(-first)} before pid {kill.victim} was killed")
        elif first >= within:
            against.append(f"pid {kill.victim} was replaced after {in_ms(first)}")
        took.append(first or 0)
    times = _listed(f"{time / MILLISECOND:.1f}" for time in took)
    figures = f"{times} ms, promised are < {within // MILLISECOND:,}"
    return _verdict("killed creators replaced", against, figures)


def still_one_value(planned: int, kills: Sequence[Kill]) -> Verdict:
    """Check that the victim began and did not end, one other began and ended, and all waiters have its value."""
    against = _missing(planned, len(kills), "kill", "seen through")
    for kill in kills:
        against += _more_than_one_value(kill)
    answers = sum(len(kill.answers) for kill in kills)
    figures = f"2 began, 1 ended; all {answers} waiters got its value"
    return _verdict("still one value", against, figures)


def _more_than_one_value(kill: Kill) -> list[str]:
    against, who = [], f"of pid {kill.victim}"
    if len(kill.begun) != 2 or kill.victim not in [one.pid for one in kill.begun]:
        against.append(f"{len(kill.begun)} creations began at the death {who}, not 2")
    if len(kill.ended) != 1 or kill.victim in [one.pid for one in kill.ended]:
        against.append(f"{len(kill.ended)} creations ended at the death {who}, not 1 of another")
    silent = sorted(set(kill.asked) - {one.pid for one in kill.answers})
    if silent or not kill.asked:
        against.append(f"no value for {_listed(f'pid {pid}' for pid in silent) or 'any process'} after the death {who}")
    if len({one.serial for one in [*kill.answers, *kill.ended]}) > 1:
        against.append(f"different values after the death {who}")
    return against


def reached_all(planned: int, invalidations: Sequence[Invalidation]) -> Verdict:
    """Check that all processes knew, and that no get that began after invalidate() had returned got the old value."""
    against = _missing(planned, len(invalidations), "invalidation", "seen through")
    slowest = 0
    for one in invalidations:
        slowest = max(slowest, one.last_after or 0)
        if not one.watches:
            against.append(f"no process watched pid {one.by}")
        for watch in one.watches:
            if watch.gone_at is None:
                against.append(f"pid {watch.pid} never saw that pid {one.by} had invalidated")
            if watch.old_at > one.returned_at:
                late = in_us(watch.old_at - one.returned_at)
                against.append(f"pid {watch.pid} got the old value {late} after pid {one.by} had invalidated")
    figures = f"{len(invalidations)} times; the last process knew after {in_us(slowest)}"
    return _verdict("invalidate() reaches all", against, figures)


def left_nothing(failures: Sequence[str], leftovers: Sequence[str]) -> Verdict:
    """Check that no worker failed and that no file is left."""
    against = [*failures, *(f"{path} is left" for path in leftovers)]
    return _verdict("nothing fails, nothing left", against, "all workers ended well, the store is gone")


# -- texts -------------------------------------------------------------------------------------------------


def in_ms(nanoseconds: int) -> str:
    """Write a duration like ``12.3 ms``."""
    return f"{nanoseconds / MILLISECOND:.1f} ms"


def in_us(nanoseconds: int) -> str:
    """Write a duration like ``1.85 µs``, ``285 µs`` or ``12.3 ms``."""
    if nanoseconds >= 10 * MILLISECOND:
        return in_ms(nanoseconds)
    us = nanoseconds / MICROSECOND
    return f"{us:,.{2 if us < 10 else 1 if us < 100 else 0}f} µs"


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _listed(words: Iterable[str]) -> str:
    *front, last = [*words] or [""]
    return f"{', '.join(front)} and {last}" if front else last


def _missing(planned: int, seen: int, what: str, became: str) -> list[str]:
    return [] if seen >= planned else [f"{seen or 'none'} of {planned} {what}s {became}"]


def _verdict(promise: str, against: Sequence[str], figures: str) -> Verdict:
    if not against:
        return Verdict(promise, True, figures)
    more = f"; and {len(against) - 2} more" if len(against) > 2 else ""
    return Verdict(promise, False, "; ".join(against[:2]) + more)
