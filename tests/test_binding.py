"""A region has one binding at a time: no call sees the store of one configuration with the judge of another."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache._region.binding import Binding
from mpcache.api import NO_VALUE, Freshness
from mpcache.exception import RegionNotConfigured, ValidationError
from tests.processes.support import own_time

READERS = 8


class Strict(mpcache.region.DefaultInvalidationStrategy):
    """A strategy that forbids values older than itself."""

    def judge(self, created: float, epoch: int | None) -> Freshness:
        return Freshness.ABSENT


class Lax(mpcache.region.DefaultInvalidationStrategy):
    """A strategy that allows every value."""

    def judge(self, created: float, epoch: int | None) -> Freshness:
        return Freshness.FRESH


@pytest.fixture
def interleaved() -> Iterator[None]:
    """Switch threads after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def stores() -> list[tuple[Any, Any]]:
    """Make two stores and their judges: no value of the first may be served, each value of the second may."""
    return [({"cache_dict": {}}, Strict()), ({"cache_dict": {}}, Lax())]


@pytest.mark.usefixtures("interleaved")
def test_no_reader_sees_a_value_that_the_other_stores_strategy_has_judged() -> None:
    region = mpcache.make_region()
    forbidden, allowed = stores()
    for arguments, judge, value in ((*forbidden, "forbidden"), (*allowed, "allowed")):
        region.configure("mpcache.memory", arguments=arguments, region_invalidator=judge, replace_existing_backend=True)
        region.set("k", value)
    found: set[Any] = set()
    enough = threading.Event()

    def read() -> None:
        while not enough.is_set():
            found.update((region.get("k"), *region.get_multi(["k"])))
            found.add(region.get_or_create("k", lambda: "allowed", should_cache_fn=lambda value: False))

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    until = own_time() + 1
    while own_time() < until and "forbidden" not in found:
        for arguments, judge in (forbidden, allowed):
            region.configure(
                "mpcache.memory", arguments=arguments, region_invalidator=judge, replace_existing_backend=True
            )
    enough.set()
    for reader in readers:
        reader.join()
    assert found == {"allowed", NO_VALUE}


class Interrupted(mpcache.region.DefaultInvalidationStrategy):
    """A strategy that is asked for its judge while the binding is made, and lets another thread act meanwhile."""

    act: Any = None

    @property
    def judge(self) -> Any:
        act, self.act = self.act, None
        if act is not None:
            thread = threading.Thread(target=act)
            thread.start()
            thread.join()
        return lambda created, epoch: Freshness.FRESH


def test_of_two_threads_that_configure_the_last_has_all_settings() -> None:
    region, lax, seen = mpcache.make_region(), Lax(), []
    slow = Interrupted()

    def configure() -> None:
        region.configure("mpcache.null", expiration_time=2, region_invalidator=lax, replace_existing_backend=True)
        seen.append(region.binding)

    slow.act = configure
    region.configure("mpcache.memory", expiration_time=1, region_invalidator=slow)
    for binding in (region.binding, *seen):
        assert (type(binding.store).__name__, binding.expiration_time) == ("NullBackend", 2)
        assert binding.invalidator is lax
    assert region.backend is region.__dict__["backend"]


def test_an_assignment_while_another_thread_configures_is_not_lost() -> None:
    region, slow = mpcache.make_region(), Interrupted()
    slow.act = lambda: setattr(region, "creation_wait", 7)
    region.configure("mpcache.memory", region_invalidator=slow)
    assert region.binding.creation_wait == region.creation_wait == 7


def test_a_binding_cannot_be_changed() -> None:
    region = mpcache.make_region().configure("mpcache.memory")
    with pytest.raises(AttributeError):
        region.binding.judge = None  # type: ignore[misc, assignment]
    assert not hasattr(region.binding, "__dict__")


@pytest.mark.parametrize(
    ("name", "value"),
    [("expiration_time", 5), ("creation_wait", 1.5), ("key_mangler", str.upper), ("region_invalidator", Lax())],
)
def test_an_assignment_makes_another_binding(name: str, value: Any) -> None:
    region = mpcache.make_region().configure("mpcache.memory")
    before: Binding = region.binding
    setattr(region, name, value)
    field = "invalidator" if name == "region_invalidator" else name
    assert getattr(region.binding, field) is value
    assert getattr(before, field) is not value


@pytest.mark.parametrize(
    ("given", "seconds"), [("1h30m", 5400), (timedelta(minutes=1), 60), (Decimal("2.5"), 2.5), (5, 5), (None, None)]
)
def test_a_creation_wait_is_a_time_however_it_is_given(given: Any, seconds: float | None) -> None:
    region = mpcache.make_region().configure("mpcache.memory", creation_wait=given)
    assert region.binding.creation_wait == seconds
    assert region.get_or_create("a", lambda: 1) == 1
    region.creation_wait = 3
    region.creation_wait = given
    assert region.binding.creation_wait == region.creation_wait == seconds
    assert region.get_or_create("b", lambda: 1) == 1


