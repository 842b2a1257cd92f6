"""Look-ups that tell how they were answered.

Depends on binding and requests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mpcache._region.binding import ABSENT, FRESH, STALE, Binding
from mpcache._region.requests import HITS, MISSES, WAITED
from mpcache._region.requests import STALE as SERVED_STALE
from mpcache.api import NO_VALUE, Freshness, KeyType
from mpcache.invalidation import freshness


class Lookup(NamedTuple):
    """A value, and how it was found."""

    value: Any
    outcome: str
    """``"hit"``: it was there and fresh; ``"stale"``: it was there, and another task creates the next, or there is no
    creator; ``"created"``: this call created it; ``"waited"``: another task created it meanwhile; ``"miss"``: there is
    none, and ``value`` is NO_VALUE."""


_FOUND = {FRESH: ("hit", HITS), STALE: ("stale", SERVED_STALE), ABSENT: ("miss", MISSES)}

ANSWERS = {MISSES: "created", SERVED_STALE: "stale", WAITED: "waited"}
"""The outcome of an election that has returned a value, by how its request is counted."""


def found(binding: Binding, key: KeyType, lifetime: float | None) -> Lookup:
    """Return what is stored under a key; create nothing."""
    there: Any = binding.value_io.read(binding.mangled(key))
    worth = freshness(there[1], there[2], lifetime, binding.judge) if there else Freshness.ABSENT
    outcome, kind = _FOUND[worth]
    binding.requests.note(kind)
    return Lookup(NO_VALUE if worth is ABSENT else there[0], outcome)
