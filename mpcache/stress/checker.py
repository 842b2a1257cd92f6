"""What histories prove: checks over the diaries of one round, each of which names what it found and shows the entries.

Leans on history, and on board for how many keys there are.  A check is a function of a story that yields violations; it
knows nothing of who wrote the story, and is tested with stories made by hand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from mpcache.stress.history import NEVER, Entry, Kind, Outcome
from mpcache.stress.scoreboard import KEYS


class Violation(NamedTuple):
    """Something that must not be.

    :ivar check: its short name, for tables.
    :ivar text: who, what, when.
    :ivar key: the key's number; None: no key is concerned.
    :ivar at: when, in ns of CLOCK_MONOTONIC; 0: not known.
    :ivar evidence: the entries that prove it.
    """

    check: str
    text: str
    key: int | None = None
    at: int = 0
    evidence: tuple[Entry, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "evidence": [told(entry) for entry in self.evidence]}


HALTS = ("stop", "pause")
"""Signals in whose times nothing can be expected of a worker; a pause is of all."""

NOBODY = 0
"""The life of a signal that is not a worker's."""


class Signal(NamedTuple):
    """One that was sent to a worker; or a time in which nothing ran, not even who sends them: a ``pause``, of nobody.

    :ivar sent, over: when; of a SIGSTOP until when (SIGCONT); of a SIGKILL when the worker was buried.
    :ivar life: whose: an actor number without its thread.
    """

    kind: str
    life: int
    sent: int
    over: int


@dataclass
class Story:
    """What happened in one round.

    :ivar entries: by kind, each in the order in which they began, per thread.
    :ivar signals: in the order of their sending.
    :ivar leased: whether a mutex may lapse while its holder lives, who must learn it, then.
    :ivar takeover: seconds that a death may cost the others.
    :ivar own: whether the mutex is the store's own, which tells those who wait that a value could not be stored.
    :ivar lives: how many workers it had.
    :ivar gives_up: whether the store drops a value for which it has waited too long, as shared memory does.
    """

    entries: dict[int, list[Entry]] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    leased: bool = False
    takeover: float = 1.0
    own: bool = True
    began: int = 0
    ended: int = NEVER
    lives: int = 0
    gives_up: bool = True

    def of(self, *kinds: Kind) -> list[Entry]:
        """The entries of these kinds."""
        return [entry for kind in kinds for entry in self.entries.get(kind, ())]

    def by_key(self, *kinds: Kind) -> dict[int, list[Entry]]:
        """The entries of these kinds, by their keys."""
        keys: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.of(*kinds):
            keys[entry.key].append(entry)
        return keys

    def only(self, keys: Container[int]) -> Story:
        """What of it concerns these keys, in any generation; and the invalidations, which concern all."""
        entries = {
            kind: [entry for entry in entries if kind == Kind.INVALIDATE or entry.key % KEYS in keys]
            for kind, entries in self.entries.items()
        }
        return replace(self, entries=entries)

    def holds(self) -> dict[int, list[Entry]]:
        """Of each key: those who had it, in the order in which they got it.

        One who has lost a lease, and was told, may have lost it before he wrote down that he had it: he is not here.
        """
        return {
            key: sorted((entry for entry in asked if entry.got and not self.lapsed(entry)), key=lambda entry: entry.got)
            for key, asked in self.by_key(Kind.HOLD).items()
        }

    def lapsed(self, hold: Entry) -> bool:
        """Whether a lease may have ended before its holder: he was told, or was killed before he could be."""
        untold = not hold.ended or hold.outcome == Outcome.LEAVING
        return self.leased and (hold.outcome == Outcome.LOST or (untold and self.stopped(hold)))

    def killed(self) -> dict[int, int]:
        """Of each life that was killed, or ended by force when the round was over: when it was first tried."""
        return {signal.life: signal.sent for signal in reversed(self.signals) if signal.kind in ("kill", "end")}

    def stopped(self, entry: Entry) -> bool:
        """Whether its actor was stopped in it, or the whole machine."""
        of = (entry.actor >> 8, NOBODY)
        return any(halt.life in of and halt.sent < entry.until and halt.over > entry.began for halt in self.halts)

    @cached_property
    def halts(self) -> list[Signal]:
        """The signals in whose times nothing can be expected of those whose they are."""
        return [signal for signal in self.signals if signal.kind in HALTS]


