"""Long and odd keys on every store: what works with a short one works with them, and no two are taken for one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from mpcache.api import NO_VALUE
from mpcache.keys import sha1_mangle_key
from mpcache.mutexes import resolve
from tests.conftest import STORES, Store

NO_UTF8 = b"na\xefve".decode("utf-8", "surrogateescape")
LONG = "n" * 90_000
SNOW = "\N{SNOWMAN}" * 30_000
ODD = [NO_UTF8, NO_UTF8 + "!", "\udfff", LONG, LONG + "!", SNOW, "with blanks\nand lines\x00", "\x7f" * 251]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Any:
    made = Store(request.param, request)
    yield made
    made.close()


@pytest.mark.parametrize("mutex", [None, "file", "semaphore", "shm"])
def test_an_odd_key_is_a_key(store: Store, mutex: str | None) -> None:
    region = store.region(mutex=mutex)
    for number, key in enumerate(ODD):
        region.set(key, number)
    assert region.get_multi(ODD) == [region.get(key) for key in ODD] == list(range(len(ODD)))
    region.delete_multi(ODD[:3])
    region.delete(ODD[3])
    assert [region.get(key) for key in ODD[:5]] == [NO_VALUE] * 4 + [4]
    assert [region.get_or_create(key, lambda: "made") for key in ODD[:5]] == ["made"] * 4 + [4]
    assert not any(map(region.key_is_locked, ODD))


def test_many_odd_keys_are_created_together(store: Store) -> None:
    region = store.region()
    assert region.get_or_create_multi(ODD, lambda *keys: list(map(len, keys))) == list(map(len, ODD))
    region.set_multi(dict.fromkeys(ODD, "set"))
    assert region.get_or_create_multi(ODD, lambda *keys: keys) == ["set"] * len(ODD)


@pytest.mark.parametrize("key", ODD, ids=range(len(ODD)))
def test_its_mutex_excludes(store: Store, key: str) -> None:
    region = store.region()
    with region._mutex(key):
        assert region.key_is_locked(key)
        assert not region.key_is_locked(ODD[0] if key != ODD[0] else ODD[1])
    assert not region.key_is_locked(key)


@pytest.mark.parametrize("name", ["file", "semaphore", "shm", "thread"])
def test_a_mutex_by_itself_takes_it(name: str, tmp_path: Any) -> None:
    for key in ODD:
        with resolve(name)(key) as mutex:
            assert mutex.locked()


@pytest.mark.engine
def test_the_engine_lists_text_that_is_no_utf8_by_its_bytes_and_a_long_key_by_its_beginning() -> None:
    import mpcache

    region = mpcache.shared(None, size="4MB")
    for key in (NO_UTF8, LONG, b"\xff", LONG.encode()):
        region.set(key, "value")  # type: ignore[arg-type]
        assert region.get(key) == "value"  # type: ignore[arg-type]
    names = region.actual_backend.keys()
    assert NO_UTF8.encode("utf-8", "surrogatepass") in names
    assert [len(name) for name in names if isinstance(name, str)] == [len("mpcache~") + 100 + 1 + 48]
    assert len(set(names)) == 4
    assert region.actual_backend.incr(LONG + "?", initial=2) == 2
    assert region.get(LONG + "?") == 2


def test_a_mangler_takes_text_that_is_no_utf8() -> None:
    assert len({sha1_mangle_key(key) for key in ODD}) == len(ODD)
    assert sha1_mangle_key(os.fsdecode(b"\xe9")) == sha1_mangle_key("\udce9".encode("utf-8", "surrogatepass"))
