"""Create values again, whatever is stored, and store them: what refresh() of a decorated function does.

Depends on creation and multi.  It is a creation like any other: the key's mutex is held meanwhile, and a change of the
key refuses the fill.  A creation that is under way is waited for, since its value may be the older.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpcache._region.creation import Fills, begin_fill, filling, was_stored
from mpcache._region.creation_multi import MOST, Claim, Claims
from mpcache.api import KeyType, Outcome
from mpcache.exception import DeadlockError
from mpcache.invalidation import Begin
from mpcache.lock import abandon, adapt, let_go, owned, too_late

if TYPE_CHECKING:
    from mpcache.region import CacheRegion


class Refresh:
    """The refresh of one key: ``held`` is set, then come begin(), store() and, whatever happens, end().

    :ivar held: whether the mutex was taken; not if this task holds it, so that the refresh is a part of its creation.
    """

    def __init__(self, region: CacheRegion, key: KeyType) -> None:
        self._region, self._key, self._mangled = region, key, region._mangled(key)
        self.mutex = adapt(region._mutex(self._mangled))
        self.held, self._stored = False, True
        self._fills = Fills({}, Begin(region.region_invalidator))

    def begin(self) -> None:
        """Note that the creation begins now."""
        begun = Begin(self._region.region_invalidator)
        self._fills = Fills({self._mangled: begin_fill(self._region, self._mangled)}, begun)

    def store(self, value: Any) -> None:
        """Store what was created.  Raises what region.set() raises."""
        self._stored = False
        if not self.held or owned(self.mutex):
            with filling(self._region, self._fills):
                self._region.set(self._key, value)
            self._stored = was_stored(self._fills.get(self._mangled))

    def end(self) -> None:
        """Give back the guard and the mutex; those who wait for the value learn whether there is one."""
        try:
            for guard in self._fills.values():
                guard.close()
        finally:
            if self.held:
                let_go(self.mutex, self._stored)


def is_of_several(error: DeadlockError) -> bool:
    """Return whether it is a circle of tasks, rather than a task that asks for what it holds itself."""
    return hasattr(error, "cycle")


def refresh(region: CacheRegion, key: KeyType, create: Callable[[], Any]) -> Any:
    """Create a value now, and store it unless its key is changed meanwhile; return it.

    :raises LockTimeout: a creation that is under way did not come to an end within ``creation_wait``.
    :raises DeadlockError: its creator waits in turn for what this task holds.
    :raises CantSerializeException, ValueTooLarge: as ``region.set``.
    """
    work = Refresh(region, key)
    try:
        work.held = work.mutex.acquire(False) or _wait(work.mutex, region.creation_wait)
        work.begin()
        value = create()
        work.store(value)
        return value
    finally:
        try:
            work.end()
        finally:
            abandon(work.mutex)


def _wait(mutex: Any, wait: float | None) -> bool:
    """Wait for the mutex; False: this task holds it."""
    deadline = None if wait is None else time.monotonic() + wait
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            outcome = mutex.contend(left)
        except DeadlockError as error:
            if is_of_several(error):
                raise
            return False
        if outcome is Outcome.ACQUIRED:
            return True
        if outcome is Outcome.TIMEOUT or left == 0:
            raise too_late(mutex, wait)


class ManyRefresh(Claims):
    """The refresh of many keys, in one call of the creator; of more than 256, in one for every 256.

    All of them are held meanwhile.  While one of them is waited for none is, so that no two calls can wait for each
    other.

    :param keys: in the order in which the creator gets them; one may come twice.
    :param create: ``keys -> values``, in their order.
    """

    def __init__(self, region: CacheRegion, keys: Sequence[KeyType], create: Callable[..., Sequence[Any]]) -> None:
        super().__init__(region)
        self._keys, self._create = keys, create
        self._mangled = {key: region._mangled(key) for key in keys}

    def run(self) -> list[Any]:
        """Return the values, in the order of the keys.  Raises what :func:`refresh` raises."""
        values: list[Any] = []
        for start in range(0, max(1, len(self._keys)), MOST):
            values += self._refresh(self._keys[start : start + MOST])
        return values

    def _refresh(self, keys: Sequence[KeyType]) -> Sequence[Any]:
        try:
            self._hold(sorted(dict.fromkeys(keys), key=lambda key: str(self._mangled[key])))
            self._begin(self._claims)
            began = time.monotonic()
            values = self._create(*keys)
            if self._deadline is not None:
                self._deadline += time.monotonic() - began  # to create is not to wait
            self._publish(dict(zip(keys, values, strict=False)))
            return values
        finally:
            try:
                self._let_go()
            finally:
                self._let_go()  # what an exception that arrived within the first time has left

    def _hold(self, keys: list[KeyType]) -> None:
        own: set[KeyType] = set()
        while busy := next((key for key in keys if key not in own and not self._take(key)), None):
            self._let_go()
            if self._is_own(busy):
                own.add(busy)
        for key in own:  # the refresh is a part of its creation, and has nothing to release
            self._claims[key] = Claim(None)

    def _is_own(self, key: KeyType) -> bool:
        """Wait until the key's holder has let go; whether this task is its holder."""
        claim = self._claims[key] = Claim(self._mutex(key))
        left = self._left()
        try:
            outcome = claim.wait(left)
        except DeadlockError as error:
            if is_of_several(error):
                raise
            return True
        if outcome is Outcome.TIMEOUT or (left == 0 and outcome is not Outcome.ACQUIRED):
            raise too_late(claim.mutex, self._region.creation_wait)
        self._let_go()
        return False

    def _publish(self, values: dict[KeyType, Any]) -> None:
        claims = {key: self._claims[key] for key in values}
        for claim in claims.values():
            claim.stored = False
        mine = {key: values[key] for key, claim in claims.items() if not claim.held or owned(claim.mutex)}
        with filling(self._region, self._fills(claims)):
            self._region.set_multi(mine)
        for key in mine:
            claims[key].stored = was_stored(claims[key].guard)
