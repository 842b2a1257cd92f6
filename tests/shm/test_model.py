"""The engine against something too simple to be wrong: a dict with the same rules, in a segment that never fills."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from mpcache.shm import _engine, segment

pytestmark = pytest.mark.engine

KEYS = st.sampled_from(["a", "b", b"a", "long" * 300, ""])
VALUES = st.binary(max_size=300) | st.integers(300, 100_000).map(lambda n: os.urandom(16) * (n // 16))


INT = 4
"""The flags of an integer."""
NUMBERS = st.integers(-5, 5) | st.sampled_from([2**63 - 1, -(2**63)])
LATER = 4e9
"""An end of time that is not reached here."""


class Stored(NamedTuple):
    """A value as it should be found.  The version is noted when it is first seen, and must stay."""

    value: bytes
    epoch: int
    expires: float = 0.0
    flags: int = 0


class Model(RuleBasedStateMachine):
    """What is stored, the versions it had, and which creations are under way: guard -> (key, epoch, voided)."""

    def __init__(self) -> None:
        super().__init__()
        self.segment = segment.attach(None, "32MB", shards=1)
        self.space = self.segment.engine.namespace("model")
        self.stored: dict[Any, Stored] = {}
        self.epoch = self.hard_at = self.clear_at = 0
        self.versions: dict[Any, int] = {}
        self.used: set[int] = set()
        self.begun: dict[int, dict[str, Any]] = {}
        self.written = 0

    guards = Bundle("guards")

    def room_for(self, value: bytes) -> bool:
        """Eviction is another test's: here nothing may leave by itself."""
        self.written += len(value) + 2000
        return self.written < 20 << 20

    def void(self, key: Any) -> None:
        for begun in self.begun.values():
            if begun["key"] == key:
                begun["voided"] = True

    def is_live(self, key: Any) -> bool:
        return key in self.stored and self.stored[key].epoch >= self.hard_at

    def keep(self, key: Any, stored: Stored) -> None:
        """Under a version that no value had before."""
        self.stored[key] = stored
        version = self.space.get(key)[5]  # type: ignore[index]
        assert version not in self.used
        self.used.add(version)
        self.versions[key] = version

    @rule(key=KEYS, value=VALUES)
    def set(self, key: Any, value: bytes) -> None:
        if self.room_for(value):
            assert self.space.set(key, value) is True
            self.keep(key, Stored(value, self.epoch))
            self.void(key)

    @rule(pairs=st.lists(st.tuples(KEYS, VALUES), max_size=4))
    def set_multi(self, pairs: list[tuple[Any, bytes]]) -> None:
        if self.room_for(b"".join(value for _, value in pairs)):
            rows = [(key, value, 0.0, -1, LATER) for key, value in pairs]
            assert self.space.set_multi(rows) == [True] * len(pairs)
            for key, value in dict(pairs).items():
                self.keep(key, Stored(value, self.epoch, LATER))
                self.void(key)

    @rule(key=KEYS, value=VALUES)
    def add(self, key: Any, value: bytes) -> None:
        if self.room_for(value):
            absent = not self.is_live(key)
            assert self.space.add(key, value) is absent
            if absent:
                self.keep(key, Stored(value, self.epoch))
                self.void(key)

    @rule(key=KEYS, value=VALUES, back=st.integers(0, 1))
    def compare_and_set(self, key: Any, value: bytes, back: int) -> None:
        if self.room_for(value):
            version = self.versions.get(key, 1) + 2 * back
            unchanged = self.is_live(key) and not back
            assert self.space.compare_and_set(key, version, value, 0.0, -1, LATER, 7) is unchanged
            if unchanged:
                self.keep(key, Stored(value, self.epoch, LATER, 7))
                self.void(key)

    @rule(key=KEYS, delta=NUMBERS, initial=st.none() | NUMBERS)
    def incr(self, key: Any, delta: int, initial: int | None) -> None:
        was = self.stored[key] if self.is_live(key) else None
        if was is not None and was.flags != INT:
            with pytest.raises(TypeError, match="no integer"):
                self.space.incr(key, delta, initial, LATER)
        elif was is None and initial is None:
            assert self.space.incr(key, delta) is None
        else:
            base = was or Stored((initial or 0).to_bytes(8, sys.byteorder, signed=True), self.epoch, LATER, INT)
            self.add_to(key, base, delta, initial)

    def add_to(self, key: Any, base: Stored, delta: int, initial: int | None) -> None:
        total = int.from_bytes(base.value, sys.byteorder, signed=True) + delta
        if not -(2**63) <= total < 2**63:
            with pytest.raises(OverflowError, match="64 bits"):
                self.space.incr(key, delta, initial, LATER)
            return
        assert self.space.incr(key, delta, initial, LATER) == total
        self.keep(key, base._replace(value=total.to_bytes(8, sys.byteorder, signed=True)))
        self.void(key)

    @rule(key=KEYS, expires=st.sampled_from([0.0, LATER, LATER + 1]))
    def touch(self, key: Any, expires: float) -> None:
        assert self.space.touch(key, expires) is self.is_live(key)
        if self.is_live(key):
            self.stored[key] = self.stored[key]._replace(expires=expires)
            self.void(key)

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        assert self.space.delete(key) is self.is_live(key)
        self.stored.pop(key, None)
        self.void(key)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete_multi(self, keys: list[Any]) -> None:
        live = [self.is_live(key) and key not in keys[:i] for i, key in enumerate(keys)]
        assert self.space.delete_multi(keys) == live
        for key in keys:
            self.stored.pop(key, None)
            self.void(key)

    @rule(hard=st.booleans())
    def invalidate(self, hard: bool) -> None:
        self.epoch += 1
        assert self.space.invalidate(hard) == self.epoch
        if hard:
            self.hard_at = self.epoch

    @rule()
    def clear(self) -> None:
        self.epoch += 1
        self.clear_at = self.epoch
        self.space.clear()
        self.stored.clear()

    @rule(target=guards, key=KEYS)
    def begin(self, key: Any) -> Any:
        if any(begun["key"] == key for begun in self.begun.values()):
            return multiple()
        guard = self.space.guard(key)
        self.begun[id(guard)] = {"key": key, "epoch": self.epoch, "voided": False}
        return guard

    @rule(guard=consumes(guards), value=VALUES)
    def fill(self, guard: Any, value: bytes) -> None:
        begun = self.begun.pop(id(guard))
        if self.room_for(value):
            expected = not begun["voided"] and begun["epoch"] >= max(self.hard_at, self.clear_at)
            assert self.space.fill(guard, begun["key"], value, 0.0, 0.0, 0) is expected
            if expected:
                self.keep(begun["key"], Stored(value, begun["epoch"]))
        guard.close()

    @rule(guard=consumes(guards))
    def give_up(self, guard: Any) -> None:
        del self.begun[id(guard)]
        guard.close()

    @invariant()
    def agrees(self) -> None:
        for key in ["a", "b", b"a", "long" * 300, ""]:
            found = self.space.get(key)
            wanted = self.stored.get(key)
            assert (found and (found[0], found[2], found[4], found[3])) == wanted
            assert (found and found[5]) == (self.versions[key] if wanted else None)
            assert (key in self.space) is self.is_live(key)
            assert self.space.version(key) == (self.versions[key] if self.is_live(key) else None)
        keys = ["a", "b", b"a", "none"]
        assert self.space.get_multi(keys) == [self.space.get(key) for key in keys]
        assert sorted(map(repr, self.space.keys())) == sorted(repr(k) for k in self.stored if self.is_live(k))
        assert self.segment.engine.stats()["leases"] == len(self.begun)

    def teardown(self) -> None:
        self.segment.engine.check()


Model.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestModel = Model.TestCase


def test_a_small_ring_agrees_with_a_dict_where_it_answers() -> None:
    """With eviction a miss is always allowed, but never another value than the last one set."""
    import random

    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    dice = random.Random(seed)
    fd = os.memfd_create("ring")
    size = _engine.smallest(1)
    os.posix_fallocate(fd, 0, size)
    _engine.format(fd, size, 1, 4, 1 << 20)
    space = _engine.Engine(fd).namespace("")
    os.close(fd)
    model: dict[str, bytes] = {}
    hits = 0
    for step in range(30_000):
        key = f"k{dice.randrange(300)}"
        what = dice.random()
        if what < 0.5:
            model[key] = b"%d" % step * dice.randrange(1, 900)
            assert space.set(key, model[key])
        elif what < 0.6:
            space.delete(key)
            model.pop(key, None)
        else:
            found = space.get(key)
            hits += found is not None
            assert found is None or found[0] == model.get(key), (seed, step, key)
        if step % 3000 == 0:
            space.engine.check()
    assert hits > 2000
