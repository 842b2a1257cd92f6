"""Segments to try things on, and forked children that answer."""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mpcache.shm import _engine, segment

PATIENCE = 20.0


@pytest.fixture
def name() -> Iterator[str]:
    """A segment name that no test uses; whatever has it afterwards is removed."""
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield name
    segment.unlink(name)


@pytest.fixture
def found(name: str) -> segment.Segment:
    """A segment of 4 MiB with one shard."""
    return segment.attach(name, "4MB")


@pytest.fixture
def space(found: segment.Segment) -> _engine.Namespace:
    return found.engine.namespace("")


class Child:
    """A forked child that does one thing after the other and sends what came of each."""

    def __init__(self, act: Callable[[Callable[[Any], None]], Any]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            self._be(act, write)
        os.close(write)
        self._bytes = b""
        self._reaped = False

    def _be(self, act: Callable[[Callable[[Any], None]], Any], write: int) -> None:
        def send(what: Any) -> None:
            data = pickle.dumps(what)
            os.write(write, len(data).to_bytes(4, "big") + data)

        try:
            send(act(send))
        except BaseException:
            send(RuntimeError(traceback.format_exc()))
        finally:
            os._exit(0)

    def next(self, patience: float = PATIENCE) -> Any:
        """What it sent next."""
        while len(self._bytes) < 4 or len(self._bytes) < 4 + int.from_bytes(self._bytes[:4], "big"):
            assert select.select([self._read], [], [], patience)[0], "the child sent nothing"
            got = os.read(self._read, 1 << 16)
            assert got, "the child is gone"
            self._bytes += got
        size = int.from_bytes(self._bytes[:4], "big")
        data, self._bytes = self._bytes[4 : 4 + size], self._bytes[4 + size :]
        what = pickle.loads(data)
        if isinstance(what, RuntimeError):
            raise what
        return what

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.reap()

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.pid, which)

    def reap(self) -> None:
        if not self._reaped:
            os.waitpid(self.pid, 0)
            self._reaped = True
            os.close(self._read)


@pytest.fixture
def fork() -> Iterator[Callable[..., Child]]:
    """``fork(act)``: a child that runs ``act(send)`` and sends what it returns; it is dead when the test is over."""
    children: list[Child] = []

    def start(act: Callable[[Callable[[Any], None]], Any]) -> Child:
        children.append(Child(act))
        return children[-1]

    yield start
    for child in children:
        if not child._reaped:
            os.kill(child.pid, signal.SIGKILL)
            child.reap()
