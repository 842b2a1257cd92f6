"""Does an actor hang that acquires several keys, in any order?

Depends on scenario and actor.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpcache.stress.actor import Actor, Refused
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.environment import Environment
from mpcache.stress.scenario import Scenario
from mpcache.stress.settings import Settings


class Nested(Scenario):
    """Does an actor hang that acquires several keys, in any order?

    Workers acquire two or three keys of four, one inside the other, in any order; some are killed while they hold them.
    A mutex that detects deadlocks raises DeadlockError, and is waited for without limit; another mutex is waited for
    some tenths of a second.
    """

    keys = 4
    kills = 30.0
    checks = EXCLUSION

    def __init__(self, settings: Settings, environment: Environment) -> None:
        super().__init__(settings, environment)
        self._detects_deadlocks = environment.mutex == "shm"

    def act(self, actor: Actor) -> None:
        keys = actor.random.sample(range(self.first, self.first + self.keys), actor.random.randrange(2, 4))
        try:
            self._take(actor, keys)
        except Refused:
            pass  # all keys that were acquired have been released

    def _take(self, actor: Actor, keys: Sequence[int]) -> None:
        if keys:
            with actor.hold(keys[0], None if self._detects_deadlocks else actor.random.uniform(0.05, 0.3)):
                actor.work(0.001)
                self._take(actor, keys[1:])
