"""Servers that are none: one talks nonsense, and one is a real one whose answers come late.

Depends on threads, and on nothing of mpcache.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

Talk = Callable[[socket.socket], None]


class Impostor:
    """Listens on a port of loopback, and has a thread for each connection, until it is closed.

    :param talk: what is done with a connection; it ends when that is closed.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk, self._lines = talk, list[socket.socket]()
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._ear.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._ear.accept()
            except OSError:
                return
            self._lines.append(line)
            self._threads.append(threading.Thread(target=self._serve, args=(line,)))
            self._threads[-1].start()

    def _serve(self, line: socket.socket) -> None:
        with line:
            try:
                self._talk(line)
            except OSError:
                pass

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _shut(self._ear)
        self._threads[0].join()
        for line in self._lines:
            _shut(line)
        for thread in self._threads:
            thread.join()
        self._ear.close()


def _shut(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def nonsense(answer: bytes) -> Impostor:
    """One that gives this answer to whatever it is asked."""

    def talk(line: socket.socket) -> None:
        while line.recv(65536):
            line.sendall(answer)

    return Impostor(talk)


def late(port: int, by: float) -> Impostor:
    """One that passes on what it is asked, and the answers so many seconds after they have come."""

    def talk(line: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            asks = threading.Thread(target=_pass_on, args=(line, server, 0.0))
            asks.start()
            try:
                _pass_on(server, line, by)
            finally:
                _shut(line)
                asks.join()

    return Impostor(talk)


def _pass_on(one: socket.socket, other: socket.socket, delay: float) -> None:
    try:
        while said := one.recv(65536):
            time.sleep(delay)
            other.sendall(said)
    except OSError:
        pass
    _shut(other)
