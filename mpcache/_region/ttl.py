"""The time to live that a caller gives for the values it creates: one for all, or a function of the value.

Depends on invalidation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

from mpcache.invalidation import end_of, seconds

TimeToLive: TypeAlias = "float | timedelta | str | Callable[[Any], float | timedelta | str | None] | None"
"""Seconds, a timedelta, a text such as ``"5m"``; None and -1: no limit; or a function that returns one of these for a
created value.  A value whose time to live is 0 or less is not stored."""


def checked(ttl: Any) -> Any:
    """Return a time to live in seconds; None: no limit; a function as it is.

    :raises ValidationError: it is no time.
    """
    if ttl is None or callable(ttl):
        return ttl
    given = seconds(ttl, "ttl")
    return None if given == -1 else given


def end_for(ttl: Any, value: Any) -> float | None:
    """Return when the time to live of a value that was created just now ends, in seconds since the Unix epoch.

    :param ttl: see :func:`checked`; a function is asked for this value.
    :return: None: never.
    :raises ValidationError: the function returned no time.
    """
    return end_of(ttl(value) if callable(ttl) else ttl)


def is_to_be_stored(expires: float | None) -> bool:
    """Return whether a value that ends then lives at all."""
    return expires is None or expires > time.time()
