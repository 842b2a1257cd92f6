"""The servers that other tests use: they answer, die, restart, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpcache.testing import servers
from mpcache.testing.helpers import PATIENCE, Pipe, child
from mpcache.testing.servers import Memcached, NoServer, Redis, Server


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def in_time(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def ask(server: Server, timeout: float = PATIENCE) -> bytes:
    """Return the server's answer to a greeting, on its port."""
    with socket.create_connection(("127.0.0.1", server.port), timeout) as mine:
        mine.sendall(server.hello)
        return mine.recv(100)


@pytest.fixture(params=[Redis, Memcached])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param() as server:
        yield server


GREETINGS = {Redis: b"+PONG", Memcached: b"VERSION"}


def test_killed_and_restarted(server: Server) -> None:
    greeting, port, first = GREETINGS[type(server)], server.port, server.pid
    assert ask(server).startswith(greeting)
    assert f"127.0.0.1:{port} pid {first}" in repr(server)
    server.kill()
    server.kill()
    assert not lives(first)
    with pytest.raises(ConnectionRefusedError):
        ask(server)
    with pytest.raises(NoServer, match="restart"):
        server.pause()
    server.restart()
    assert ask(server).startswith(greeting)
    assert (server.port, server.pid) != (port, first)
    assert server.port == port


def test_paused(server: Server) -> None:
    server.pause()
    with pytest.raises(TimeoutError):
        ask(server, 0.2)
    server.resume()
    assert ask(server).startswith(GREETINGS[type(server)])
    server.pause()
    server.end()
    assert not server.directory.exists()


def test_on_a_socket_of_the_file_system() -> None:
    with Memcached(unix=True) as memcached, Redis() as redis:
        for path, hello in [(memcached.url, Memcached.hello), (redis.socket, Redis.hello)]:
            with socket.socket(socket.AF_UNIX) as mine:
                mine.settimeout(PATIENCE)
                mine.connect(path)
                mine.sendall(hello)
                assert mine.recv(1)
        assert redis.unix_url == f"unix://{redis.socket}"


def test_options_are_the_servers() -> None:
    with Redis("--requirepass", "secret") as server:
        assert ask(server).startswith(b"-NOAUTH")


def test_a_server_that_does_not_start_tells_why() -> None:
    with pytest.raises(NoServer, match="nonsense"):
        Redis("--nonsense", "1")


def test_a_server_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Redis, "program", "redis-swerver")
    with pytest.raises(NoServer, match=r"redis-swerver is not installed; .* apt install redis-server"):
        Redis()


def test_a_port_that_is_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = iter([other.getsockname()[1], servers._free_port()])
        monkeypatch.setattr(servers, "_free_port", lambda: next(ports))
        with Redis() as server:
            assert ask(server).startswith(b"+PONG")


def test_a_forked_child_does_not_end_it_nor_keep_it(server: Server) -> None:
    with child(server.end):
        pass
    assert ask(server)
    with Pipe() as over, child(over.wait):
        server.end()  # would wait as long as the child lives, if the child had inherited the connection
        over.tell()


def test_it_ends_with_the_one_that_has_dropped_it() -> None:
    server = Redis()
    pid, directory = server.pid, server.directory
    del server
    assert in_time(lambda: not lives(pid) and not directory.exists())


OWNER = """
import signal, sys
from mpcache.testing.servers import Memcached, Redis
servers = [Redis(), Memcached()]
for server in servers:
    print(server.pid, server._watcher.pid, server.directory)
servers[0].pause()
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_its_parent(end: int) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout is not None
    with owner:
        said = [line.split() for line in iter(owner.stdout.readline, "ready\n")]
        assert [lives(int(server)) for server, _, _ in said] == [True, True]
        owner.send_signal(end)
        owner.wait(PATIENCE)
    pids = [int(pid) for line in said for pid in line[:2]]
    assert in_time(lambda: not any(map(lives, pids)))
    assert not any(os.path.exists(directory) for *_, directory in said)
