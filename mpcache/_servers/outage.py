"""What follows from a server's errors: they are raised, or count as a miss; and when a silent server is asked again.

Depends on exception.  For stores and mutexes whose server may be down while the program that uses them goes on.
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

log = logging.getLogger("mpcache.backends")

R = TypeVar("R")

SLOW = 0.25
"""Seconds after which an error is that of a server that does not answer, whatever the driver calls it."""

REST = 1.0
"""Seconds for which such a server is not asked again where the caller can do without its answer."""

QUIET = 10.0
"""Seconds between two warnings."""

NONSENSE: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, AttributeError, struct.error)
"""What a driver raises, without meaning to, when the answer does not follow the server's protocol."""


class OutagePolicy:
    """What one store, and its mutexes, do with the errors of their server.

    Only what may be missed has a default: a read, which finds nothing then; a fill, which is dropped; the mutex, so
    that the creator runs.  A set or a delete that did not happen leaves behind what it should have replaced: it raises
    in any case.

    :ivar tolerates: whether errors count as misses.
    :ivar counts: how often which error did.
    :param store: for messages.
    :param on_error: what the user chose, ``"raise"`` or ``"miss"``.
    :param errors: the driver's own exceptions.
    :param unreachable: those among them that the next attempt would raise, too, and only after some time.
    :raises ValidationError: on_error is another word.
    """

    def __init__(
        self, store: Any, on_error: str, errors: tuple[type[Exception], ...], unreachable: tuple[type[Exception], ...]
    ) -> None:
        if on_error not in ("raise", "miss"):
            raise ValidationError(f"on_error is {on_error!r}; it must be 'raise' or 'miss'")
        self.tolerates = on_error == "miss"
        self.counts: Counter[str] = Counter()
        self.errors = (*errors, *unreachable)
        self._store, self._unreachable = store, unreachable
        self._tolerated = (*self.errors, *NONSENSE)
        self._asks_again = self._says_again = 0.0

    def or_default(self, act: Callable[[], R], default: R) -> R:
        """Return what ``act`` returns; or the default, if the server fails and that is to count as a miss.

        A server that has just left a question without an answer is not asked: the default is returned at once.
        """
        if not self.tolerates:
            return act()
        if time.monotonic() < self._asks_again:
            self.counts["not asked"] += 1
            return default
        began = time.monotonic()
        try:
            return act()
        except ValueTooLarge:  # it is a ValueError, but not the server's failure
            raise
        except self._tolerated as error:
            if raised_by_signal_handler(error):
                raise
            self._note(error, began)
            return default

    def best_effort(self, act: Callable[[], Any]) -> None:
        """Do what may as well be left undone, whatever ``on_error`` is."""
        if time.monotonic() < self._asks_again:
            return
        began = time.monotonic()
        try:
            act()
        except self._tolerated as error:
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


class SilentServers:
    """The servers that have just left a question without an answer: they are not asked the next one.

    A process that holds many keys of one such server waits for it once, not once for each key.
    """

    def __init__(self) -> None:
        self._until: dict[Any, float] = {}

    def ask(self, server: Any, name: str, act: Callable[[], R]) -> R:
        """Return the server's answer.

        :param server: which server, hashable.
        :param name: what asks, for the message.
        :raises TimeoutError: it has just left another question without an answer.
        """
        if time.monotonic() < self._until.get(server, 0.0):
            raise TimeoutError(f"{name}: its server did not answer a moment ago, and is not asked now")
        asked = time.monotonic()
        try:
            return act()
        except BaseException:  # the driver's, or a signal handler's
            if time.monotonic() - asked > SLOW:
                self._until[server] = time.monotonic() + REST
            raise

    def answered(self, server: Any) -> None:
        """Note that the server has answered."""
        self._until.pop(server, None)


silent_servers = SilentServers()
