"""Coroutines: the dogpile lock without blocking the loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest

import mpcache
from mpcache._region.fast_path import Access
from mpcache.api import NO_VALUE
from mpcache.exception import CantSerializeException, DeadlockError, DogpileCacheException, LockTimeout
from mpcache.mutexes.thread import ThreadMutex
from tests.conftest import PATIENCE, SHARED, Clock, Gate, Store
from tests.test_region import Shared  # noqa: F401  # registers test.shared

Spawn = Callable[..., Future[Any]]
MakeGate = Callable[..., Gate]

region = mpcache.make_region().configure("mpcache.memory")


@region.cache_on_arguments()
async def at_module_level(a: int, b: int = 2) -> list[int]:
    """Its doc."""
    return [a, b]


class Thing:
    def __init__(self) -> None:
        self.calls = 0

    @region.cache_on_arguments()
    async def method(self, a: int, b: int = 2) -> list[int]:
        self.calls += 1
        return [a, b]

    @classmethod
    @region.cache_on_arguments("class")
    async def of_class(cls, a: int) -> int:
        return a

    @region.cache_on_arguments("static")
    @staticmethod
    async def static(a: int) -> int:
        return a


@pytest.fixture(autouse=True)
def empty() -> None:
    region.actual_backend._cache.clear()


def run(main: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main, PATIENCE)

    return asyncio.run(limited())


async def never() -> Any:
    raise AssertionError("the creator was called")


class AsyncGate:
    """A creator that blocks until the test opens it."""

    def __init__(self, outcome: Callable[[], Any] = lambda: "made") -> None:
        self.calls = 0
        self.inside, self.open = asyncio.Event(), asyncio.Event()
        self._outcome = outcome

    async def __call__(self) -> Any:
        self.calls += 1
        self.inside.set()
        await self.open.wait()
        return self._outcome()


async def turns_of_the_loop(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class TestGetOrCreate:
    def test_one_creates_and_the_rest_get_its_value(self, store: Store) -> None:
        cache = store.region()

        async def main() -> None:
            gate = AsyncGate()
            asked = [asyncio.ensure_future(cache.aget_or_create("k", gate)) for _ in range(8)]
            await gate.inside.wait()
            assert cache.key_is_locked("k")
            await turns_of_the_loop(20)
            gate.open.set()
            assert await asyncio.gather(*asked) == ["made"] * 8
            assert gate.calls == 1
            assert await cache.aget_or_create("k", never) == cache.get("k") == "made"
            assert not cache.key_is_locked("k")

        run(main())

    def test_a_hit_does_not_leave_the_task(self, store: Store) -> None:
        cache = store.region()
        cache.set("k", None)
        hit = cache.aget_or_create("k", never)
        with pytest.raises(StopIteration) as stopped:
            hit.send(None)
        assert stopped.value.value is None

    def test_1_4_all_its_arguments(self, store: Store, clock: Clock) -> None:
        cache = store.region({"key_mangler": str.upper}, expiration_time=100)

        async def creator(*args: Any, **kw: Any) -> Any:
            return args, kw

        async def main() -> None:
            made = await cache.aget_or_create("k", creator, 10, lambda value: value[0] == (1,), ((1,), {"b": 2}))
            assert made == cache.get("k") == ((1,), {"b": 2})
            clock.forward(11)
            assert await cache.aget_or_create("k", creator, 10, lambda value: False) == ((), {})
            assert cache.get("k") == ((1,), {"b": 2})

        run(main())

    def test_it_waits_for_a_thread_and_the_loop_goes_on(self, store: Store, spawn: Spawn, gate: MakeGate) -> None:
        cache, creator = store.region(), gate()
        slow = spawn(cache.get_or_create, "k", creator)
        creator.wait_for_entry()

        async def main() -> None:
            waiting = asyncio.ensure_future(cache.aget_or_create("k", never))
            await turns_of_the_loop(50)
            assert not waiting.done()
            creator.open()
            assert await waiting == "made"

        run(main())
        assert slow.result(PATIENCE) == "made"

    def test_a_thread_waits_for_it(self, store: Store, spawn: Spawn) -> None:
        cache = store.region()

        async def main() -> Any:
            gate = AsyncGate()
            mine = asyncio.ensure_future(cache.aget_or_create("k", gate))
            await gate.inside.wait()
            theirs = spawn(cache.get_or_create, "k", lambda: "wrong")
            gate.open.set()
            return [await mine, await asyncio.wrap_future(theirs)]

        assert run(main()) == ["made"] * 2

    def test_it_waits_for_another_process(self, store: Store) -> None:
        if store.name not in SHARED:
            pytest.skip("shared with no process")
        cache = store.region()
        told, telling = os.pipe()
        gone, going = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                cache.get_or_create("k", lambda: (os.write(telling, b"."), os.read(gone, 1), "of the child")[2])
            finally:
                os._exit(0)
        assert os.read(told, 1) == b"."

        async def main() -> Any:
            waiting = asyncio.ensure_future(cache.aget_or_create("k", never))
            await turns_of_the_loop(20)
            os.write(going, b".")
            return await waiting

        assert run(main()) == "of the child"
        os.waitpid(child, 0)

    def test_B2_stale_and_locked_returns_at_once(self, store: Store, clock: Clock) -> None:
        cache = store.region(expiration_time=10)
        cache.set("k", "old")
        clock.forward(11)

        async def main() -> None:
            gate = AsyncGate()
            slow = asyncio.ensure_future(cache.aget_or_create("k", gate))
            await gate.inside.wait()
            assert await cache.aget_or_create("k", never) == "old"
            gate.open.set()
            assert await slow == cache.get("k") == "made"

        run(main())

    def test_B4_a_creator_that_raises_lets_go_and_another_one_creates(self, store: Store) -> None:
        cache = store.region()

        async def main() -> None:
            failing, second = AsyncGate(lambda: 1 // 0), AsyncGate()
            first = asyncio.ensure_future(cache.aget_or_create("k", failing))
            await failing.inside.wait()
            rest = [asyncio.ensure_future(cache.aget_or_create("k", second)) for _ in range(3)]
            await turns_of_the_loop(5)
            failing.open.set()
            second.open.set()
            with pytest.raises(ZeroDivisionError):
                await first
            assert await asyncio.gather(*rest) == ["made"] * 3
            assert second.calls == 1

        run(main())

    def test_B5_what_is_not_stored_makes_nobody_queue(self, store: Store) -> None:
        """Check that all four creators run at the same time, which they could not do if they queued."""
        cache = store.region()

        async def main() -> None:
            gate, together, inside = AsyncGate(lambda: "refused"), asyncio.Event(), []

            async def alone() -> str:
                inside.append(1)
                if len(inside) == 4:
                    together.set()
                await together.wait()
                return "refused"

            first = asyncio.ensure_future(cache.aget_or_create("k", gate, None, lambda value: False))
            await gate.inside.wait()
            rest = [
                asyncio.ensure_future(cache.aget_or_create("k", alone, None, lambda value: False)) for _ in range(4)
            ]
            await turns_of_the_loop(5)
            gate.open.set()
            assert await asyncio.gather(first, *rest) == ["refused"] * 5
            assert cache.get("k") is NO_VALUE

        run(main())
        assert cache.mishaps.counts["created_alone"] == 3

    def test_B8_a_creator_that_asks_for_its_own_key_is_told(self, store: Store) -> None:
        cache = store.region()

        async def main() -> Any:
            return await cache.aget_or_create("k", lambda: cache.aget_or_create("k", never))

        with pytest.raises(DeadlockError, match="'k'"):
            run(main())
        assert not cache.key_is_locked("k")

    def test_B8_a_creator_may_ask_for_other_keys(self, store: Store) -> None:
        cache = store.region()

        async def one() -> int:
            return 1

        async def two() -> int:
            return 1 + int(await cache.aget_or_create("one", one))

        assert run(cache.aget_or_create("two", two)) == 2
        assert cache.get("one") == 1

    def test_F8_a_wait_has_an_end(self, store: Store) -> None:
        cache = store.region(creation_wait=0.01)

        async def main() -> Any:
            gate = AsyncGate()
            slow = asyncio.ensure_future(cache.aget_or_create("k", gate))
            await gate.inside.wait()
            with pytest.raises(LockTimeout, match=r"'k'.*within 0.01 s \(creation_wait\)"):
                await cache.aget_or_create("k", never)
            gate.open.set()
            return await slow

        assert run(main()) == "made"

    def test_F8_a_stale_value_that_came_meanwhile_is_served(self, store: Store, clock: Clock) -> None:
        cache = store.region(expiration_time=10, creation_wait=0)

        class Late(ThreadMutex):
            def contend(self, timeout: float | None = None) -> Any:
                cache.set("k", "late")
                clock.forward(11)
                return mpcache.api.Outcome.TIMEOUT  # type: ignore[attr-defined]

        async def main() -> Any:
            with ThreadMutex("k"):
                return await cache.aget_or_create("k", never)

        cache.access = Access(cache.binding._replace(make_mutex=Late), None)
        assert run(main()) == "late"

    def test_a_cancelled_creator_lets_go(self, store: Store) -> None:
        cache = store.region()

        async def main() -> None:
            gate, second = AsyncGate(), AsyncGate()
            first = asyncio.ensure_future(cache.aget_or_create("k", gate))
            await gate.inside.wait()
            rest = asyncio.ensure_future(cache.aget_or_create("k", second))
            await turns_of_the_loop(5)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            second.open.set()
            assert await rest == "made"
            assert not cache.key_is_locked("k")

        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)  # nothing was left to the garbage collector
            run(main())

    def test_a_cancelled_waiter_leaves_the_creator_alone(self, store: Store) -> None:
        cache = store.region()

        async def main() -> Any:
            gate = AsyncGate()
            first = asyncio.ensure_future(cache.aget_or_create("k", gate))
            await gate.inside.wait()
            waiter = asyncio.ensure_future(cache.aget_or_create("k", never))
            await turns_of_the_loop(5)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            gate.open.set()
            return await first

        assert run(main()) == cache.get("k") == "made"

    def test_two_loops_in_two_threads(self, store: Store, spawn: Spawn) -> None:
        cache, calls = store.region(), []

        async def creator() -> str:
            calls.append(1)
            await asyncio.sleep(0.01)
            return "made"

        loops = [spawn(run, cache.aget_or_create("k", creator)) for _ in range(2)]
        assert [loop.result(PATIENCE) for loop in loops] == ["made"] * 2
        assert calls == [1]

    def test_any_mutex_will_do(self, store: Store) -> None:
        locks: dict[str, threading.Lock] = {}
        cache = store.region(mutex=lambda key: locks.setdefault(key, threading.Lock()))

        async def main() -> None:
            gate = AsyncGate()
            asked = [asyncio.ensure_future(cache.aget_or_create("k", gate)) for _ in range(3)]
            await gate.inside.wait()
            await turns_of_the_loop(5)
            gate.open.set()
            assert await asyncio.gather(*asked) == ["made"] * 3
            assert gate.calls == 1

        run(main())
        assert not locks["k"].locked()

    def test_C1_soft_needs_an_expiration_time(self, store: Store, clock: Clock) -> None:
        cache = store.region()
        cache.set("k", 1)
        clock.forward(1)
        cache.invalidate(hard=False)
        for key in ("k", "new"):
            with pytest.raises(DogpileCacheException, match="Non-None expiration time required"):
                run(cache.aget_or_create(key, never))
            assert not cache.key_is_locked(key)

    def test_a_value_that_cannot_be_serialized(self, bytes_store: Store) -> None:
        cache = bytes_store.region()

        async def lock() -> Any:
            return threading.Lock()

        with pytest.raises(CantSerializeException, match="'k', a lock"):
            run(cache.aget_or_create("k", lock))
        assert not cache.key_is_locked("k")

    def test_what_was_changed_meanwhile_is_not_overwritten(self) -> None:
        cache = mpcache.make_region().configure("test.shared", 60)

        async def creator() -> str:
            cache.delete("k")
            await asyncio.sleep(0)
            return "older"

        assert run(cache.aget_or_create("k", creator)) == "older"
        assert cache.get("k") is NO_VALUE
        assert [(guard.outcome, guard.closed) for guard in cache.actual_backend.guards] == [(False, 1)]


class TestDecorated:
    def test_E6_calls(self, store: Store) -> None:
        calls: list[Any] = []

        @store.region().cache_on_arguments()
        async def f(a: int, b: int = 2) -> list[int]:
            calls.append((a, b))
            return [a, b]

        async def main() -> None:
            assert await f(1) == await f(1, 2) == await f(a=1) == [1, 2]
            assert calls == [(1, 2)]
            assert f.get(b=2, a=1) == [1, 2]
            f.set([7], 1)
            assert await f(1) == [7]
            f.invalidate(1)
            assert f.get(1) is NO_VALUE
            assert await f.refresh(1) == f.get(1) == [1, 2]
            assert await f.original(3) == [3, 2]
            assert f.get(3) is NO_VALUE
            with pytest.raises(TypeError):
                await f()  # type: ignore[call-arg]

        run(main())
        assert calls == [(1, 2), (1, 2), (3, 2)]

    def test_options(self, clock: Clock) -> None:
        f = region.cache_on_arguments("n", 5, lambda value: value != [0, 2], repr)(at_module_level.original)

        async def main() -> None:
            assert [await f(0), await f(1)] == [[0, 2], [1, 2]]
            assert [f.get(0), f.get(1)] == [NO_VALUE, [1, 2]]
            clock.forward(6)
            assert f.get(1) is NO_VALUE

        run(main())

    def test_E3_methods(self) -> None:
        thing = Thing()

        async def main() -> None:
            assert await thing.method(1) == await thing.method(a=1) == await Thing.method(thing, 1) == [1, 2]
            assert thing.calls == 1
            assert thing.method.get(1) == [1, 2]
            thing.method.set([7], 1)
            assert await thing.method(1) == [7]
            thing.method.invalidate(1)
            assert thing.method.get(1) is NO_VALUE
            assert await thing.method.refresh(1) == [1, 2]
            assert await Thing.of_class(1) == await Thing().of_class(1) == await Thing.static(1) == 1
            bound = region.cache_on_arguments("bound")(thing.method.original.__get__(thing))
            assert await bound(5) == [5, 2]
            half = region.cache_on_arguments("half")(functools.partial(at_module_level.original, 9))
            assert await half(1) == [9, 1]

        run(main())

    def test_it_looks_like_an_async_function(self) -> None:
        assert at_module_level.__name__ == "at_module_level"  # type: ignore[attr-defined]
        assert at_module_level.__doc__ == "Its doc."
        assert list(inspect.signature(at_module_level).parameters) == ["a", "b"]
        assert inspect.iscoroutinefunction(at_module_level.__call__)
        assert inspect.iscoroutinefunction(Thing().method.__call__)
        if sys.version_info >= (3, 12):
            assert inspect.iscoroutinefunction(at_module_level)
        assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_nobody_loads_asyncio_who_does_not_await() -> None:
    program = (
        "import sys, mpcache\n"
        "cache = mpcache.make_region().configure('mpcache.memory')\n"
        "cache.cache_on_arguments()(len)([])\n"
        "cache.get_or_create_multi('ab', lambda *keys: keys)\n"
        "assert 'asyncio' not in sys.modules and 'mpcache._region.creation_async' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
