"""Whatever bytes stand in a segment: an error or a miss, in bounded time, and never a crash."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

from mpcache.exception import SegmentDamaged, SegmentError, ShardBusy
from mpcache.shm import _engine

from .conftest import Child

pytestmark = pytest.mark.engine

KEYS = [f"key-{i}" for i in range(40)]
ROUNDS = 60


def segment_in(fd: int, slots: int = 4) -> _engine.Engine:
    """With 1024 slots its shard has the last 256 KiB."""
    size = _engine.smallest(1)
    os.posix_fallocate(fd, 0, size)
    _engine.format(fd, size, 1, slots)
    return _engine.Engine(fd)


def incremented(space: _engine.Namespace, key: str) -> None:
    space.delete(key)
    space.incr(key, 1, 0)
    try:
        space.incr(key, 1)
    except TypeError:
        pass  # it is no integer any more


def use(space: _engine.Namespace) -> None:
    """Every operation once; errors of the engine are allowed, answers are not looked at."""
    for act in (
        lambda: [space.get(key) for key in KEYS],
        lambda: [space.delete(key) for key in KEYS[:3]],
        lambda: [space.set(key, b"x" * 3000) for key in KEYS],
        lambda: [space.add(key, b"y") for key in KEYS[:5]],
        lambda: [space.compare_and_set(key, space.version(key) or 1, b"z") for key in KEYS[:5]],
        lambda: [incremented(space, key) for key in KEYS[:5]],
        lambda: [space.touch(key, 0.0) for key in KEYS[:5]],
        lambda: space.get_multi(KEYS),
        lambda: space.delete_multi(KEYS[5:9]),
        lambda: space.keys(),
        lambda: space.engine.stats(),
        lambda: space.engine.check(),
        lambda: [space.lease(key, True).acquire(0.001, False, ()) for key in KEYS[:3]],
        lambda: [space.guard(key).close() for key in KEYS[:3]],
        lambda: space.invalidate(True),
        lambda: space.clear(),
    ):
        try:
            act()
        except SegmentError:
            pass


def damage(fd: int, dice: random.Random, size: int, how: str) -> None:
    regions = {"tables": (4096, size // 2), "log": (size // 2, size), "anywhere": (4096, size)}
    low, high = regions[how]
    for _ in range(dice.choice([1, 10, 1000])):
        at = dice.randrange(low, high)
        if dice.random() < 0.5:
            byte = os.pread(fd, 1, at)[0] ^ 1 << dice.randrange(8)
            os.pwrite(fd, bytes([byte]), at)
        else:
            os.pwrite(fd, dice.choice([b"\xff" * 8, bytes(8), dice.randbytes(8)]), at & ~7)


@pytest.mark.parametrize("how", ["tables", "log", "anywhere"])
def test_damage_is_survived(how: str) -> None:
    """In a forked child each time, so that a crash is that child's; its rounds all begin with a whole segment."""
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)

    def act(send: Any) -> str:
        dice = random.Random(seed)
        for number in range(ROUNDS):
            send(number)
            fd = os.memfd_create("damaged")
            space = segment_in(fd).namespace("")
            for key in KEYS:
                space.set(key, dice.randbytes(dice.randrange(5000)))
            damage(fd, dice, _engine.smallest(1), how)
            use(space)
            os.close(fd)
        return "survived"

    child = Child(act)
    try:
        for number in range(ROUNDS):
            assert child.next(patience=30) == number, (seed, how)
        assert child.next(patience=30) == "survived", (seed, how)
    finally:
        child.kill()


def test_a_writer_says_what_is_wrong_and_a_reader_misses() -> None:
    fd = os.memfd_create("damaged")
    engine = segment_in(fd)
    space = engine.namespace("")
    while engine.stats()["evictions"] == 0:
        for i in range(200):
            space.set(f"k{i}", os.urandom(5000))
    size = engine.size
    log = size - 400 * 1024  # a shard ends in its log
    os.pwrite(fd, os.urandom(size - log), log)
    for i in range(200):
        found = space.get(f"k{i}")
        assert found is None or len(found[0]) == 5000
    with pytest.raises(SegmentDamaged):
        for i in range(1000):
            space.set(f"new{i}", b"x" * 5000)
    with pytest.raises(SegmentDamaged):
        engine.check()
    os.close(fd)


def test_a_lock_word_of_nobody_is_taken_over() -> None:
    """Rubbish in the shard's lock names a process that never was: it is dead."""
    fd = os.memfd_create("damaged")
    engine = segment_in(fd, 1024)
    space = engine.namespace("")
    space.set("a", b"v")
    shard = engine.size - 256 * 1024
    for word in (0x7FFFFFFF, 0xFFFFFFFF, 0x00000003, 0x80000000):
        assert os.pread(fd, 4, shard) == bytes(4)
        os.pwrite(fd, word.to_bytes(4, "little"), shard)
        start = time.monotonic()
        try:
            assert space.set("a", b"w")
        except ShardBusy:
            pytest.fail(f"lock word {word:#x} is never free")
        assert time.monotonic() - start < 0.1
    os.close(fd)


