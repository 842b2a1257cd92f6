"""What goes wrong without stopping anybody: said once, and counted.

Leans on nothing of mpcache.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any

log = logging.getLogger("mpcache.region")

_REMEMBERED = 1024


class Mishaps:
    """Those of one region.  ``counts`` has how often each of them came to pass in this process."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said: dict[Any, None] = {}
        self._busy = threading.Lock()

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
        with self._busy:
            self.counts["created_alone"] += 1

    def _note(self, kind: str, subject: Any, text: str, *facts: Any) -> None:
        with self._busy:
            self.counts[kind] += 1
            if (kind, subject) in self._said:
                return
            if len(self._said) >= _REMEMBERED:  # forgets the oldest: rather say it twice than grow
                del self._said[next(iter(self._said))]
            self._said[kind, subject] = None
        log.warning(text, *facts)
