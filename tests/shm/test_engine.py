"""What the store promises for single keys, one process looking."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

from mpcache.exception import KeyTooLong, SegmentError, ValueTooLarge
from mpcache.shm import _engine, segment

pytestmark = pytest.mark.engine


def value_of(found: Any) -> Any:
    return None if found is None else found[0]


def test_what_was_set_is_found(space: _engine.Namespace) -> None:
    assert space.get("a") is None
    assert space.set("a", b"one")
    assert value_of(space.get("a")) == b"one"
    assert space.set("a", b"two, and longer")
    assert value_of(space.get("a")) == b"two, and longer"
    assert "a" in space
    assert "b" not in space


def test_deleted_is_gone(space: _engine.Namespace) -> None:
    space.set("a", b"one")
    assert space.delete("a") is True
    assert space.delete("a") is False
    assert space.get("a") is None
    assert space.set("a", b"two")
    assert value_of(space.get("a")) == b"two"


def test_add_only_if_absent(space: _engine.Namespace) -> None:
    assert space.add("a", b"one") is True
    assert space.add("a", b"two") is False
    assert value_of(space.get("a")) == b"one"
    space.delete("a")
    assert space.add("a", b"three") is True


@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 4095, 4096, 65535, 65536, 70000, 200_000])
def test_values_of_every_length(space: _engine.Namespace, length: int) -> None:
    value = random.Random(length).randbytes(length)
    for key in ("k", "k" * 15, "k" * 16, "k" * 1000):
        assert space.set(key, value)
        assert value_of(space.get(key)) == value
    space.engine.check()


def test_str_and_bytes_are_different_keys(space: _engine.Namespace) -> None:
    space.set("a", b"text")
    space.set(b"a", b"bytes")
    assert value_of(space.get("a")) == b"text"
    assert value_of(space.get(b"a")) == b"bytes"
    assert sorted(map(repr, space.keys())) == ["'a'", "b'a'"]


def test_empty_and_long_keys(space: _engine.Namespace) -> None:
    for key in ("", b"", "x" * 65535, "é" * 1000):
        space.set(key, b"v")
        assert value_of(space.get(key)) == b"v"
    with pytest.raises(KeyTooLong, match="65536 bytes"):
        space.set("x" * 65536, b"v")
    with pytest.raises(KeyTooLong):
        space.get(b"x" * 70000)


@pytest.mark.parametrize("key", [1, 1.5, None, ("a",)])
def test_other_keys_are_refused(space: _engine.Namespace, key: Any) -> None:
    with pytest.raises(TypeError, match="str or bytes"):
        space.get(key)
    with pytest.raises(TypeError, match="str or bytes"):
        space.set(key, b"v")


def test_created_comes_back_exactly(space: _engine.Namespace) -> None:
    """As a float of this century: what the region stamped is what it reads."""
    for _ in range(1000):
        now = random.uniform(1e9, 3e9)
        space.set("a", b"v", now)
        assert space.get("a")[1] == now  # type: ignore[index]


def test_expired_is_gone_also_for_add_and_keys(space: _engine.Namespace) -> None:
    past, future = time.time() - 1, time.time() + 1000
    space.set("old", b"v", 0.0, -1, past)
    space.set("new", b"v", 0.0, -1, future)
    assert space.get("old") is None
    assert "old" not in space
    assert space.delete("old") is False
    assert value_of(space.get("new")) == b"v"
    assert space.keys() == ["new"]
    space.set("old", b"v", 0.0, -1, past)
    assert space.add("old", b"fresh") is True


def test_too_large_says_what_to_do(space: _engine.Namespace) -> None:
    most = space.engine.stats()["largest_value"]
    with pytest.raises(ValueTooLarge, match=r"its 1 shards; configure a larger size$"):
        space.set("a", bytes(most + 4096))
    assert space.set("a", bytes(most - 4096))
    assert len(value_of(space.get("a"))) == most - 4096


def test_too_large_leaves_the_older_value(space: _engine.Namespace) -> None:
    space.set("a", b"old")
    with pytest.raises(ValueTooLarge):
        space.set("a", bytes(4 << 20))
    assert value_of(space.get("a")) == b"old"


def test_namespaces_know_nothing_of_each_other(found: segment.Segment) -> None:
    one, two = found.engine.namespace("one"), found.engine.namespace("two")
    one.set("a", b"1")
    assert two.get("a") is None
    two.set("a", b"2")
    assert value_of(one.get("a")) == b"1"
    one.clear()
    assert one.get("a") is None
    assert value_of(two.get("a")) == b"2"
    assert found.engine.namespace("one").keys() == []
    assert two.keys() == ["a"]


def test_namespaces_are_listed(found: segment.Segment) -> None:
    assert found.engine.namespaces() == [""]
    found.engine.namespace("één")
    assert found.engine.namespaces() == ["", "één"]
    assert abs(found.engine.born - time.time()) < 60


def test_namespaces_run_out_with_an_error(found: segment.Segment) -> None:
    for i in range(255):
        found.engine.namespace(f"n{i}")
    assert found.engine.namespace("n7") is not None
    with pytest.raises(SegmentError, match="namespace"):
        found.engine.namespace("one more")
    with pytest.raises(SegmentError, match="63 bytes"):
        found.engine.namespace("n" * 64)


def test_epochs(space: _engine.Namespace) -> None:
    assert space.epochs() == (0, 0, 0)
    space.set("a", b"v")
    assert space.get("a")[2] == 0  # type: ignore[index]
    assert space.invalidate(True) == 1
    assert space.epochs() == (1, 1, 0)
    space.set("b", b"v")
    assert space.get("b")[2] == 1  # type: ignore[index]
    assert "a" not in space  # hidden,
    assert space.get("a") is not None  # but a caller that ignores invalidation may have it
    assert space.add("a", b"new") is True
    assert space.invalidate(False) == 2
    assert space.epochs() == (2, 1, 2)
    assert "b" in space


def test_when_full_old_values_leave_and_nothing_is_refused(space: _engine.Namespace) -> None:
    dice = random.Random(1)
    for i in range(20_000):
        assert space.set(f"k{i}", dice.randbytes(dice.randrange(2000)))
    stats = space.engine.stats()
    assert stats["evictions"] > 15_000
    assert stats["live_bytes"] > 0.8 * stats["capacity_bytes"]
    assert stats["overflow"] == 0
    assert space.get("k19999") is not None
    assert space.get("k10000") is None
    space.engine.check()


def test_what_is_read_stays(space: _engine.Namespace) -> None:
    """Two bits of use: the read key survives many times the capacity, its neighbours do not."""
    space.set("hot", b"v" * 100)
    space.set("cold", b"v" * 100)
    for i in range(20_000):
        space.set(f"k{i}", b"x" * 1000)
        space.get("hot")
    assert value_of(space.get("hot")) == b"v" * 100
    assert space.get("cold") is None
    assert space.engine.stats()["moved"] > 0


def test_if_everything_is_read_a_set_is_still_bounded(space: _engine.Namespace) -> None:
    for i in range(5000):
        space.set(f"k{i % 3000}", b"x" * 1000)
        for j in range(3):
            space.get(f"k{(i - j) % 3000}")
    before = space.engine.stats()["moved"]
    space.set("one", b"x" * 1000)
    assert space.engine.stats()["moved"] - before <= 64
    space.engine.check()


def test_the_index_overflows_without_harm(space: _engine.Namespace) -> None:
    """Far more tiny records than slot words: some are dropped and counted, none is wrong."""
    for i in range(60_000):
        space.set(b"%d" % i, b"%d" % i)
    stats = space.engine.stats()
    assert stats["overflow"] > 0
    found = 0
    for i in range(60_000):
        got = space.get(b"%d" % i)
        assert got is None or got[0] == b"%d" % i
        found += got is not None
    assert found == stats["items"]
    space.engine.check()


def test_positions_start_again_before_they_end(name: str) -> None:
    """A shard that reaches its limit is cleared; here the limit is a few capacities away."""
    size, limit = 4 << 20, 6 << 20
    fd = os.memfd_create(name)
    os.posix_fallocate(fd, 0, size)
    _engine.format(fd, size, 1, 16, limit)
    space = _engine.Engine(fd).namespace("")
    os.close(fd)
    for i in range(40_000):
        assert space.set(f"k{i}", b"%d" % i * 200)
        assert space.get(f"k{i}")[0] == b"%d" % i * 200  # type: ignore[index]
    assert space.engine.stats()["cleared"] > 0
    space.engine.check()


def test_keys_lists_each_once(space: _engine.Namespace) -> None:
    wanted = {f"k{i}" for i in range(500)}
    for key in wanted:
        space.set(key, b"v")
        space.set(key, b"w")
    keys = space.keys()
    assert len(keys) == len(wanted)
    assert set(keys) == wanted


def test_any_buffer_is_a_value(space: _engine.Namespace) -> None:
    for value in (bytearray(b"abc"), memoryview(b"abc")):
        space.set("a", value)
        assert value_of(space.get("a")) == b"abc"
    with pytest.raises(TypeError):
        space.set("a", "text")  # type: ignore[arg-type]


def test_stats_count(space: _engine.Namespace) -> None:
    space.set("a", b"v")
    space.get("a")
    space.get("b")
    space.delete("a")
    space.add("a", b"v")
    stats = space.engine.stats()
    assert {name: stats[name] for name in ("sets", "hits", "misses", "deletes", "adds", "items", "processes")} == {
        "sets": 1, "hits": 1, "misses": 1, "deletes": 1, "adds": 1, "items": 1, "processes": 1,
    }  # fmt: skip


# -- what depends on the value that is there ---------------------------------------------------------------

INT = 4


def test_compare_and_set_stores_over_one_version_only(space: _engine.Namespace) -> None:
    assert space.version("a") is None
    assert space.compare_and_set("a", 1 << 20, b"v") is False
    space.set("a", b"one")
    version = space.version("a")
    assert version is not None
    assert version == space.get("a")[5]  # type: ignore[index]
    assert space.compare_and_set("a", version, b"two", 5.0, -1, 0.0, 3) is True
    assert space.get("a")[:4] == (b"two", 5.0, 0, 3)  # type: ignore[index]
    assert space.compare_and_set("a", version, b"three") is False
    assert value_of(space.get("a")) == b"two"
    space.set("a", b"two")
    assert space.version("a") != version


def test_a_version_outlives_moves_and_touches(space: _engine.Namespace) -> None:
    space.set("a", b"v" * 100)
    version = space.version("a")
    for end in (time.time() + 1000, 0.0):
        assert space.touch("a", end) is True
        for i in range(10_000):
            space.set(f"k{i}", b"x" * 1000)
            space.get(f"k{i}")
            space.get("a")
    assert space.engine.stats()["moved"] > 10_000
    assert space.version("a") == version
    assert space.get("a")[0] == b"v" * 100  # type: ignore[index]


def test_the_dead_have_no_version_and_are_not_changed(space: _engine.Namespace) -> None:
    for key, end in (("expired", time.time() - 1), ("hidden", 0.0)):
        space.incr(key, 1, 0)
        version = space.version(key)
        assert version is not None
        assert space.touch(key, end) is True
        space.invalidate(True) if key == "hidden" else None
        assert space.version(key) is None
        assert space.compare_and_set(key, version, b"v") is False
        assert space.touch(key, 0.0) is False
        assert space.incr(key, 1) is None
        assert space.incr(key, 1, 10) == 11


def test_incr_adds_exactly_or_not_at_all(space: _engine.Namespace) -> None:
    assert space.incr("n", 1) is None
    assert "n" not in space
    assert [space.incr("n", delta, 40) for delta in (2, -50, 2**62)] == [42, -8, 2**62 - 8]
    with pytest.raises(OverflowError, match="'n' plus 4611686018427387912"):
        space.incr("n", 2**62 + 8)
    with pytest.raises(OverflowError):
        space.incr("n", 2**63)
    assert space.incr("n", 0) == 2**62 - 8
    for value, flags in ((b"text", 3), (b"8 bytes.", 0), (b"9 bytes..", INT)):
        space.set("n", value, 0.0, -1, 0.0, flags)
        with pytest.raises(TypeError, match="'n' is no integer"):
            space.incr("n", 1, 0)
        assert value_of(space.get("n")) == value


def test_a_count_stays_as_old_as_it_is(space: _engine.Namespace) -> None:
    end = time.time() + 1000
    space.set("n", bytes(8), 5.0, -1, end, INT)
    space.invalidate(False)
    assert space.incr("n", 1) == 1
    _, created, epoch, kept, expires, _ = space.get("n")  # type: ignore[misc]
    assert (created, epoch, kept, expires) == (5.0, 0, INT, end)


def test_touch_moves_the_end_and_nothing_else(space: _engine.Namespace) -> None:
    end = time.time() + 1000
    for value in (b"", b"v" * 1000, b"w" * 200_000):
        space.set("a", value, 5.0, -1, 0.0, 3)
        space.invalidate(False)
        before = space.get("a")
        assert before is not None
        assert space.touch("a", end) is True
        assert space.get("a") == (*before[:4], end, before[5])
        assert space.touch("a", 0.0) is True
        assert space.get("a") == before
        assert space.touch("a", 1.0) is True
        assert space.get("a") is None
    assert space.touch("none", end) is False
    space.set("wire", b"v", 0.0, -1, 0.0, 1)
    assert space.touch("wire", end) is NotImplemented


def test_a_count_never_leaves_by_its_own_doing(space: _engine.Namespace) -> None:
    """It laps both rings, with everything else in use."""
    for i in range(3000):
        space.set(f"k{i}", b"x" * 1000)
    assert space.incr("n", 1, 0) == 1
    for i in range(2, 100_000):
        assert space.incr("n", 1) == i
        space.get(f"k{i % 3000}")
    space.engine.check()


@pytest.mark.parametrize("change", ["compare_and_set", "incr", "touch"])
def test_a_fill_is_refused_after_these_too(space: _engine.Namespace, change: str) -> None:
    changes: dict[str, Any] = {
        "compare_and_set": lambda: space.compare_and_set("n", space.version("n") or 0, b"v"),
        "incr": lambda: space.incr("n", 1),
        "touch": lambda: space.touch("n", time.time() + 1000),
    }
    space.incr("n", 1, 0)
    guard = space.guard("n")
    assert space.compare_and_set("n", 4, b"v") is False
    assert space.incr("other", 1) is None
    assert guard.live
    assert changes[change]()
    assert fill(space, guard, "n", b"made") is False


@pytest.mark.parametrize("args", [(), ("a",), ("a", 1, 2, 3, 4, 5, 6, 7)])
def test_wrong_arguments_are_told(space: _engine.Namespace, args: Any) -> None:
    for call in (space.set, space.add, space.compare_and_set, space.incr, space.touch):
        with pytest.raises(TypeError, match="expected key"):
            call(*args)
    space.set("a", b"v")
    any_space: Any = space
    for call, wrong in (
        (any_space.incr, ("a", "1")),
        (any_space.touch, ("a", "1")),
        (any_space.touch, (1, 1.0)),
        (any_space.compare_and_set, ("a", -1, b"w")),
        (any_space.compare_and_set, ("a", "1", b"w")),
    ):
        with pytest.raises((TypeError, OverflowError)):
            call(*wrong)
    assert value_of(space.get("a")) == b"v"


# -- many keys -----------------------------------------------------------------------------------------------


def test_many_keys_in_one_call(space: _engine.Namespace) -> None:
    keys: list[str | bytes] = ["a", b"a", "none", "b", "a"]
    assert space.set_multi([("a", b"1"), (b"a", b"2", 5.0, -1, 0.0, 3), ("b", b"3")]) == [True] * 3
    assert [value_of(found) for found in space.get_multi(keys)] == [b"1", b"2", None, b"3", b"1"]
    assert space.get_multi(tuple(keys)) == [space.get(key) for key in keys]
    assert space.delete_multi(keys) == [True, True, False, True, False]
    assert space.get_multi(keys) == [None] * 5
    assert (space.get_multi([]), space.set_multi([]), space.delete_multi([])) == ([], [], [])


def test_of_many_what_fits_is_stored(space: _engine.Namespace) -> None:
    assert space.set_multi([("a", b"1"), ("b", bytes(4 << 20)), ("c", b"3")]) == [True, None, True]
    assert sorted(map(str, space.keys())) == ["a", "c"]


def test_one_that_is_no_key_keeps_the_others_from_being_touched(space: _engine.Namespace) -> None:
    space.set("a", b"1")
    for call in (space.get_multi, space.delete_multi):
        with pytest.raises(TypeError, match="str or bytes"):
            call(["a", 1])  # type: ignore[list-item]
        with pytest.raises(KeyTooLong):
            call(["a", "x" * 70_000])
    with pytest.raises(TypeError, match="tuples"):
        space.set_multi([["a", b"2"]])  # type: ignore[list-item]
    assert value_of(space.get("a")) == b"1"


# -- fills ------------------------------------------------------------------------------------------------


def fill(space: _engine.Namespace, guard: _engine.Guard, key: str, value: bytes) -> bool:
    return space.fill(guard, key, value, 0.0, 0.0, 0)


def test_a_fill_stores(space: _engine.Namespace) -> None:
    guard = space.guard("a")
    assert guard.live
    assert guard.outcome is None
    assert fill(space, guard, "a", b"made") is True
    assert guard.outcome is True
    assert not guard.live
    assert value_of(space.get("a")) == b"made"
    guard.close()
    guard.close()
    assert space.holder("a", True) is None


@pytest.mark.parametrize("change", ["set", "delete", "add", "invalidate"])
def test_a_fill_is_refused_after_a_change(space: _engine.Namespace, change: str) -> None:
    guard = space.guard("a")
    if change == "delete":
        space.delete("a")
    elif change == "invalidate":
        space.invalidate(True)
    else:
        getattr(space, change)("a", b"newer")
    assert fill(space, guard, "a", b"made") is False
    assert guard.outcome is False
    assert value_of(space.get("a")) == (b"newer" if change in ("set", "add") else None)


def test_a_change_before_the_fill_began_does_not_matter(space: _engine.Namespace) -> None:
    space.set("a", b"old")
    space.delete("a")
    space.invalidate(True)
    guard = space.guard("a")
    assert fill(space, guard, "a", b"made") is True


def test_a_soft_invalidation_makes_the_fill_stale(space: _engine.Namespace) -> None:
    guard = space.guard("a")
    space.invalidate(False)
    assert fill(space, guard, "a", b"made") is True
    assert space.get("a")[2] < space.epochs()[2]  # type: ignore[index]


def test_a_fill_of_another_key_or_segment_is_no_fill(space: _engine.Namespace, found: segment.Segment) -> None:
    other = found.engine.namespace("other")
    guard = other.guard("a")
    assert fill(space, guard, "a", b"made") is False
    assert space.get("a") is None


def test_a_fill_too_large_ends_the_creation(space: _engine.Namespace) -> None:
    guard = space.guard("a")
    with pytest.raises(ValueTooLarge):
        fill(space, guard, "a", bytes(4 << 20))
    assert guard.outcome is False
    assert not guard.live


def test_a_guard_leans_on_the_lease_that_this_process_holds(space: _engine.Namespace) -> None:
    lease = space.lease("a", True)
    assert lease.acquire(0, False, ()) == 0
    guard = space.guard("a")
    assert fill(space, guard, "a", b"made") is True
    guard.close()
    assert lease.held  # closing the guard gave nothing back
    assert lease.release(True) is True


def test_after_its_lease_was_given_back_a_guard_is_dead(space: _engine.Namespace) -> None:
    lease = space.lease("a", True)
    lease.acquire(0, False, ())
    guard = space.guard("a")
    lease.release(True)
    assert not guard.live
    assert fill(space, guard, "a", b"late") is False
