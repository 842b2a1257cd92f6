"""Read a function's parameters, for key generators that were written for dogpile.cache.

Depends on nothing of mpcache.
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
    """Return all parameters, including ``self`` of a method.

    :raises TypeError: the function has no known parameters.
    """
    return inspect.getfullargspec(func)


def inspect_getargspec(func: Callable[..., Any]) -> ArgSpec:
    """Do what :func:`inspect_getfullargspec` does, without keyword-only parameters."""
    return ArgSpec(*inspect_getfullargspec(func)[:4])
