"""Policy for a server's errors: they are raised, or count as misses; and when a silent server is asked again.

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
"""Seconds after which an error counts as a time-out, whatever exception the driver raises."""

REST = 1.0
"""Seconds for which such a server is not asked again where the caller can do without its answer."""

QUIET = 10.0
"""Seconds between two warnings."""

NONSENSE: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, AttributeError, struct.error)
"""What a driver raises, without meaning to, when the answer does not follow the server's protocol."""


def counts_as_miss(on_error: str) -> bool:
    """Return whether a store's errors count as misses.

    :param on_error: what the user chose, ``"raise"`` or ``"miss"``.
    :raises ValidationError: on_error has another value.
    """
    if on_error not in ("raise", "miss"):
        raise ValidationError(f"on_error is {on_error!r}; it must be 'raise' or 'miss'")
    return on_error == "miss"


class OutagePolicy:
    """What one store and its mutexes do with the errors of their server.

    Three operations have a default: a read finds nothing, a fill is dropped, and a mutex lets the creator run.  A set
    or a delete that did not happen leaves behind the value that it should have replaced, so it raises in any case.

    :ivar tolerates: whether errors count as misses.
    :ivar counts: how often each error did.
    :param store: for messages.
    :param on_error: what the user chose, ``"raise"`` or ``"miss"``.
    :param errors: the driver's own exceptions.
    :param unreachable: those among them that the next attempt would raise, too, and only after some time.
    :raises ValidationError: on_error has another value.
    """

    def __init__(
        self, store: Any, on_error: str, errors: tuple[type[Exception], ...], unreachable: tuple[type[Exception], ...]
    ) -> None:
        self.tolerates = counts_as_miss(on_error)
        self.counts: Counter[str] = Counter()
        self.errors = (*errors, *unreachable)
        self._store, self._unreachable = store, unreachable
        self._tolerated = (*self.errors, *NONSENSE)
        self._asks_again = self._says_again = 0.0

    def or_default(self, act: Callable[[], R], default: R) -> R:
        """Return what ``act`` returns; or the default, if the server fails and errors count as misses.

        A server that has just timed out is not asked: the default is returned at once.
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
        """Do something that may fail without harm, whatever ``on_error`` is; log the error at the debug level."""
        if time.monotonic() < self._asks_again:
            return
        began = time.monotonic()
        try:
            act()
        except self._tolerated as error:
            if raised_by_signal_handler(error):
                raise
            self._rest(error, began)
            log.debug("%r ignored an error of its server: %s", self._store, error)

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
    """The servers that have just timed out: for ``REST`` seconds they are not asked again.

    A process that holds many keys of one such server waits for it once, not once for each key.
    """

    def __init__(self) -> None:
        self._until: dict[Any, float] = {}

    def ask(self, server: Any, name: str, act: Callable[[], R]) -> R:
        """Return the server's answer.

        :param server: which server, hashable.
        :param name: what asks, for the message.
        :raises TimeoutError: the server has just timed out, and is not asked.
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
