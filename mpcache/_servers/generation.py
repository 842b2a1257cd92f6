"""The generation of a namespace, which invalidates in all processes: a number at the server that values carry.

Depends on _wire, where values carry it, and on outage.  The number is ``hard << 32 | soft``: an invalidation draws
``hard`` at random, or, a soft one, ``soft``, which is 0 before.  Numbers are compared for equality only.  So a
generation that was lost, by eviction or with its server, is replaced by one to which no value belongs yet.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from mpcache._servers.outage import OutagePolicy
from mpcache._wire import codec

RECENT = 0.010
"""Seconds for which creations may begin in a generation that was seen: those of one call for many keys."""

OF_ANOTHER, OF_ANOTHER_SOFT = 0, 1
"""The epochs of values that are handed to a region though they are not of the present generation: invalidated, and
softly invalidated.  No generation has these numbers."""


def draw() -> int:
    """Return a new half of a generation; both halves fit into the 63 bits of a number of Lua's or of C's."""
    return secrets.randbelow(2**31) + 1


class Generation:
    """The generation of one namespace.  A kind of server adds how it is read and drawn.

    :param outage: in an outage creations begin in generation 0, which is none: their values count as invalidated.
    """

    def __init__(self, namespace: str, outage: OutagePolicy) -> None:
        self.key = f"mpcache:generation:{namespace}"
        self._outage = outage
        self._seen: tuple[int, float] | None = None

    def _read(self) -> Any:
        """Read what the server keeps under the key; None: nothing."""
        raise NotImplementedError

    def _number(self, found: Any) -> int:
        """Return the generation of what was read; if that is nothing, or makes no sense, draw the first one."""
        raise NotImplementedError

    def _draw(self, hard: bool) -> int:
        """Draw a new generation at the server, and return it."""
        raise NotImplementedError

    def now(self) -> int:
        """Ask the server for the generation."""
        return self.note(self._read())

    def note(self, found: Any) -> int:
        """Return the generation of what was read of its key, together with values."""
        return self._see(self._number(found))

    def recent(self) -> int:
        """Return the generation as it was at most some milliseconds ago, for a creation that begins.

        The creation may count as older than it is, never as newer.
        """
        seen = self._seen
        if seen is not None and time.monotonic() - seen[1] < RECENT:
            return seen[0]
        return self._outage.or_default(self.now, 0)

    def is_soft(self) -> bool:
        """Return whether a soft invalidation is in force, as this process saw it last: with each value it reads."""
        seen = self._seen
        number = self._outage.or_default(self.now, 0) if seen is None else seen[0]
        return bool(number & 0xFFFFFFFF)

    def invalidate(self, hard: bool) -> None:
        """Hide what was begun before, or make it stale; raises the driver's errors."""
        self._see(self._draw(hard))

    def _see(self, number: int) -> int:
        self._seen = number, time.monotonic()
        return number


def judged(wire: bytes, now: int) -> bytes:
    """Return a value without its generation, if that is the present one; otherwise with what it is worth.

    The value and ``now`` come from one answer of the server, so that no later look at the generation is needed.
    """
    epoch, bare = codec.take_epoch(wire)
    if epoch == now:
        return bare
    gone = epoch is None or epoch >> 32 != now >> 32
    return codec.with_epoch(bare, OF_ANOTHER if gone else OF_ANOTHER_SOFT)
