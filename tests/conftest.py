"""Fixtures: stores, a clock that a test sets, threads whose exceptions reach the test, servers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache.api import Outcome
from mpcache.mutexes.base import Hold
from mpcache.mutexes.thread import ThreadMutex
from mpcache.testing.servers import Memcached, Redis, Server

HAS_SHM = all(importlib.util.find_spec(name) for name in ("mpcache.shm._engine", "mpcache.backends.shm"))
STORES = ["memory", "memory_pickle", *(["shm"] if HAS_SHM else []), "dbm", "redis", "pymemcache"]
BYTES_STORES = STORES[1:]
SHARED = [name for name in STORES if not name.startswith("memory")]
"""The stores that processes share."""

PATIENCE = 20.0
"""The most seconds that a test waits for an event."""


for ignored in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
    if signal.getsignal(ignored) == signal.SIG_IGN:  # inherited: by what a shell runs behind its back, or under nohup
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


class Store:
    """A kind of store: makes regions on one store, which no other test uses.

    :param request: the request of the test, for the servers.
    """

    def __init__(self, name: str, request: pytest.FixtureRequest) -> None:
        self.name = name
        self.arguments: dict[str, Any] = getattr(self, f"_{name}")(request)

    def region(self, region: dict[str, Any] | None = None, **configure: Any) -> mpcache.CacheRegion:
        configure.setdefault("arguments", self.arguments)
        return mpcache.make_region(**(region or {})).configure(f"mpcache.{self.name}", **configure)

    def close(self) -> None:
        """Remove everything that the store has left."""
        if self.name == "shm":
            from mpcache.shm import segment

            segment.unlink(self.arguments["name"])
        elif self.name == "dbm":
            shutil.rmtree(os.path.dirname(self.arguments["filename"]))

    def _memory(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"cache_dict": {}}

    _memory_pickle = _memory

    def _shm(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"name": f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}", "size": "8MB"}

    def _dbm(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"filename": os.path.join(tempfile.mkdtemp(prefix="mpcache-test-"), "cache.dbm")}

    def _redis(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        server: Redis = request.getfixturevalue("redis_server")
        _command(server, b"FLUSHALL\r\n")
        return {"url": server.url}

    def _pymemcache(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        server: Memcached = request.getfixturevalue("memcached_server")
        _command(server, b"flush_all\r\n")
        return {"url": server.url}


def _command(server: Server, what: bytes) -> None:
    """Send a server the command that removes what the last test has left: the server has one test at a time."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as line:
        line.sendall(what)
        assert line.recv(9).rstrip() in (b"+OK", b"OK")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Yield a store of each kind that keeps values."""
    store = Store(request.param, request)
    yield store
    store.close()


@pytest.fixture(params=BYTES_STORES)
def bytes_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Yield a store of each kind that keeps bytes."""
    store = Store(request.param, request)
    yield store
    store.close()


class Clock:
    """A clock in place of ``time.time``, which the test sets."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


class Waiters:
    """A mutex factory that counts the threads which wait for its mutexes."""

    def __init__(self) -> None:
        self._come = threading.Semaphore(0)
        self._factory = self._kind().for_region("")

    def __call__(self, key: Any) -> ThreadMutex:
        return self._factory(key)

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self._come.acquire(timeout=PATIENCE), "no thread waits"

    def _kind(self) -> type[ThreadMutex]:
        come = self._come

        class Telling(ThreadMutex):
            contending = False

            def _contend(self, hold: Hold, timeout: float | None) -> Outcome:
                self.contending = timeout != 0  # a try without waiting comes here, too
                try:
                    return super()._contend(hold, timeout)
                finally:
                    self.contending = False

            def _try(self, hold: Hold) -> Any:
                turn = super()._try(hold)
                if turn is not None and self.contending:
                    come.release()  # from here on it cannot miss the end of this creation
                return turn

        return Telling


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


@pytest.fixture
def spawn() -> Iterator[Callable[..., Future[Any]]]:
    """Return ``spawn(f, *args)``, which calls f in a thread; the result raises its exception."""
    with ThreadPoolExecutor(32) as pool:
        yield pool.submit


class Gate:
    """A creator that blocks until the test opens it, and counts its calls."""

    def __init__(self, outcome: Callable[[], Any] = lambda: "made") -> None:
        self.calls = 0
        self._outcome = outcome
        self._inside, self._open = threading.Semaphore(0), threading.Event()

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        self._inside.release()
        assert self._open.wait(PATIENCE), "the test did not open the gate"
        return self._outcome()

    def wait_for_entry(self) -> None:
        assert self._inside.acquire(timeout=PATIENCE), "the creator was not called"

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Callable[..., Gate]]:
    """Return ``gate(outcome)``; if the test fails, all gates are opened, so that no thread stays in one."""
    made: list[Gate] = []

    def make(outcome: Callable[[], Any] = lambda: "made") -> Gate:
        made.append(Gate(outcome))
        return made[-1]

    yield make
    for one in made:
        one.open()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """Start one server for all tests; a test that kills or stops a server starts its own."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Memcached]:
    """Start one server, as redis_server does."""
    with Memcached() as server:
        yield server


@pytest.fixture
def key() -> str:
    """Return a key that no other test uses, for servers that all tests share."""
    return f"key-{uuid.uuid4().hex}"


def in_time(what: Callable[[], Any]) -> bool:
    """Poll until the condition is true; return False if it is not in time."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs, and become another user")


@pytest.fixture
def small_tmpfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Yield ``small_tmpfs("6m")``: from then on segments are in a tmpfs of that size.  Request it before segments."""
    mounted: list[Path] = []

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={options},mode=1777", "tmpfs", tmp_path], check=True)
        mounted.append(tmp_path)
        monkeypatch.setenv("MPCACHE_SHM", str(tmp_path))

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)
