"""What goes wrong without stopping anybody: said once, and counted.

Leans on nothing of mpcache.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

log = logging.getLogger("mpcache.region")

_REMEMBERED = 1024


class Mishaps:
    """Those of one region.  ``counts`` has how often each of them came to pass in this process."""

    def __init__(self) -> None:
        # No lock stands around the two: a fork might come while it is held.  Two threads that count in the
        # same instant may lose one.
        self.counts: Counter[str] = Counter()
        self._said: dict[Any, object] = {}

    def __reduce__(self) -> tuple[type[Mishaps], tuple[()]]:
        return Mishaps, ()  # another process begins to count anew

    def undecodable(self, key: Any, error: Exception) -> None:
        """A stored value cannot be read: it counts as absent, and whoever asks for it makes it anew."""
        text = "The stored value of key %r cannot be decoded and counts as absent: %s: %s"
        self._note("undecodable", key, text, key, type(error).__name__, error)

    def too_large(self, key: Any, error: Exception) -> None:
        """A created value is over the store's largest: it is returned, and made again next time."""
        text = "The value of key %r is returned but not cached (later ones are counted, not logged): %s"
        self._note("too_large", None, text, key, error)

    def created_alone(self) -> None:
        """A value was created without the key's mutex, since its last creator had stored nothing."""
        self.counts["created_alone"] += 1

    def _note(self, kind: str, subject: Any, text: str, *facts: Any) -> None:
        self.counts[kind] += 1
        mine = object()
        if self._said.setdefault((kind, subject), mine) is not mine:
            return
        for oldest in list(self._said)[:-_REMEMBERED]:  # rather say it twice than grow for ever
            self._said.pop(oldest, None)
        log.warning(text, *facts)
