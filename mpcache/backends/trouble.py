"""What becomes of a server's errors: they are raised, or they count as a miss.

Leans on exception, and on leased for when a server counts as silent; for stores whose server may be down while the
program that asks it is not.
"""

from __future__ import annotations

import logging
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.exception import ValidationError, ValueTooLarge
from mpcache.mutexes.leased import REST, SLOW

log = logging.getLogger("mpcache.backends")

R = TypeVar("R")

QUIET = 10.0
"""Seconds between two warnings."""

NONSENSE: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, AttributeError, struct.error)
"""What comes out of a driver, none of it on purpose, when the answer is none of the server's protocol."""


class Trouble:
    """That of one store.

    Only what may be missed is to be forgiven: a read, which finds nothing then; a fill, which is dropped; the mutex,
    so that the creator runs.  A set or a delete that did not come about leaves behind what it should have
    replaced: it raises in any case.

    :param store: for messages.
    :param on_error: the user's word, ``"raise"`` or ``"miss"``.
    :param errors: what the driver raises of its own.
    :param unreachable: those among them that the next attempt would raise, too, and only after some time.
    :raises ValidationError: it is another word.
    """

    def __init__(
        self, store: Any, on_error: str, errors: tuple[type[Exception], ...], unreachable: tuple[type[Exception], ...]
    ) -> None:
        if on_error not in ("raise", "miss"):
            raise ValidationError(f"on_error is {on_error!r}; it must be 'raise' or 'miss'")
        self.forgives = on_error == "miss"
        self.counts: Counter[str] = Counter()
        self._store, self._errors, self._unreachable = store, (*errors, *unreachable), unreachable
        self._forgiven = (*self._errors, *NONSENSE)
        self._asks_again = self._says_again = 0.0

    def forgive(self, act: Callable[[], R], otherwise: R) -> R:
        """What ``act`` returns; or the other, if the server is in trouble and that is to be a miss."""
        if not self.forgives:
            return act()
        if time.monotonic() < self._asks_again:
            self.counts["not asked"] += 1
            return otherwise
        began = time.monotonic()
        try:
            return act()
        except ValueTooLarge:  # a ValueError as well, and no trouble
            raise
        except self._forgiven as error:
            if raised_by_signal_handler(error):
                raise
            self._note(error, began)
            return otherwise

    def spare(self, act: Callable[[], Any]) -> None:
        """Do what may as well be left undone, whatever ``on_error`` is."""
        if time.monotonic() < self._asks_again:
            return
        began = time.monotonic()
        try:
            act()
        except self._forgiven as error:
            if raised_by_signal_handler(error):
                raise
            self._rest(error, began)
            log.debug("%r left something undone that is of no importance: %s", self._store, error)

    def _note(self, error: Exception, began: float) -> None:
        self._rest(error, began)
        now = time.monotonic()
        self.counts[type(error).__name__] += 1
        if now >= self._says_again:
            self._says_again = now + QUIET
            text = "%r is in trouble, which counts as a miss (%d until now): %s: %s"
            log.warning(text, self._store, sum(self.counts.values()), type(error).__name__, error)

    def _rest(self, error: Exception, began: float) -> None:
        now = time.monotonic()
        if isinstance(error, self._unreachable) or now - began > SLOW:
            self._asks_again = now + REST
