"""Many keys at once: claim, create, publish, then wait.

Leans on lock and creation for what a single key needs; and sees the inner parts of the region, whose hand it is.
One round::

    look      at everything that has no value yet, once
    claim     whatever of it nobody holds, without waiting: at most 256 keys
    create    look again at the claimed, since another may have been quicker; the rest in one call of the creator
    publish   in one write, and let go of all
    wait      holding nothing, for one that another creates; then begin again

Nothing is waited for while anything is held, so that no two calls can wait for each other, whatever the order
of their keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mpcache.api import NO_VALUE, FillGuard, Freshness, KeyType, Outcome
from mpcache.creation import begin_fill, filling, made
from mpcache.lock import adapt, let_go, owned, too_late
from mpcache.storage import packed

if TYPE_CHECKING:
    from mpcache.region import CacheRegion

MOST = 256
"""How many keys one round holds: the entries of all who hold, in all processes, lie in one table."""

GRACE = 1.0
"""Seconds beyond creation_wait for which keys that nobody holds are still looked for, if one can do without them."""


class _Claim:
    """A key that this call holds."""

    __slots__ = ("guard", "mutex", "stored")

    def __init__(self, mutex: Any) -> None:
        self.mutex = mutex
        self.guard: FillGuard | None = None
        self.stored = True

    def release(self) -> None:
        try:
            if self.guard is not None:
                self.guard.close()
        finally:
            let_go(self.mutex, self.stored)


class ManyCreation:
    """One get_or_create_multi under way.

    :raises TypeError: the keys cannot be sorted.
    """

    def __init__(
        self,
        region: CacheRegion,
        keys: Iterable[KeyType],
        lifetime: float | None,
        creator: Callable[..., Iterable[Any]],
        should_cache_fn: Callable[[Any], bool] | None,
    ) -> None:
        self._region, self._lifetime = region, lifetime
        self._creator, self._should_cache = creator, should_cache_fn
        self._deadline = None if region.creation_wait is None else time.monotonic() + region.creation_wait
        self._keys = _sorted(keys)
        self._mangled = {key: region._mangled(key) for key in self._keys}
        # All who ask for these keys try them in this order: one gets them all, rather than each some.
        self._missing = dict.fromkeys(sorted(self._keys, key=lambda key: str(self._mangled[key])))
        self._stale: dict[KeyType, Any] = {}
        self._alone: set[KeyType] = set()
        self._claims: dict[KeyType, _Claim] = {}
        self._values: dict[KeyType, Any] = {}

    def run(self) -> dict[KeyType, Any]:
        """A value for each key."""
        try:
            while True:
                self._look(self._missing)
                busy = self._claim()
                began = time.monotonic()
                self._create()
                self._let_go()
                if not self._missing:
                    return self._values
                if self._deadline is not None:
                    self._deadline += time.monotonic() - began  # to create is not to wait
                if busy is not None:
                    self._wait_for(busy)
        finally:
            self._let_go()

    def _serve(self, key: KeyType, value: Any) -> None:
        self._values[key] = value
        del self._missing[key]

    def _look(self, keys: Iterable[KeyType]) -> None:
        looked_for = list(keys)
        if not looked_for:
            return
        found = self._region._storage.read_multi([self._mangled[key] for key in looked_for])
        for key, one in zip(looked_for, found, strict=True):
            value, worth = self._region._worth(key, one, self._lifetime)
            self._stale.pop(key, None)
            if worth is Freshness.FRESH:
                self._serve(key, value)
            elif worth is Freshness.STALE:
                self._stale[key] = value

    def _claim(self) -> KeyType | None:
        """Hold what can be had at once; returns a key for whose value one must wait, if nothing else is left."""
        busy = None
        for key in [key for key in self._missing if key not in self._claims]:
            if len(self._claims) >= MOST:
                return None  # first these; there may be more to be had
            if self._is_late(GRACE):  # a server that takes its time for each answer takes it here, too
                if busy is not None:
                    return busy
                if key in self._stale:
                    self._serve(key, self._stale[key])
                    continue
            mutex = self._mutex(key)
            if mutex.acquire(False):
                self._claims[key] = _Claim(mutex)
            elif key in self._stale:
                self._serve(key, self._stale[key])
            elif busy is None and key not in self._alone:
                busy = key
        return busy

    def _mutex(self, key: KeyType) -> Any:
        return adapt(self._region._mutex(self._mangled[key]))

    def _create(self) -> None:
        claimed = [key for key in self._claims if key in self._missing]
        for key in claimed:
            self._claims[key].guard = begin_fill(self._region, self._mangled[key])
        self._look(claimed)
        wanted = [key for key in self._keys if key in self._missing and (key in self._claims or key in self._alone)]
        if not wanted:
            return
        values = made(self._region, wanted, self._lifetime, lambda: _by_key(wanted, self._creator(*wanted)))
        self._publish({key: values.get(key, NO_VALUE) for key in wanted})
        for key in wanted:
            self._serve(key, values[key] if key in values else self._stale.get(key, NO_VALUE))

    def _publish(self, values: dict[KeyType, Any]) -> None:
        """Store what is to be stored of the claimed, and note for those who wait what was not."""
        claims = {key: self._claims[key] for key in values if key in self._claims}
        for claim in claims.values():
            claim.stored = False  # if anything raises now, they need not queue for it
        for _ in range(len(values) - len(claims)):
            self._region.mishaps.created_alone()
        created, storage = time.time(), self._region._storage
        ready = {
            self._mangled[key]: packed(storage, key, values[key], created)  # all, before the first one is written
            for key, claim in claims.items()
            if self._is_to_be_kept(values[key]) and owned(claim.mutex)
        }
        if not ready:
            return
        guards = {self._mangled[key]: claim.guard for key, claim in claims.items() if claim.guard is not None}
        with filling(self._region, guards):
            refused = storage.write_multi(ready)
        for key, claim in claims.items():
            mangled = self._mangled[key]
            if mangled in refused:
                self._region.mishaps.too_large(key, refused[mangled])
            elif mangled in ready:
                claim.stored = claim.guard is None or bool(claim.guard.outcome)

    def _is_to_be_kept(self, value: Any) -> bool:
        return value is not NO_VALUE and (not self._should_cache or bool(self._should_cache(value)))

    def _let_go(self) -> None:
        claims, self._claims = self._claims, {}
        with ExitStack() as releases:  # whatever one of them raises, the others are released, too
            for claim in claims.values():
                releases.callback(claim.release)

    def _wait_for(self, key: KeyType) -> None:
        """Until the holder has let go, or the time is up."""
        mutex = self._mutex(key)
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        outcome = mutex.contend(left)
        if outcome is Outcome.ACQUIRED:
            self._claims[key] = _Claim(mutex)
        elif outcome is Outcome.UNSTORED:
            self._alone.add(key)
        elif outcome is Outcome.TIMEOUT or left == 0:
            self._look(self._missing)
            for other in [other for other in self._missing if other in self._stale]:
                self._serve(other, self._stale[other])
            if key in self._missing:
                raise too_late(mutex, self._region.creation_wait)

    def _is_late(self, by: float) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline + by


def _sorted(keys: Iterable[KeyType]) -> list[KeyType]:
    given = list(keys)
    try:
        return sorted(set(given))
    except TypeError as error:
        raise TypeError(
            f"the creator gets its keys sorted, and these cannot be: {error}; ask for keys of one type at a time"
        ) from error


def _by_key(keys: Iterable[KeyType], values: Iterable[Any]) -> dict[KeyType, Any]:
    return dict(zip(keys, values, strict=False))
