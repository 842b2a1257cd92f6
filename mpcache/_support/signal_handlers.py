"""Distinguish an exception of a signal handler from one of the code that the signal interrupted.

Depends on nothing of mpcache.  Where mpcache catches Exception around foreign code (a pickler, a driver), it may catch
a time limit that a handler raised: a SoftTimeLimitExceeded is no error of the value or the server.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

_WRAPPINGS = 8
"""The most partials, methods and wrappers around the function of a handler."""

_handler_of = getattr(signal.getsignal, "__wrapped__", signal.getsignal)
"""Unlike signal.getsignal it makes no enum of SIG_DFL, and takes a tenth of the time."""


def raised_by_signal_handler(error: BaseException) -> bool:
    """Return whether a handler that is installed now, or a function that it called, raised this exception.

    A handler that is written in C, and raises by itself, leaves no trace and is not recognised.
    """
    codes, trace = set[CodeType](), error.__traceback__
    while trace is not None:
        codes.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    return bool(codes) and not codes.isdisjoint(_codes_of_handlers())


def _codes_of_handlers() -> Iterator[CodeType]:
    for number in range(1, signal.NSIG):
        handler = _handler_of(number)
        if handler is not None and not isinstance(handler, int):
            yield from _codes_of(handler)


def _codes_of(handler: Any) -> Iterator[CodeType]:
    for _ in range(_WRAPPINGS):
        if isinstance(handler, FunctionType):
            yield handler.__code__
            return
        if isinstance(handler, type):
            for name in ("__new__", "__init__"):
                yield from _codes_of(getattr(handler, name))
            return
        if isinstance(handler, MethodType):
            handler = handler.__func__
        elif isinstance(handler, functools.partial):
            handler = handler.func
        else:
            handler = getattr(handler, "__wrapped__", None) or type(handler).__call__
