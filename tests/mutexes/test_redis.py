"""The redis mutex: what it has of its own, against servers that are stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import valkey
from redis.crc import key_slot

from mpcache import mutexes
from mpcache._servers.redis import client as clients
from mpcache._servers.redis import names as names_of_redis
from mpcache.api import Outcome
from mpcache.exception import DeadlockError, NotHeld
from mpcache.mutexes.redis import RedisLock, RedisMutex, ValkeyMutex
from mpcache.testing.helpers import PATIENCE, Pipe, child
from mpcache.testing.servers import Redis
from tests.conftest import in_time

SHORT = 0.5
"""Seconds of a lease that a test sees the end of."""


@pytest.fixture
def mutex(redis_server: Redis, key: str) -> Callable[..., RedisMutex]:
    """``mutex(**arguments)``: another one of the same key."""
    return lambda kind=RedisMutex, **arguments: kind(key, **{"url": redis_server.url, **arguments})


@pytest.fixture
def raw(redis_server: Redis) -> Iterator[Any]:
    """The server itself."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def frail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A server to be maltreated, and little patience with it."""
    monkeypatch.setattr(clients, "TIMEOUT", 0.3)
    with Redis() as server:
        yield server


def waits(raw: Any, key: str, number: int = 1) -> bool:
    """Return whether a waiter listens for the release of a key."""
    return in_time(lambda: raw.pubsub_numsub(f"_lock{key}")[0][1] == number)


def tell_of_listening(listens: Pipe) -> None:
    """In a child: each time that it listens, and has looked since it listens."""
    hear = RedisLock._hear

    def told(lock: RedisLock, most: float) -> Outcome | None:
        listens.tell()
        return hear(lock, most)

    RedisLock._hear = told  # type: ignore[method-assign]


# -- holding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RedisMutex, ValkeyMutex])
@pytest.mark.parametrize("by", ["url", "unix_url"])
def test_it_excludes(redis_server: Redis, mutex: Any, kind: type[RedisMutex], by: str) -> None:
    url = getattr(redis_server, by)
    one, other = mutex(kind, url=url), mutex()
    assert [one.locked(), one.acquire(), one.locked(), other.locked()] == [False, True, True, True]
    assert other.acquire(False) is False
    assert repr(other).endswith(f"held by pid {os.getpid()} on {os.uname().nodename}>")
    assert one.owned()
    assert not other.owned()
    one.release()
    assert repr(other).endswith("free>")
    with other:
        assert not one.acquire(False)


def test_by_its_names() -> None:
    assert mutexes.resolve("redis") is mutexes.RedisMutex is RedisMutex
    assert mutexes.resolve("valkey") is mutexes.ValkeyMutex is ValkeyMutex


def test_fences_grow_also_when_the_servers_clock_was_set_back(mutex: Any, raw: Any) -> None:
    assert mutex().fence is None
    seen = []
    for _ in range(3):
        with mutex() as held:
            seen.append(held.fence)
    raw.set("mpcache:fence", seen[-1] + 10**15)  # as if it were thirty years later
    with mutex() as held:
        seen.append(held.fence)
    assert seen == sorted(set(seen))
    assert seen[-1] == seen[-2] + 10**15 + 1
    raw.delete("mpcache:fence")
    with mutex() as held:
        assert seen[-2] < held.fence < seen[-1]


def test_a_task_does_not_wait_for_itself(mutex: Any) -> None:
    with mutex(), pytest.raises(DeadlockError):
        mutex().acquire()


def test_keys_of_other_namespaces_and_databases_are_other_keys(redis_server: Redis, mutex: Any) -> None:
    others = [{"namespace": "theirs"}, {"url": f"{redis_server.url}/1"}, {"prefix": "_other"}]
    with mutex():
        for arguments in others:
            with mutex(**arguments):
                assert not mutex(**arguments).acquire(False)


def test_a_namespace_ends_where_it_ends(redis_server: Redis, key: str) -> None:
    with RedisMutex("c", url=redis_server.url, namespace=f"{key}:b"):
        other = RedisMutex("b:c", url=redis_server.url, namespace=key)
        assert other.acquire(False)
        other.release()


def test_what_cannot_be(mutex: Any) -> None:
    for wrong in ({"lease": 0}, {"poll": -1.0}, {"lease": float("nan")}):
        with pytest.raises(ValueError, match="must be more than 0"):
            mutex(**wrong)


