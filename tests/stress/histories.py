"""Histories written by hand, for tests of the checks.

Depends on checker.  Times are in seconds here, and begin at 0.
"""

from __future__ import annotations

from typing import Any

from mpcache.stress.checker import Check
from mpcache.stress.history import NEVER, Entry, History, Kind, Outcome, Signal

A, B, C = 1 << 8, 2 << 8, 3 << 8
"""Actors: the only threads of three lives."""


def ns(seconds: float) -> int:
    """Return the same time as logs have it: counted from a beginning that is not 0, which would mean never."""
    return 1 + int(seconds * 1e9)


def did(kind: Kind, who: int, began: float, ended: float | None = None, **more: Any) -> Entry:
    """One entry, of key 0 if no other is said; without an end it lasts until ``died``, or for ever."""
    died = more.pop("died", None)
    got = more.pop("got", began)
    until = ended if ended is not None else died
    facts = {"outcome": Outcome.DONE, "key": 0, "value": 0, "extra": 0, "times": 0} | more
    return Entry(
        kind=kind,
        actor=who,
        began=ns(began),
        got=0 if got is None else ns(got),
        ended=0 if ended is None else ns(ended),
        until=NEVER if until is None else ns(until),
        **facts,
    )


def hold(who: int, began: float, got: float | None, ended: float | None = None, **more: Any) -> Entry:
    return did(Kind.HOLD, who, began, ended, got=got, **more)


def read(who: int, began: float, ended: float, value: int, **more: Any) -> Entry:
    return did(Kind.READ, who, began, ended, value=value, **more)


def write(who: int, began: float, ended: float | None, value: int, **more: Any) -> Entry:
    return did(Kind.WRITE, who, began, ended, value=value, **more)


def create(who: int, began: float, ended: float, value: int, **more: Any) -> Entry:
    return did(Kind.CREATE, who, began, ended, value=value, **more)


def ask(who: int, began: float, ended: float, value: int, **more: Any) -> Entry:
    return did(Kind.ASK, who, began, ended, value=value, **more)


def invalidate(who: int, began: float, ended: float | None, **more: Any) -> Entry:
    return did(Kind.INVALIDATE, who, began, ended, **more)


def killed(who: int, at: float) -> Signal:
    return Signal("kill", who >> 8, ns(at), ns(at) + 1)


def stopped(who: int, at: float, until: float) -> Signal:
    return Signal("stop", who >> 8, ns(at), ns(until))


def history(*parts: Entry | Signal, **more: Any) -> History:
    told = History(**more)
    for part in parts:
        if isinstance(part, Entry):
            told.entries.setdefault(part.kind, []).append(part)
        else:
            told.signals.append(part)
    return told


def found(check: Check, *parts: Entry | Signal, **more: Any) -> list[str]:
    return [violation.check for violation in check(history(*parts, **more))]
