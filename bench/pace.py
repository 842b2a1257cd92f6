"""Pacing: how many rounds a benchmark has, and how many calls one round of a loop needs.

Depends on nothing.  The harness decides what is measured, and of which contenders.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import repeat
from typing import NamedTuple

Sample = Callable[[], float]
"""One round: returns nanoseconds for one operation, or a figure in the benchmark's unit."""


class Pace(NamedTuple):
    """How thoroughly to measure.

    :param rounds: rounds of each contender whose operation takes less than a millisecond.
    :param seconds: minimum duration of one such round.
    :param meetings: rounds of each contender whose operation takes milliseconds, such as a hand-off.
    :param trials: rounds of each contender whose round takes seconds.
    :param portion: the part of its work that such a trial does, from 0 to 1.
    :param once: rounds of each contender whose figure does not vary.
    """

    rounds: int
    seconds: float
    meetings: int
    trials: int
    portion: float
    once: int = 1


THOROUGH = Pace(rounds=150, seconds=0.002, meetings=150, trials=20, portion=1)
QUICK = Pace(rounds=7, seconds=0.0005, meetings=7, trials=1, portion=0.02)


def looped(act: Callable[[], object], pace: Pace) -> Sample:
    """Return a sample that calls ``act`` as often as one round needs.

    The number of calls is calibrated by the fastest of three loops: a single loop that the machine interrupted would
    seem long enough with too few calls.  If all three were interrupted, the first rounds turn out short, and the
    sample doubles the number.
    """
    number, wanted = 1, pace.seconds * 1e9
    while (took := min(_loop(act, number) for _ in range(3))) < wanted:
        number = max(number * 2, int(number * wanted / max(took, 1)))

    def sample() -> float:
        nonlocal number
        took, calls = _loop(act, number), number
        if took < wanted / 2:
            number *= 2
        return took / calls

    return sample


def _loop(act: Callable[[], object], number: int) -> int:
    """Return the nanoseconds of so many calls, without the garbage collector."""
    calls = repeat(None, number)
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun = time.perf_counter_ns()
        for _ in calls:
            act()
        return time.perf_counter_ns() - begun
    finally:
        if collecting:
            gc.enable()