def test_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkey", None)
    with pytest.raises(ImportError, match=r"pip install 'mpcache\[valkey\]'"):
        ValkeyMutex("k", url="redis://127.0.0.1:1")


@pytest.mark.parametrize("how", ["decodes", "has one connection"])
def test_a_client_of_the_users(redis_server: Redis, mutex: Any, how: str) -> None:
    def client() -> Any:
        if how == "decodes":
            return redis.Redis.from_url(redis_server.url, decode_responses=True)
        return redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(redis_server.url, max_connections=1))

    with Pipe() as listens:

        def wait() -> None:
            tell_of_listening(listens)
            waiter = mutex(client=client(), poll=PATIENCE)
            assert "held by pid" in repr(waiter)
            assert waiter.contend(PATIENCE) is Outcome.RELEASED
            with waiter:
                assert waiter.owned()

        held = mutex(client=client())
        held.acquire()
        with child(wait):
            listens.wait()
            held.release()


def test_a_server_that_forgets_its_scripts(mutex: Any, raw: Any) -> None:
    for _ in range(2):
        raw.script_flush()
        with mutex() as held:
            raw.script_flush()
            assert held.owned()
            raw.script_flush()


def test_a_step_that_is_repeated_since_no_answer_came(mutex: Any) -> None:
    lock = mutex()._process_lock()
    assert [lock._acquire_at_server(), lock._acquire_at_server()] == [True, True]
    assert mutex()._process_lock()._acquire_at_server() is False
    assert lock._release_at_server(True)


def test_a_user_who_may_not_publish(redis_server: Redis, mutex: Any, raw: Any) -> None:
    raw.acl_setuser("mute", enabled=True, nopass=True, keys=["*"], commands=["+@all"], reset_channels=True)
    mute = redis_server.url.replace("//", "//mute@")
    held, waiter = mutex(url=mute), mutex(kind=ValkeyMutex, url=mute, poll=0.02)
    held.acquire()
    lock = waiter._process_lock()
    assert lock.acquire() is False
    assert [lock.wait(1.0), lock._bell] == [None, False]  # it may not listen either, and polls
    held.release()
    assert lock.acquire() is True
    lock.release(True)


def test_ten_thousand_keys_leave_nothing_that_stays() -> None:
    with Redis() as server, redis.Redis.from_url(server.url) as raw:
        for number in range(10_000):
            mutex = RedisMutex(f"key {number}", url=server.url)
            mutex.acquire()
            if number % 10:
                mutex.release()
            else:
                mutex._hold = None  # type: ignore[assignment]
        left = raw.keys()
        assert len(left) <= 1001
        assert all(raw.pttl(name) > 0 for name in left)


# -- waiting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_who_waits_elsewhere_hears_what_came_of_it(mutex: Any, raw: Any, key: str, stored: bool) -> None:
    mine = mutex()
    mine.acquire()
    with Pipe() as listens:

        def contend() -> None:
            tell_of_listening(listens)
            outcome = mutex(poll=PATIENCE).contend(PATIENCE)
            assert outcome is (Outcome.RELEASED if stored else Outcome.UNSTORED), outcome

        with child(contend):
            listens.wait()
            mine.release(stored)
    assert waits(raw, key, 0)


def test_a_release_that_was_another_ones_is_no_news(mutex: Any, raw: Any, key: str) -> None:
    with mutex():
        lock = mutex(poll=PATIENCE)._process_lock()
        assert lock.acquire() is False
        assert lock.wait(PATIENCE) is None  # now it listens
        raw.publish(f"_lock{key}", uuid.uuid4().hex + "0")
        assert lock.wait(PATIENCE) is None
        lock.stop_waiting()


def test_hand_off_to_another_process(mutex: Any, raw: Any, key: str) -> None:
    took = []
    read, write = os.pipe()
    with Pipe() as released:

        def waiter() -> None:
            for _ in range(15):
                with mutex(poll=PATIENCE):
                    os.write(write, b"%16.6f" % time.monotonic())
                released.wait()

        mine = mutex()
        mine.acquire()
        with child(waiter):
            for _ in range(15):
                assert waits(raw, key)
                at = time.monotonic()
                mine.release()
                took.append(float(os.read(read, 16)) - at)
                assert mine.acquire(timeout=PATIENCE)
                released.tell()
        mine.release()
    os.close(read)
    os.close(write)
    assert statistics.median(took) < 0.020, took


