"""The data of a report's timeline: which worker held what, in the last moments of a round.

Depends on checker and history.
"""

from __future__ import annotations

from typing import Any

from mpcache.stress.checker import Violation
from mpcache.stress.history import History, Kind, actor_name

_TIMELINE = 0.25
"""Seconds that a timeline shows."""


def timeline_of(history: History, found: list[Violation]) -> dict[str, Any]:
    """Return the holds and creations around the first violation, else at the end of the round.

    Times are in seconds since the beginning of the timeline.
    """
    at = next((violation.at for violation in found if violation.at), None)
    done = history.of(Kind.HOLD, Kind.CREATE)
    last = max((entry.got for entry in done), default=0)
    middle = at or last - int(_TIMELINE * 5e8)
    low, high = middle - int(_TIMELINE * 5e8), middle + int(_TIMELINE * 5e8)
    lanes: dict[int, list[Any]] = {}
    for entry in done:
        if entry.got and entry.got < high and entry.until > low:
            start, end = (max(entry.got, low) - low) / 1e9, (min(entry.until, high) - low) / 1e9
            lanes.setdefault(entry.key, []).append([actor_name(entry.actor), start, end, bool(entry.ended)])
    signals = [
        [(signal.sent - low) / 1e9, signal.kind, f"worker {signal.life}"]
        for signal in history.signals
        if low <= signal.sent <= high and signal.kind in ("kill", "stop")
    ]
    return {
        "seconds": (high - low) / 1e9,
        "lanes": [{"key": key, "holds": sorted(holds, key=lambda one: one[1])} for key, holds in sorted(lanes.items())],
        "signals": signals,
        "violation": None if at is None else (at - low) / 1e9,
    }
