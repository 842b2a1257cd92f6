"""Mistakes in a configuration: the text of warnings, their number, their line, and the suggested name."""

from __future__ import annotations

import os
import sys
import types
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.exception import PluginNotFound, RegionNotConfigured, SegmentTooSmall


def warned(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    assert [warning.filename for warning in seen] == [__file__] * len(seen)
    return seen


def configured(name: str, **how: Any) -> mpcache.CacheRegion:
    return mpcache.make_region().configure(name, **how)


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield name
    from mpcache.shm import segment

    segment.unlink(name)


def test_all_unknown_arguments_in_one_warning() -> None:
    given = {"max_entrys": 1, "username": 2, "tls_context": 3}
    (warning,) = warned(lambda: configured("mpcache.memory", arguments=given))
    assert str(warning.message) == (
        "MemoryBackend ignores the arguments 'max_entrys' (did you mean 'max_entries'?), 'tls_context', 'username';"
        " it knows cache_dict, max_bytes, max_entries"
    )


@pytest.mark.parametrize("store", ["shm", "dbm", "redis", "pymemcache"])
def test_so_it_is_of_each_store(store: str, name: str, tmp_path: Any) -> None:
    arguments = {
        "shm": {"name": name, "size": "4MB"},
        "dbm": {"filename": str(tmp_path / "cache")},
        "redis": {"port": 9},
        "pymemcache": {"url": "127.0.0.1:9"},
    }[store]
    (warning,) = warned(lambda: configured(f"mpcache.{store}", arguments={**arguments, "nonsense": 1, "extra": 2}))
    assert "ignores the arguments 'extra', 'nonsense'; it knows " in str(warning.message)


def test_unknown_options_under_a_prefix() -> None:
    conf = {
        "cache.backend": "mpcache.memory",
        "cache.expiraton_time": "60",
        "cache.mutx": "thread",
        "cache.enabled": "true",
        "cache.argument.max_entries": "9",
        "cache.session.backend": "another region's",
        "other": "1",
    }
    (warning,) = warned(lambda: mpcache.make_region().configure_from_config(conf, "cache."))
    text = str(warning.message)
    assert "'cache.expiraton_time' (did you mean 'cache.expiration_time'?)" in text
    assert "'cache.mutx' (did you mean 'cache.mutex'?)" in text
    assert "'cache.argument.max_entries' (did you mean 'cache.arguments.max_entries'?)" in text
    assert "'cache.enabled'" in text
    assert "session" not in text
    assert "other" not in text


def test_the_key_generators_are_known_options() -> None:
    conf = {"cache.backend": "mpcache.memory", "cache.function_key_generator": "exact"}
    assert not warned(lambda: mpcache.make_region().configure_from_config(conf, "cache."))
    wrong = {"cache.backend": "mpcache.memory", "cache.function_key_generater": "exact"}
    (warning,) = warned(lambda: mpcache.make_region().configure_from_config(wrong, "cache."))
    assert "did you mean 'cache.function_key_generator'?" in str(warning.message)


def test_without_a_prefix_the_rest_of_the_mapping_is_not_ours() -> None:
    conf = {"backend": "mpcache.memory", "database": "x", "debug": "1", "arguments.max_entries": "9"}
    assert warned(lambda: mpcache.make_region().configure_from_config(conf, "")) == []


@pytest.mark.parametrize(
    ("conf", "hint"), [({"c.bakend": "x"}, "there is 'c.bakend', did you mean that"), ({}, "under 'c.'")]
)
def test_a_missing_backend(conf: dict[str, str], hint: str) -> None:
    with pytest.raises(KeyError, match=r"c\.backend: the configuration names no backend") as error:
        mpcache.make_region().configure_from_config(conf, "c.")
    assert hint in str(error.value)


@pytest.mark.parametrize("wrong", ["shm", "mpcache.smh", "mpcache.shmm", "dogpile.cache.shmm"])
def test_a_misspelt_store(wrong: str) -> None:
    with pytest.raises(PluginNotFound, match=r"did you mean 'mpcache\.shm'\?"):
        configured(wrong)


def test_a_misspelt_mutex() -> None:
    with pytest.raises(PluginNotFound, match=r"no mutex is named 'semafore'; did you mean 'semaphore'\?"):
        configured("mpcache.memory", mutex="semafore")


def test_an_argument_of_the_store_beside_the_arguments() -> None:
    wrong: Any = {"size": "4MB", "expiration": 1}
    with pytest.raises(TypeError, match=r"'size'; one of the store goes into arguments=\{'size': \.\.\.\}") as error:
        configured("mpcache.shm", **wrong)
    assert "'expiration'; did you mean 'expiration_time'?" in str(error.value)


def test_a_segment_without_a_name() -> None:
    (warning,) = warned(lambda: configured("mpcache.shm", arguments={"size": "4MB"}))
    assert "only children that are forked from this process share it" in str(warning.message)
    assert warned(lambda: configured("mpcache.shm", arguments={"size": "4MB", "name": None})) == []
    assert warned(lambda: mpcache.shared(None, size="4MB")) == []


def test_a_size_that_was_not_asked_for(name: str) -> None:
    region = mpcache.shared(name, size="4MB")
    assert warned(lambda: mpcache.shared(name)) == []
    assert warned(lambda: configured("mpcache.shm", arguments={"name": name, "strict_size": True})) == []
    (warning,) = warned(lambda: mpcache.shared(name, size="6MB"))
    assert "has 4 MiB and was asked for with 6 MiB" in str(warning.message)
    assert region.get("a") is NO_VALUE


def test_a_size_without_its_unit() -> None:
    with pytest.raises(SegmentTooSmall, match=r"size=64: .*; did you mean size='64MB'\?"):
        mpcache.shared(None, size=64)


def test_a_mutex_that_is_too_weak_is_told_at_the_callers_line() -> None:
    (warning,) = warned(lambda: mpcache.shared(None, size="4MB", mutex="thread"))
    assert "excludes no other process" in str(warning.message)


def test_names_that_were_registered_with_dogpile_cache() -> None:
    dogpile = pytest.importorskip("dogpile.cache")
    module = types.ModuleType("their_store")
    module.Store = type("Store", (mpcache.CacheBackend,), {"__init__": lambda self, arguments: None})  # type: ignore[attr-defined]
    sys.modules["their_store"] = module
    try:
        for known in ("theirs", "dogpile.cache.theirs"):
            dogpile.register_backend(known, "their_store", "Store")
            assert type(configured(known).actual_backend) is module.Store  # type: ignore[attr-defined]
    finally:
        del sys.modules["their_store"]


# -- the repr of a region --------------------------------------------------------------------------------------------


def test_a_region_says_what_it_stands_on() -> None:
    region = mpcache.make_region("orders")
    assert repr(region) == "<CacheRegion 'orders', not configured>"
    with pytest.raises(RegionNotConfigured, match=r"this region: <CacheRegion 'orders', not configured>"):
        region.get("k")
    region.configure("mpcache.memory", "5m", wrap=[mpcache.ProxyBackend], mutex="thread")
    assert repr(region) == (
        "<CacheRegion 'orders' on ProxyBackend > <MemoryBackend of 0 values>, fresh 300.0 s, mutex thread>"
    )


def test_del_backend_unconfigures(name: str) -> None:
    region = mpcache.make_region("r").configure("mpcache.shm", arguments={"name": name, "size": "4MB"})
    region.set("a", 1)
    f = region.cache_on_arguments()(lambda n: n)
    assert f(1) == 1
    for call in (
        lambda: region.get("a"),
        lambda: region.set("a", 2),
        lambda: region.get_multi(["a"]),
        lambda: region.set_multi({"a": 1}),
        lambda: region.get_or_create("a", int),
        lambda: region.delete("a"),
        lambda: region.key_is_locked("a"),
        lambda: region.backend,
        lambda: region.actual_backend,
        lambda: f(1),
    ):
        if region.is_configured:
            del region.backend
        with pytest.raises(RegionNotConfigured):
            call()  # type: ignore[no-untyped-call]
    assert (region.key_mangler, region.serializer) == (None, None)
    with pytest.raises(AttributeError, match="not configured> has no backend"):
        del region.backend
    region.configure("mpcache.memory")
    assert (region.get("a"), f(1), region.serializer) == (NO_VALUE, 1, None)
    region.invalidate()
    assert region.get_or_create("b", lambda: 2) == 2
