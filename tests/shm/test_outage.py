"""A segment that is out of reach: what a function would have answered it answers, and nothing else is hidden."""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

import mpcache
from mpcache.exception import LockTimeout, NoRoom, SegmentError, SegmentRefused, TooManyProcesses, ValidationError
from mpcache.shm import capacity, segment
from tests.processes.support import wait_until

pytestmark = pytest.mark.engine

MB = 1 << 20
Region = mpcache.CacheRegion


class Outage:
    """One kind of it: begins, and ends."""

    error: type[SegmentError]

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.patch = name, monkeypatch

    def begin(self, region: Region) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


class Full(Outage):
    """The segment was removed, and there is no room for another one."""

    error = NoRoom

    def begin(self, region: Region) -> None:
        region.actual_backend.unlink()
        self.patch.setattr(capacity, "_in_cgroup", lambda: MB)

    def end(self) -> None:
        self.patch.setattr(capacity, "_in_cgroup", lambda: None)


class Refused(Outage):
    """The segment was removed, and something else has its name."""

    error = SegmentRefused

    def begin(self, region: Region) -> None:
        region.actual_backend.unlink()
        self.path = segment.path_of(self.name)
        with open(self.path, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(b"?" * 5000)

    def end(self) -> None:
        os.unlink(self.path)


class Crowded(Outage):
    """A thousand other processes have all slots."""

    error = TooManyProcesses

    def begin(self, region: Region) -> None:
        import fcntl

        found = region.actual_backend.segment
        self.crowd = os.open(found.path, os.O_RDWR)
        region.actual_backend._place.segment = region.actual_backend._place.namespace = None
        del found  # this process leaves, and the others take its slot
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1 << 60, 1024, 0)
        wait_until(lambda: self._taken(fcntl, lock), "free slots")
        region.actual_backend._place._settle(segment.find(self.name))

    def _taken(self, fcntl: Any, lock: bytes) -> bool:
        try:
            fcntl.fcntl(self.crowd, getattr(fcntl, "F_OFD_SETLK", 37), lock)
        except BlockingIOError:
            return False
        return True

    def end(self) -> None:
        os.close(self.crowd)


@pytest.fixture(params=[Full, Refused, Crowded])
def outage(request: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    return request.param(name, monkeypatch)


def test_functions_answer_and_the_cache_comes_back(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    region = mpcache.shared(outage.name, size="4MB")
    made: list[Any] = []

    @region.cache_on_arguments()
    def square(n: int) -> int:
        made.append(n)
        return n * n

    @region.cache_multi_on_arguments()
    def cubes(*ns: int) -> list[int]:
        return [n**3 for n in ns]

    @region.cache_on_arguments()
    async def half(n: int) -> float:
        return n / 2

    outage.begin(region)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert square(3) == 9
            assert cubes(1, 2) == [1, 8]
            assert asyncio.run(half(3)) == 1.5
            assert region.get_or_create("k", lambda: "v") == "v"
            assert region.get("k") is mpcache.NO_VALUE
            assert region.get_multi(["k", "l"]) == [mpcache.NO_VALUE] * 2
            region.set("k", 1)
            region.set_multi({"k": 1, "l": 2})
    assert made == [3, 3, 3]
    assert [record.levelname for record in caplog.records] == ["WARNING"], [one.message for one in caplog.records]
    assert outage.error.__name__ in caplog.text
    assert "tries again by itself" in caplog.text
    assert region.actual_backend.errors[outage.error.__name__] > 5
    assert not region.key_is_locked("k")

    outage.end()
    wait_until(lambda: stores(region), "return of the segment")
    square(4)
    square(4)
    assert made == [3, 3, 3, 4]


def stores(region: Region) -> bool:
    region.set("there", 1)
    return bool(region.get("there") == 1)


def test_what_may_not_be_lost_is_raised(outage: Outage) -> None:
    region = mpcache.shared(outage.name, size="4MB")
    outage.begin(region)
    for act in (
        lambda: region.delete("k"),
        lambda: region.delete_multi(["k"]),
        region.invalidate,
        lambda: region.actual_backend.add("k", 1),
        lambda: region.actual_backend.incr("k", initial=0),
    ):
        with pytest.raises(outage.error):
            act()
    outage.end()


def test_who_wants_it_raised_gets_it(outage: Outage) -> None:
    region = mpcache.shared(outage.name, size="4MB", on_error="raise")
    outage.begin(region)
    for act in (
        lambda: region.set("k", 1),
        lambda: region.get_or_create("k", lambda: 1),
        lambda: region.get_or_create_multi(["k"], lambda *keys: [1]),
    ):
        with pytest.raises(outage.error):
            act()
    assert region.actual_backend.errors == {}
    outage.end()


def test_what_was_begun_in_an_outage_is_not_stored_after_it(outage: Outage) -> None:
    """The creation had no mutex, and nothing says what happened to its key meanwhile."""
    region = mpcache.shared(outage.name, size="4MB")
    outage.begin(region)

    def create() -> str:
        outage.end()
        wait_until(lambda: stores(region), "return of the segment")
        region.set("k", "newer")
        return "older"

    assert region.get_or_create("k", create) == "older"
    assert region.get("k") == "newer"


def test_at_configure_it_raises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_in_cgroup", lambda: MB)
    with pytest.raises(NoRoom):
        mpcache.shared(name, size="4MB")


def test_another_word_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="on_error is 'ignore'; it must be 'raise' or 'miss'"):
        mpcache.shared(name, size="4MB", on_error="ignore")


def test_errors_of_the_program_are_none_of_the_segment(name: str) -> None:
    region = mpcache.shared(name, size="4MB")
    region.creation_wait = 0.01
    with pytest.raises(mpcache.exception.ValueTooLarge):
        region.set("k", bytes(4 << 20))
    with region.actual_backend.get_mutex("k"), pytest.raises((LockTimeout, mpcache.exception.DeadlockError)):
        region.get_or_create("k", lambda: 1)


def test_a_value_that_was_read_before_the_removal_is_judged_by_nothing_newer(name: str) -> None:
    """It was invalidated, and the successor's epochs do not know that."""
    region = mpcache.shared(name, size="4MB")
    store = region.actual_backend
    region.set("k", "old")
    region.invalidate()
    fetch: Callable[..., Any] = store.fetch

    def fetched_before(key: Any) -> Any:
        found = fetch(key)
        store.unlink()
        return found

    store.fetch = fetched_before
    assert region.binding.look("k", "k", None)[1] is mpcache.api.Freshness.ABSENT
