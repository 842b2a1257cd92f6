"""Durations as people write them: ``"5m"``, ``"1h30m"``, ``"1.5 days"``.

Depends on nothing.
"""

from __future__ import annotations

import re

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_PART = re.compile(rf"\s*{_NUMBER}\s*([a-z]+)", re.IGNORECASE)

_SECONDS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as ``"90s"``, ``"1h30m"`` or ``"2 weeks"``.

    The units are ms, s, m, h, d and w, or their English names, in upper or lower case.  A text may have each unit
    once, larger units first; only a number with a unit is a duration, so that ``"10"`` is not.

    :raises ValueError: the text is not a duration.
    """
    total, rest, before = 0.0, text.strip(), float("inf")
    while rest:
        match = _PART.match(rest)
        unit = _SECONDS.get(match[2].lower()) if match else None
        if match is None or unit is None or unit >= before:
            raise ValueError(f"{text!r} is no duration; write a number with a unit, such as '90s', '5m' or '1h30m'")
        total, before, rest = total + float(match[1]) * unit, unit, rest[match.end() :]
    if before == float("inf"):
        raise ValueError("an empty text is no duration; write a number with a unit, such as '90s', '5m' or '1h30m'")
    return total


def plain(seconds: float) -> str:
    """Return a number of seconds as digits without an exponent, such as ``"0.01"`` or ``"3600"``."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
