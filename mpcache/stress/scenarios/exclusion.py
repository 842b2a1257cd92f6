"""Can two hold one mutex at the same time?

Leans on scenario and environment.
"""

from __future__ import annotations

import time

from mpcache.stress.checker import EXCLUSION
from mpcache.stress.environment import LEASE
from mpcache.stress.scenario import Scenario
from mpcache.stress.worker import Actor


class Exclusion(Scenario):
    """Can two hold one mutex at the same time?

    Whoever holds a key's mutex writes his number into a word and finds it there at the end, adds one to a count in two
    steps, and writes down when he held it.  Some are killed at it.  A mutex that is leased is now and then held for
    longer than its lease.
    """

    kills = 60.0
    checks = EXCLUSION

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        long = self.arena.leased and key == self.first and actor.random.random() < 0.15
        with actor.hold(key):
            actor.work(0.002)
            if long:
                time.sleep(1.5 * self.arena.mutex_arguments.get("lease", LEASE))
