"""Do all actors that want a key get equal shares?

Depends on scenario and actor.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.environment import Environment
from mpcache.stress.history import History
from mpcache.stress.scenario import Scenario
from mpcache.stress.settings import Settings
from mpcache.stress.timing_checks import in_turn, shares


class Fairness(Scenario):
    """Do all actors that want a key get equal shares?

    All actors acquire one key again and again.  The report shows how unequal their shares are, and the longest wait.
    If the mutex promises fairness, no actor may get the key before an actor that had asked a second earlier.
    """

    keys = 1
    workers = 4
    kills = 0.0

    def __init__(self, settings: Settings, environment: Environment) -> None:
        super().__init__(settings, environment)
        self.checks = (*EXCLUSION, in_turn) if environment.fair else EXCLUSION

    def act(self, actor: Actor) -> None:
        with actor.hold(self.pick(actor)):
            actor.work(0.001)

    def figures(self, history: History) -> dict[str, float]:
        return shares(history)