def test_no_wait_is_longer_than_its_bound(mutex: Any) -> None:
    with mutex(), ThreadPoolExecutor(1) as threads:
        for wait in (0.01, 0):
            bounded = mutex(blocking_timeout=wait)
            assert threads.submit(bounded.acquire, timeout=PATIENCE * 10).result(PATIENCE) is False
            assert threads.submit(bounded.contend).result(PATIENCE) is Outcome.TIMEOUT


# -- leases --------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_as_long_as_its_holder_lives(mutex: Any, raw: Any, key: str) -> None:
    held = mutex(lease=SHORT)
    held.acquire()
    lock = held._hold.token.lock
    first = lock.ends
    assert in_time(lambda: lock.ends > first + 3 * SHORT)
    assert held.owned()
    assert not mutex().acquire(False)
    assert 0 < raw.pttl(f"_lock{key}") <= SHORT * 1000
    held.release()


def test_stopped_for_longer_than_its_lease(mutex: Any) -> None:
    with Pipe() as held, Pipe() as lost:

        def holder() -> None:
            mine = mutex(lease=SHORT)
            mine.acquire()
            held.tell()
            lost.wait()
            assert not mine.owned()
            with pytest.raises(NotHeld, match=r"has lost it; its lease of 0\.5 s lapsed"):
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


def test_the_dead_are_inherited_from_within_a_lease(mutex: Any, redis_server: Redis) -> None:
    """Twenty holders are killed at once; each key is had a lease and a second later."""
    keys, lease = [uuid.uuid4().hex for _ in range(20)], 1.0

    def hold(some: list[str]) -> None:
        mine = [RedisMutex(key, url=redis_server.url, lease=lease) for key in some]
        for one in mine:
            one.acquire()
        holding.tell()
        signal.pause()

    def inherit(key: str) -> float:
        heir = RedisMutex(key, url=redis_server.url)
        assert heir.acquire(timeout=PATIENCE)
        took = time.monotonic() - died
        heir.release()
        return took

    with Pipe() as holding:
        crew = [child(lambda some=keys[at::4]: hold(some), ends_by=signal.SIGKILL) for at in range(4)]
        pids = [one.__enter__() for one in crew]
        for _ in crew:
            holding.wait()
        died = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with ThreadPoolExecutor(len(keys)) as threads:
            took = list(threads.map(inherit, keys))
        for one in crew:
            one.__exit__(None, None, None)
    assert max(took) <= lease + 1, took


# -- trouble with the server ---------------------------------------------------------------------------


def test_killed_while_it_is_held(frail: Redis, caplog: pytest.LogCaptureFixture) -> None:
    mutex = RedisMutex("k", url=frail.url, lease=SHORT)
    mutex.acquire()
    frail.kill()
    with pytest.raises(redis.ConnectionError):
        mutex.owned()
    assert in_time(lambda: any("its lease has lapsed" in line for line in caplog.messages))
    assert any("its lease could not be renewed and ends in" in line for line in caplog.messages)
    assert "unknown, since the server does not answer: ConnectionError" in repr(RedisMutex("k", url=frail.url))
    with pytest.raises(redis.ConnectionError):
        mutex.release()
    with pytest.raises(redis.ConnectionError):
        mutex.acquire(False)
    frail.restart()
    with RedisMutex("k", url=frail.url) as again:  # the front of this process is free, too
        assert again.owned()


def test_restarted_while_it_is_held(frail: Redis) -> None:
    mutex = RedisMutex("k", url=frail.url)
    mutex.acquire()
    frail.restart()
    assert not mutex.owned()
    with RedisMutex("k", url=frail.url, namespace="other"):
        pass
    with pytest.raises(NotHeld):
        mutex.release()


def test_killed_while_it_is_waited_for(frail: Redis) -> None:
    with Pipe() as waiting, Pipe() as killed:

        def wait() -> None:
            mutex = RedisMutex("k", url=frail.url, poll=PATIENCE)
            waiting.tell()
            with pytest.raises(redis.ConnectionError):
                mutex.acquire(timeout=PATIENCE)
            killed.wait()
            assert mutex.acquire(timeout=PATIENCE)  # of the server that was started again
            mutex.release()

        held = RedisMutex("k", url=frail.url)
        held.acquire()
        with redis.Redis.from_url(frail.url) as raw, child(wait):
            waiting.wait()
            assert waits(raw, "k")
            frail.kill()
            frail.restart()
            killed.tell()
        with pytest.raises(NotHeld):
            held.release()


