"""Eight processes, however they are started: of each of 200 values there is one creation among all of them.

Depends on farm, a program that does what a user's program would; and on forks in the middle of calls.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from tests.processes.support import Child, Sign, note, notes, own_time, play, prove, state_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

METHODS = ("fork", "spawn", "forkserver")
CROWD, NUMBERS = 8, range(200)
"""As in jobs, which cannot be imported where its segment is not named."""


@pytest.fixture
def farm(name: str, tmp_path: Path) -> Callable[..., Any]:
    def farm(way: str, method: str, **more: str) -> Any:
        told = {"MPCACHE_TEST_SEGMENT": name, "MPCACHE_TEST_LOG": str(tmp_path / "log"), **more}
        return play("farm", way, method, folder=tmp_path, seconds=60, **told)

    return farm


@pytest.mark.parametrize(
    ("way", "method"),
    [(way, method) for way in ("by_process", "by_pool", "by_executor") for method in METHODS]
    + [("by_joblib", backend) for backend in ("loky", "multiprocessing")],
)
def test_each_value_is_created_once(farm: Callable[..., Any], tmp_path: Path, way: str, method: str) -> None:
    found = farm(way, method)
    assert len({pid for pid, _ in found}) == CROWD, "not every answer came from a process of its own"
    assert sorted(map(int, notes(tmp_path / "log"))) == list(NUMBERS)
    first = found[0][1]
    assert sorted(map(int, first)) == list(NUMBERS)
    assert [answers for _, answers in found if answers != first] == []


def test_without_exclusion_there_would_be_more(farm: Callable[..., Any], tmp_path: Path) -> None:
    """The control: what is counted can be wrong."""
    farm("by_process", "fork", MPCACHE_TEST_MUTEX="null")
    assert len(notes(tmp_path / "log")) > len(NUMBERS)


@pytest.mark.parametrize("method", METHODS)
def test_a_region_is_handed_over_with_its_configuration(farm: Callable[..., Any], method: str) -> None:
    report = farm("handed_over", method)
    assert report["child"] != report["parent"] == report["saw"]
    assert report["expiration_time"] == 300


@pytest.mark.parametrize("method", METHODS)
def test_an_anonymous_segment_travels_to_a_process_that_is_started(farm: Any, method: str) -> None:
    report = farm("anonymous", method)
    assert report["child"] != report["parent"] == report["saw"]


@pytest.mark.parametrize("method", METHODS)
def test_it_travels_to_the_processes_of_a_pool_and_not_with_tasks(farm: Any, method: str) -> None:
    report = farm("anonymous_to_a_pool", method)
    assert report["child"] != report["parent"] == report["saw"]
    assert "give the cache a name" in report["refusal"]


def test_nowhere_else_does_an_anonymous_segment_let_itself_be_pickled() -> None:
    region = mpcache.shared(None, "4MB")
    with pytest.raises(TypeError, match="give the cache a name, or hand it over in the arguments of multiprocessing"):
        pickle.dumps(region)


# -- forks in the middle of something ------------------------------------------------------------------------------

# Python 3.12 and later warn of what these tests do on purpose.
beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


class Creating:
    """A thread that is creating the value of a key, and goes on when it is told to."""

    def __init__(self, region: mpcache.CacheRegion, key: str) -> None:
        self._inside, self._go_on = threading.Event(), threading.Event()
        self.value: Any = None
        self._region, self._key = region, key
        self._thread = threading.Thread(target=self._get, daemon=True)
        self._thread.start()
        assert self._inside.wait(20)

    def _get(self) -> None:
        self.value = self._region.get_or_create(self._key, self._create)

    def _create(self) -> str:
        self._inside.set()
        assert self._go_on.wait(60)
        return "the parent's"

    def wait_for_ever(self) -> None:
        self._thread.join()

    def finish(self) -> Any:
        self._go_on.set()
        self._thread.join(20)
        return self.value


@beside_threads
def test_a_child_that_is_forked_while_a_thread_creates_waits_for_its_parent(
    name: str, tmp_path: Path, fork: Callable[[Callable[[], object]], Child]
) -> None:
    region = mpcache.shared(name, "4MB")
    creating = Creating(region, "key")

    def ask() -> None:
        assert region.key_is_locked("key"), "the fork took the lease from its holder"
        (tmp_path / "waits").touch()
        assert region.get_or_create("key", lambda: "the child's") == "the parent's"

    child = fork(ask)
    wait_until((tmp_path / "waits").exists, "child that waits")
    idler = fork(lambda: None)  # nor does a child that ends give back what it never had
    assert idler.wait() == 0
    assert region.key_is_locked("key")
    assert child.poll() is None
    assert creating.finish() == "the parent's"
    assert child.wait() == 0


def test_a_forked_child_does_not_keep_alive_what_its_parent_held(
    name: str, tmp_path: Path, fork: Callable[[Callable[[], object]], Child]
) -> None:
    region = mpcache.shared(name, "4MB")
    reader, writer = os.pipe()

    def live_on() -> None:
        os.close(writer)
        note(tmp_path / "grandchild", str(os.getpid()))
        os.read(reader, 1)  # until the test ends

    def hold_and_fork() -> None:
        creating = Creating(region, "key")
        Child(live_on)
        creating.wait_for_ever()

    parent = fork(hold_and_fork)
    try:
        (grandchild,) = wait_until(lambda: notes(tmp_path / "grandchild"), "grandchild")
        assert region.key_is_locked("key")
        parent.kill(signal.SIGKILL)
        began = own_time()
        assert region.get_or_create("key", lambda: own_time() - began) < 0.100
        assert state_of(int(grandchild)) not in ("", "Z")
    finally:
        os.close(writer)
        os.close(reader)


@beside_threads
def test_forks_in_the_middle_of_operations_hold_up_nobody(
    name: str, fork: Callable[[Callable[[], object]], Child]
) -> None:
    region = mpcache.shared(name, "4MB", serializer=bytes, deserializer=bytes)
    value = prove("key", Sign(1, 1), 100_000)  # so long a copy is made without the GIL: forks hit the middle of it
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            region.set("key", value)
            assert region.get("key") == value
            region.get_or_create("other", lambda: b"value")
            region.delete("other")

    def work_in_child() -> None:
        over.set()  # the thread is not here, and its event is a copy
        for which in range(10):
            region.set(f"key of a child {which}", value)
            assert region.get("key") == value
            region.get_or_create("other", lambda: b"value")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        codes = [fork(work_in_child).wait(10) for _ in range(60)]
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    assert codes == [0] * 60
    assert not any(thread.is_alive() for thread in threads)
    assert region.actual_backend.stats()["processes"] == 1
    region.actual_backend.check()
