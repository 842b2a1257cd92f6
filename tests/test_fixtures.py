"""The suites for authors, on mpcache's stores, on dogpile.cache's, and on stores with one fault each."""

from __future__ import annotations

import inspect
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache import testing
from mpcache.api import NO_VALUE
from mpcache.backends.memory import MemoryBackend
from mpcache.mutexes.local import Scope
from mpcache.mutexes.thread import ThreadMutex
from mpcache.testing import fixtures
from mpcache.testing.fixtures import (
    MockBackend,
    MockMutex,
    _GenericBackendFixture,
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)
from tests.conftest import HAS_SHM

theirs = pytest.importorskip("dogpile.cache.api")

# Stores warn of unknown arguments, and the suite passes some.
pytestmark = pytest.mark.filterwarnings("ignore:.* argument '(odd|arbitrary_arg_)")


class TestMemory(_GenericBackendTestSuite):
    backend = "mpcache.memory"
    backend_argument_names = ("odd",)


class TestMemoryBounded(_GenericBackendTestSuite):
    backend = "mpcache.memory"
    config_args = {"arguments": {"max_entries": 100}}


class TestMemoryPickle(_GenericBackendTestSuite):
    backend = "mpcache.memory_pickle"
    config_args = {"arguments": {"max_bytes": 100_000}}


class TestMemorySerialized(_GenericSerializerTestSuite, _GenericBackendTestSuite):
    backend = "mpcache.memory"
    backend_argument_names = ("odd",)


if HAS_SHM:

    class TestShm(_GenericBackendTestSuite, _GenericMutexTestSuite):
        backend = "mpcache.shm"

        @classmethod
        def setup_class(cls) -> None:
            cls.config_args = {"arguments": {"name": f"test-{uuid.uuid4().hex[:12]}", "size": "4MB"}}
            super().setup_class()

        @classmethod
        def teardown_class(cls) -> None:
            from mpcache.shm import segment

            segment.unlink(cls.config_args["arguments"]["name"])

    class TestShmSerialized(_GenericSerializerTestSuite, TestShm):
        pass


class Locking(MemoryBackend):
    """A store in memory with a mutex of its own."""

    def __init__(self, arguments: Any) -> None:
        super().__init__({})
        self._scope = Scope()

    def get_mutex(self, key: str) -> ThreadMutex:
        return ThreadMutex(key, self._scope)


mpcache.register_backend("test.locking", __name__, "Locking")


class TestLocking(_GenericMutexTestSuite):
    backend = "test.locking"


# -- stores that were written for dogpile.cache ----------------------------------------------------------


class TheirMutex:
    """A mutex as simple as dogpile.cache's: acquire, release and locked, on a lock of threads."""

    locks: dict[str, Any] = {}

    def __init__(self, key: str) -> None:
        self.lock = self.locks.setdefault(key, threading.Lock())

    def acquire(self, wait: bool = True) -> bool:
        return self.lock.acquire(wait)

    def release(self) -> None:
        self.lock.release()

    def locked(self) -> bool:
        return self.lock.locked()


class TheirStore(theirs.BytesBackend):
    """A store with a file for each key.  It does not import mpcache."""

    def __init__(self, arguments: Any) -> None:
        self.folder = Path(arguments["folder"])

    def get_mutex(self, key: str) -> TheirMutex:
        return TheirMutex(key)

    def get_serialized(self, key: str) -> Any:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return theirs.NO_VALUE

    def get_serialized_multi(self, keys: Any) -> Any:
        return [self.get_serialized(key) for key in keys]

    def set_serialized(self, key: str, value: bytes) -> None:
        fresh = self.folder / f".{uuid.uuid4().hex}"
        fresh.write_bytes(value)
        fresh.replace(self.folder / key)

    def set_serialized_multi(self, mapping: Any) -> None:
        for key, value in mapping.items():
            self.set_serialized(key, value)

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)

    def delete_multi(self, keys: Any) -> None:
        for key in keys:
            self.delete(key)


mpcache.register_backend("test.theirs", __name__, "TheirStore")
mpcache.register_backend("their.memory", "dogpile.cache.backends.memory", "MemoryBackend")
mpcache.register_backend("their.pickle", "dogpile.cache.backends.memory", "MemoryPickleBackend")
mpcache.register_backend("their.dbm", "dogpile.cache.backends.file", "DBMBackend")


class _InAFolder(_GenericBackendTestSuite, _GenericMutexTestSuite):
    argument = "folder"
    file = ""

    @classmethod
    def setup_class(cls) -> None:
        cls.folder = tempfile.mkdtemp()
        cls.config_args = {"arguments": {cls.argument: f"{cls.folder}/{cls.file}"}}
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        shutil.rmtree(cls.folder)