@pytest.mark.parametrize("kind", [(RedisMutex, redis), (ValkeyMutex, valkey)])
def test_paused(frail: Redis, kind: Any) -> None:
    mutex = kind[0]("k", url=frail.url, lease=SHORT)
    mutex.acquire()
    frail.pause()
    other = kind[0]("other", url=frail.url)
    for act, error in [
        (mutex.owned, kind[1].TimeoutError),
        (mutex.release, TimeoutError),  # the server is not asked again so soon
        (lambda: other.acquire(timeout=PATIENCE), kind[1].TimeoutError),
    ]:
        began = time.monotonic()
        with pytest.raises(error):
            act()
        assert time.monotonic() - began < PATIENCE / 2
    frail.resume()
    assert in_time(lambda: not mutex.locked())  # what was released is not renewed
    with mutex, kind[0]("other", url=frail.url):
        pass


# -- with others ---------------------------------------------------------------------------------------


def test_a_fork_while_it_is_held(mutex: Any, raw: Any) -> None:
    held = mutex()
    held.acquire()
    mine = held._client.client_id()

    def work() -> None:
        assert not held.owned()
        with pytest.raises(NotHeld, match="before fork"):
            held.release()
        other = mutex()
        assert other._client is not held._client
        assert other._client.client_id() != mine
        assert not other.acquire(False)
        del held._hold  # as when the child forgets it

    for _ in range(3):
        with child(work):
            assert held.owned()
    assert held._client.client_id() == mine
    held.release()


def test_dogpile_cache_and_we_exclude_each_other(redis_server: Redis, mutex: Any, key: str) -> None:
    from dogpile.cache import make_region

    arguments = {"url": redis_server.url, "distributed_lock": True, "thread_local_lock": False, "lock_timeout": 60}
    theirs = make_region().configure("dogpile.cache.redis", arguments=arguments).backend.get_mutex(key)
    with mutex():
        assert not theirs.acquire(False)
    assert theirs.acquire(False)
    ours = mutex()
    assert not ours.acquire(False)
    assert repr(ours).endswith("held by another program>")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ours.acquire, timeout=PATIENCE)
        theirs.release()
        assert waiting.result(PATIENCE)
    assert not theirs.acquire(False)
    ours.release()


@pytest.mark.parametrize("text", ["", "x", "held by another program"])
def test_silence_is_no_release_whatever_the_lock_holds(mutex: Any, raw: Any, key: str, text: str) -> None:
    raw.set(f"_lock{key}", text)
    assert mutex(poll=0.01).contend(0.1) is Outcome.TIMEOUT


def test_names_in_a_cluster_lie_in_the_slot_of_the_value() -> None:
    keys = ["k", "", "{tag}k", "{}k", "a}b{c", "{a}{b}", "{", "é{ü}", "{{a}}", "x" * 300, "_lockk"]
    for key in keys:
        slot = names_of_redis.slot_of(key.encode())
        assert slot == key_slot(key.encode())
        for namespace in ("", "n{}", "{x}"):
            names = names_of_redis.names_of(key, "_lock", namespace, clustered=True)
            assert [key_slot(name) for name in names] == [slot, slot]
    locks = {names_of_redis.names_of(key, "_lock", "", clustered=True)[0] for key in keys}
    assert len(locks) == len(keys)
    assert names_of_redis.names_of(b"k", "_lock", "", clustered=False)[0] == b"_lockk"


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time, gevent
from mpcache.mutexes.redis import RedisMutex

gaps, inside, order = [], 0, []

def tick():
    last = time.monotonic()
    while True:
        gevent.sleep(0.005)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()

def work(number):
    global inside
    with RedisMutex("k", url=sys.argv[1], lease=0.3):
        inside += 1
        assert inside == 1
        gevent.sleep(0.05 if number else 0.7)  # over its lease, which is renewed
        inside -= 1
        order.append(number)

ticking = gevent.spawn(tick)
held = RedisMutex("other", url=sys.argv[1])
held.acquire()
gevent.joinall([gevent.spawn(work, number) for number in range(6)], raise_error=True, timeout=20)
assert sorted(order) == list(range(6)), order
assert not RedisMutex("other", url=sys.argv[1]).acquire(False)
held.release()
gaps.sort()
print(gaps[len(gaps) // 2])
"""


def test_under_gevent(redis_server: Redis) -> None:
    said = subprocess.run([sys.executable, "-c", GEVENT, redis_server.url], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    assert float(said.stdout) < 0.05  # the hub was not blocked
