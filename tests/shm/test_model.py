"""The engine against something too simple to be wrong: a dict with the same rules, in a segment that never fills."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from mpcache.shm import _engine, segment

pytestmark = pytest.mark.engine

KEYS = st.sampled_from(["a", "b", b"a", "long" * 300, ""])
VALUES = st.binary(max_size=300) | st.integers(300, 100_000).map(lambda n: os.urandom(16) * (n // 16))


class Model(RuleBasedStateMachine):
    """What is stored: key -> (value, epoch), and which creations are under way: guard -> (key, epoch, voided)."""

    def __init__(self) -> None:
        super().__init__()
        self.segment = segment.attach(None, "32MB", shards=1)
        self.space = self.segment.engine.space("model")
        self.stored: dict[Any, tuple[bytes, int]] = {}
        self.epoch = self.hard_at = self.clear_at = 0
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
        return key in self.stored and self.stored[key][1] >= self.hard_at

    @rule(key=KEYS, value=VALUES)
    def set(self, key: Any, value: bytes) -> None:
        if self.room_for(value):
            assert self.space.set(key, value) is True
            self.stored[key] = value, self.epoch
            self.void(key)

    @rule(key=KEYS, value=VALUES)
    def add(self, key: Any, value: bytes) -> None:
        if self.room_for(value):
            absent = not self.is_live(key)
            assert self.space.add(key, value) is absent
            if absent:
                self.stored[key] = value, self.epoch
                self.void(key)

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        assert self.space.delete(key) is (key in self.stored)
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
                self.stored[begun["key"]] = value, begun["epoch"]
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
            assert (found and (found[0], found[2])) == wanted
            assert (key in self.space) is self.is_live(key)
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
    space = _engine.Engine(fd).space("")
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
