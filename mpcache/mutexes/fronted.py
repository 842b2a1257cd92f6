"""A mutex of many processes, behind a front for the threads of each: one competes outside, the others wait for it.

Leans on turns.  A primitive that knows processes but not threads, and tries but does not wait, adds a
:class:`Bid`; redis, memcached, file and semaphore are made so.
"""

from __future__ import annotations

import logging
import random
import time
from typing import ClassVar

from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.api import Outcome
from mpcache.exception import NotHeld
from mpcache.mutexes.base import Hold, Mutex
from mpcache.mutexes.turns import Scope, Turn

log = logging.getLogger("mpcache.mutexes")

_inside = Scope()

POLL_FIRST, POLL_LAST = 0.001, 0.020
"""Seconds between two looks of one who waits for what cannot wake him."""


class Bid:
    """One process's way to one key, and its hold when it was had.  Used by one thread at a time."""

    pause_first: ClassVar[float] = POLL_FIRST
    pause_last: ClassVar[float] = POLL_LAST

    def __init__(self) -> None:
        self._pause = self.pause_first

    def take(self) -> bool:
        """Try once.  When an exception comes out of it, :meth:`free` is called, and undoes what was done."""
        raise NotImplementedError

    def free(self, stored: bool) -> None:
        """Give back what :meth:`take` took, if it did, and wake who waits.  May be called again.

        :param stored: whether there is a value now, for those who wait for one.
        :raises NotHeld: it was taken and is not held any more.
        """
        raise NotImplementedError

    def wait(self, most: float | None) -> Outcome | None:
        """After a failed try: until something may have changed, ``most`` seconds at most.

        :return: RELEASED or UNSTORED, if the holder is known to have let go since; None: try again and see.
        """
        pause = random.uniform(self._pause / 2, self._pause)
        self._pause = min(self._pause * 1.5, self.pause_last)
        time.sleep(pause if most is None else min(pause, most))
        return None

    def rest(self) -> None:
        """Nobody waits any more, whatever came of it; for one that keeps something open meanwhile."""

    def owned(self) -> bool:
        """Whether it is held still; to be asked of those whose hold can lapse."""
        return True


class _Entry:
    """What a hold consists of: a turn inside, a bid outside."""

    __slots__ = ("bid", "turn")

    def __init__(self, turn: Turn, bid: Bid) -> None:
        self.turn, self.bid = turn, bid

    def give(self, stored: bool) -> None:
        try:
            self.bid.free(stored)
        except NotHeld:
            stored = True  # another may be creating it: who waits inside looks again, and asks anew
            raise
        finally:
            self.turn.end(stored)


class FrontedMutex(Mutex):
    """The base of those that add a :class:`Bid`; besides, ``_locked`` and ``_subject`` are theirs."""

    cooperates = True

    def _bid(self) -> Bid:
        raise NotImplementedError

    @staticmethod
    def _give(hold: Hold, stored: bool) -> None:
        hold.token.give(stored)

    def _owned(self, hold: Hold) -> bool:
        return bool(hold.token.bid.owned())

    def _compete(self, hold: Hold, timeout: float | None, early: bool) -> Outcome:
        deadline = None if timeout is None else time.monotonic() + timeout
        hold.token = entry = _Entry(Turn(_inside, self._subject()), self._bid())
        try:
            outcome = _inside_first(entry.turn, deadline, early)
            if outcome is Outcome.ACQUIRED:
                outcome = _then_outside(entry.bid, deadline, early)
        except BaseException:
            _abandon(entry)
            hold.token = None  # not before: should an exception come on the way, the hold gives back what is left
            raise
        if outcome is not Outcome.ACQUIRED:
            entry.turn.end(outcome is not Outcome.UNSTORED)  # what was heard outside, those inside are told
            hold.token = None
        return outcome


def _inside_first(turn: Turn, deadline: float | None, early: bool) -> Outcome:
    while (other := turn.claim()) is not None:
        outcome = other.wait(_left(deadline))
        if early or outcome is Outcome.TIMEOUT:
            return outcome
    return Outcome.ACQUIRED


def _then_outside(bid: Bid, deadline: float | None, early: bool) -> Outcome:
    try:
        while not bid.take():
            left = _left(deadline)
            if left is not None and left <= 0:
                return Outcome.TIMEOUT
            heard = bid.wait(left)
            if early and heard is not None:
                return heard
        return Outcome.ACQUIRED
    finally:
        bid.rest()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _abandon(entry: _Entry) -> None:
    try:
        entry.give(True)  # nothing was created, but who waits inside must not take it for a holder's word: it asks anew
    except Exception as error:  # the one that led here is the one to be told
        if raised_by_signal_handler(error):
            raise
        log.debug("%s while what an interrupted acquire may have taken was given back", error)
