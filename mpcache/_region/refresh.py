"""Create values again, whatever is stored, and store them: what refresh() of a decorated function does.

Depends on creation_multi and lock.  A refresh is a creation: it holds the key's mutex meanwhile, and a change of
the key refuses the fill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpcache._region.binding import ABSENT, Binding
from mpcache._region.creation_multi import MOST, Claim, Claims
from mpcache._region.fills import Fills, begin_fill, filling, outcome_of, was_stored
from mpcache._region.holding import adapt, owned, too_late
from mpcache._region.requests import FAILED, TOO_LARGE, UNSTORED, RunningCreation
from mpcache.api import NO_VALUE, KeyType, Outcome
from mpcache.exception import DeadlockError, ValueTooLarge
from mpcache.invalidation import Begin
from mpcache.lock import Create, Seen, Steps, is_of_several, renew, run


class Renewal:
    """The Work (see :mod:`mpcache.lock`) of one refresh, for threads and coroutines alike.

    :param make: calls the creator.
    :param store: ``(key, value)``: the region's set().
    :param function: the FunctionCounts of the decorated function.
    """

    background = None

    def __init__(
        self,
        binding: Binding,
        key: KeyType,
        make: Callable[[], Any],
        store: Callable[[KeyType, Any], None],
        function: Any = None,
    ) -> None:
        self._binding, self._key, self._make, self._store = binding, key, make, store
        self._mangled = binding.mangled(key)
        self._fills = Fills(binding, {}, Begin(binding.invalidator))
        self._count = RunningCreation(binding.requests, function)

    def new_mutex(self) -> Any:
        """Return a mutex for the key."""
        return self._binding.mutex(self._mangled)

    def look(self) -> Seen:
        return NO_VALUE, ABSENT  # whatever is stored

    def begin(self) -> None:
        begun = Begin(self._binding.invalidator)
        self._fills = Fills(self._binding, {self._mangled: begin_fill(self._binding, self._mangled)}, begun)

    def create(self) -> Steps:
        self._count.begin()
        value = yield Create(self._make)
        self._count.made()
        return value

    create_unlocked = create

    def store(self, value: Any) -> bool:
        self._count.outcome = FAILED  # if anything raises now
        try:
            with filling(self._binding, self._fills):
                self._store(self._key, value)
        except ValueTooLarge:
            self._count.outcome = TOO_LARGE
            raise
        guard = self._fills.get(self._mangled)
        self._count.outcome = UNSTORED if value is NO_VALUE else outcome_of(guard)
        return was_stored(guard)

    def end(self) -> None:
        try:
            for guard in self._fills.values():
                guard.close()
        finally:
            self._count.end()


def refresh(
    binding: Binding,
    key: KeyType,
    create: Callable[[], Any],
    store: Callable[[KeyType, Any], None],
    function: Any = None,
) -> Any:
    """Create a value now, and store it unless its key is changed meanwhile; return it.

    :param store: the region's set().
    :param function: the FunctionCounts of the decorated function.
    :raises LockTimeout: a running creation did not finish within ``creation_wait``.
    :raises DeadlockError: its creator waits in turn for what this task holds.
    :raises CantSerializeException, ValueTooLarge: as for ``region.set``.
    """
    work = Renewal(binding, key, create, store, function)
    mutex = adapt(work.new_mutex())
    return run(renew(work, mutex, binding.creation_wait), mutex)


class ManyRefresh(Claims):
    """The refresh of many keys, in one call of the creator; of more than 256, in one for every 256.

    All keys are held meanwhile.  While the refresh waits for a key it holds none, so that no two calls can wait for
    each other.

    :param keys: in the order in which the creator gets them; a key may occur twice.
    :param create: ``keys -> values``, in their order.
    :param store: ``{key: value}``: the region's set_multi().
    :param function: the FunctionCounts of the decorated function.
    """

    def __init__(
        self,
        binding: Binding,
        keys: Sequence[KeyType],
        create: Callable[..., Sequence[Any]],
        store: Callable[[Mapping[KeyType, Any]], None],
        function: Any = None,
    ) -> None:
        super().__init__(binding, function)
        self._keys, self._create, self._store = keys, create, store
        self._mangled = {key: binding.mangled(key) for key in keys}

    def run(self) -> list[Any]:
        """Return the values, in the order of the keys.  Raises what :func:`refresh` raises."""
        values: list[Any] = []
        for start in range(0, max(1, len(self._keys)), MOST):
            try:
                values += self._refresh(self._keys[start : start + MOST])
            finally:  # all is released: an exception that arrives in here costs counts only
                self._count_ends()
        return values

    def _refresh(self, keys: Sequence[KeyType]) -> Sequence[Any]:
        try:
            self._hold(sorted(dict.fromkeys(keys), key=lambda key: str(self._mangled[key])))
            self._begin(self._claims)
            began = time.monotonic()
            self._count_begins(keys)
            values = self._create(*keys)
            self._count_made()
            if self._deadline is not None:
                self._deadline += time.monotonic() - began  # the time of creating does not count as waiting
            self._publish(dict(zip(keys, values, strict=False)))
            return values
        finally:
            try:
                self._release_all()
            finally:
                self._release_all()  # release what is left if an exception interrupted the first call

    def _hold(self, keys: list[KeyType]) -> None:
        own: set[KeyType] = set()
        while busy := next((key for key in keys if key not in own and not self._take(key)), None):
            self._release_all()
            if self._is_own(busy):
                own.add(busy)
        for key in own:  # the refresh is a part of its creation, and has nothing to release
            self._claims[key] = Claim(None)

    def _is_own(self, key: KeyType) -> bool:
        """Wait until the key's holder has released it; return whether this task is its holder."""
        claim = self._claims[key] = Claim(self._mutex(key))
        left = self._left()
        try:
            outcome = claim.wait(left)
        except DeadlockError as error:
            if is_of_several(error):
                raise
            return True
        if outcome is Outcome.TIMEOUT or (left == 0 and outcome is not Outcome.ACQUIRED):
            raise too_late(claim.mutex, self._binding.creation_wait)
        self._release_all()
        return False

    def _publish(self, values: dict[KeyType, Any]) -> None:
        claims = {key: self._claims[key] for key in values}
        for claim in claims.values():
            claim.stored = False
        mine = {key: values[key] for key, claim in claims.items() if not claim.held or owned(claim.mutex)}
        self._outcomes.update(dict.fromkeys(mine, FAILED))  # if anything raises now
        try:
            with filling(self._binding, self._fills(claims)):
                self._store(mine)
        except ValueTooLarge as error:
            refused = getattr(error, "refused", None) or {error.key: error}
            self._outcomes.update((key, TOO_LARGE if key in refused else self._outcome(key)) for key in mine)
            raise
        for key in mine:
            claims[key].stored = was_stored(claims[key].guard)
            self._outcomes[key] = UNSTORED if mine[key] is NO_VALUE else self._outcome(key)

    def _outcome(self, key: KeyType) -> int:
        return outcome_of(self._claims[key].guard)
