"""Look-ups that tell how they were answered.

Depends on creation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mpcache._region.binding import ABSENT, FRESH, STALE, Binding
from mpcache._region.creation import Creation
from mpcache.api import NO_VALUE, Freshness, KeyType
from mpcache.invalidation import freshness
from mpcache.lock import Seen


class Lookup(NamedTuple):
    """A value, and how it was found."""

    value: Any
    outcome: str
    """``"hit"``: it was there and fresh; ``"stale"``: it was there, and another task creates the next, or there is no
    creator; ``"created"``: this call created it; ``"waited"``: another task created it meanwhile; ``"miss"``: there is
    none, and ``value`` is NO_VALUE."""


_FOUND = {FRESH: "hit", STALE: "stale", ABSENT: "miss"}


def found(binding: Binding, key: KeyType, lifetime: float | None) -> Lookup:
    """Return what is stored under a key, and creates nothing."""
    there: Any = binding.value_io.read(binding.mangled(key))
    worth = freshness(there[1], there[2], lifetime, binding.judge) if there else Freshness.ABSENT
    return Lookup(NO_VALUE if worth is ABSENT else there[0], _FOUND[worth])


class NotedCreation(Creation):
    """A creation that notes what it did."""

    created = False
    last: Seen | None = None

    def look(self) -> Seen:
        self.last = super().look()
        return self.last

    def create(self) -> Any:
        value = yield from super().create()
        self.created = True
        return value

    @property
    def outcome(self) -> str:
        """Return the outcome of the election, which has returned a value."""
        if self.created:
            return "created"
        return "waited" if self.last is not None and self.last[1] is FRESH else "stale"
