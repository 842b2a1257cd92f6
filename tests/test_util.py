"""The helper names that programs import."""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpcache
from mpcache import core, util
from mpcache.util import compat, langhelpers

theirs = pytest.importorskip("dogpile.util")
their_compat = pytest.importorskip("dogpile.util.compat")
their_typing = pytest.importorskip("dogpile.util.typing")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 12 ", 12), ("-3", -3), ("007", 7), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0),
        ("TRUE", True), ("false", False), ("None", None), ("none", "none"),
        (" some text ", "some text"), ("", ""), ("1_000", "1_000"), ("0x10", "0x10"),
    ],
)  # fmt: skip
def test_1_2_strings_of_a_configuration(text: str, value: Any) -> None:
    (coerced,) = util.coerce_string_conf({"x": text}).values()
    assert (coerced, type(coerced)) == (value, type(value))


@given(st.dictionaries(st.text(max_size=3), st.one_of(st.text("+-.0123456789eE \n"), st.text(), st.integers())))
def test_strings_are_coerced_as_dogpile_does(conf: dict[str, Any]) -> None:
    assert util.coerce_string_conf(conf) == theirs.coerce_string_conf(conf)


def test_to_list() -> None:
    assert [util.to_list(None, 3), util.to_list([1]), util.to_list((1,)), util.to_list("ab")] == [
        3,
        [1],
        (1,),
        ["ab"],
    ]


def test_memoized_property_is_computed_once() -> None:
    class Thing:
        computed = 0

        @util.memoized_property
        def answer(self) -> int:
            """The answer."""
            self.computed += 1
            return 42

    thing = Thing()
    assert [thing.answer, thing.answer, thing.computed] == [42, 42, 1]
    assert Thing.answer.__doc__ == "The answer."


def test_name_registry_keeps_what_is_held() -> None:
    class Thing:
        def __init__(self, name: str, size: int) -> None:
            self.size = size

    registry = util.NameRegistry(Thing)
    first = registry.get("a", 1)
    assert registry.get("a", 2) is first
    assert registry.get("b", 2) is not first
    del first
    gc.collect()
    assert registry.get("a", 3).size == 3


def test_name_registry_refuses_what_cannot_be_referenced_weakly() -> None:
    with pytest.raises(TypeError):
        util.NameRegistry(lambda name: []).get("a")


class TestKeyReentrantMutex:
    def setup_method(self) -> None:
        self.lock = threading.Lock()
        self.of = util.KeyReentrantMutex.factory(self.lock)

    def test_the_holder_may_take_other_keys(self) -> None:
        a, b = self.of("a"), self.of("b")
        assert [a.acquire(), b.acquire(), a.acquire(False)] == [True, True, False]
        a.release()
        assert [self.lock.locked(), a.locked(), b.locked()] == [True, False, True]
        b.release()
        assert not self.lock.locked()

    def test_other_threads_are_kept_out(self, spawn: Callable[..., Future[Any]]) -> None:
        self.of("a").acquire()
        assert spawn(self.of("b").acquire, False).result() is False
        assert spawn(self.of("a").locked).result() is False

    def test_release_is_for_holders(self) -> None:
        with pytest.raises(AssertionError, match="this thread didn't do the acquire"):
            self.of("a").release()
        self.of("a").acquire()
        with pytest.raises(AssertionError, match="No acquire held for key 'b'"):
            self.of("b").release()

    def test_F4_a_forked_child_holds_nothing(self) -> None:
        mine = self.of("a")
        mine.acquire()
        child = os.fork()
        if not child:
            believes = mine.locked() or self.of("b").acquire(False)
            os._exit(believes)
        assert os.waitpid(child, 0)[1] == 0
        mine.release()
        assert not self.lock.locked()


