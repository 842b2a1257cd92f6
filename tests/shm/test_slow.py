"""An owner of a shard that is slow, and not stopped, is waited for: slow.c is one, and a process that goes on too."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mpcache.shm import segment
from tests.processes.support import Anatomy, Child
from tests.shm import c_program

pytestmark = pytest.mark.engine


def test_a_copy_of_seconds_is_waited_for_while_a_thread_beside_it_sets_in_another_shard(tmp_path: Path) -> None:
    """The unlocks of the other thread say nothing about the copy; the pieces that it has copied do."""
    program = c_program.build(tmp_path, "slow", ["-O1", "-w", "-DMPC_POINTS"])
    done = subprocess.run([program], capture_output=True, text=True, timeout=100)
    print(done.stdout)
    assert done.returncode == 0
    assert int(done.stdout.split()[3]) > 1000, "the copy was over before it was worth waiting for"


def test_an_owner_that_was_stopped_and_goes_on_is_waited_for(name: str) -> None:
    """It wants a core, and may not have had it yet: what was seen of it while it was stopped is past."""
    space = segment.attach(name, "64MB", shards=1).engine.namespace("")
    anatomy = Anatomy(segment.path_of(name))
    outcomes: list[Any] = []

    def set_large() -> None:
        while True:
            space.set("large", bytes(4 << 20))

    child = Child(set_large)
    try:
        while len(outcomes) < 10:
            with child.frozen():
                held = anatomy.shard_holder() == child.pid
                if held:
                    assert not space.set("key", b"v"), "it is not waited for while it is stopped"
                    assert space.set_multi([("key", b"v")] * 40) == [False] * 40
            if held:
                outcomes.append(space.set("key", b"v"))
    finally:
        child.end()
    assert outcomes == [True] * 10