def told(entry: Entry) -> dict[str, Any]:
    """An entry in words, for people and JSON."""
    return {
        "who": actor(entry.actor),
        "did": Kind(entry.kind).name.lower(),
        "key": entry.key,
        "outcome": Outcome(entry.outcome).name.lower() if entry.ended else "killed, or stopped for good",
        **{name: getattr(entry, name) for name in ("began", "got", "ended", "value", "extra", "times")},
    }


def actor(number: int) -> str:
    """An actor's name."""
    life, thread = number >> 8, number & 0xFF
    return f"worker {life}" if thread == 0 else f"worker {life}, thread {thread}"


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"


# -- a mutex --------------------------------------------------------------------------------------------------------


def disjoint(story: Story) -> Iterator[Violation]:
    """The times for which a key was held by two do not overlap.

    A hold begins when acquire() had returned and ends when release() had not yet been called, or when the signal was
    sent that killed its holder: in truth it was longer, so what overlaps here did overlap.
    """
    for key, holds in story.holds().items():
        last: Entry | None = None
        for hold in holds:
            if last is not None and hold.got < last.until:
                early, end = _ms(last.until - hold.got), "let go" if last.ended else "was killed"
                text = f"key {key}: {actor(hold.actor)} got it {early} before {actor(last.actor)} {end}"
                yield Violation("two holders", text, key, hold.got, (last, hold))
            if last is None or hold.until > last.until:
                last = hold


def alone(story: Story) -> Iterator[Violation]:
    """Nobody finds a living one in the mutex that he got, nor another's number in place of his own."""
    if story.leased:
        return  # one who is about to lose it may have been there; whether he was told, the times show
    killed = story.killed()
    for key, holds in story.holds().items():
        for hold in holds:
            found = hold.extra
            if found and killed.get(found >> 8, NEVER) > hold.got:
                theirs = (one for one in holds if one.actor == found)
                nearest = sorted(theirs, key=lambda one: abs(one.got - hold.got))[:1]
                text = f"key {key}: {actor(hold.actor)} got it and found {actor(found)} there, who lived"
                yield Violation("found occupied", text, key, hold.got, (hold, *nearest))
            if hold.outcome == Outcome.INTRUDED:
                text = f"key {key}: another came while {actor(hold.actor)} held it"
                yield Violation("intruder", text, key, hold.ended, (hold,))


def counted(story: Story) -> Iterator[Violation]:
    """Each holder adds one to a number, in two steps; none of these additions is lost."""
    if story.leased and story.halts:
        return  # one who was stopped in between may have lost the lease, and not yet know it
    for key, holds in story.holds().items():
        for one, next_one in pairwise(holds):
            grown = next_one.times - one.times
            if not (grown == 1 or (grown == 0 and not one.ended)):
                text = f"key {key}: {actor(one.actor)} found {one.times}, and {actor(next_one.actor)} after him"
                yield Violation("lost increment", f"{text} {next_one.times}", key, next_one.got, (one, next_one))


def fenced(story: Story) -> Iterator[Violation]:
    """The fences of a key grow from hold to hold, where a mutex has them."""
    for key, holds in story.holds().items():
        for one, next_one in pairwise(hold for hold in holds if hold.value):
            if next_one.value <= one.value and next_one.got >= one.got:
                text = f"key {key}: fence {next_one.value} of {actor(next_one.actor)} came after fence {one.value}"
                yield Violation("fence", text, key, next_one.got, (one, next_one))


def kept(story: Story) -> Iterator[Violation]:
    """Who lives keeps what he holds, however long; where that is a lease, unless he is stopped.

    A machine that does not let a process run for the time of a lease makes it lose that.  So it is said only where
    every hold that lasted as long as the lost ones was lost, and these are two at least.
    """
    lost = [hold for hold in story.of(Kind.HOLD) if hold.got and hold.outcome == Outcome.LOST]
    if story.leased:
        lost = [hold for hold in lost if not story.stopped(hold)]
        shortest = min((hold.ended - hold.got for hold in lost), default=0)
        if len(lost) < 2 or any(
            hold.ended - hold.got >= shortest and hold.outcome == Outcome.DONE
            for hold in story.of(Kind.HOLD)
            if hold.got and hold.ended
        ):
            return
    for hold in lost:
        was = "though it was stopped meanwhile, its mutex is no lease" if story.stopped(hold) else "and was not stopped"
        text = f"key {hold.key}: {actor(hold.actor)} lost it in {_ms(hold.ended - hold.got)}, {was}"
        yield Violation("not kept", text, hold.key, hold.ended, (hold,))


