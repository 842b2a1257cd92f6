"""Is the mutex of a dead holder soon taken over?

Depends on scenario and actor.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.scenario import Scenario
from mpcache.stress.timing_checks import taken_over


class SurvivesKill(Scenario):
    """Is the mutex of a dead holder soon taken over?

    Holders are killed, as many as the machine can replace.  Waiters get the key within the time that the mutex
    guarantees, plus an allowance for a busy machine; and no actor waits for ever.
    """

    kills = 120.0
    checks = (taken_over, *EXCLUSION)

    def act(self, actor: Actor) -> None:
        with actor.hold(self.pick(actor)):
            actor.work(0.01)
