"""A history: what all actors of one round did, when, and which signals they got.

Depends on scoreboard for how many keys there are.  An *actor* is one thread of one worker process; it records its
operations as entries, see actor_log.  A *life* is the number of a worker process: a worker that dies is replaced by a
worker with another life.  All times are CLOCK_MONOTONIC in ns, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from mpcache.stress.scoreboard import KEYS

now = time.monotonic_ns

NEVER = 1 << 63
"""A time later than all others."""


# -- operations -----------------------------------------------------------------------------------------------------


class Kind(IntEnum):
    """The operation that an entry records.

    HOLD        a mutex: acquire() was called at ``began``, it was held from ``got`` to ``ended``; ``value`` is the
                fence, ``extra`` the actor number that the holder found in the key's word (0: none), ``times`` the
                number of holds before this one
    ASK         a get_or_create; ``value`` is the result
    CREATE      a call of a creator, which made ``value``
    READ        a get; ``value`` 0: a miss
    WRITE       a set; ``value`` 0: a delete
    INVALIDATE  an invalidation of the whole region
    """

    HOLD = 1
    ASK = 2
    CREATE = 3
    READ = 4
    WRITE = 5
    INVALIDATE = 6


class Outcome(IntEnum):
    """The result of an operation.

    DONE      success
    LOST      the holder's lease lapsed during the hold, and release() raised NotHeld
    INTRUDED  the holder found another actor number in the key's word at the end of its hold
    ALONE     the creator ran without the mutex, because the previous creator's value could not be stored
    REFUSED   an error that the contract allows; whether the operation took effect is not known
    LEAVING   release() was called and had not returned: a holder that was killed then may or may not have released
    """

    DONE = 0
    LOST = 1
    INTRUDED = 2
    ALONE = 3
    REFUSED = 4
    LEAVING = 5


class Entry(NamedTuple):
    """One operation of one actor.

    :ivar actor: life << 8 | thread.
    :ivar began, got, ended: when the operation was called, had its object, and ended; 0: that did not happen.
    :ivar until: ``ended``; or when its actor was killed; or NEVER.
    """

    kind: int
    outcome: int
    key: int
    began: int
    got: int
    ended: int
    value: int
    extra: int
    times: int
    actor: int
    until: int


def actor_name(number: int) -> str:
    """Return an actor's name for people."""
    life, thread = number >> 8, number & 0xFF
    return f"worker {life}" if thread == 0 else f"worker {life}, thread {thread}"


# -- signals --------------------------------------------------------------------------------------------------------

HALTS = ("stop", "pause")
"""Kinds of signals during which no progress can be expected of a worker: it was stopped, or the machine paused."""

WHOLE_MACHINE = 0
"""The life of a ``pause``, which concerns all workers."""


class Signal(NamedTuple):
    """A signal that the round runner sent to a worker, or a pause of the whole machine.

    :ivar kind: ``kill``; ``stop``; ``end``, a SIGKILL because the worker did not end with the round; ``pause``, a time
        in which not even the round runner ran.
    :ivar life: of the worker.
    :ivar sent: when.
    :ivar over: when a SIGCONT ended a ``stop``, a killed worker was reaped, or a pause ended.
    """

    kind: str
    life: int
    sent: int
    over: int


# -- all of a round -------------------------------------------------------------------------------------------------


@dataclass
class History:
    """Everything that is known of one round; the input of all checks.

    :ivar entries: by kind; those of one actor are in the order in which they began.
    :ivar signals: in the order in which they were sent.
    :ivar leased: whether a holder's mutex may lapse while the holder lives, which the mutex must then report to it.
    :ivar takeover: seconds that the death of a holder may cost the others.
    :ivar own: whether the mutex is the store's own, which tells waiters that a value could not be stored.
    :ivar lives: number of worker processes.
    :ivar gives_up: whether the store drops a value after waiting too long for its lock, as shared memory does.
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
        """Return the entries of these kinds."""
        return [entry for kind in kinds for entry in self.entries.get(kind, ())]

    def by_key(self, *kinds: Kind) -> dict[int, list[Entry]]:
        """Return the entries of these kinds, by their keys."""
        keys: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.of(*kinds):
            keys[entry.key].append(entry)
        return keys

    def only(self, keys: Container[int]) -> History:
        """Return the part that concerns these keys, in any generation, and all invalidations."""
        entries = {
            kind: [entry for entry in entries if kind == Kind.INVALIDATE or entry.key % KEYS in keys]
            for kind, entries in self.entries.items()
        }
        return replace(self, entries=entries)

    def holds(self) -> dict[int, list[Entry]]:
        """Return, for each key, the acquired holds in the order in which they were acquired.

        Holds whose lease may have lapsed are left out: the lease may have ended before the holder recorded ``got``.
        """
        return {
            key: sorted((entry for entry in asked if entry.got and not self.lapsed(entry)), key=lambda entry: entry.got)
            for key, asked in self.by_key(Kind.HOLD).items()
        }

    def lapsed(self, hold: Entry) -> bool:
        """Return whether the lease may have ended before the hold did.

        Either release() reported it, or the holder was stopped and then killed before release() could report it.
        """
        unreported = not hold.ended or hold.outcome == Outcome.LEAVING
        return self.leased and (hold.outcome == Outcome.LOST or (unreported and self.stopped(hold)))

    def killed(self) -> dict[int, int]:
        """Return, for each life that was killed, when the first SIGKILL was sent to it."""
        return {signal.life: signal.sent for signal in reversed(self.signals) if signal.kind in ("kill", "end")}

    def stopped(self, entry: Entry) -> bool:
        """Return whether its worker was stopped, or the machine paused, during the entry."""
        of = (entry.actor >> 8, WHOLE_MACHINE)
        return any(halt.life in of and halt.sent < entry.until and halt.over > entry.began for halt in self.halts)

    @cached_property
    def halts(self) -> list[Signal]:
        """Return the signals during which no progress can be expected."""
        return [signal for signal in self.signals if signal.kind in HALTS]
