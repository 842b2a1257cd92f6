"""Signals to the stress command: turned into KeyboardInterrupt, or deferred while an exception could come anywhere.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that the run ends with a verdict on what ran."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in the list that it yields, for the caller to look at between two steps."""
    deferred: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield deferred
        return
    with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda number, frame: deferred.append(number)):
        yield deferred


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Any) -> Iterator[None]:
    """Handle signals, except those that nohup has had ignored."""
    before: dict[int, Any] = {}
    try:
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for changed, previous in before.items():
            signal.signal(changed, previous)
