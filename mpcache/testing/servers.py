"""Real redis and memcached servers for tests and demos: they can be started, stopped, killed and restarted.

Depends on exception, and on ``/bin/sh``; on no driver, and not on pytest.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import ClassVar, TypeVar

from mpcache._support.durations import plain
from mpcache.exception import DogpileCacheException

PATIENCE = 20.0
"""Seconds after which a server that does not answer counts as failed."""

_PORTS = 5
"""Number of ports to try: another process may bind a free port before the server does."""

# Prints the pid before the server starts, so that the watcher knows every server.
_ANNOUNCE = 'echo $$; log=$1; shift; exec "$@" >>"$log" 2>&1 </dev/null'

# Reads the pid of the present server, until all writers have closed the pipe; then kills the server.
_WATCH = """
while read -r line; do server=$line; done
[ -z "$server" ] || kill -9 "$server"
for try in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$1" && break; sleep 0.1; done
"""

_S = TypeVar("_S", bound="Server")


class NoServer(DogpileCacheException, OSError):
    """A server is not installed, or does not start."""


class Server:
    """A server on loopback, with a directory of its own that is removed with it.

    ::

        this process ---- line ----> watcher (sh) ---- kill -9, rm -r ----> server, directory

    The watcher ends both when the other end of the line is closed: by :meth:`end`, by the garbage collector, or
    by the kernel when this process dies, however it dies.  A forked child closes its copy of the line, and only
    its parent can end the server.

    :param options: arguments for the server's command line, after the usual ones.
    :raises NoServer: it is not installed, or does not start; the text has the end of its log.
    """

    program: ClassVar[str]
    package: ClassVar[str]
    """Debian's package of the program."""
    hello: ClassVar[bytes]
    """A request that the server answers, even with an error."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._line = -1
        self._process: subprocess.Popen[bytes] | None = None
        found = shutil.which(self.program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
        if found is None:
            raise NoServer(f"{self.program} is not installed; on Debian and Ubuntu: apt install {self.package}")
        self._found = found
        self.directory = Path(tempfile.mkdtemp(prefix="mpcache-"))
        self._watch()
        for _ in range(_PORTS):
            self.port = _free_port()
            if self._began():
                return
        said = self._said()
        self.end()
        raise NoServer(f"{found} does not start on 127.0.0.1; it said: {said}")

    # -- for subclasses ------------------------------------------------------------------------------

    def _words(self) -> list[str]:
        """Return its command line, without the program and the options."""
        raise NotImplementedError

    def _address(self) -> tuple[int, str | tuple[str, int]]:
        """Return family and address of the socket that the server opens last, to check whether it is up."""
        return socket.AF_INET, ("127.0.0.1", self.port)

    # -- its life --------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Return the pid of the present server.  Raises NoServer: there is none."""
        if self._process is None:
            raise NoServer(f"{self!r} has no process; start it again with restart()")
        return self._process.pid

    def ended(self) -> int | None:
        """Return the exit status of a server that has ended by itself, or was killed; None: it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """Send SIGKILL, even to a paused server, and reap it.  May be called again."""
        if self._process is not None and self._line >= 0:
            self._process.kill()
            self._process.wait()
            self._process = None
            os.write(self._line, b"\n")

    def pause(self) -> None:
        """Send SIGSTOP, and wait until it is stopped: its port still accepts connections, but nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Send SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill it if it runs, and start it again on the same ports, empty."""
        self.kill()
        if not self._began():
            raise NoServer(f"{self!r} does not start again; it said: {self._said()}")

    def end(self) -> None:
        """Kill it, and remove its directory.  May be called again; does nothing in a forked child."""
        if self._line >= 0:
            self.kill()
            os.close(self._line)
            self._line = -1
            self._watcher.wait()

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def __del__(self) -> None:
        if self._line >= 0:
            self.end()

    def __repr__(self) -> str:
        state = "not running" if self._process is None else f"pid {self._process.pid}"
        return f"<{type(self).__name__} 127.0.0.1:{self.port} {state}>"

    # -- its start -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        ours, self._line = os.pipe()
        _ours.add(self)
        words = ["sh", "-c", _WATCH, "sh", str(self.directory)]
        self._watcher = subprocess.Popen(words, stdin=ours, start_new_session=True)
        os.close(ours)

    def _began(self) -> bool:
        """Start it and wait until it answers; return False if it has ended before."""
        words = ["sh", "-c", _ANNOUNCE, "sh", str(self._log), self._found, *self._words(), *self._options]
        self._process = subprocess.Popen(words, stdout=self._line, cwd=self.directory, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                self.kill()
                return False
            if time.monotonic() > deadline:
                said = self._said()
                self.kill()
                raise NoServer(f"{self!r} does not answer after {plain(PATIENCE)} s; it said: {said}")
            time.sleep(0.005)
        return True

    def _answers(self) -> bool:
        family, address = self._address()
        with socket.socket(family) as mine:
            mine.settimeout(1.0)
            try:
                mine.connect(address)
                mine.sendall(self.hello)
                return bool(mine.recv(1))
            except OSError:
                return False

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _said(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return " / ".join(text.split("\n")[-8:]).strip(" /") or "nothing"


class Redis(Server):
    """redis-server without persistence, on a port and on a unix socket.

    ::

        with Redis("--maxmemory", "4mb") as server:
            redis.Redis.from_url(server.url)
    """

    program = "redis-server"
    package = "redis-server"
    hello = b"PING\r\n"

    @property
    def socket(self) -> str:
        """Path of its unix socket."""
        return str(self.directory / "socket")

    @property
    def url(self) -> str:
        """URL of its port, for drivers."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """URL of its unix socket, for drivers."""
        return f"unix://{self.socket}"

    def _words(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", self.socket]
        return [*where, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def _address(self) -> tuple[int, str | tuple[str, int]]:
        return socket.AF_UNIX, self.socket


class Memcached(Server):
    """memcached, on a port or on a unix socket; it cannot have both.

    :param unix: use a unix socket.
    """

    program = "memcached"
    package = "memcached"
    hello = b"version\r\n"

    def __init__(self, *options: str, unix: bool = False) -> None:
        self._unix = unix
        super().__init__(*options)

    @property
    def socket(self) -> str:
        """Path of its unix socket."""
        return str(self.directory / "socket")

    @property
    def url(self) -> str:
        """Return its address for drivers: ``host:port``, or the path of the socket."""
        return self.socket if self._unix else f"127.0.0.1:{self.port}"

    def _words(self) -> list[str]:
        where = ["-s", self.socket] if self._unix else ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0"]
        return [*where, *(["-u", getpass.getuser()] if os.geteuid() == 0 else [])]

    def _address(self) -> tuple[int, str | tuple[str, int]]:
        return (socket.AF_UNIX, self.socket) if self._unix else super()._address()


def _free_port() -> int:
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        port: int = mine.getsockname()[1]
        return port


_ours: weakref.WeakSet[Server] = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    for server in list(_ours):
        if server._line >= 0:
            os.close(server._line)
            server._line = -1


os.register_at_fork(after_in_child=_leave_to_the_parent)
