"""The thread that renews leases: it sleeps until the first is due, and is woken for those that are due before."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from mpcache._servers import outage
from mpcache._servers.names import namespaced
from mpcache.mutexes import leased

PATIENCE = 20.0


class Kept(leased.LeasedLock):
    """A lease without a server, which counts its renewals.

    :param answers: what its server does, when it is asked.
    """

    def __init__(self, lease: float, server: str = "", answers: Callable[[], object] = bool) -> None:
        super().__init__(lease, f"a lease of {lease:g} s", server)
        self.answers = answers
        self.renewals = 0
        self.renewed = threading.Semaphore(0)

    def _acquire_at_server(self) -> bool:
        return True

    def _extend(self) -> bool:
        self.answers()
        self.renewals += 1
        self.renewed.release()
        return True

    def _release_at_server(self, stored: bool) -> bool:
        return True


def test_no_two_pairs_of_namespace_and_key_read_the_same() -> None:
    pairs = [("a:b", "c"), ("a", "b:c"), ("a", "b,1:c"), ("1:a,b", "c"), ("1:a", "b"), ("a,1:b", "c"), ("ü", "c")]
    assert len({namespaced(*pair) for pair in pairs}) == len(pairs)
    assert namespaced("", "a:b") == b"a:b"  # as dogpile.cache has it


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_short_lease_is_renewed_though_a_long_one_came_first() -> None:
    long, short = Kept(3600), Kept(0.06)
    assert long.acquire()
    until(lambda: leased._renewer._sleeps_until <= long.next_renewal)
    assert short.acquire()
    for _ in range(3):
        assert short.renewed.acquire(timeout=PATIENCE)
    short.release(True)
    long.release(True)
    assert long.renewals == 0


def test_who_takes_and_gives_back_again_and_again_wakes_nobody() -> None:
    kept = Kept(3600)
    assert kept.acquire()
    until(lambda: leased._renewer._sleeps_until <= kept.next_renewal)
    for _ in range(100):
        another = Kept(3600)
        assert another.acquire()
        assert leased._renewer._news.empty()
        another.release(True)
    kept.release(True)


@pytest.mark.parametrize(("took", "times"), [(0.1, 4), (0.5, 1), (3.0, 1)])
def test_a_server_that_does_not_answer_is_waited_for_once_and_not_once_for_each_lease(
    monkeypatch: pytest.MonkeyPatch, took: float, times: int
) -> None:
    """But what interrupts a release at once may be a signal, and then the release goes on."""
    held, other, asked, clock = [Kept(3600), Kept(3600)], Kept(3600, "other"), [], [0.0]

    def no_answer(*stored: bool) -> bool:
        asked.append(stored)
        clock[0] += took
        raise ConnectionError

    for kept in (*held, other):
        assert kept.acquire()
    for kept in held:
        monkeypatch.setattr(kept, "_release_at_server", no_answer)
        monkeypatch.setattr(kept, "_is_mine", no_answer)
    monkeypatch.setattr(leased, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(leased, "_renewer", SimpleNamespace(forget=leased._renewer.forget))
    monkeypatch.setattr(outage, "time", leased.time)
    monkeypatch.setattr(leased, "silent_servers", outage.SilentServers())
    for kept in held:
        with pytest.raises(OSError):
            kept.owned()
        with pytest.raises(OSError):
            kept.release(True)
    assert len(asked) == times
    other.release(True)
    clock[0] += outage.REST
    monkeypatch.undo()
    for kept in held:
        kept.release(True)


def test_one_thread_renews_whoever_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many come at once, and none waits for the thread that another one has begun."""
    monkeypatch.setattr(leased, "_renewer", leased._Renewer())
    before = set(threading.enumerate())
    together, kept = threading.Barrier(16), [Kept(3600) for _ in range(16)]

    def take(one: Kept) -> None:
        together.wait()
        assert one.acquire()

    threads = [threading.Thread(target=take, args=(one,)) for one in kept]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["mpcache-leases"]
    mine = leased._renewer
    for one in kept:
        one.release(True)
    monkeypatch.undo()
    mine._news.put(None)  # it sees that it is no longer the one, and ends
    assert mine._thread is not None
    mine._thread.join(PATIENCE)
    assert not mine._thread.is_alive()


def test_a_server_that_does_not_answer_delays_other_servers_once() -> None:
    """And not once for each key that is held of it."""
    asked: list[str] = []

    def no_answer() -> None:
        asked.append("silent")
        raise TimeoutError

    silent = [Kept(3600, "silent", no_answer) for _ in range(100)]
    other = Kept(3600, "other", lambda: asked.append("other"))
    for kept in (*silent, other):
        kept.next_renewal, kept.ends = 0.0, math.inf
    leased._renew_those_due([*silent, other])
    assert asked == ["silent", "other"]
    leased._renew_those_due([*silent, other])
    assert asked == ["silent", "other", "silent"]
    assert [kept.next_renewal > 0 for kept in silent[:3]] == [True, True, False]
