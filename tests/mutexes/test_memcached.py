"""The memcached mutex: what it has of its own, against servers that are stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mpcache import mutexes
from mpcache._servers.memcached.pool import Pool, Servers
from mpcache._servers.outage import OutagePolicy
from mpcache.api import Outcome
from mpcache.exception import DeadlockError, NotHeld, ValidationError
from mpcache.mutexes.memcached import MemcachedLock, MemcachedMutex
from mpcache.testing.helpers import PATIENCE, Pipe, at_once, child
from mpcache.testing.servers import Memcached
from tests.conftest import in_time

LIBRARIES = ("pymemcache", "pylibmc", "memcached", "bmemcached")

BRIEF = 0.3
"""Seconds for which a server that is stopped is waited for."""


@pytest.fixture
def mutex(memcached_server: Memcached, key: str) -> Callable[..., MemcachedMutex]:
    """``mutex(**arguments)``: another one of the same key."""
    return lambda **arguments: MemcachedMutex(key, **{"url": memcached_server.url, **arguments})


@pytest.fixture
def raw(memcached_server: Memcached) -> Pool:
    """The server itself."""
    return Pool([memcached_server.url], "pymemcache", {})


@pytest.fixture
def frail() -> Iterator[Memcached]:
    """A server to be maltreated."""
    with Memcached() as server:
        yield server


def tell_of_waiting(waits: Pipe) -> None:
    """In a child: when it has seen which process holds the key, and from now on waits for that one."""
    wait = MemcachedLock.wait

    def told(lock: MemcachedLock, most: float | None) -> Outcome | None:
        lock._seen = lock._server.get_many([lock._key])[lock._key]
        waits.tell()
        return wait(lock, most)

    MemcachedLock.wait = told  # type: ignore[method-assign]


# -- losing it -----------------------------------------------------------------------------------------


def test_who_has_lost_it_says_nothing_to_those_who_wait(mutex: Any, raw: Pool) -> None:
    """Its note that it stored nothing does not speak for its heir, which may store: no process may create beside it."""
    loser, waiter, heir = (mutex()._process_lock() for _ in range(3))
    assert loser.acquire()
    assert not waiter.acquire()
    assert waiter.wait(0) is None
    raw.delete_many([loser._key])
    assert heir.acquire()
    with pytest.raises(NotHeld):
        loser.release(False)
    assert waiter.wait(PATIENCE) is Outcome.RELEASED
    heir.release(True)


def test_who_has_lost_it_says_nothing_inside_either(mutex: Any, raw: Pool) -> None:
    loser = mutex()
    loser.acquire()
    local = loser._hold.token.local
    raw.delete_many([loser._name])
    with pytest.raises(NotHeld):
        loser.release(stored=False)
    assert local.wait(0) is Outcome.RELEASED


# -- holding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other_library", LIBRARIES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_it_excludes_whichever_library_is_used(mutex: Any, library: str, other_library: str) -> None:
    one, other = mutex(library=library), mutex(library=other_library)
    assert [one.locked(), one.acquire(), one.locked(), other.locked()] == [False, True, True, True]
    assert other.acquire(False) is False
    assert repr(other).endswith(f"held by pid {os.getpid()} on {os.uname().nodename}>")
    assert one.owned()
    assert not other.owned()
    assert one._hold.token.lock._extend()
    one.release()
    assert [one.locked(), other.locked()] == [False, False]
    assert repr(other).endswith("free>")
    with other:
        assert not one.acquire(False)


@pytest.mark.parametrize("library", LIBRARIES)
def test_on_a_unix_socket(key: str, library: str) -> None:
    with Memcached(unix=True) as server:
        one, other = (MemcachedMutex(key, url=url, library=library) for url in (server.url, f"unix:{server.url}"))
        with one:
            assert other.locked()
            assert not other.acquire(False)


def test_by_its_name() -> None:
    assert mutexes.resolve("memcached") is mutexes.MemcachedMutex is MemcachedMutex


def test_fences_grow_and_a_renewal_takes_nothing_back(mutex: Any) -> None:
    assert mutex().fence is None
    seen = []
    for _ in range(3):
        with mutex() as held:
            held._hold.token.lock._extend()
            seen.append(held.fence)
            held._hold.token.lock._extend()
            assert held.fence == seen[-1]
    assert seen == sorted(set(seen))


def test_a_task_does_not_wait_for_itself(mutex: Any) -> None:
    with mutex(), pytest.raises(DeadlockError):
        mutex().acquire()


def test_keys_of_other_namespaces_are_other_keys(mutex: Any) -> None:
    with mutex():
        for arguments in ({"namespace": "theirs"}, {"prefix": "_other"}):
            with mutex(**arguments):
                assert not mutex(**arguments).acquire(False)


def test_a_namespace_ends_where_it_ends(memcached_server: Memcached, key: str) -> None:
    with MemcachedMutex("c", url=memcached_server.url, namespace=f"{key}:b"):
        other = MemcachedMutex("b:c", url=memcached_server.url, namespace=key)
        assert other.acquire(False)
        other.release()


@pytest.mark.parametrize(
    "keys",
    [
        ("a b", "a_b"),
        ("x" * 251, "x" * 252),
        ("line\nbreak", "line\rbreak"),
        (b"\xff", b"\xfe"),
        ("é" * 200, "ü" * 200),
    ],
)
def test_keys_that_memcached_does_not_take(memcached_server: Memcached, keys: tuple[Any, Any]) -> None:
    for library in LIBRARIES:
        one, other = (MemcachedMutex(key, url=memcached_server.url, library=library) for key in keys)
        with one:
            assert not MemcachedMutex(keys[0], url=memcached_server.url).acquire(False)
            assert other.acquire(False)
            other.release(stored=False)


def test_what_cannot_be(mutex: Any) -> None:
    for wrong in (0, 0.5, float("inf"), float("nan")):
        with pytest.raises(ValidationError, match="must be finite, and at least 1 second"):
            mutex(lease=wrong)
    with pytest.raises(ValidationError, match="library='memcache' is none of bmemcached, memcached"):
        mutex(library="memcache")
    with pytest.raises(ValidationError, match="url names no server"):
        mutex(url=[])


def test_a_lock_lives_on_one_server_and_no_failover_grants_it(key: str, memcached_server: Memcached) -> None:
    """The same server for all libraries, and none if that one is down."""
    with Memcached() as second:
        urls = [memcached_server.url, second.url]
        keys = [f"{key}-{number}" for number in range(20)]
        at_home = [Servers(urls).home(f"_lock{each}")._urls[0] for each in keys]
        assert set(at_home) == set(urls)
        for library in LIBRARIES:
            for each, home in zip(keys, at_home, strict=True):
                with MemcachedMutex(each, url=urls, library=library):
                    assert MemcachedMutex(each, url=home).locked()
        second.kill()
        for library in LIBRARIES:
            for each, home in zip(keys, at_home, strict=True):
                mutex = MemcachedMutex(each, url=urls, library=library, timeout=BRIEF)
                if home == second.url:
                    with pytest.raises(mutex._servers.home(mutex._name).errors):
                        mutex.acquire(timeout=PATIENCE)
                else:
                    with mutex:
                        assert mutex.owned()


# -- waiting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("stored", [True, False])
def test_who_waits_elsewhere_hears_what_came_of_it(mutex: Any, library: str, stored: bool) -> None:
    mine = mutex(library=library)
    mine.acquire()
    with Pipe() as waits:

        def contend() -> None:
            tell_of_waiting(waits)
            outcome = mutex(library=library).contend(PATIENCE)
            assert outcome is (Outcome.RELEASED if stored else Outcome.UNSTORED), outcome

        with child(contend):
            waits.wait()
            mine.release(stored)


def test_that_another_holds_it_by_now_is_a_release_of_the_first(mutex: Any) -> None:
    first, second = mutex(), mutex()
    first.acquire()
    lock = mutex()._process_lock()
    assert lock.acquire() is False
    assert lock.wait(0) is None  # by now it has seen the first
    first.release(stored=False)
    with second:
        assert lock.wait(PATIENCE) is Outcome.UNSTORED
        assert lock.acquire() is False
        assert lock.wait(0) is None
    assert lock.wait(PATIENCE) is Outcome.RELEASED
    assert lock.acquire() is True
    lock.release(True)


def test_a_poll_is_one_request(mutex: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with mutex():
        lock = mutex()._process_lock()
        lock.acquire()
        asked = []
        do = Pool._do
        monkeypatch.setattr(Pool, "_do", lambda pool, *args, **kw: asked.append(args[0]) or do(pool, *args, **kw))
        monkeypatch.setattr(time, "sleep", lambda seconds: pauses.append(seconds))
        pauses: list[float] = []
        began = time.monotonic()
        while time.monotonic() < began + 0.05:
            lock.wait(0.05)
        assert set(asked) == {"get_many"}
        assert len(asked) <= len(pauses) + 1
        assert all(0 < pause <= 0.1 for pause in pauses)


def test_hand_off_to_another_process(mutex: Any) -> None:
    took = []
    read, write = os.pipe()
    with Pipe() as waits, Pipe() as released:

        def waiter() -> None:
            tell_of_waiting(waits)
            for _ in range(15):
                with mutex():
                    os.write(write, b"%16.6f" % time.monotonic())
                released.wait()

        mine = mutex()
        mine.acquire()
        with child(waiter):
            for _ in range(15):
                waits.wait()
                at = time.monotonic()
                mine.release()
                took.append(float(os.read(read, 16)) - at)
                assert mine.acquire(timeout=PATIENCE)
                released.tell()
        mine.release()
    os.close(read)
    os.close(write)
    assert statistics.median(took) <= 0.1, took


# -- leases --------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_as_long_as_its_holder_lives(mutex: Any) -> None:
    held = mutex(lease=1)
    held.acquire()
    lock = held._hold.token.lock
    first = lock.ends
    assert in_time(lambda: lock.ends > first + 3)
    assert held.owned()
    assert not mutex().acquire(False)
    held.release()


def test_stopped_for_longer_than_its_lease(mutex: Any) -> None:
    with Pipe() as held, Pipe() as lost:

        def holder() -> None:
            mine = mutex(lease=1)
            mine.acquire()
            held.tell()
            lost.wait()
            assert not mine.owned()
            assert mine.fence is None
            with pytest.raises(NotHeld, match=r"has lost it; its lease of 1 s lapsed"):
                mine.release()
            assert mutex().locked()

        heir = mutex()
        with child(holder) as pid:
            held.wait()
            os.kill(pid, signal.SIGSTOP)
            assert heir.acquire(timeout=PATIENCE)
            os.kill(pid, signal.SIGCONT)
            lost.tell()
        assert heir.owned()
        heir.release()


def test_the_dead_are_inherited_from(memcached_server: Memcached) -> None:
    """Twenty holders are killed at once; each key is had after the lease, and at most one tick of the server more."""
    lease, names = 1.0, [uuid.uuid4().hex for _ in range(20)]

    def hold(some: list[str]) -> None:
        mine = [MemcachedMutex(key, url=memcached_server.url, lease=lease) for key in some]
        for one in mine:
            one.acquire()
        holding.tell()
        signal.pause()

    def inherit(number: int) -> float:
        mutex = MemcachedMutex(names[number], url=memcached_server.url)
        assert mutex.acquire(timeout=PATIENCE)
        had = time.monotonic()
        mutex.release()
        return had

    with Pipe() as holding:
        with child(lambda: hold(names[:10]), ends_by=signal.SIGKILL) as one:
            with child(lambda: hold(names[10:]), ends_by=signal.SIGKILL) as other:
                holding.wait()
                holding.wait()
                died = time.monotonic()
                os.kill(one, signal.SIGKILL)
                os.kill(other, signal.SIGKILL)
        took = [had - died for had in at_once(20, inherit)]
    # A renewal may have come just before the death: lease + 1 s at the server.  Two ticks and a poll are for the rest.
    assert max(took) <= lease + 1 + 1, took


def test_forked_while_held(mutex: Any) -> None:
    held = mutex()
    held.acquire()

    def look() -> None:
        assert not held.owned()
        assert held.fence is None
        with pytest.raises(NotHeld, match="acquired it before fork"):
            held.release()
        assert not mutex().acquire(False)

    with child(look):
        pass
    assert held.owned()
    held.release()
    with child(lambda: mutex().acquire(timeout=0) or pytest.fail("it is free")):
        pass


# -- servers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_server_that_is_down_is_an_error_and_leaves_nothing_taken(frail: Memcached, key: str, library: str) -> None:
    def mutex() -> MemcachedMutex:
        return MemcachedMutex(key, url=frail.url, library=library, timeout=BRIEF)

    with mutex():
        pass
    errors = mutex()._servers.home(f"_lock{key}").errors
    for trouble in (frail.kill, lambda: (frail.restart(), frail.pause())):
        trouble()
        # Were the front still taken, the second one would return False.
        for attempt in (lambda: mutex().acquire(timeout=PATIENCE), lambda: mutex().acquire(False), mutex().locked):
            began = time.monotonic()
            with pytest.raises(errors):
                attempt()
            assert time.monotonic() - began < PATIENCE / 2
        assert "unknown, since the server does not answer" in repr(mutex())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_server_that_restarts_has_forgotten_its_holders(frail: Memcached, key: str, library: str) -> None:
    held = MemcachedMutex(key, url=frail.url, library=library)
    held.acquire()
    frail.restart()
    assert not held.owned()
    lost_to_another(held)


def lost_to_another(held: MemcachedMutex) -> None:
    """Another process has it by now: a release says so, and takes nothing from that one."""
    server, name = held._servers.home(held._name), held._name
    assert server.add(name, b"elsewhere 1 0", 9)
    with pytest.raises(NotHeld):
        held.release()
    assert server.get_many([name]) == {name: b"elsewhere 1 0"}
    server.delete_many([name])


def test_a_server_that_dies_while_somebody_waits(frail: Memcached, key: str) -> None:
    held, waiter = (MemcachedMutex(key, url=frail.url) for _ in range(2))
    held.acquire()
    with ThreadPoolExecutor(1) as threads, Pipe() as waits:

        def wait() -> None:
            tell_of_waiting(waits)
            with pytest.raises(OSError, match=r"refused|closed|reset"):
                waiter.acquire(timeout=PATIENCE)

        with child(wait):
            waits.wait()
            frail.kill()
        with pytest.raises(OSError, match="refused"):
            held.release()
        frail.restart()
        assert threads.submit(waiter.acquire, timeout=PATIENCE).result(PATIENCE)
        waiter.release()


def test_a_server_that_pauses_is_waited_for_within_the_lease(frail: Memcached, key: str) -> None:
    held = MemcachedMutex(key, url=frail.url, timeout=BRIEF, lease=PATIENCE)
    held.acquire()
    frail.pause()
    lock = held._hold.token.lock
    lock.renew()
    assert lock.next_renewal < lock.ends
    frail.resume()
    lock.renew()
    assert held.owned()
    held.release()


def test_flush_and_eviction_are_noticed(mutex: Any, raw: Pool, key: str) -> None:
    for verb in ("owned", "renew", "release"):
        held = mutex()
        held.acquire()
        raw.delete_many([f"_lock{key}"])
        if verb == "owned":
            assert not held.owned()
        elif verb == "renew":
            assert not held._hold.token.lock._extend()
        lost_to_another(held)


def test_an_answer_that_is_lost(frail: Memcached, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has added the key, and the connection broke before it could say so."""
    held = MemcachedMutex(key, url=frail.url)
    pool = held._servers.home(f"_lock{key}")
    pool.get_many(["x"])
    link = pool._spare.idle[-1]

    def add(*args: Any) -> bool:
        monkeypatch.undo()
        type(link).add(link, *args)
        raise ConnectionResetError("by a test")

    monkeypatch.setattr(link, "add", add)
    held.acquire()
    assert held.owned()
    held.release()


@pytest.mark.parametrize("library", LIBRARIES)
def test_in_a_tolerated_outage_each_process_goes_on_alone(
    frail: Memcached, key: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers([frail.url], library, {"socket_timeout": BRIEF})
    outage = OutagePolicy("a store", "miss", Pool([frail.url], library, {}).errors, (OSError,))

    def mutex() -> MemcachedMutex:
        return MemcachedMutex(key, client=servers, outage=outage)

    with mutex() as held:
        assert held.owned()
        assert not mutex().acquire(False)
        frail.kill()
        assert not held.owned()
    assert outage.counts
    outage.counts.clear()
    with mutex() as alone:
        assert outage.counts
        assert not alone.owned()
        assert alone.fence is None
        assert not mutex().acquire(False)  # threads of this process exclude each other still
        assert mutex().locked() is False
    frail.restart()
    monkeypatch.setattr(outage, "_asks_again", 0.0)  # as if a second had passed
    with mutex() as held:
        assert held.owned()
