"""Invalidation by the generation of a namespace at a server, for the redis and memcached stores.

Depends on invalidation, and on the generation.
"""

from __future__ import annotations

from mpcache._servers.generation import OF_ANOTHER_SOFT, Generation
from mpcache.api import Freshness
from mpcache.invalidation import SharedInvalidation


class GenerationStrategy(SharedInvalidation):
    """The strategy of a store that has compared each value with the generation that came in the same answer."""

    def __init__(self, generation: Generation) -> None:
        super().__init__(generation)
        self._generation = generation

    def judge(self, created: float, epoch: int | None) -> Freshness:
        if epoch is None:
            return Freshness.FRESH
        return Freshness.STALE if epoch == OF_ANOTHER_SOFT else Freshness.ABSENT

    def was_soft_invalidated(self) -> bool:
        return self._generation.is_soft()

    def was_hard_invalidated(self) -> bool:
        """Return True: values that were begun before the present generation are hidden, also in the first one."""
        return True