def takeovers(story: Story) -> list[tuple[int, Entry]]:
    """What the deaths of holders cost: ns from the signal until another had the key, and who that was.

    Only those count for which somebody waited from the first moment on; and only the time in which somebody did, since
    those who wait may be killed, too.
    """
    found = []
    killed, asked = story.killed(), story.by_key(Kind.HOLD)
    for key, holds in story.holds().items():
        asks = deque(sorted(asked[key], key=lambda ask: ask.began))
        waiting: list[Entry] = []
        for one, heir in pairwise(holds):
            if one.ended or one.actor >> 8 not in killed or heir.got < one.until:
                continue
            while asks and asks[0].began < heir.got:
                waiting.append(asks.popleft())
            waiting = [ask for ask in waiting if _waits_until(ask) > one.until and not story.stopped(ask)]
            if any(ask.began < one.until for ask in waiting):
                found.append((_covered(waiting, one.until, heir.got), heir))
    return found


def _waits_until(ask: Entry) -> int:
    return ask.got or ask.until


def _covered(waiting: Iterable[Entry], low: int, high: int) -> int:
    """ns between the two in which at least one of these was waiting.  They are in the order of their beginnings."""
    covered, reached = 0, low
    for ask in waiting:
        end = min(_waits_until(ask), high)
        if end > reached:
            covered += end - max(ask.began, reached)
            reached = end
    return covered


def handoffs(story: Story) -> list[int]:
    """ns from a release until one who waited had the key."""
    return [
        heir.got - one.ended
        for holds in story.holds().values()
        for one, heir in pairwise(holds)
        if one.ended and heir.began < one.ended <= heir.got
    ]


# -- creators -------------------------------------------------------------------------------------------------------


_STORED = 500_000_000
"""ns in which a value that was created is stored, or given up; and one who is continued has let go."""


_GIVES_UP = 100_000_000
"""ns for which the shm store waits for a shard, or for its table of creators, whose owner does not go on."""


def one_creator(story: Story) -> Iterator[Violation]:
    """Of each key exactly one creator runs, unless it dies before its value is stored.

    A key of this check is one of one generation, which nobody deletes.  After an invalidation it is created again.
    """
    asks = _asks(story)
    for key, made in story.by_key(Kind.CREATE).items():
        made.sort(key=lambda create: create.began)
        for one, again in pairwise(made):
            stored = asks.get((one.actor, key, one.value))
            if Outcome.ALONE in (one.outcome, again.outcome) or _excused(story, one, stored):
                continue
            if again.began < one.until:
                text = f"key {key}: {actor(again.actor)} created it while {actor(one.actor)} did"
                yield Violation("two creators", text, key, again.began, (one, again))
            if stored is None or not 0 < stored.ended < again.began:
                continue
            if not _invalidated(story, stored.began, again.began):
                text = f"key {key}: {actor(again.actor)} created what {actor(one.actor)} had stored"
                yield Violation("created again", text, key, again.began, (one, stored, again))


def _invalidated(story: Story, low: int, high: int) -> bool:
    """Whether an invalidation was under way between the two.  ``low``: when somebody asked for what he then created.

    A creation counts as begun by the store before its creator is called and writes that down.
    """
    return any(call.began < high and call.until > low for call in story.of(Kind.INVALIDATE))


def _asks(story: Story) -> dict[tuple[int, int, int], Entry]:
    """By whom, of which key, and which value was given: of a creator, the ask in which it ran."""
    return {(ask.actor, ask.key, ask.value): ask for ask in story.of(Kind.ASK)}


