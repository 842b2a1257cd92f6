"""Hints about mistakes: "did you mean NAME", and warnings at the line of the caller.

Depends on nothing; difflib is imported only if there is a mistake.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

_ALIKE = 0.72
"""The least similarity of two names: more than that of "username" and "serde"."""


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that a misspelt name resembles most; None: it resembles none."""
    import difflib

    near = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=_ALIKE)
    return near[0] if near else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'NAME'?"``, or an empty text."""
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the program that called mpcache, however deep in mpcache the mistake was detected."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def warn_of_unknown(whose: str, arguments: Iterable[str], known: Iterable[str]) -> None:
    """Warn once of all arguments that a store does not know.

    They are not an error: one configuration may serve many stores.

    :param whose: the store's name.
    """
    names = set(known)
    unknown = sorted(map(str, set(arguments) - names))
    if unknown:
        hints = [f"{name!r}{_meant(nearest(name, names))}" for name in unknown]
        s = "s" if len(unknown) > 1 else ""
        warn(f"{whose} ignores the argument{s} {', '.join(hints)}; it knows {', '.join(sorted(names))}")


def _meant(near: str | None) -> str:
    return "" if near is None else f" (did you mean {near!r}?)"


def _is_ours(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "mpcache"
