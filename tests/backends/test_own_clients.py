"""Stores whose subclasses bring their client are asked through it: never over a connection that mpcache makes."""

from __future__ import annotations

from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE, CachedValue
from mpcache.backends import memcached, redis


class Dict:
    """A client that keeps everything in itself, and speaks as python-memcached does."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.given: list[dict[str, Any]] = []

    def get(self, key: str) -> Any:
        return self.items.get(key)

    def get_multi(self, keys: Any) -> dict[str, Any]:
        return {key: self.items[key] for key in keys if key in self.items}

    def set(self, key: str, value: Any, **given: Any) -> None:
        self.items[key] = value
        self.given.append(given)

    def set_multi(self, mapping: Any, **given: Any) -> None:
        self.items.update(mapping)

    def add(self, key: str, value: Any, time: int) -> bool:
        return self.items.setdefault(key, value) is value

    def delete(self, key: str) -> None:
        self.items.pop(key, None)


class Spy:
    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kw: None


server, spy = Dict(), Spy()


class Property(memcached.MemcachedBackend):
    client: Any = property(lambda self: server)


class Made(memcached.PyMemcacheBackend):
    imported = False

    def _imports(self) -> None:
        self.imported = True

    def _create_client(self) -> Any:
        assert self.imported
        return server


class Base(memcached.GenericMemcachedBackend):
    def _create_client(self) -> Any:
        return server


class OnlyImports(memcached.PylibmcBackend):
    def _imports(self) -> None:
        """Would choose another library."""


class RedisOnlyImports(redis.RedisBackend):
    def _imports(self) -> None:
        """Would choose another library."""


class RedisClient(redis.RedisBackend):
    client = "of an old version"


class Redis(redis.RedisBackend):
    asked: list[tuple[Any, ...]]

    def _create_client(self) -> None:
        store = self
        store.asked = []

        class Client:
            def execute_command(self, *args: Any, **options: Any) -> Any:
                store.asked.append(args)

            def set(self, *args: Any, **options: Any) -> Any:
                store.asked.append(("SET", *args))

        assert (self.host, self.port, self.db) == ("localhost", 9, 0)  # type: ignore[attr-defined]
        self.writer_client = self.reader_client = Client()


class RedisProperty(redis.RedisBackend):
    made = 0

    @property
    def writer_client(self) -> Any:
        type(self).made += 1
        return spy

    @property
    def reader_client(self) -> Any:
        return spy


@pytest.fixture(autouse=True)
def fresh() -> None:
    server.items, server.given = {}, []


def region(kind: type[Any], **arguments: Any) -> mpcache.CacheRegion:
    mpcache.register_backend(f"test.{kind.__name__}", __name__, kind.__name__)
    return mpcache.make_region().configure(f"test.{kind.__name__}", arguments=arguments)


@pytest.mark.parametrize("kind", [Property, Made, Base])
def test_a_region_works_by_the_client(kind: Any) -> None:
    cache = region(kind, url="127.0.0.1:9", pool_maxsize=3)  # no server listens there; and an argument for the subclass
    cache.set("a", 1)
    assert isinstance(server.items["a"], CachedValue)  # as dogpile.cache stores it
    assert cache.get("a") == cache.get_or_create("a", lambda: 2) == 1
    cache.set_multi({"b": 2, "c": 3})
    assert cache.get_multi(["c", "x", "a", "b"]) == [3, NO_VALUE, 1, 2]
    cache.delete_multi(["b", "c"])
    cache.delete("a")
    assert server.items == {}
    assert cache.get_or_create_multi(["x", "y"], lambda *keys: list(keys)) == ["x", "y"]


def test_of_a_region_with_a_serializer_too() -> None:
    mpcache.register_backend("test.Property", __name__, "Property")
    cache = mpcache.make_region(serializer=lambda value: b"%d" % value, deserializer=int)
    cache.configure("test.Property", arguments={"url": "127.0.0.1:9"})
    cache.set_multi({"a": 1})
    cache.set("b", 2)
    assert (cache.get("a"), cache.get_multi(["b"])) == (1, [2])
    assert server.items["a"].endswith(b"|1")


@pytest.mark.parametrize(("kind", "given"), [(Property, {"time": 60, "min_compress_len": 9}), (Made, {"expire": 60})])
def test_it_is_told_for_how_long(kind: Any, given: dict[str, Any]) -> None:
    region(kind, url="127.0.0.1:9", memcached_expire_time=60, min_compress_len=9).set("a", 1)
    assert server.given == [given]


def test_its_mutex_is_asked_for_through_the_client() -> None:
    assert region(Property, url="127.0.0.1:9").actual_backend.get_mutex("k") is None
    cache = region(Property, url="127.0.0.1:9", distributed_lock=True, lock_timeout=60)
    mutex, other = cache._mutex("k"), cache._mutex("k")
    assert mutex.acquire()
    assert list(server.items) == ["_lockk"]
    assert cache.key_is_locked("k")
    assert not other.acquire(False)
    assert not other.acquire(True, timeout=0.01)
    other.release()  # is not its own
    assert cache.key_is_locked("k")
    mutex.release()
    assert cache.get_or_create("k", lambda: "made") == "made"
    assert list(server.items) == ["k"]


@pytest.mark.parametrize("kind", [OnlyImports, RedisOnlyImports, RedisClient])
def test_what_cannot_be_obeyed_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} overrides '.*; override _create_client"):
        region(kind, url="127.0.0.1:9")


def test_of_redis() -> None:
    cache = region(Redis, port=9, distributed_lock=False)
    assert cache.get("a") is NO_VALUE
    cache.set("a", 1)
    assert [args[:2] for args in cache.actual_backend.asked] == [("GET", "a"), ("SET", "a")]
    cache = region(RedisProperty, port=9, distributed_lock=False)
    assert cache.get("a") is NO_VALUE
    assert RedisProperty.made


def test_ours_have_no_client() -> None:
    cache = mpcache.make_region().configure("mpcache.pymemcache", arguments={"url": "127.0.0.1:9"})
    with pytest.raises(AttributeError, match="PyMemcacheBackend has no client"):
        cache.actual_backend.client
