"""Staleness checks: a value is gone after an invalidation, set or delete, and present right after its own set.

Depends on checker.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from mpcache.stress.checker import Violation
from mpcache.stress.history import NEVER, WHOLE_MACHINE, Entry, History, Kind, Outcome, actor_name

_ENOUGH = 100
"""Values that must have been looked for, before the part that was found says anything."""


def not_invalidated(history: History) -> Iterator[Violation]:
    """Check that no read that begins after an invalidation has returned gets a value that was begun before it.

    A creation begins when its creator does.  A set may take effect as late as it ends, and a killed set some time after
    the SIGKILL was sent.
    """
    calls = latest(history.of(Kind.INVALIDATE))
    born = {entry.value: entry for entry in history.of(Kind.WRITE, Kind.CREATE) if entry.value}
    for read in history.of(Kind.READ, Kind.ASK):
        write = born.get(read.value)
        if write is None or not read.ended or read.outcome != Outcome.DONE:
            continue
        if write.kind == Kind.CREATE and write.actor == read.actor:
            continue
        call = calls(read.began)
        taken = write.began if write.kind == Kind.CREATE else write.ended or NEVER
        if call is not None and taken < call.began:
            text = f"key {read.key}: {actor_name(read.actor)} got a value that was begun before an invalidation"
            yield Violation("invalidated", text, read.key, read.began, (write, call, read))


def latest(entries: Iterable[Entry]) -> Callable[[int], Entry | None]:
    """Return a function of a moment: of the entries that had ended by then, the one that had begun last."""
    ended = sorted((entry for entry in entries if entry.ended), key=lambda entry: entry.ended)
    ends, last = [entry.ended for entry in ended], list[Entry]()
    for entry in ended:
        last.append(entry if not last or entry.began > last[-1].began else last[-1])

    def at(moment: int) -> Entry | None:
        place = bisect_right(ends, moment) - 1
        return last[place] if place >= 0 else None

    return at


def fills_refused(history: History) -> Iterator[Violation]:
    """Check that no read that begins after a set or delete returns a value whose creation had begun before it.

    For a store that guards its fills.  The guard waits some hundredths of a second for a creator that is just storing
    its value, but not for a creator that was stopped, so such creations are excused.
    """
    asked = history.by_key(Kind.READ, Kind.ASK)
    created = {
        create.value: create for create in history.of(Kind.CREATE) if create.value
    }  # 0: killed before it had one
    for key, writes in history.by_key(Kind.WRITE).items():
        changes = latest(write for write in writes if write.outcome == Outcome.DONE)
        for read in asked.get(key, ()):
            create, change = created.get(read.value), changes(read.began)
            if create is None or change is None or create.actor == read.actor or create.began >= change.began:
                continue
            if read.ended and read.outcome == Outcome.DONE and not _stopped_since(history, create):
                did = "set" if change.value else "deleted"
                text = f"key {key}: {actor_name(read.actor)} got a value whose creator began before it was {did}"
                yield Violation("late fill", text, key, read.began, (create, change, read))


def _stopped_since(history: History, create: Entry) -> bool:
    life = create.actor >> 8
    return any(halt.life in (life, WHOLE_MACHINE) and halt.over > create.began for halt in history.halts)


def newest(history: History) -> Iterator[Violation]:
    """Check that most actors that get a key right after they set it find that value, or a newer one."""
    if history.halts:
        return  # the store may drop a set whose place is locked by a stopped worker
    acts: dict[int, list[Entry]] = {}
    for entry in history.of(Kind.WRITE, Kind.READ):
        acts.setdefault(entry.actor, []).append(entry)
    looked = [
        read
        for mine in acts.values()
        for write, read in pairwise(sorted(mine, key=lambda entry: entry.began))
        if write.kind == Kind.WRITE and write.value and read.kind == Kind.READ and read.key == write.key and read.ended
    ]
    missed = [read for read in looked if not read.value]
    if len(looked) >= _ENOUGH and len(missed) > len(looked) / 2:
        text = f"of {len(looked)} values {len(missed)} were gone as soon as they had been set"
        yield Violation("forgetful", text, missed[0].key, missed[0].began, (missed[0],))
