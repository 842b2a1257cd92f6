"""Regions from the items of a configuration file."""

from __future__ import annotations

import configparser
import pickle
from typing import Any

import pytest

import mpcache
from mpcache import exception
from mpcache._region.config import configuration
from mpcache.backends.memory import MemoryBackend, MemoryPickleBackend
from mpcache.backends.null import NullBackend
from mpcache.mutexes.null import NullMutex
from mpcache.mutexes.thread import ThreadMutex


class Told(MemoryBackend):
    """A store that records its arguments."""

    def __init__(self, arguments: Any) -> None:
        super().__init__({})
        self.arguments = dict(arguments)


class Demanding(Told):
    """A store that reads its arguments from the mapping itself."""

    @classmethod
    def from_config_dict(cls, config_dict: Any, prefix: str) -> Any:
        return cls({"whole": dict(config_dict), "prefix": prefix})


mpcache.register_backend("test.told", __name__, "Told")
mpcache.register_backend("test.demanding", __name__, "Demanding")


def configured(prefix: str = "cache.", **items: Any) -> mpcache.CacheRegion:
    conf = {prefix + name.replace("__", "."): value for name, value in items.items()}
    return mpcache.make_region().configure_from_config(conf, prefix)


def test_1_2_it_is_configured_and_returned() -> None:
    region = mpcache.make_region()
    assert region.configure_from_config({"backend": "mpcache.memory"}, "") is region
    assert region.is_configured
    assert region.expiration_time is None


def test_1_2_the_backend_is_required() -> None:
    region = mpcache.make_region()
    with pytest.raises(KeyError, match=r"cache\.backend"):
        region.configure_from_config({"cache.expiration_time": "3", "other.backend": "mpcache.memory"}, "cache.")
    assert not region.is_configured


@pytest.mark.parametrize(
    ("name", "kind"),
    [("memory", MemoryBackend), ("memory_pickle", MemoryPickleBackend), ("null", NullBackend)],
)
@pytest.mark.parametrize("house", ["mpcache", "dogpile.cache"])
def test_1_2_the_names_of_both_houses_go(house: str, name: str, kind: type) -> None:
    assert type(configured(backend=f" {house}.{name} ").actual_backend) is kind


def test_1_2_an_unknown_backend() -> None:
    with pytest.raises(exception.PluginNotFound, match=r"Couldn't find cache plugin to load: no\.such"):
        configured(backend="no.such")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), (" 1.5 ", 1.5), ("-1", -1), ("0", 0), ("None", None), ("", None), (7, 7), ("1e3", 1000.0)],
)
def test_1_2_expiration_time(text: Any, seconds: float | None) -> None:
    assert configured(backend="mpcache.memory", expiration_time=text).expiration_time == seconds


def test_1_2_an_expiration_time_that_is_none() -> None:
    with pytest.raises(exception.ValidationError, match="expiration_time is not a number or timedelta"):
        configured(backend="mpcache.memory", expiration_time="a minute")


def test_1_2_arguments_are_those_under_the_prefix_with_strings_coerced() -> None:
    odd = object()
    conf = {
        "cache.backend": "test.told",
        "cache.arguments.port": " 6379 ",
        "cache.arguments.password": "007",
        "cache.arguments.ssl": "True",
        "cache.arguments.nested.name": "x",
        "cache.arguments.thing": odd,
        "cache.arguments.nothing": "None",
        "cache.argumentation": "no",
        "other.arguments.port": "1",
    }
    region = mpcache.make_region().configure_from_config(conf, "cache.")
    assert region.actual_backend.arguments == {
        "port": 6379,
        "password": 7,
        "ssl": True,
        "nested.name": "x",
        "thing": odd,
        "nothing": None,
    }


def test_1_2_the_whole_mapping_is_coerced_for_a_store_that_looks_further() -> None:
    conf = {"cache.backend": "test.demanding", "elsewhere": " 12 "}
    region = mpcache.make_region().configure_from_config(conf, "cache.")
    assert region.actual_backend.arguments == {
        "whole": {"cache.backend": "test.demanding", "elsewhere": 12},
        "prefix": "cache.arguments.",
    }


