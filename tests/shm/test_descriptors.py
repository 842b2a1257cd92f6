"""A context uses its own open file description, whatever number that has, and nothing else under that number."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any

import pytest

from mpcache.shm import _engine, segment

pytestmark = pytest.mark.engine

Fork = Callable[..., Any]
ACQUIRED, TIMEOUT = 0, 3


def held_elsewhere(fork: Fork, space: _engine.Namespace, key: str) -> bool:
    """Whether another process finds the key taken."""
    return bool(fork(lambda send: space.lease(key, True).acquire(0.1, False, ())).next() == TIMEOUT)


def test_a_second_context_of_one_segment_has_the_number_of_the_first(found: segment.Segment, fork: Fork) -> None:
    """The first was opened, and its descriptor closed before it did anything: it must not take the other's slot."""
    path = found.path
    assert path is not None
    fd = os.open(path, os.O_RDWR)
    first = _engine.Engine(fd, path)
    os.close(first.fd)
    second = _engine.Engine(fd, path)
    assert second.fd == first.fd, "the lowest number that is free"
    lease = second.namespace("").lease("key", True)
    assert lease.acquire(0, False, ()) == ACQUIRED
    owner = second.owner
    first.namespace("").set("other", b"v")
    assert first.owner not in (0, owner)
    assert lease.held
    assert held_elsewhere(fork, found.engine.namespace(""), "key")
    del first
    assert held_elsewhere(fork, found.engine.namespace(""), "key")
    assert lease.release(True)
    os.close(fd)


def test_a_child_without_room_for_a_descriptor_does_not_take_its_parent_for_dead(name: str, fork: Fork) -> None:
    """What it has inherited is the parent's description, and does not show what that one has locked."""

    def act(send: Any) -> None:
        space = segment.attach(name, "4MB").engine.namespace("")
        lease = space.lease("key", True)
        assert lease.acquire(0, False, ()) == ACQUIRED
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        child = os.fork()
        if child == 0:
            os._exit(space.holder("key", True) == os.getppid())
        send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert fork(act).next() == 1
