"""Helpers of the suites: regions that clean up after themselves, mocks, threads and child processes.

Depends on the public names, and on pytest.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from mpcache.api import NO_VALUE, CacheBackend, CacheMutex
from mpcache.backends import load_backend, register_backend
from mpcache.region import CacheRegion

PATIENCE = 20.0
"""Seconds after which an event that must happen counts as missing."""

OVERLAP = 0.02
"""Seconds for which a creator stays, so that a second creator, which must not come, would overlap."""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")


def gen_some_key() -> str:
    """Return a key that no other test uses."""
    return f"some_key_{uuid.uuid4().hex}"


class MockMutex:
    """A mutex with the three methods that excludes no thread."""

    def __init__(self, key: str) -> None:
        self.key = key

    def acquire(self, blocking: bool = True) -> bool:
        return True

    def release(self) -> None:
        pass

    def locked(self) -> bool:
        return False


class MockBackend(CacheBackend):
    """A dict that remembers its arguments; configure() knows it as ``"mock"``."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments
        self._cache: dict[str, Any] = {}

    def get_mutex(self, key: str) -> CacheMutex:
        return MockMutex(key)  # type: ignore[return-value]

    def get(self, key: str) -> Any:
        return self._cache.get(key, NO_VALUE)

    def get_multi(self, keys: Sequence[str]) -> Sequence[Any]:
        return [self.get(key) for key in keys]

    def set(self, key: str, value: Any) -> None:
        self._cache[key] = value

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        self._cache.update(mapping)

    def delete(self, key: str) -> None:
        self._cache.pop(key, None)

    def delete_multi(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)


register_backend("mock", __name__, "MockBackend")


class _GenericBackendFixture:
    """Regions and stores of one kind.  Values that a test leaves under keys of its region are removed.

    ``region_args`` are merged over all bases, those of a subclass override; ``extra_arguments`` are for a store
    that a test makes without a region; ``backend_argument_names`` are arguments that may have any value.
    """

    backend: ClassVar[str]
    region_args: ClassVar[Mapping[str, Any]] = {}
    config_args: ClassVar[Mapping[str, Any]] = {}
    extra_arguments: ClassVar[Mapping[str, Any]] = {}
    backend_argument_names: ClassVar[Sequence[str]] = ()

    _region_inst: Any = None
    _backend_inst: Any = None

    @classmethod
    def setup_class(cls) -> None:
        try:
            store = load_backend(cls.backend)(cls.config_args.get("arguments", {}))
        except ImportError as missing:
            pytest.skip(f"{cls.backend} needs what is not installed: {missing}")
        cls._check_backend_available(store)

    @classmethod
    def _check_backend_available(cls, backend: Any) -> None:
        """Skip the class if the store's server does not answer; for subclasses."""

    def setup_method(self, method: Any) -> None:
        self._used: list[tuple[Any, str]] = []

    def teardown_method(self, method: Any) -> None:
        for region, key in self._used:
            region.backend.delete(key)

    def _region(
        self,
        backend: str | None = None,
        region_args: Mapping[str, Any] = {},
        config_args: Mapping[str, Any] = {},
    ) -> CacheRegion:
        arguments: dict[str, Any] = {}
        for base in reversed(type(self).__mro__):
            arguments.update(base.__dict__.get("region_args", {}))
        arguments.update(region_args)
        mangle = arguments.pop("key_mangler", None) or (lambda key: key)

        def recording(key: str) -> str:
            mangled: str = mangle(key)
            self._used.append((region, mangled))
            return mangled

        region = self._region_inst = CacheRegion(key_mangler=recording, **arguments)
        return region.configure(backend or self.backend, **{**self.config_args, **config_args})

    def _backend(self) -> Any:
        arguments = {**self.config_args.get("arguments", {}), **self.extra_arguments}
        self._backend_inst = load_backend(self.backend)(arguments)
        return self._backend_inst


class Creator:
    """A creator that returns its keys, and counts how often two calls for one key overlapped."""

    def __init__(self) -> None:
        self.calls = self.overlaps = 0
        self._at_work: dict[Any, threading.Event] = {}

    def __call__(self, *keys: Any) -> list[Any]:
        self.calls += 1
        mine = threading.Event()
        for key in keys:
            other = self._at_work.setdefault(key, mine)
            if other is not mine:
                self.overlaps += 1
                other.set()
        mine.wait(OVERLAP)
        for key in keys:
            if self._at_work.get(key) is mine:
                del self._at_work[key]
        return list(keys)


def at_once(threads: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` in several threads; return their results, or raise the exception of one."""
    with ThreadPoolExecutor(threads) as pool:
        return [done.result(PATIENCE * 3) for done in [pool.submit(work, number) for number in range(threads)]]


@contextmanager
def child(work: Callable[[], Any], ends_by: int = 0) -> Iterator[int]:
    """Yield the pid of a forked child that runs ``work``; the child must then exit with 0, or by that signal."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)  # it may be waiting for an event that will not come
        raise
    finally:
        status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == -ends_by, f"the child ended with {os.waitstatus_to_exitcode(status)}"


class Pipe:
    """A pipe by which one process tells another that it has reached a point."""

    def __init__(self) -> None:
        self._ends = os.pipe()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for end in self._ends:
            os.close(end)

    def tell(self) -> None:
        os.write(self._ends[1], b".")

    def wait(self) -> None:
        assert select.select([self._ends[0]], [], [], PATIENCE)[0], "the other process did not reach the point in time"
        os.read(self._ends[0], 1)


def promises(mutex: Any, what: str) -> bool:
    return bool(getattr(getattr(mutex, "guarantees", None), what, False))
