"""Non-fatal errors: logged once, always counted.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

log = logging.getLogger("mpcache.region")

_REMEMBERED = 1024


class Counters:
    """The non-fatal errors of one region.

    :ivar counts: how often each error occurred in this process.
    """

    def __init__(self) -> None:
        # No lock guards the two, since the process may fork while it is held.  If two threads count at the same moment,
        # one count may be lost.
        self.counts: Counter[str] = Counter()
        self._logged: dict[Any, object] = {}

    def __reduce__(self) -> tuple[type[Counters], tuple[()]]:
        return Counters, ()  # another process begins to count at 0

    def undecodable(self, key: Any, error: Exception) -> None:
        """Count a stored value that cannot be read: it counts as absent, and the next task that needs it creates it."""
        text = "The stored value of key %r cannot be decoded and counts as absent: %s: %s"
        self._note("undecodable", key, text, key, type(error).__name__, error)

    def too_large(self, key: Any, error: Exception) -> None:
        """Count a created value over the store's largest: it is returned, and created again next time."""
        text = "The value of key %r is returned but not cached (later ones are counted, not logged): %s"
        self._note("too_large", None, text, key, error)

    def created_unlocked(self) -> None:
        """Count a value created without the key's mutex, because the previous creation had stored nothing."""
        self.counts["created_alone"] += 1

    def _note(self, kind: str, subject: Any, text: str, *facts: Any) -> None:
        self.counts[kind] += 1
        mine = object()
        if self._logged.setdefault((kind, subject), mine) is not mine:
            return
        for oldest in list(self._logged)[:-_REMEMBERED]:  # better to log it twice than to grow without limit
            self._logged.pop(oldest, None)
        log.warning(text, *facts)
