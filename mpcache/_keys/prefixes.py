"""Warn if two functions of a process have the same keys on one region, so that each gets the other's values.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class _Function(NamedTuple):
    """The identity of a function: if a reload, a notebook or a loop defines it again, it is the same function."""

    module: str
    qualname: str
    code: Any
    """The line of a lambda, whose name identifies nothing."""


_known: WeakKeyDictionary[Any, dict[str, _Function]] = WeakKeyDictionary()


def note(region: Any, start: str | None, fn: Any, exact: bool = False) -> None:
    """Record whose keys have this beginning; warn, once, if another function's keys have it, too.

    :param start: the common beginning of the keys; None: unknown, since their generator does not give it.
    :param exact: whether the keys are exact ones already.
    """
    if start is None:
        return
    name = fn.__qualname__
    code = getattr(fn, "__code__", None) if name.endswith("<lambda>") else None
    known = _known.setdefault(region, {})
    now = _Function(str(fn.__module__), name, code)
    before = known.setdefault(start, now)
    if before != now and known.setdefault(f"{start} ", before) is before:  # the blank marks it as warned
        known[f"{start} "] = now
        warnings.warn(
            f"{before.module}.{before.qualname} and {now.module}.{now.qualname} have the same keys on this region,"
            f" those that begin with {start!r}: each will get the other's values.  Give one of them a namespace"
            + ("" if exact else ', or use function_key_generator="exact"'),
            UserWarning,
            stacklevel=4,
        )