def _excused(story: Story, create: Entry, ask: Entry | None) -> bool:
    """Its lease may have lapsed, since it was stopped in its ask; or the store refused the value, since another was.

    Who is stopped keeps his guard of the key in the store, or its shard, while a lease at a server goes to others.  The
    store's own mutex is that guard, or tells that there was none, and who comes next creates ALONE.
    """
    if story.leased and any(story.stopped(entry) for entry in (create, ask) if entry is not None):
        return True
    if ask is not None and _given_up(story, create, ask):
        return True
    low, high = create.began - _STORED, create.until + _STORED
    return not story.own and any(halt.sent < high and halt.over > low for halt in story.halts)


def _given_up(story: Story, create: Entry, ask: Entry) -> bool:
    """The store may have dropped the value, or had no guard for it: somebody was stopped in the midst of a change."""
    if not story.gives_up:
        return False
    if ask.until - create.until >= _GIVES_UP:
        return True
    waited = create.began - ask.began >= _GIVES_UP
    return waited and any(halt.sent < create.began and halt.over > ask.began for halt in story.halts)


def one_value(story: Story) -> Iterator[Violation]:
    """All who ask for a key of one generation are given what one creator made."""
    made, given = {create.value: create for create in story.of(Kind.CREATE)}, _asks(story)
    for key, asks in story.by_key(Kind.ASK).items():
        first: Entry | None = None
        since = min(ask.began for ask in asks)
        for ask in asks:
            if not ask.ended or ask.outcome != Outcome.DONE:
                continue
            create = made.get(ask.value)
            if create is None or create.key != key:
                text = f"key {key}: {actor(ask.actor)} was given value {ask.value:#x}, which nobody made for it"
                yield Violation("foreign value", text, key, ask.ended, (ask,))
                continue
            own = given.get((create.actor, key, create.value))
            if create.outcome != Outcome.ALONE and not _excused(story, create, own):
                first = first or ask
                later = max(made[first.value].began, create.began)
                if first.value != ask.value and not _invalidated(story, since, later):
                    text = f"key {key}: {actor(first.actor)} and {actor(ask.actor)} were given different values"
                    yield Violation("two values", text, key, ask.ended, (first, ask))


# -- a register -----------------------------------------------------------------------------------------------------


@dataclass
class _Cluster:
    """A value: its write, and the reads that returned it.

    :ivar first_end: when the first of them ended.
    :ivar last_begin: when the last of them began.
    """

    write: Entry
    reads: list[Entry] = field(default_factory=list)
    first_end: int = NEVER
    last_begin: int = 0

    def take_in(self, entry: Entry) -> None:
        if entry.until < self.first_end:
            self.first_end = entry.until
        if entry.began > self.last_begin:
            self.last_begin = entry.began

    def evidence(self) -> tuple[Entry, ...]:
        last = max(self.reads, key=lambda read: read.began, default=None)
        return (self.write,) if last is None else (self.write, last)


def register(story: Story) -> Iterator[Violation]:
    """Each key behaves as an atomic register that may forget: reads are explained by one order of all operations.

    P. B. Gibbons and E. Korach, "Testing Shared Memories", SIAM Journal on Computing 26 (1997): where all written
    values differ, a value's operations make a zone, from their first end to their last beginning.  A zone is forward
    if the first end comes first: the register surely held the value all through it.  There is such an order if and
    only if no two forward zones overlap and no backward zone lies within a forward one.  A miss proves nothing, since
    a cache may forget; a delete is a write of a value that nobody reads.  Who was killed in a write may have written.
    A creator is given what he made, stored or not; if another reads it, it was stored before he was given it.
    """
    writes, reads = story.by_key(Kind.WRITE, Kind.CREATE), story.by_key(Kind.READ, Kind.ASK)
    for key in sorted(writes.keys() | reads.keys()):
        clusters: dict[int, _Cluster] = {}
        silent: list[_Cluster] = []  # deletes: each is a cluster by itself
        for write in writes.get(key, ()):
            cluster = _Cluster(write)
            if write.ended and write.outcome == Outcome.DONE and write.kind == Kind.WRITE:
                cluster.take_in(write)  # of others it is not known when they took effect, nor whether
            if write.value:
                clusters[write.value] = cluster
            elif write.ended and write.outcome == Outcome.DONE:
                silent.append(cluster)
        yield from _sort_reads(key, clusters, reads.get(key, ()))
        yield from _atomic(key, [*clusters.values(), *silent])


