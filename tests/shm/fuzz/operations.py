"""What the processes of the fuzz do with a segment: every operation of the engine, of regions and of mutexes.

Depends on mpcache.  Answers are not looked at: in a damaged segment any may come.  What may be raised is an error of
mpcache, and what incr() says of a value that is no number; anything else is a finding.

Nothing is unpickled: to unpickle what stands in a segment is to trust all that can write into it, and bytes that the
damage has made may say anything.  So regions keep str, bytes, int and JSON, and what would be unpickled, because its
flags were damaged, goes to a stand-in.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mpcache.mutexes.shm as mutexes
from mpcache import make_region
from mpcache.backends.shm import ShmBackend
from mpcache.exception import DogpileCacheException
from mpcache.shm import _engine, segment

KEYS: list[str | bytes] = [f"key-{i}" for i in range(36)] + [b"bytes", "schlüssel", "k" * 3000, ""]
NUMBERS = ["count-0", "count-1"]
SIZES = (0, 1, 7, 8, 100, 400, 1000, 3000, 9000, 40_000, 70_000, 200_000)
PATIENCE = 0.3
"""Seconds after which a creation is interrupted that waits for a key which a living process seems to hold."""


class Interrupted(BaseException):
    """A creation has waited for long enough; what it waits for may be a holder that damage has made up."""


def unpickled(payload: bytes) -> Any:
    """Stand in for pickle.loads."""
    if len(payload) % 2:
        raise pickle.UnpicklingError("the fuzz unpickles nothing")
    return len(payload)


def prepare() -> None:
    """Make this process one that unpickles nothing and whose creations can be interrupted."""
    gc.freeze()  # what is there already need not be looked at after each episode
    ShmBackend.deserializer = staticmethod(unpickled)
    signal.signal(signal.SIGALRM, _interrupt)


_creating = False


def _interrupt(*_: Any) -> None:
    if _creating:
        raise Interrupted


@contextmanager
def interrupted() -> Iterator[None]:
    """Interrupt what runs inside after PATIENCE; perform() takes note of no such interruption."""
    global _creating
    _creating = True
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        _creating = False
        signal.setitimer(signal.ITIMER_REAL, 0)


class Victim:
    """A process's use of the segment of that name.

    :ivar fence: called with the engine after each attachment.
    :ivar call: does an operation of that name in a forked child.
    """

    def __init__(
        self,
        name: str,
        size: int,
        dice: random.Random,
        fence: Callable[[_engine.Engine], None],
        call: Callable[[str, Callable[[], Any]], None],
    ) -> None:
        self.name, self.size, self.dice, self.fence, self.call = name, size, dice, fence, call
        self.held: list[_engine.Lease] = []
        self.guards: list[_engine.Guard] = []
        self.engine: _engine.Engine | None = None
        self.unlinked = False

    # -- attaching ----------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Map the segment, or do so again after everything that refers to the mapping is gone."""
        self.detach()
        self.segment = segment.attach(self.name, self.size, shards=1)
        self.fence(self.segment.engine)
        self.space = self.segment.engine.namespace("fuzz")
        self.plain = self.segment.engine.namespace("")
        where = {"name": self.name, "size": self.size, "namespace": "fuzz", "shards": 1}
        self.region = make_region().configure("mpcache.shm", arguments=where)
        self.young = make_region().configure("mpcache.shm", expiration_time=0.01, arguments=where)
        self.json = make_region(serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
        self.json.configure("mpcache.shm", arguments=where | {"namespace": "json"})
        self.decorated = self.region.cache_on_arguments()(_created)
        self.decorated_multi = self.region.cache_multi_on_arguments()(_created_multi)
        self.engine = self.segment.engine

    def detach(self) -> None:
        """Let go of everything that refers to the mapping."""
        self.engine = None
        self.held.clear()
        self.guards.clear()
        for name in ("space", "plain", "region", "young", "json", "decorated", "decorated_multi", "segment"):
            self.__dict__.pop(name, None)
        mutexes._places.clear()
        gc.collect()

    def step(self) -> tuple[str, Callable[[], Any]]:
        """Choose the next operation; return its name, too."""
        if self.engine is None:
            return "attach", self.attach
        name, act = self.dice.choices(OPERATIONS, WEIGHTS)[0]
        return name, lambda: act(self)

    # -- choices ------------------------------------------------------------------------------------------

    def key(self) -> str | bytes:
        return self.dice.choice(KEYS)

    def keys(self) -> list[str | bytes]:
        return self.dice.sample(KEYS, self.dice.choice((1, 3, 12, len(KEYS))))

    def bytes(self) -> bytes:
        return self.dice.randbytes(1) * self.dice.choice(SIZES)

    def stored(self) -> Any:
        """Choose bytes, or pieces of them."""
        whole = self.bytes()
        return self.dice.choice((whole, whole, bytearray(whole), (whole, b"more"), (memoryview(whole), b"", whole)))

    def end(self) -> float:
        """Choose when a value ends: never, soon, or long ago."""
        return self.dice.choice((0.0, 0.0, time.time() + 0.05, 1.0, time.time() + 3600))

    def value(self) -> Any:
        """Choose what a region keeps without pickling it."""
        return self.dice.choice((self.bytes(), "text" * self.dice.choice((1, 200, 9000)), self.dice.getrandbits(62)))

    # -- keys ---------------------------------------------------------------------------------------------

    def get(self) -> None:
        self.space.get(self.key())

    def contains(self) -> None:
        _ = self.key() in self.space

    def set(self) -> None:
        self.space.set(self.key(), self.stored(), 0.0, -1, self.end(), self.dice.choice((0, 0, 1, 2, 3, 4)))

    def set_fill(self) -> None:
        """Set enough values of a size to make the rings turn."""
        size = self.dice.choice(SIZES[3:10])
        self.plain.set_multi([(f"fill-{self.dice.randrange(999)}", bytes(size)) for _ in range(40)])

    def set_too_large(self) -> None:
        self.space.set(self.key(), bytes(self.size))

    def add(self) -> None:
        self.space.add(self.key(), self.stored())

    def compare_and_set(self) -> None:
        key = self.key()
        version = self.space.version(key) or self.dice.getrandbits(50)
        self.space.compare_and_set(key, version, self.stored())

    def incr(self) -> None:
        try:
            self.space.incr(self.dice.choice(NUMBERS), self.dice.choice((1, -1, 1 << 62)), 0)
        except (TypeError, OverflowError):
            pass  # the value is no number any more, or the sum is too large

    def touch(self) -> None:
        self.space.touch(self.key(), self.end())

    def delete(self) -> None:
        self.space.delete(self.key())

    def get_multi(self) -> None:
        self.space.get_multi(self.keys())

    def set_multi(self) -> None:
        self.space.set_multi([(key, self.stored()) for key in self.keys()[:12]])

    def delete_multi(self) -> None:
        self.space.delete_multi(self.keys())

    def all_keys(self) -> None:
        self.dice.choice((self.space, self.plain)).keys()

    def invalidate(self) -> None:
        self.space.invalidate(self.dice.random() < 0.5)

    def clear(self) -> None:
        self.space.clear()

    def epochs(self) -> None:
        self.space.epochs()

    # -- the whole ------------------------------------------------------------------------------------------

    def check(self) -> None:
        self.segment.engine.check()

    def stats(self) -> None:
        self.segment.engine.stats()

    def describe(self) -> None:
        engine = self.segment.engine
        engine.namespaces()
        repr(self.segment), engine.born, engine.owner, engine.retired, engine.shards

    def open_space(self) -> None:
        self.segment.engine.namespace(f"space-{self.dice.randrange(6)}")

    def fork(self) -> None:
        """Let a child go on with what its parent has, for a few operations."""
        seed = self.dice.getrandbits(32)
        child = os.fork()
        if child == 0:
            _be_the_child(self, seed)
        status = os.waitpid(child, 0)[1]
        if status != 0:
            raise RuntimeError(f"the child ended with status {status:#x}")

    # -- leases and guards ----------------------------------------------------------------------------------

    def lease(self) -> None:
        """Take a lease, and keep it for a while or give it back."""
        lease = self.space.lease(self.key(), self.dice.random() < 0.5)
        lease.acquire(self.dice.choice((0.0, 0.0, 0.001, 0.06)), self.dice.random() < 0.3, tuple(self.held))
        if self.dice.random() < 0.5:
            self.held.append(lease)
        else:
            lease.release(self.dice.random() < 0.5)

    def release(self) -> None:
        if self.held:
            lease = self.held.pop(self.dice.randrange(len(self.held)))
            repr((lease.held, lease.fence, lease.took_over))
            lease.release(True)

    def holder(self) -> None:
        self.space.holder(self.key(), self.dice.random() < 0.5)

    def guard(self) -> None:
        """Begin a fill that ends later."""
        self.guards.append(self.space.guard(self.key()))

    def fill(self) -> None:
        if self.guards:
            guard = self.guards.pop(self.dice.randrange(len(self.guards)))
            repr((guard.outcome, guard.live, guard.epoch))
            self.space.fill(guard, self.key(), self.stored(), 0.0, self.end(), 0)
            guard.close()

    def guarded_fill(self) -> None:
        key = self.key()
        guard = self.space.guard(key)
        self.space.fill(guard, key, self.stored(), time.time(), self.end(), 0)
        guard.close()

    # -- regions --------------------------------------------------------------------------------------------

    def region_get(self) -> None:
        self.dice.choice((self.region, self.young, self.json)).get(self.key())

    def region_metadata(self) -> None:
        self.dice.choice((self.region, self.json)).get_value_metadata(self.key())

    def region_get_multi(self) -> None:
        self.dice.choice((self.region, self.young, self.json)).get_multi(self.keys())

    def region_set(self) -> None:
        self.region.set(self.key(), self.value(), ttl=self.dice.choice((None, None, 0.02, 100)))

    def region_set_json(self) -> None:
        self.json.set(self.key(), ["list", self.dice.getrandbits(30)], ttl=self.dice.choice((None, 0.02, 100)))

    def region_set_multi(self) -> None:
        region = self.dice.choice((self.region, self.young))
        region.set_multi({key: self.value() for key in self.keys()[:12]})

    def region_delete(self) -> None:
        self.region.delete_multi(self.keys())

    def region_invalidate(self) -> None:
        self.dice.choice((self.region, self.json)).invalidate(hard=True)

    def region_is_locked(self) -> None:
        self.region.key_is_locked(self.key())

    def region_create(self) -> None:
        with interrupted():
            self.dice.choice((self.region, self.young)).get_or_create(self.key(), self.value)

    def region_create_json(self) -> None:
        with interrupted():
            self.json.get_or_create(self.key(), lambda: {"made": 1})

    def region_create_multi(self) -> None:
        with interrupted():
            keys = [key for key in self.keys()[:12] if isinstance(key, str)]
            self.region.get_or_create_multi(keys, lambda *missing: [self.value() for _ in missing])

    def region_decorated(self) -> None:
        with interrupted():
            self.decorated(self.dice.randrange(20))
            self.decorated_multi(*range(self.dice.randrange(1, 6)))

    def region_backend(self) -> None:
        """Do what depends on the value that is there, by the backend."""
        backend, key = self.region.actual_backend, self.key()
        self.dice.choice(
            (
                lambda: backend.add(key, "text"),
                lambda: backend.compare_and_set(key, backend.version(key) or 1, "text"),
                lambda: backend.touch(key, 100),
                lambda: backend.keys(),
                lambda: backend.get_serialized(key),
            )
        )()

    def mutex(self) -> None:
        mutex = mutexes.ShmMutex(self.key(), segment=self.name)
        if mutex.acquire(timeout=self.dice.choice((0.0, 0.001, 0.06))):
            mutex.release()


def _created(number: int) -> str:
    return "made" * number


def _created_multi(*numbers: int) -> list[str]:
    return [_created(number) for number in numbers]


def _be_the_child(victim: Victim, seed: int) -> None:
    """Do a few operations, each of which is judged as it is in the parent, and end."""
    status = 1
    try:
        victim.dice = random.Random(seed)
        for _ in range(3):
            name, act = victim.step()
            if name != "fork":
                victim.call(name, act)
        status = 0
    except BaseException as error:
        print(f"in a forked child: {error!r}", flush=True)
    finally:
        os._exit(status)


def perform(act: Callable[[], Any]) -> bool:
    """Do it; return whether it raised an error of mpcache."""
    try:
        act()
    except DogpileCacheException:
        return True
    except Interrupted:
        pass  # by the alarm, at the latest on the way out of interrupted()
    return False


_OFTEN = ("get", "set", "set_fill", "lease", "guarded_fill", "region_create", "region_get", "region_set")
_RARE = ("fork", "attach", "clear", "set_too_large", "describe", "invalidate", "region_invalidate", "epochs", "stats")
_NOT = ("detach", "step", "key", "keys", "bytes", "stored", "end", "value")

OPERATIONS: list[tuple[str, Callable[[Victim], Any]]] = [
    (name, act) for name, act in vars(Victim).items() if not name.startswith("_") and name not in _NOT
]
WEIGHTS = [4 if name in _OFTEN else 0.2 if name in _RARE else 1.5 for name, _ in OPERATIONS]
