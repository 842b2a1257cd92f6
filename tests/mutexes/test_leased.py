"""The thread that renews leases: it sleeps until the first is due, and is woken for those that are due before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mpcache.mutexes import leased

PATIENCE = 20.0


class Kept(leased.LeasedBid):
    """A lease without a server, which counts its renewals."""

    def __init__(self, lease: float) -> None:
        super().__init__(lease, f"a lease of {lease:g} s")
        self.renewals = 0
        self.renewed = threading.Semaphore(0)

    def _ask(self) -> bool:
        return True

    def _extend(self) -> bool:
        self.renewals += 1
        self.renewed.release()
        return True

    def _return(self, stored: bool) -> bool:
        return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_short_lease_is_renewed_though_a_long_one_came_first() -> None:
    long, short = Kept(3600), Kept(0.06)
    assert long.take()
    until(lambda: leased._renewer._sleeps_until <= long.next_renewal)
    assert short.take()
    for _ in range(3):
        assert short.renewed.acquire(timeout=PATIENCE)
    short.free(True)
    long.free(True)
    assert long.renewals == 0


def test_who_takes_and_gives_back_again_and_again_wakes_nobody() -> None:
    kept = Kept(3600)
    assert kept.take()
    until(lambda: leased._renewer._sleeps_until <= kept.next_renewal)
    for _ in range(100):
        another = Kept(3600)
        assert another.take()
        assert leased._renewer._news.empty()
        another.free(True)
    kept.free(True)
