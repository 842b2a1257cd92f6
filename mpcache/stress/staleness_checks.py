"""What histories prove of values that should not be there, or should.

Leans on checker.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mpcache.stress.checker import NOBODY, Story, Violation, actor, latest
from mpcache.stress.history import Entry, Kind, Outcome

_ENOUGH = 100
"""Values that must have been looked for before what part of them was there says anything."""


def fills_refused(story: Story) -> Iterator[Violation]:
    """What was begun to be created before a set or a delete is not read by one who began after that had returned.

    Of a store that guards its fills.  The guard waits some hundredths of a second for a creator who is storing just
    then; for one who is stopped at it, it does not.
    """
    asked = story.by_key(Kind.READ, Kind.ASK)
    created = {create.value: create for create in story.of(Kind.CREATE) if create.value}  # 0: killed before it had one
    for key, writes in story.by_key(Kind.WRITE).items():
        changes = latest(write for write in writes if write.outcome == Outcome.DONE)
        for read in asked.get(key, ()):
            create, change = created.get(read.value), changes(read.began)
            if create is None or change is None or create.actor == read.actor or create.began >= change.began:
                continue
            if read.ended and read.outcome == Outcome.DONE and not _stopped_since(story, create):
                did = "set" if change.value else "deleted"
                text = f"key {key}: {actor(read.actor)} was given a value whose creator began before it was {did}"
                yield Violation("late fill", text, key, read.began, (create, change, read))


def _stopped_since(story: Story, create: Entry) -> bool:
    life = create.actor >> 8
    return any(halt.life in (life, NOBODY) and halt.over > create.began for halt in story.halts)


def newest(story: Story) -> Iterator[Violation]:
    """Who looks for what he has just set finds it, or something newer; not always, but mostly."""
    if story.halts:
        return  # a set that finds its place taken by one who is stopped is dropped, and may be
    acts: dict[int, list[Entry]] = {}
    for entry in story.of(Kind.WRITE, Kind.READ):
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
