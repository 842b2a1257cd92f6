"""Privileges dropped, roots changed, generations of forks: each process goes on, and is missed when it dies.

Depends on support, and on being root.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache.mutexes.shm import ShmMutex
from mpcache.shm.handle import NamespaceHandle
from tests.conftest import needs_mount
from tests.processes.support import Child, wait_until

pytestmark = [needs_mount, pytest.mark.engine]

Fork = Callable[[Callable[[], object]], Child]
NOBODY = 65534


def drop_privileges() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def change_root(empty: Path) -> None:
    """To a directory without /proc, /dev, or anything."""
    os.chroot(empty)
    os.chdir("/")


@pytest.fixture(params=["setuid", "chroot", "both"])
def leave(request: Any, tmp_path: Path) -> Callable[[], None]:
    """What a daemon does to have less power; before it all that Python imports late is imported."""
    for module in pkgutil.walk_packages(mpcache.__path__, "mpcache.", onerror=lambda name: None):
        if not {"stress", "cli", "testing", "plugins", "__main__"} & set(module.name.split(".")):
            try:
                importlib.import_module(module.name)
            except ImportError:
                pass
    import inspect  # noqa: F401  # where Python lies the other user may not read

    def leave() -> None:
        if request.param != "setuid":
            change_root(tmp_path)
        if request.param != "chroot":
            drop_privileges()

    return leave


def generations(act: Callable[[int], None], number: int) -> None:
    """Do it in a child, in a child of that, and so on; all must end well."""
    if number == 0:
        return
    child = Child(lambda: (act(number), generations(act, number - 1)))
    assert child.wait() == 0


def test_three_generations_set_wait_and_create(name: str, fork: Fork, leave: Callable[[], None]) -> None:
    cache = mpcache.shared(name, size="4MB")
    cache.set("there", 1)

    def use(number: int) -> None:
        assert cache.get("there") == 1
        assert cache.get_or_create(f"created {number}", lambda: number) == number
        assert cache.get(f"created {number}") == number
        cache.set(f"set {number}", number)
        with cache.actual_backend.get_mutex("free"):
            pass
        assert not cache.actual_backend.errors

    def daemon() -> None:
        leave()
        use(4)
        generations(use, 3)

    assert fork(daemon).wait() == 0
    assert [cache.get(f"set {number}") for number in (1, 2, 3, 4)] == [1, 2, 3, 4]
    wait_until(lambda: cache.actual_backend.stats()["processes"] == 1, "leaving of the dead")


def test_each_generation_is_alive_and_missed_when_it_dies(name: str, fork: Fork, leave: Callable[[], None]) -> None:
    """What it holds is its own while it lives, also against its parent and its children, and free when it is killed."""
    cache = mpcache.shared(name, size="4MB")
    place = cache.actual_backend._place
    said, say = os.pipe()

    def hold(key: str) -> None:
        mutex = cache.actual_backend.get_mutex(key)
        mutex.acquire()
        os.write(say, f"{key} {os.getpid()}\n".encode())
        signal.pause()

    def grandchild() -> None:
        assert not ShmMutex("by the child", place=place).acquire(timeout=0.2)
        hold("by the grandchild")

    def child() -> None:
        leave()
        mutex = cache.actual_backend.get_mutex("by the child")
        mutex.acquire()
        Child(grandchild)
        hold("by the child, too")

    root = fork(child)
    holders = dict(line.rsplit(" ", 1) for line in _lines(said, 2))
    try:
        for key in ("by the child", "by the child, too", "by the grandchild"):
            assert not ShmMutex(key, place=place).acquire(timeout=0.1), f"{key} was taken from a living process"
        root.kill()  # its child lives on, with what it has inherited
        root.wait()
        assert _seconds_to_take("by the child, too", place) < 1.0
        assert not ShmMutex("by the grandchild", place=place).acquire(timeout=0.1)
    finally:
        os.kill(int(holders["by the grandchild"]), signal.SIGKILL)
    assert _seconds_to_take("by the grandchild", place) < 1.0


def _lines(fd: int, number: int) -> list[str]:
    text = b""
    while text.count(b"\n") < number:
        text += os.read(fd, 1000)
    return text.decode().splitlines()


def _seconds_to_take(key: str, place: NamespaceHandle) -> float:
    began = time.monotonic()
    with ShmMutex(key, place=place):
        return time.monotonic() - began
