"""Warn when two functions of a process come to the same keys on one region, so that each gets the other's values.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class _Function(NamedTuple):
    """What a function is known by: a reload, a notebook or a loop defines it again, and it is the same."""

    module: str
    qualname: str
    code: Any
    """Of a lambda, whose name says nothing."""


_known: WeakKeyDictionary[Any, dict[str, _Function]] = WeakKeyDictionary()


def note(region: Any, start: str | None, fn: Any) -> None:
    """Remember whose keys begin so; warn, once, if another function's do.

    :param start: what the keys begin with; None: their generator does not tell.
    """
    if start is None:
        return
    name = fn.__qualname__
    code = getattr(fn, "__code__", None) if name.endswith("<lambda>") else None
    known = _known.setdefault(region, {})
    now = _Function(str(fn.__module__), name, code)
    before = known.setdefault(start, now)
    if before != now and known.setdefault(f"{start} ", before) is before:  # the blank: it was told
        known[f"{start} "] = now
        warnings.warn(
            f"{before.module}.{before.qualname} and {now.module}.{now.qualname} have the same keys on this region,"
            f" those that begin with {start!r}: each will get the other's values.  Give one of them a namespace, or use"
            ' function_key_generator="exact"',
            UserWarning,
            stacklevel=4,
        )
