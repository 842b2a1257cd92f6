"""Seeded bugs in mutexes and in the dogpile lock: each function patches one into this process, for good.

Depends on the mutexes and on the parts of a region, whose private functions it replaces.  A function's name is the name
of its fault, see faults.
"""

from __future__ import annotations

import itertools
import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from mpcache import factory, keys, lock
from mpcache._keys import text as keys_text
from mpcache._region import configurable, creation, creation_multi, holding, refresh
from mpcache._servers.memcached import OVER
from mpcache._servers.redis.script import Script
from mpcache.api import Freshness, Outcome
from mpcache.backends.shm import ShmBackend
from mpcache.exception import NotHeld
from mpcache.mutexes import base, file, leased, lockfiles, memcached, redis, semaphore, shm, two_level

# -- leases at a server --------------------------------------------------------------------------------------------


def redis_deletes() -> None:
    _put(redis, "_RELEASE", Script("redis.call('DEL', KEYS[1]) redis.call('PUBLISH', KEYS[1], '') return 1"))


def memcached_deletes() -> None:
    def release(self: memcached.MemcachedLock, stored: bool) -> bool:
        found = self._server.gets(self._key)
        return found is None or self._server.cas(self._key, b"", OVER, found[1]) or True

    _put(memcached.MemcachedLock, "_release_at_server", release)


def never_renewed() -> None:
    _put(leased._Renewer, "keep", lambda self, lease: None)


def loss_untold() -> None:
    def release(self: leased.LeasedLock, stored: bool) -> None:
        with suppress(NotHeld):
            plain(self, stored)

    plain: Any = _put(leased.LeasedLock, "release", release)


def waits_for_the_word_alone() -> None:
    def wait(self: redis.RedisLock, most: float | None) -> Outcome | None:
        self._poll = 600.0
        heard: Outcome | None = plain(self, most)
        return heard

    plain: Any = _put(redis.RedisLock, "wait", wait)


def counts_for_itself() -> None:
    counter = itertools.count(1)

    def acquire(self: redis.RedisLock) -> bool:
        taken = plain(self)
        self._fence = next(counter) if taken else None
        return bool(taken)

    plain = _put(redis.RedisLock, "_acquire_at_server", acquire)


# -- locks of the kernel -------------------------------------------------------------------------------------------


def name_unchecked() -> None:
    def acquire(self: file._FileLock) -> bool:
        if self._file is None:
            self._file = lockfiles.own_or_make(self._path)
        self._taken = file._lock(self._file)
        return self._taken

    _put(file._FileLock, "acquire", acquire)


def broken_by_age() -> None:
    def acquire(self: file._FileLock) -> bool:
        if plain(self):
            return True
        with suppress(FileNotFoundError):
            if time.time() - os.stat(self._path).st_mtime > 0.1:
                os.unlink(self._path)
        return False

    plain: Any = _put(file._FileLock, "acquire", acquire)


def rung_is_taken() -> None:
    rung: WeakSet[Any] = WeakSet()

    def wait(self: semaphore._SemaphoreLock, most: float | None) -> Outcome | None:
        opened = semaphore._opened(self._path)
        semaphore._write(opened, self._bell, time.monotonic_ns() + semaphore._ANNOUNCED)
        if semaphore._listen(self._path, self._bell, 0.02 if most is None else min(0.02, most)):
            rung.add(self)
        return None

    def acquire(self: semaphore._SemaphoreLock) -> bool:
        if self not in rung:
            return bool(plain(self))
        self._file, self._taken = semaphore._opened(self._path), True
        return True

    _put(semaphore._SemaphoreLock, "wait", wait)
    plain: Any = _put(semaphore._SemaphoreLock, "acquire", acquire)


def threads_unasked() -> None:
    _put(two_level, "_acquire_local", lambda local, deadline, early: Outcome.ACQUIRED)


def inherited() -> None:
    class Forgetful(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            pass

    _put(lockfiles, "_open_ones", Forgetful())


# -- all of them ---------------------------------------------------------------------------------------------------


def child_lets_go() -> None:
    parents = base.incarnation()
    _put(base, "Incarnation", lambda: parents)


def waits_for_itself() -> None:
    _put(base.Mutex, "_refuse_to_wait_for_myself", lambda self, hold: None)
    _put(shm, "_leases", lambda: ())


# -- the dogpile lock ----------------------------------------------------------------------------------------------


class _Work:
    """A Work of which a subclass replaces one method."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def __getattr__(self, name: str) -> Any:
        return getattr(self.work, name)


def never_looks_again() -> None:
    class Blind(_Work):
        def look(self) -> Any:
            return None, Freshness.ABSENT

    plain: Any = _put(lock, "create_and_store", lambda work, mutex: plain(Blind(work), mutex))


def kept_after_release() -> None:
    class Late(_Work):
        value: Any = None

        def store(self, value: Any) -> bool:
            self.value = value
            return True

    def create_and_store(work: Any, mutex: Any) -> Any:
        late = Late(work)
        value = yield from plain(late, mutex)
        if late.value is not None:
            work.store(late.value)
        return value

    plain: Any = _put(lock, "create_and_store", create_and_store)


def keys_collide() -> None:
    def adopt(state: dict[str, Any], store: Any) -> dict[str, Any]:
        mangler = lambda key: str(zlib.crc32(key.encode("utf-8", "surrogatepass")) % 64)  # noqa: E731
        return plain(state, store) | {"key_mangler": mangler}  # type: ignore[no-any-return]

    plain: Any = _put(configurable, "adopt", adopt)


def keys_by_text() -> None:
    """Give the decorated functions of ``shared()`` dogpile.cache's keys, and accept any text in them."""
    _put(factory, "exact_key_generator", keys.function_key_generator)
    _put(factory, "exact_multi_key_generator", keys.function_multi_key_generator)
    _put(keys_text, "why_not", lambda *args: None)


def many_let_go_early() -> None:
    def publish(self: creation_multi.ManyCreation, values: dict[Any, Any]) -> None:
        for claim in self._claims.values():
            holding.release_quietly(claim.mutex)
        plain(self, values)

    plain: Any = _put(creation_multi.ManyCreation, "_publish", publish)


def fills_unguarded() -> None:
    _put(creation, "begin_fill", lambda region, mangled: None)


def refresh_unguarded() -> None:
    _put(refresh, "begin_fill", lambda region, mangled: None)


def invalidates_at_home() -> None:
    _put(ShmBackend, "invalidation", lambda self: None)


def _put(owner: Any, name: str, bad: Any) -> Callable[..., Any]:
    """Replace an attribute; return what it was."""
    good: Callable[..., Any] = getattr(owner, name)
    setattr(owner, name, bad)
    return good
