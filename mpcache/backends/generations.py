"""Invalidation that all who share a redis server see: a generation, drawn at random, that values belong to.

Leans on the redis mutex for its scripts, and on invalidation.  The server keeps two numbers under one key::

    mpcache:generation:<namespace>    "<hard> <soft>"    what a value carries is hard << 32 | soft

An invalidation draws anew; ``soft`` is 0 until the first soft one.  They are compared for equality only.  So one that
was lost, by eviction or with a master, is replaced by one that nothing belongs to yet.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from mpcache.api import Freshness
from mpcache.invalidation import SharedInvalidation
from mpcache.mutexes.redis import Script

_RECENT = 0.010
"""Seconds for which a generation may begin creations without being asked for again: those of one call for many keys."""

_BEGIN = Script("""
if not string.match(redis.call('GET', KEYS[1]) or '', '^%d+ %d+$') then
    redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('GET', KEYS[1])
""")

_SOFTEN = Script("""
local hard = string.match(redis.call('GET', KEYS[1]) or '', '^%d+') or ARGV[1]
redis.call('SET', KEYS[1], hard .. ' ' .. ARGV[2])
return hard .. ' ' .. ARGV[2]
""")


def _draw() -> int:
    return secrets.randbelow(2**31) + 1


class Generation:
    """That of one namespace.

    :param client: what gives the present client of the server that decides.
    :param forgive: see :meth:`.Trouble.forgive`; in an outage creations begin in generation 0, which is none.
    """

    def __init__(
        self, namespace: str, client: Callable[[], Any], forgive: Callable[[Callable[[], int], int], int]
    ) -> None:
        self.key = f"mpcache:generation:{namespace}"
        self._client, self._forgive = client, forgive
        self._local = threading.local()

    def now(self) -> int:
        """Ask for it."""
        return self.note(self._client().get(self.key))

    def recent(self) -> int:
        """As it was some milliseconds ago, at most: a creation may count as older than it is."""
        seen = self._seen()
        if seen is not None and time.monotonic() - seen[1] < _RECENT:
            return seen[0]
        return self._forgive(self.now, 0)

    def last(self) -> int:
        """As this thread has seen it last, which it does whenever it reads a value."""
        seen = self._seen()
        return self._forgive(self.now, 0) if seen is None else seen[0]

    def note(self, said: Any) -> int:
        """What was read of its key; if that is nothing, or makes no sense, it is drawn for the first time."""
        numbers = () if said is None else said.split()
        if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            numbers = _BEGIN(self._client(), [self.key], f"{_draw()} 0").split()
        hard, soft = map(int, numbers)
        self._local.seen = (hard << 32 | soft, time.monotonic())
        return hard << 32 | soft

    def invalidate(self, hard: bool) -> None:
        """Draw a new one."""
        if hard:
            new = f"{_draw()} 0"
            self._client().set(self.key, new)
        else:
            new = _SOFTEN(self._client(), [self.key], _draw(), _draw())
        self.note(new)

    def _seen(self) -> tuple[int, float] | None:
        return getattr(self._local, "seen", None)


class Generations(SharedInvalidation):
    """The strategy: what is of another ``hard`` is gone, and what is of another ``soft`` only, is stale."""

    def __init__(self, store: Any, generation: Generation) -> None:
        super().__init__(store)
        self._generation = generation

    def judge(self, created: float, epoch: int | None) -> Freshness:
        now, begun = self._generation.last(), epoch or 0
        if begun >> 32 != now >> 32:
            return Freshness.ABSENT
        return Freshness.FRESH if begun == now else Freshness.STALE

    def was_soft_invalidated(self) -> bool:
        return bool(self._generation.last() & 0xFFFFFFFF)

    def was_hard_invalidated(self) -> bool:
        """What was begun before the present generation is hidden, whatever that one began with."""
        return True
