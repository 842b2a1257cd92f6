"""Can two actors hold one mutex at the same time?

Depends on scenario and environment.
"""

from __future__ import annotations

import time

from mpcache.stress.actor import Actor
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.environment import LEASE
from mpcache.stress.scenario import Scenario


class Exclusion(Scenario):
    """Can two actors hold one mutex at the same time?

    The holder of a key's mutex writes its number into a word and reads it again at the end, increments a count in two
    steps, and records when it held the mutex.  Some holders are killed.  A leased mutex is sometimes held for longer
    than its lease.
    """

    kills = 60.0
    checks = EXCLUSION

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        long = self.environment.leased and key == self.first and actor.random.random() < 0.15
        with actor.hold(key):
            actor.work(0.002)
            if long:
                time.sleep(1.5 * self.environment.mutex_arguments.get("lease", LEASE))