class TestTheirStore(_InAFolder):
    backend = "test.theirs"


class TestTheirStoreSerialized(_GenericSerializerTestSuite, TestTheirStore):
    pass


class TestTheirDbm(_InAFolder):
    backend = "their.dbm"
    argument = "filename"
    file = "values.dbm"


class TestTheirMemory(_GenericBackendTestSuite):
    backend = "their.memory"
    config_args = {"arguments": {"cache_dict": {}}}


class TestTheirMemoryPickle(_GenericBackendTestSuite):
    backend = "their.pickle"
    config_args = {"arguments": {"cache_dict": {}}}


# -- the suites detect faults ----------------------------------------------------------------------------


class Forgetful(MemoryBackend):
    def set(self, key: Any, value: Any) -> None:
        pass


class Clinging(MemoryBackend):
    def delete(self, key: Any) -> None:
        pass


class Particular(MemoryBackend):
    def delete(self, key: Any) -> None:
        del self._cache[key]


class Disorderly(MemoryBackend):
    def get_multi(self, keys: Any) -> Any:
        return [self._cache[key] for key in keys if key in self._cache]


class Greedy(MemoryBackend):
    def __init__(self, arguments: Any) -> None:
        arguments.pop("arbitrary_arg_one", None)
        super().__init__({})


class Sloppy(MemoryBackend):
    def delete_multi(self, keys: Any) -> None:
        self._cache.clear()


class Half(MemoryBackend):
    def set_multi(self, mapping: Any) -> None:
        super().set_multi(dict(list(mapping.items())[1:]))


class Boastful(MemoryBackend):
    shared = True


class Unlocked(MemoryBackend):
    def get_mutex(self, key: Any) -> Any:
        return MockMutex(key)


class Jammed(MemoryBackend):
    """A store with one lock for all keys, which is not reentrant."""

    def get_mutex(self, key: Any) -> Any:
        return TheirMutex("the one")


class Braggart(MemoryBackend):
    """A store whose mutexes promise more than a thread lock can keep."""

    def get_mutex(self, key: Any) -> Any:
        mutex = TheirMutex(key)
        mutex.guarantees = mpcache.api.Guarantees(True, False, True, False)  # type: ignore[attr-defined]
        return mutex


class Whole(_GenericBackendTestSuite, _GenericMutexTestSuite):
    __test__ = False
    backend_argument_names = ("odd",)


FAULTS: list[tuple[type, str]] = [
    (Forgetful, "test_backend_set_get_value test_region_set_get_value test_region_creator test_threaded_dogpile"),
    (Clinging, "test_backend_delete test_region_delete"),
    (Particular, "test_backend_delete_nothing test_region_delete"),
    (Disorderly, "test_backend_multi test_region_get_nothing_multiple"),
    (Greedy, "test_argument_dictionary_unmodified"),
    (Sloppy, "test_backend_multi test_region_delete_multiple"),
    (Half, "test_region_set_multiple_values"),
    (Boastful, "test_shared_with_other_processes"),
    (Unlocked, "test_threaded_dogpile test_threaded_get_multi test_region_is_key_locked"),
    (Unlocked, "test_mutex test_mutex_threaded"),
    (Jammed, "test_mutex_reentrant_across_keys"),
    (Braggart, "test_mutex_excludes_other_processes"),
]


