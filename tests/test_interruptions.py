"""An exception between any two steps of a creation leaves nothing held, even while the exception is referenced."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mpcache
from tests.conftest import Store

Region = mpcache.CacheRegion


class Limit(BaseException):
    """The exception of a time limit, as a signal handler raises it."""


@contextmanager
def interrupted_at(call: int) -> Iterator[list[str]]:
    """Raise Limit where the number-th function of mpcache is entered, and add its name to the list."""
    entered, names = 0, []

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal entered
        if event != "call" or not (frame.f_globals.get("__name__") or "").startswith("mpcache."):
            return
        if frame.f_code.co_name in ("__del__", "<genexpr>"):  # Python closes these, and prints their errors
            return
        entered += 1
        if entered == call:
            names.append(frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name)
            sys.setprofile(None)
            raise Limit(names[0])

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield names
    finally:
        sys.setprofile(before)


def one(region: Region) -> Any:
    return region.get_or_create("a", lambda: 1)


def many(region: Region) -> Any:
    return region.get_or_create_multi(["a", "b"], lambda *keys: [1 for _ in keys])


def awaited(region: Region) -> Any:
    async def create() -> int:
        return 1

    coroutine = region.aget_or_create("a", create)
    try:
        coroutine.send(None)  # nothing in it waits
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def refreshed(region: Region) -> Any:
    return region.cache_on_arguments(function_key_generator=lambda *_: lambda: "a")(lambda: 1).refresh()


def many_refreshed(region: Region) -> Any:
    @region.cache_multi_on_arguments(function_multi_key_generator=lambda *_, to_str: lambda *args: list(args))
    def load(*keys: str) -> list[int]:
        return [1 for _ in keys]

    return load.refresh("a", "b")


def in_background(region: Region) -> Any:
    region.set("a", 0)
    return region.get_or_create("a", lambda: 1, expiration_time=-0.5)


def run(region: Region, key: str, creator: Callable[[], Any], mutex: Any) -> None:
    try:
        region.set(key, creator())
    finally:
        mutex.release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:the mutex of key:ResourceWarning")
@pytest.mark.parametrize("store", ["memory", "shm"], indirect=True)
@pytest.mark.parametrize("way", [one, many, awaited, refreshed, many_refreshed, in_background])
def test_nothing_stays_held_wherever_it_comes(store: Store, way: Callable[[Region], Any]) -> None:
    asyncio.events._get_running_loop()  # is loaded
    region = store.region({"async_creation_runner": run} if way is in_background else {}, creation_wait=2)
    way(region)  # what is imported late is
    gc.collect()
    gc.disable()
    try:
        places, held = _interrupt_everywhere(region, way)
    finally:
        gc.enable()
    assert held == []
    assert len(places) > 20
    assert {name.rpartition(".")[2] for name in places} & {"release_quietly", "end", "release"}


def _interrupt_everywhere(region: Region, way: Callable[[Region], Any]) -> tuple[list[str], list[str]]:
    """Return all entered functions, and those after whose interruption something was held."""
    places: list[str] = []
    held: list[str] = []
    while True:
        region.delete_multi(["a", "b"])
        kept: BaseException | None = None
        with interrupted_at(len(places) + 1) as names:
            try:
                way(region)
                if not names:
                    return places, held
            except Limit as limit:
                kept = limit  # as in a program that logs the exception later
        places += names or ["?"]
        held += [places[-1] for key in ("a", "b") if region.key_is_locked(key)]
        del kept


def test_a_mutex_of_another_make_is_released_once() -> None:
    released: list[str] = []

    class Theirs:
        def __init__(self, key: str) -> None:
            self.key = key

        def acquire(self, wait: bool = True) -> bool:
            return True

        def release(self) -> None:
            released.append(self.key)
            raise Limit

    region = mpcache.make_region().configure("mpcache.memory", mutex=Theirs)
    with pytest.raises(Limit):
        region.get_or_create_multi(["a", "b"], lambda *keys: [1, 2])
    assert sorted(released) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:the mutex of key:ResourceWarning")
def test_no_lease_stays_held_between_its_acquisition_and_the_hold() -> None:
    """Raise between any two instructions of the shm mutex, and keep the exception, whose traceback has the lease."""
    region = mpcache.make_region().configure("mpcache.shm", arguments={"name": None, "size": "4MB"}, creation_wait=2)
    one(region)
    reached, step = True, 0
    while reached:
        step += 1
        region.delete("a")
        reached, kept = _interrupted_at_instruction(step, region)
        assert not region.key_is_locked("a"), step
        del kept
    assert step > 100


def _interrupted_at_instruction(step: int, region: Region) -> tuple[bool, BaseException | None]:
    passed = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal passed
        if frame.f_globals.get("__name__") != "mpcache.mutexes.shm":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == step:
                raise Limit
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        one(region)
    except Limit as limit:
        return True, limit
    finally:
        sys.settrace(before)
    return passed >= step, None
