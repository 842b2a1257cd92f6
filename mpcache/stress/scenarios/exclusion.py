"""Can two hold one mutex at the same time?

Leans on scenario.
"""

from __future__ import annotations

from mpcache.stress.judge import EXCLUSION
from mpcache.stress.scenario import Scenario
from mpcache.stress.worker import Actor


class Exclusion(Scenario):
    """Can two hold one mutex at the same time?

    Whoever holds a key's mutex writes his number into a word and finds it there at the end, adds one to a count in two
    steps, and writes down when he held it.  Some are killed at it.
    """

    kills = 60.0
    checks = EXCLUSION

    def act(self, actor: Actor) -> None:
        with actor.hold(self.pick(actor)):
            actor.work(0.002)
