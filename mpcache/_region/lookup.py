"""Look-ups that tell how they were answered.

Depends on creation and requests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mpcache._region.binding import ABSENT, FRESH, STALE, Binding
from mpcache._region.requests import HITS, MISSES, WAITED
from mpcache._region.requests import STALE as STALE_SERVED
from mpcache.api import NO_VALUE, Freshness, KeyType
from mpcache.invalidation import freshness


class Lookup(NamedTuple):
    """A value, and how it was found."""

    value: Any
    outcome: str
    """``"hit"``: it was there and fresh; ``"stale"``: it was there, and another task creates the next, or there is no
    creator; ``"created"``: this call created it; ``"waited"``: another task created it meanwhile; ``"miss"``: there is
    none, and ``value`` is NO_VALUE."""


_FOUND = {FRESH: ("hit", HITS), STALE: ("stale", STALE_SERVED), ABSENT: ("miss", MISSES)}


def found(binding: Binding, key: KeyType, lifetime: float | None) -> Lookup:
    """Return what is stored under a key, and creates nothing."""
    there: Any = binding.value_io.read(binding.mangled(key))
    worth = freshness(there[1], there[2], lifetime, binding.judge) if there else Freshness.ABSENT
    outcome, answer = _FOUND[worth]
    binding.tally(answer)
    return Lookup(NO_VALUE if worth is ABSENT else there[0], outcome)


OUTCOMES = {HITS: "hit", STALE_SERVED: "stale", MISSES: "created", WAITED: "waited"}
"""The outcome of each answer of a creation that has returned a value."""
