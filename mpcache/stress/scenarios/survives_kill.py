"""Is a dead holder's mutex soon somebody else's?

Leans on scenario.
"""

from __future__ import annotations

from mpcache.stress.checker import EXCLUSION
from mpcache.stress.scenario import Scenario
from mpcache.stress.timing_checks import taken_over
from mpcache.stress.worker import Actor


class SurvivesKill(Scenario):
    """Is a dead holder's mutex soon somebody else's?

    Holders are killed, as many as the machine can bear anew.  Those who wait have the key within the time that the
    mutex says, but for what a busy machine adds; and none waits for ever.
    """

    kills = 120.0
    checks = (taken_over, *EXCLUSION)

    def act(self, actor: Actor) -> None:
        with actor.hold(self.pick(actor)):
            actor.work(0.01)
