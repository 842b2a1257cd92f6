"""The checker: functions that search a history for violations; here the exclusion check of a mutex.

Depends on history.  A check takes a history and yields violations, each with the entries that prove it.  It does not
know how the history came about, and is tested with histories written by hand.

**The exclusion check.**  The claim is: at no time do two actors hold the mutex of one key.  Each holder does this::

    began = now(); mutex.acquire()
    extra = word.occupant; word.occupant = me      # the actor found in the key's word; 0: none
    times = word.times;    got = now()             # the hold begins
    ... work ...
    intruded = word.occupant != me                 # another actor has entered meanwhile
    word.times = times + 1; word.occupant = 0      # only if not intruded
    ended = now();         mutex.release()         # the hold ends

``word`` lies in the scoreboard, memory that all processes share, and is protected by nothing but the mutex under test.
Five independent checks follow, each of which a correct mutex always passes:

* `no_two_holders`: the intervals [got, ended] of one key do not overlap.  ``got`` is read after acquire() has returned
  and ``ended`` before release() is called, so a recorded interval lies within the true hold: if two recorded intervals
  overlap, the true holds overlapped.  A killed holder held the mutex at least until SIGKILL was sent to it.
* `no_other_occupant`: a holder finds no living actor in the word, and at the end its own number.  This needs no clock.
* `no_lost_increment`: two holders at once would read the same ``times`` and lose one of the two increments.
* `fences_increase`: a fence, if the mutex has them, is larger than the fence of every earlier hold.
* `holds_are_kept`: a holder that lives, and is not stopped, does not lose the mutex.

Where the mutex is leased, a stopped holder may rightly lose it, see `History.lapsed`: the checks leave such holds out,
`no_other_occupant` is not applied to leased mutexes, and `no_lost_increment` not to a round in which a holder was
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from mpcache.stress.history import NEVER, Entry, History, Kind, Outcome, actor_name


class Violation(NamedTuple):
    """Something that must not happen.

    :ivar check: short name, for tables.
    :ivar text: which actors, what, when.
    :ivar key: number of the key; None: no key is concerned.
    :ivar at: when, in ns of CLOCK_MONOTONIC; 0: not known.
    :ivar evidence: the entries that prove it.
    """

    check: str
    text: str
    key: int | None = None
    at: int = 0
    evidence: tuple[Entry, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        return {**self._asdict(), "evidence": [plain_entry(entry) for entry in self.evidence]}


def plain_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry as data for JSON, with names instead of numbers."""
    return {
        "who": actor_name(entry.actor),
        "did": Kind(entry.kind).name.lower(),
        "key": entry.key,
        "outcome": Outcome(entry.outcome).name.lower() if entry.ended else "killed, or stopped for good",
        **{name: getattr(entry, name) for name in ("began", "got", "ended", "value", "extra", "times")},
    }


Check = Callable[[History], Iterator[Violation]]


def apply(checks: Iterable[Check], history: History, most: int = 20) -> list[Violation]:
    """Return what the checks find, at most ``most`` violations of each."""
    found: list[Violation] = []
    for check in checks:
        for number, violation in enumerate(check(history), 1):
            found.append(violation)
            if number == most:
                break
    return found


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"


# -- the exclusion check --------------------------------------------------------------------------------------------


def no_two_holders(history: History) -> Iterator[Violation]:
    """Check that the intervals in which one key was held do not overlap."""
    for key, holds in history.holds().items():
        last: Entry | None = None  # of the holds so far, the one that lasted longest
        for hold in holds:
            if last is not None and hold.got < last.until:
                early, end = _ms(last.until - hold.got), "let go" if last.ended else "was killed"
                text = f"key {key}: {actor_name(hold.actor)} got it {early} before {actor_name(last.actor)} {end}"
                yield Violation("two holders", text, key, hold.got, (last, hold))
            if last is None or hold.until > last.until:
                last = hold


def no_other_occupant(history: History) -> Iterator[Violation]:
    """Check that each holder found no living actor in the key's word, and its own number at the end.

    Not of a leased mutex: an actor that is about to lose its lease may still stand in the word.  Whether the mutex
    reported the loss, the intervals show.
    """
    if history.leased:
        return
    killed = history.killed()
    for key, holds in history.holds().items():
        for hold in holds:
            found = hold.extra
            if found and killed.get(found >> 8, NEVER) > hold.got:
                theirs = (one for one in holds if one.actor == found)
                nearest = sorted(theirs, key=lambda one: abs(one.got - hold.got))[:1]
                text = f"key {key}: {actor_name(hold.actor)} got it, found {actor_name(found)} there, which was alive"
                yield Violation("found occupied", text, key, hold.got, (hold, *nearest))
            if hold.outcome == Outcome.INTRUDED:
                text = f"key {key}: another came while {actor_name(hold.actor)} held it"
                yield Violation("intruder", text, key, hold.ended, (hold,))


def no_lost_increment(history: History) -> Iterator[Violation]:
    """Check that each holder's increment of the key's count, in two steps, is there for the next holder.

    A holder that was killed may not have made its increment.  Not of a leased mutex in a round with stopped workers: a
    worker that was stopped between the two steps may have lost the lease without knowing it yet.
    """
    if history.leased and history.halts:
        return
    for key, holds in history.holds().items():
        for one, next_one in pairwise(holds):
            grown = next_one.times - one.times
            if not (grown == 1 or (grown == 0 and not one.ended)):
                text = f"key {key}: {actor_name(one.actor)} found {one.times}, and {actor_name(next_one.actor)} after"
                yield Violation("lost increment", f"{text} it {next_one.times}", key, next_one.got, (one, next_one))


def fences_increase(history: History) -> Iterator[Violation]:
    """Check that the fences of a key grow from hold to hold, if the mutex has fences."""
    for key, holds in history.holds().items():
        for one, next_one in pairwise(hold for hold in holds if hold.value):
            if next_one.value <= one.value and next_one.got >= one.got:
                text = f"key {key}: fence {next_one.value} of {actor_name(next_one.actor)} came after fence {one.value}"
                yield Violation("fence", text, key, next_one.got, (one, next_one))


def holds_are_kept(history: History) -> Iterator[Violation]:
    """Check that a living holder keeps the mutex, however long; of a leased mutex, unless the holder is stopped.

    A machine that does not run a process for the time of a lease makes the process lose the lease, too.  So losses of
    a leased mutex are reported only if there are two at least and every hold that lasted as long was lost.
    """
    lost = [hold for hold in history.of(Kind.HOLD) if hold.got and hold.outcome == Outcome.LOST]
    if history.leased:
        lost = [hold for hold in lost if not history.stopped(hold)]
        shortest = min((hold.ended - hold.got for hold in lost), default=0)
        if len(lost) < 2 or any(
            hold.ended - hold.got >= shortest and hold.outcome == Outcome.DONE
            for hold in history.of(Kind.HOLD)
            if hold.got and hold.ended
        ):
            return
    for hold in lost:
        stopped = history.stopped(hold)
        was = "though it was stopped meanwhile, its mutex is no lease" if stopped else "and was not stopped"
        text = f"key {hold.key}: {actor_name(hold.actor)} lost it in {_ms(hold.ended - hold.got)}, {was}"
        yield Violation("not kept", text, hold.key, hold.ended, (hold,))


EXCLUSION: tuple[Check, ...] = (no_two_holders, no_other_occupant, no_lost_increment, fences_increase, holds_are_kept)
