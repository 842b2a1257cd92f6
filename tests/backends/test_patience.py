"""No call waits for longer than creation_wait and a few time-outs, however many keys it is for: not for servers that
stand still, talk nonsense, or take their time for each answer.

Depends on impostors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mpcache
from mpcache._region import creation_multi as multi
from mpcache.api import NO_VALUE
from mpcache.exception import LockTimeout
from mpcache.testing.helpers import PATIENCE
from mpcache.testing.servers import Memcached, Redis, Server
from tests.backends.impostors import late, nonsense

CLIENTS = ("redis", "valkey", "pymemcache", "pylibmc", "memcached", "bmemcached")

BRIEF = 0.3
"""Seconds for which a server that does not answer is waited for."""

WAIT = 0.5
"""Seconds of creation_wait."""

BOUND = WAIT + 12 * BRIEF
"""Seconds: a call asks several things, one after the other, each of which may be left without an answer."""

KEYS = [f"key {number}" for number in range(60)]
"""A time-out for each would be four times the bound."""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(client: str) -> Iterator[Server]:
    """One of its kind, to be maltreated."""
    with Redis() if client in ("redis", "valkey") else Memcached() as server:
        yield server


def on(client: str, port: int, on_error: str = "raise", lease: float = 10.0) -> mpcache.CacheRegion:
    arguments: dict[str, Any] = {"on_error": on_error, "socket_timeout": BRIEF, "lock_timeout": lease}
    if client in ("redis", "valkey"):
        arguments |= {"host": "127.0.0.1", "port": port, "socket_connect_timeout": BRIEF}
    else:
        arguments |= {"url": f"127.0.0.1:{port}"}
    return mpcache.make_region().configure(f"mpcache.{client}", arguments=arguments, creation_wait=WAIT)


@contextlib.contextmanager
def in_bounds(more: float = 0.0) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND + more


def ask_each_way(client: str, port: int) -> None:
    """One key and many; where trouble is forgiven all have a value, otherwise an error, that of the library."""
    one: Callable[[mpcache.CacheRegion], Any] = lambda region: region.get_or_create("key", lambda: "made")  # noqa: E731
    many: Callable[[mpcache.CacheRegion], Any] = lambda region: region.get_or_create_multi(KEYS, made)  # noqa: E731
    for ask, value in ((one, "made"), (many, KEYS)):
        with in_bounds(), pytest.raises(Exception) as raised:
            ask(on(client, port))
        assert not isinstance(raised.value, AssertionError)
        with in_bounds():
            assert ask(on(client, port, "miss")) == value


def made(*keys: str) -> list[str]:
    return list(keys)


def test_a_server_that_stands_still(client: str, server: Server) -> None:
    server.pause()
    ask_each_way(client, server.port)


@pytest.mark.parametrize("answer", [b"nonsense\r\n", b"nonsense", b"\0" * 64], ids=["a line", "no line", "zeros"])
def test_a_server_that_talks_nonsense(client: str, answer: bytes) -> None:
    with nonsense(answer) as impostor:
        ask_each_way(client, impostor.port)


_OF_REDIS = (
    *(b"$x\r\n", b"*x\r\n", b":1\r\n", b",x\r\n", b"$5\r\nhello\r\n", b"-MOVED 1 2\r\n"),
    b"*2\r\n:1\r\n$1\r\nx\r\n",
)
_OF_MEMCACHED = (
    *(b"VALUE\r\n", b"VALUE key 0 x\r\n", b"VALUE key x 1\r\nv\r\nEND\r\n", b"VALUE key 0 -5\r\nEND\r\n"),
    *(b"VALUE other 0 1\r\nv\r\nEND\r\n", b"VALUE key 0 1\r\nv\r\nEND\r\n", b"VALUE key 0 1 x\r\nv\r\nEND\r\n"),
    *(b"\x81" + bytes(23), b"\x81" + b"\0" * 7 + b"\0\0\0\x01" + bytes(12) + b"v"),
)


def test_a_server_that_talks_nonsense_in_its_own_tongue(client: str) -> None:
    """Drivers stumble over it in many ways, each with an exception that is none of their own."""
    for answer in _OF_REDIS if client in ("redis", "valkey") else _OF_MEMCACHED:
        with nonsense(answer) as impostor:
            region = on(client, impostor.port, "miss")
            with in_bounds():
                assert region.get("key") is NO_VALUE
                assert region.get_multi(["key", "other"]) == [NO_VALUE] * 2
            with in_bounds(), contextlib.suppress(LockTimeout):  # some of it reads as if another had the key
                assert region.get_or_create("key", lambda: "made") == "made"
            with in_bounds(), contextlib.suppress(LockTimeout):
                assert region.get_or_create_multi(KEYS[:3], made) == KEYS[:3]


@pytest.mark.parametrize("on_error", ["raise", "miss"])
def test_a_server_that_takes_its_time_to_say_that_another_has_it(
    client: str, server: Server, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi, "GRACE", 0.0)
    held = [on(client, server.port).backend.get_mutex(key) for key in ("key", *KEYS)]
    for mutex in held:
        mutex.acquire()
    with late(server.port, BRIEF / 5) as slow:
        region = on(client, slow.port, on_error)
        for ask in (lambda: region.get_or_create("key", never), lambda: region.get_or_create_multi(KEYS, never)):
            with in_bounds(), pytest.raises(LockTimeout, match=r"was not released within 0\.5 s"):
                ask()
    for mutex in held:
        mutex.release()


def test_a_server_that_takes_its_time_to_say_that_another_renews_them(
    client: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi, "GRACE", 0.0)
    others = on(client, server.port)
    others.set_multi(dict(zip(KEYS, KEYS, strict=True)))
    held = [others.backend.get_mutex(key) for key in KEYS]
    for mutex in held:
        mutex.acquire()
    with late(server.port, BRIEF / 5) as slow, in_bounds():
        assert on(client, slow.port).get_or_create_multi(KEYS, never, expiration_time=-1e-9) == KEYS
    for mutex in held:
        mutex.release()


def never(*keys: str) -> Any:
    raise AssertionError("another has it")


@pytest.mark.parametrize("on_error", ["raise", "miss"])
def test_a_server_that_stops_while_many_are_created(client: str, server: Server, on_error: str) -> None:
    """Whether each is still held, its fill, its release: for none of them the server is waited for sixty times."""
    region = on(client, server.port, on_error, lease=1.0)

    def stop(*keys: str) -> list[str]:
        server.pause()
        return list(keys)

    with in_bounds():
        assert region.get_or_create_multi(KEYS, stop) == KEYS
    server.resume()
    others = on(client, server.port)  # what was not returned is not renewed, either
    assert others.actual_backend.get_mutex(KEYS[-1]).acquire(timeout=PATIENCE)