class TestReadWriteMutex:
    def setup_method(self) -> None:
        self.mutex = util.ReadWriteMutex()

    def test_many_read_or_one_writes(self, spawn: Callable[..., Future[Any]]) -> None:
        mutex = self.mutex
        assert [mutex.acquire_read_lock(), mutex.acquire_read_lock(False)] == [None, True]
        assert mutex.acquire_write_lock(False) is False
        mutex.release_read_lock()
        mutex.release_read_lock()
        assert mutex.acquire_write_lock(False) is True
        assert spawn(mutex.acquire_read_lock, False).result() is False
        assert spawn(mutex.acquire_write_lock, False).result() is False
        mutex.release_write_lock()
        assert mutex.acquire_write_lock() is None

    def test_those_who_wait_are_let_in(self, spawn: Callable[..., Future[Any]]) -> None:
        log: list[str] = []

        def write(name: str) -> None:
            self.mutex.acquire_write_lock()
            log.extend([name, name])
            self.mutex.release_write_lock()

        self.mutex.acquire_read_lock()
        waiting = [spawn(write, name) for name in "abc"]
        assert log == []
        self.mutex.release_read_lock()
        for one in waiting:
            one.result(20)
        assert log[::2] == log[1::2]
        assert sorted(log) == list("aabbcc")

    def test_an_interrupted_writer_leaves_no_claim(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(condition: Any, until: Callable[[], bool]) -> None:
            if not until():
                raise KeyboardInterrupt

        self.mutex.acquire_read_lock()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Condition, "wait_for", interrupt)
            with pytest.raises(KeyboardInterrupt):
                self.mutex.acquire_write_lock()
        assert self.mutex.acquire_read_lock(False) is True

    def test_release_is_for_holders(self, spawn: Callable[..., Future[Any]]) -> None:
        with pytest.raises(util.LockError, match="the read lock is not held"):
            self.mutex.release_read_lock()
        self.mutex.acquire_write_lock()
        with pytest.raises(util.LockError, match="this thread does not hold the write lock"):
            spawn(self.mutex.release_write_lock).result()
        self.mutex.release_write_lock()
        with pytest.raises(util.LockError):
            self.mutex.release_write_lock()

    def test_1_1_it_tells_its_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self.mutex.acquire_read_lock()
        self.mutex.release_read_lock()
        self.mutex.acquire_write_lock()
        self.mutex.release_write_lock()
        assert {record.name for record in caplog.records} == {"mpcache.util.readwrite_lock"}
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            f"{kind} lock {done}" for kind in ("read", "write") for done in ("acquired", "released")
        ]


def test_langhelpers_mutex_is_one_of_two_verbs() -> None:
    class Half(langhelpers.Mutex):
        def acquire(self, wait: bool = True) -> bool:
            return True

    class Whole(Half):
        def release(self) -> None:
            pass

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
    assert langhelpers.KeyReentrantMutex.factory(Whole())("a").acquire()


def some(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> None:
    pass


@pytest.mark.parametrize("function", [some, TestReadWriteMutex().setup_method, functools.wraps(some)(lambda *a: None)])
def test_compat_tells_the_parameters_as_dogpile_does(function: Any) -> None:
    full, positional = compat.inspect_getfullargspec(function), compat.inspect_getargspec(function)
    assert tuple(full)[:6] == tuple(their_compat.inspect_getfullargspec(function))[:6]
    assert tuple(positional) == tuple(their_compat.inspect_getargspec(function)) == tuple(full)[:4]
    assert positional._fields == their_compat.ArgSpec._fields
    assert compat.FullArgSpec._fields == their_compat.FullArgSpec._fields


def test_compat_refuses_what_has_no_parameters() -> None:
    with pytest.raises(TypeError):
        compat.inspect_getargspec("text")  # type: ignore[arg-type]


def test_typing_self() -> None:
    from mpcache.util.typing import Self

    class Chained:
        def on(self) -> Self:
            return self

    assert inspect.signature(Chained.on).return_annotation == "Self"
    assert their_typing.Self is Self


def test_core_has_the_names_of_long_ago() -> None:
    assert core.NameRegistry is util.NameRegistry is core.nameregistry.NameRegistry
    assert core.ReadWriteMutex is util.ReadWriteMutex is core.readwrite_lock.ReadWriteMutex
    assert core.Lock is mpcache.Lock
    assert core.__version__ == mpcache.__version__


def test_plugin_loader_loads_late_and_the_last_name_wins() -> None:
    loader = util.PluginLoader("no.such.group")
    loader.register("x", "no_such_module", "Nothing")
    loader.register("x", "collections", "OrderedDict")
    loader.register("broken", "no_such_module", "Nothing")
    assert loader.load("x") is loader.impls["x"] is __import__("collections").OrderedDict
    loader.register("x", "collections", "Counter")
    assert loader.load("x") is __import__("collections").Counter
    with pytest.raises(ModuleNotFoundError):
        loader.load("broken")
    with pytest.raises(util.PluginLoader.NotFound, match="broken, x"):
        loader.load("y")


def test_plugin_loader_finds_entry_points() -> None:
    assert callable(util.PluginLoader("no.such.group", "console_scripts").load("pytest"))