RINGS_AT = 64
"""From the start of a shard: tail, head and restarts of the small ring, and of the main ring."""


@pytest.mark.parametrize("which", range(4))
def test_a_ring_whose_ends_make_no_sense_is_refused_before_its_bytes_are_read(which: int) -> None:
    """The main ring ends where the mapping ends: a record that seems to start on its last bytes leads out of it."""

    def act(send: Any) -> str:
        fd = os.memfd_create("damaged")
        engine = segment_in(fd)
        space = engine.namespace("")
        space.set("key", b"v")
        at = engine.size - 256 * 1024 + RINGS_AT + 24 * (which // 2) + 8 * (which % 2)
        whole = int.from_bytes(os.pread(fd, 8, at), "little")
        main = int.from_bytes(os.pread(fd, 8, engine.size - 256 * 1024 + RINGS_AT + 24), "little")  # one capacity
        odd = [whole + 1, main - 1, 2 * main - 1, main + whole - 1, 2**48 - 1, 2**48, 2**63, 2**64 - 1, 0]
        for word in (*odd, *(word - 5 * main for word in odd)):
            os.pwrite(fd, (word % 2**64).to_bytes(8, "little"), at)
            use(space)
            os.pwrite(fd, whole.to_bytes(8, "little"), at)
        os.close(fd)
        return "survived"

    child = Child(act)
    try:
        assert child.next(patience=60) == "survived"
    finally:
        child.kill()


def word_of(owner: int) -> bytes:
    """How the lock words of a segment name the process with this id (core/wordlock.c)."""
    return ((owner >> 16 & 0xFFFFF) << 11 | (owner & 0xFFFF) + 1).to_bytes(4, "little")


class TwoShards:
    """A segment of two shards, and keys of each: a set moves a head of its key's shard."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("damaged")
        size = _engine.smallest(2)
        os.posix_fallocate(self.fd, 0, size)
        _engine.format(self.fd, size, 2)
        self.engine = _engine.Engine(self.fd)
        self.space = self.engine.namespace("")
        self.shards = [size - (2 - i) * 256 * 1024 for i in range(2)]
        self.keys: list[list[str]] = [[], []]
        for i in range(200):
            before = self.heads(0)
            self.space.set(f"key-{i}", b"value")
            self.keys[self.heads(0) == before].append(f"key-{i}")

    def heads(self, shard: int) -> bytes:
        return os.pread(self.fd, 48, self.shards[shard] + 64)

    def lock(self, shard: int, word: bytes) -> None:
        os.pwrite(self.fd, word, self.shards[shard])


@pytest.mark.parametrize("state", ["rests", "runs", "works elsewhere", "works now and then"])
def test_a_lock_word_of_a_process_that_does_not_hold_it_is_not_waited_for_long(fork: Any, state: str) -> None:
    """Nor for each value of a call of many: a process that was waited for in vain is not waited for again."""
    two = TwoShards()

    def other(send: Any) -> None:
        two.space.set(two.keys[1][0], b"mine")
        send(two.engine.owner)
        while state == "works elsewhere":
            two.space.set(two.keys[1][0], b"mine")
        while state == "works now and then":
            two.space.set(two.keys[1][0], b"mine")
            time.sleep(0.08)
        while state == "runs":
            pass
        time.sleep(60)

    two.lock(0, word_of(fork(other).next()))
    start = time.monotonic()
    outcomes = two.space.set_multi([(key, b"value") for key in two.keys[0][:40]])
    took = time.monotonic() - start
    assert outcomes == [False] * 40
    assert two.space.get_multi(two.keys[0][:40]) == [None] * 40
    assert took < 2.0
    two.lock(0, bytes(4))
    assert two.space.set(two.keys[0][0], b"value")


def test_a_check_gives_up_on_a_shard_that_a_running_process_seems_to_hold(fork: Any) -> None:
    two = TwoShards()

    def other(send: Any) -> None:
        two.space.set(two.keys[1][0], b"mine")
        send(two.engine.owner)
        while True:
            pass

    two.lock(0, word_of(fork(other).next()))
    start = time.monotonic()
    with pytest.raises(ShardBusy):
        two.engine.check()
    assert time.monotonic() - start < 2.0


def test_a_lock_word_of_a_process_that_is_gone_is_taken_while_the_next_in_its_slot_works(fork: Any) -> None:
    """The work of a process says nothing of an earlier one that had the same slot."""
    two = TwoShards()

    def other(send: Any) -> None:
        two.space.set(two.keys[1][0], b"mine")
        send(two.engine.owner)
        while True:
            two.space.set(two.keys[1][0], b"mine")

    two.lock(0, word_of(fork(other).next() + (7 << 16)))
    assert two.space.set(two.keys[0][0], b"value")
    assert two.space.set_multi([(key, b"value") for key in two.keys[0][:40]]) == [True] * 40