@pytest.mark.parametrize(("kind", "test"), [(kind, test) for kind, tests in FAULTS for test in tests.split()])
def test_a_faulty_store_fails(kind: type, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mpcache.register_backend("test.faulty", __name__, kind.__name__)
    monkeypatch.setattr(Whole, "backend", "test.faulty", raising=False)
    suite = Whole()
    suite.setup_method(None)
    with pytest.raises((AssertionError, KeyError)):
        getattr(suite, test)()


def test_a_store_may_let_go_of_what_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    class Expiring(MemoryBackend):
        def get(self, key: Any) -> Any:
            found = super().get(key)
            return found if found and found.age < 10 else NO_VALUE

    globals()["Expiring"] = Expiring
    mpcache.register_backend("test.expiring", __name__, "Expiring")
    monkeypatch.setattr(Whole, "backend", "test.expiring", raising=False)
    suite = Whole()
    suite.setup_method(None)
    with monkeypatch.context() as patch:
        suite.test_region_expire(patch)
    with monkeypatch.context() as patch, pytest.raises(pytest.skip.Exception, match="has expired the stale value"):
        suite.test_stale_value_while_another_creates(patch)


# -- helpers -------------------------------------------------------------------------------------------


def suite(**attributes: Any) -> Any:
    made = type("Suite", (_GenericBackendFixture,), attributes)()
    made.setup_method(None)
    return made


def test_what_a_test_left_is_removed() -> None:
    values: dict[str, Any] = {}
    one = suite(backend="mpcache.memory", config_args={"arguments": {"cache_dict": values}})
    region = one._region(region_args={"key_mangler": str.upper})
    region.set("a", 1)
    assert list(values) == ["A"]
    one.teardown_method(None)
    assert values == {}


def test_arguments_are_merged_over_the_bases() -> None:
    class Base(_GenericBackendFixture):
        region_args = {"name": "base", "serializer": str}

    one = type("Derived", (Base,), {"region_args": {"name": "derived"}, "backend": "mock"})()
    one.setup_method(None)
    assert [one._region().name, one._region_inst.serializer] == ["derived", str]
    assert one._region(region_args={"name": "given"}).name == "given"
    assert one._region("mpcache.null", config_args={"expiration_time": 5}).expiration_time == 5


def test_a_store_of_its_own_has_the_extra_arguments() -> None:
    one = suite(backend="mock", config_args={"arguments": {"a": 1, "b": 1}}, extra_arguments={"b": 2})
    assert one._backend().arguments == {"a": 1, "b": 2}
    assert isinstance(one._backend_inst, MockBackend)


def test_a_driver_that_is_not_there_skips() -> None:
    class Driven(MockBackend):
        def __init__(self, arguments: Any) -> None:
            raise ImportError("no driver")

    globals()["Driven"] = Driven
    mpcache.register_backend("test.driven", __name__, "Driven")
    with pytest.raises(pytest.skip.Exception, match=r"test\.driven needs what is not installed: no driver"):
        type(suite(backend="test.driven")).setup_class()


def test_the_hook_gets_a_store() -> None:
    seen: list[Any] = []

    class Hooked(_GenericBackendFixture):
        backend = "mock"

        @classmethod
        def _check_backend_available(cls, backend: Any) -> None:
            seen.append(backend)

    Hooked.setup_class()
    assert isinstance(seen[0], MockBackend)


def test_the_mock_is_a_store() -> None:
    region = mpcache.make_region().configure("mock", arguments={"a": 1})
    region.set("x", 1)
    backend = region.actual_backend
    assert [backend.arguments, region.get("x"), backend.get_multi(["y"])] == [{"a": 1}, 1, [NO_VALUE]]
    backend.set_multi({"y": 2})
    backend.delete_multi(["x", "y"])
    mutex = backend.get_mutex("x")
    assert [backend._cache, mutex.acquire(False), mutex.locked(), mutex.release()] == [{}, True, False, None]


def test_1_10_the_suites_cover_what_dogpiles_do() -> None:
    their_suites: Any = pytest.importorskip("dogpile.testing.fixtures")
    for name in ("_GenericBackendTestSuite", "_GenericSerializerTestSuite", "_GenericMutexTestSuite"):
        wanted = {test for test in dir(getattr(their_suites, name)) if test.startswith("test_")}
        assert wanted <= set(dir(getattr(fixtures, name)))
    ours, dogpiles = (inspect.signature(module._GenericBackendFixture._region) for module in (fixtures, their_suites))
    assert list(ours.parameters) == list(dogpiles.parameters)


# -- the assertions --------------------------------------------------------------------------------------


def boom() -> None:
    raise ValueError("some text")


@pytest.mark.parametrize(
    ("holds", "fails"),
    [
        (lambda: testing.eq_(1, 1.0), lambda: testing.eq_(1, 2)),
        (lambda: testing.ne_(1, 2), lambda: testing.ne_(1, 1.0)),
        (lambda: testing.is_(None, None), lambda: testing.is_([], [])),
        (
            lambda: testing.assert_raises_message(ValueError, "me t", boom),
            lambda: testing.assert_raises_message(ValueError, "other", boom),
        ),
        (testing.winsleep, lambda: testing.assert_raises_message(Exception, "", lambda: None)),
    ],
)
def test_assertions(holds: Callable[[], None], fails: Callable[[], None]) -> None:
    holds()
    with pytest.raises(AssertionError):
        fails()


def test_assertions_say_what_they_are_told() -> None:
    for check, other in ((testing.eq_, 2), (testing.ne_, 1), (testing.is_, 2)):
        with pytest.raises(AssertionError, match="because"):
            check(1, other, "because")


def test_winsleep_sleeps_where_the_clock_goes_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    testing.winsleep()
    monkeypatch.setattr("sys.platform", "win32")
    testing.winsleep()
    assert slept == [0.001]


def test_other_exceptions_pass() -> None:
    with pytest.raises(ValueError, match="some text"):
        testing.assert_raises_message(KeyError, "", boom)