def _sort_reads(key: int, clusters: dict[int, _Cluster], reads: Iterable[Entry]) -> Iterator[Violation]:
    fills = []
    for read in reads:
        if not (read.ended and read.value and read.outcome == Outcome.DONE):
            continue
        cluster = clusters.get(read.value)
        if cluster is None:
            text = f"key {key}: {actor(read.actor)} read value {read.value:#x}, which nobody wrote under it"
            yield Violation("foreign value", text, key, read.ended, (read,))
        elif read.ended < cluster.write.began:
            text = f"key {key}: {actor(read.actor)} read value {read.value:#x} before it was written"
            yield Violation("read before written", text, key, read.ended, (cluster.write, read))
        elif cluster.write.kind == Kind.CREATE and cluster.write.actor == read.actor:
            fills.append((cluster, read))
        else:
            cluster.reads.append(read)
            cluster.take_in(read)
            cluster.last_begin = max(cluster.last_begin, cluster.write.began)
    for cluster, ask in fills:
        if cluster.reads:
            cluster.take_in(ask)


def _atomic(key: int, clusters: list[_Cluster]) -> Iterator[Violation]:
    known = [cluster for cluster in clusters if cluster.last_begin]
    forward = sorted(
        (cluster for cluster in known if cluster.first_end < cluster.last_begin), key=lambda one: one.first_end
    )
    for one, other in pairwise(forward):
        if other.first_end < one.last_begin:
            reader = actor(one.evidence()[-1].actor)
            text = f"key {key}: {reader} read {one.write.value:#x} after {other.write.value:#x} was there"
            yield Violation("aged", text, key, one.last_begin, (*one.evidence(), *other.evidence()))
            return  # from here on the order is lost, and all that follows would be found again
    starts = [cluster.first_end for cluster in forward]
    for cluster in known:
        if cluster.first_end >= cluster.last_begin:
            at = bisect_right(starts, cluster.last_begin) - 1
            if at >= 0 and starts[at] < cluster.last_begin and cluster.first_end < forward[at].last_begin:
                one = forward[at]
                what = f"value {cluster.write.value:#x} was written" if cluster.write.value else "it was deleted"
                reader = actor(one.evidence()[-1].actor)
                text = f"key {key}: {reader} read {one.write.value:#x}, though in between {what}"
                yield Violation("aged", text, key, one.last_begin, (*one.evidence(), *cluster.evidence()))
                return


def not_invalidated(story: Story) -> Iterator[Violation]:
    """What was begun before an invalidation is not read by one who began after it had returned.

    A creation begins when the creator does; a set may take effect as late as when it ends, and one that is killed some
    time after the signal was sent.
    """
    calls = latest(story.of(Kind.INVALIDATE))
    born = {entry.value: entry for entry in story.of(Kind.WRITE, Kind.CREATE) if entry.value}
    for read in story.of(Kind.READ, Kind.ASK):
        write = born.get(read.value)
        if write is None or not read.ended or read.outcome != Outcome.DONE:
            continue
        if write.kind == Kind.CREATE and write.actor == read.actor:
            continue
        call = calls(read.began)
        taken = write.began if write.kind == Kind.CREATE else write.ended or NEVER
        if call is not None and taken < call.began:
            text = f"key {read.key}: {actor(read.actor)} was given a value that was begun before an invalidation"
            yield Violation("invalidated", text, read.key, read.began, (write, call, read))


def latest(entries: Iterable[Entry]) -> Callable[[int], Entry | None]:
    """What tells of a moment which of the entries that had ended by then had begun last."""
    ended = sorted((entry for entry in entries if entry.ended), key=lambda entry: entry.ended)
    ends, last = [entry.ended for entry in ended], list[Entry]()
    for entry in ended:
        last.append(entry if not last or entry.began > last[-1].began else last[-1])

    def at(moment: int) -> Entry | None:
        place = bisect_right(ends, moment) - 1
        return last[place] if place >= 0 else None

    return at


Check = Callable[[Story], Iterator[Violation]]
EXCLUSION: tuple[Check, ...] = (disjoint, alone, counted, fenced, kept)


def apply(checks: Iterable[Check], story: Story, most: int = 20) -> list[Violation]:
    """What the checks find, a few of each."""
    found: list[Violation] = []
    for check in checks:
        for number, violation in enumerate(check(story), 1):
            found.append(violation)
            if number == most:
                break
    return found