@pytest.mark.parametrize("name", ["creation_wait", "expiration_time"])
@pytest.mark.parametrize("wrong", ["soon", "60", [1], float("nan")])
def test_an_assigned_time_that_is_none_is_refused_and_changes_nothing(name: str, wrong: Any) -> None:
    region = mpcache.make_region().configure("mpcache.memory", expiration_time=7, creation_wait=7)
    with pytest.raises(ValidationError, match=f"{name} is not a number or timedelta"):
        setattr(region, name, wrong)
    assert (getattr(region, name), getattr(region.binding, name)) == (7, 7)


def test_a_creation_wait_that_no_clock_can_add() -> None:
    region = mpcache.make_region()
    with pytest.raises(ValidationError, match="creation_wait is larger than a float can be"):
        region.configure("mpcache.memory", creation_wait=10**400)
    assert not region.is_configured


def test_a_serializer_that_is_assigned_is_used() -> None:
    region = mpcache.make_region().configure("mpcache.memory")
    region.serializer, region.deserializer = lambda value: b"<%d>" % value, lambda payload: int(payload[1:-1])
    region.set("k", 7)
    assert region.actual_backend.get_serialized("k").endswith(b"|<7>")
    assert region.get("k") == 7


def test_without_a_configuration_each_use_says_so() -> None:
    region = mpcache.make_region("mine")
    for use in (
        lambda: region.get("k"),
        lambda: region.set("k", 1),
        lambda: region.backend,
        lambda: region.delete("k"),
    ):
        with pytest.raises(RegionNotConfigured, match="'mine', not configured"):
            use()


CALLS: dict[str, Any] = {
    "get": lambda region, key: region.get(key),
    "get_multi": lambda region, key: region.get_multi(["a", key]),
    "get_value_metadata": lambda region, key: region.get_value_metadata(key),
    "set": lambda region, key: region.set(key, 1),
    "set_multi": lambda region, key: region.set_multi({"a": 1, key: 2}),
    "set NO_VALUE": lambda region, key: region.set(key, NO_VALUE),
    "delete": lambda region, key: region.delete(key),
    "delete_multi": lambda region, key: region.delete_multi(["a", key]),
    "get_or_create": lambda region, key: region.get_or_create(key, lambda: 1),
    "get_or_create_multi": lambda region, key: region.get_or_create_multi([key], lambda *keys: [1]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("store", ["mpcache.shm", "mpcache.dbm"])
def test_a_key_of_a_wrong_type_is_named_with_its_region(store: str, call: Any, tmp_path: Path) -> None:
    arguments = {"name": None, "size": "4MB"} if store == "mpcache.shm" else {"filename": str(tmp_path / "file")}
    region = mpcache.make_region("mine").configure(store, arguments=arguments)
    with pytest.raises(TypeError, match=r"^key 7 of region 'mine': .*str or bytes"):
        call(region, 7)


def test_a_key_of_a_wrong_type_in_a_region_without_a_name() -> None:
    region = mpcache.make_region().configure("mpcache.memory")
    with pytest.raises(TypeError, match=r"^key \[1\] of a region without a name: unhashable"):
        region.get([1])  # type: ignore[arg-type]


def test_a_type_error_that_is_not_about_the_key_is_left_alone() -> None:
    region = mpcache.make_region("mine").configure("mpcache.memory")
    region.backend.get = lambda key: 1 + None  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"^unsupported operand"):
        region.get("k")


@pytest.mark.parametrize("store", [None, "mpcache.memory", "mpcache.shm"])
def test_a_region_is_freed_with_its_last_reference(store: str | None) -> None:
    """Check that no reference cycle keeps the region and its store until the collector runs."""
    region = mpcache.make_region()
    if store is not None:
        region.configure(store, arguments={} if store == "mpcache.memory" else {"name": None, "size": "4MB"})
        region.set("k", 1)
        assert region.get("k") == 1
    gone = weakref.ref(region)
    gc.disable()
    try:
        del region
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "mpcache.spoon"},
        {"backend": "mpcache.memory", "expiration_time": "soon"},
        {"backend": "mpcache.memory", "wrap": [int]},
        {"backend": "mpcache.dbm"},
        {"backend": "mpcache.memory", "mutex": "spoon"},
    ],
)
def test_a_configuration_that_fails_changes_nothing(wrong: dict[str, Any]) -> None:
    region = mpcache.make_region().configure("mpcache.memory", expiration_time=7)
    before, state = region.access, dict(region.__dict__)
    with pytest.raises(Exception, match=r"spoon|soon|int|filename"):
        region.configure(replace_existing_backend=True, **wrong)
    assert region.access is before
    assert region.__dict__ == state
