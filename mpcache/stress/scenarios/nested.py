"""Does anybody hang who takes several keys, in any order?

Leans on scenario.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcache.stress.checker import EXCLUSION
from mpcache.stress.environment import Arena
from mpcache.stress.scenario import Scenario
from mpcache.stress.settings import Settings
from mpcache.stress.worker import Actor, Refused


class Nested(Scenario):
    """Does anybody hang who takes several keys, in any order?

    Workers take two or three keys of four, one inside the other, in any order; some are killed with them.  Who would
    wait in a circle gets a DeadlockError from a mutex that sees circles, and waits for such without limit; with another
    it waits for some tenths of a second.
    """

    keys = 4
    kills = 30.0
    checks = EXCLUSION

    def __init__(self, settings: Settings, arena: Arena) -> None:
        super().__init__(settings, arena)
        self._sees_circles = arena.mutex == "shm"

    def act(self, actor: Actor) -> None:
        keys = actor.random.sample(range(self.first, self.first + self.keys), actor.random.randrange(2, 4))
        try:
            self._take(actor, keys)
        except Refused:
            pass  # and all that were had were let go

    def _take(self, actor: Actor, keys: Sequence[int]) -> None:
        if keys:
            with actor.hold(keys[0], None if self._sees_circles else actor.random.uniform(0.05, 0.3)):
                actor.work(0.001)
                self._take(actor, keys[1:])