def test_C10_the_mapping_is_left_alone() -> None:
    conf = {"cache.backend": " mpcache.memory ", "cache.expiration_time": "5"}
    before = dict(conf)
    mpcache.make_region().configure_from_config(conf, "cache.")
    assert conf == before


def test_1_2_two_regions_of_one_ini_file() -> None:
    parser = configparser.ConfigParser()
    parser.read_string(
        "[cache]\n"
        "short.backend = dogpile.cache.memory\n"
        "short.expiration_time = 5\n"
        "long.backend = mpcache.memory_pickle\n"
    )
    short, long = (
        mpcache.make_region().configure_from_config(parser["cache"], prefix) for prefix in ("short.", "long.")
    )
    assert [short.expiration_time, long.expiration_time] == [5, None]
    assert [type(one.actual_backend) for one in (short, long)] == [MemoryBackend, MemoryPickleBackend]


class Inner(mpcache.ProxyBackend):
    pass


class Outer(mpcache.ProxyBackend):
    pass


def test_C4_wrap_takes_proxies_the_first_one_outermost() -> None:
    region = configured(backend="mpcache.memory", wrap=[Outer, Inner()])
    assert [type(region.backend), type(region.backend.proxied)] == [Outer, Inner]
    assert type(configured(backend="mpcache.memory", wrap=None).backend) is MemoryBackend


def test_C4_wrap_as_a_text_is_no_proxy() -> None:
    with pytest.raises(TypeError, match="is not a valid ProxyBackend"):
        configured(backend="mpcache.memory", wrap="Outer")


@pytest.mark.parametrize("allowed", ["true", True])
def test_1_2_replace_existing_backend(allowed: Any) -> None:
    region = configured(backend="mpcache.memory")
    with pytest.raises(exception.RegionAlreadyConfigured):
        region.configure_from_config({"backend": "mpcache.null"}, "")
    with pytest.raises(exception.RegionAlreadyConfigured):
        region.configure_from_config({"backend": "mpcache.null", "replace_existing_backend": "False"}, "")
    region.configure_from_config({"backend": "mpcache.null", "replace_existing_backend": allowed}, "")
    assert type(region.actual_backend) is NullBackend


def test_1_2_region_invalidator_cannot_be_set() -> None:
    assert "region_invalidator" not in configuration({"backend": "x", "region_invalidator": "y"}, "")


def test_the_mutex_by_its_name() -> None:
    assert isinstance(configured(backend="mpcache.memory", mutex="null")._mutex("a"), NullMutex)
    assert isinstance(configured(backend="mpcache.memory", mutex="None")._mutex("a"), ThreadMutex)
    with pytest.raises(exception.PluginNotFound, match="no mutex is named 'padlock'"):
        configured(backend="mpcache.memory", mutex="padlock")


def test_the_arguments_of_the_mutex() -> None:
    made: list[Any] = []

    def padlock(key: str, **arguments: Any) -> Any:
        made.append((key, arguments))
        return NullMutex(key)

    region = configured(backend="mpcache.memory", mutex=padlock, mutex_arguments__dial="4", mutex_arguments__id="x")
    region._mutex("a")
    assert made == [("a", {"dial": 4, "id": "x"})]


def test_the_arguments_of_no_mutex() -> None:
    with pytest.raises(exception.ValidationError, match=r"mutex_arguments=.*'dial': 4.*are for no mutex"):
        configured(backend="mpcache.memory", mutex_arguments__dial="4")


@pytest.mark.parametrize(("text", "seconds"), [("2.5", 2.5), ("None", None)])
def test_creation_wait(text: str, seconds: float | None) -> None:
    assert configured(backend="mpcache.memory").creation_wait == 60.0
    assert configured(backend="mpcache.memory", creation_wait=text).creation_wait == seconds


def test_C13_a_region_of_a_configuration_is_pickled() -> None:
    region = configured(backend="mpcache.memory", expiration_time="5", wrap=[Outer], mutex="null")
    there = pickle.loads(pickle.dumps(region))
    assert there.expiration_time == 5
    assert [type(there.backend), type(there.actual_backend)] == [Outer, MemoryBackend]
    assert isinstance(there._mutex("a"), NullMutex)
