"""The parameters of a function, in the shape in which key generators written for dogpile.cache ask for them.

Leans on nothing of mpcache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import FullArgSpec
from typing import Any, NamedTuple

__all__ = ["ArgSpec", "FullArgSpec", "inspect_getargspec", "inspect_getfullargspec"]


class ArgSpec(NamedTuple):
    """The positional half of a FullArgSpec."""

    args: list[str]
    varargs: str | None
    keywords: str | None
    defaults: tuple[Any, ...] | None


def inspect_getfullargspec(func: Callable[..., Any]) -> FullArgSpec:
    """Return all parameters; of a method ``self`` too.

    :raises TypeError: they cannot be known.
    """
    return inspect.getfullargspec(func)


def inspect_getargspec(func: Callable[..., Any]) -> ArgSpec:
    """Do what :func:`inspect_getfullargspec` does, without what may be given by keyword only."""
    return ArgSpec(*inspect_getfullargspec(func)[:4])
