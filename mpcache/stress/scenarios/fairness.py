"""Does each of those who want a key get its share?

Leans on scenario.
"""

from __future__ import annotations

from mpcache.stress.checker import EXCLUSION, Story
from mpcache.stress.environment import Arena
from mpcache.stress.scenario import Scenario
from mpcache.stress.settings import Settings
from mpcache.stress.timing_checks import in_turn, shares
from mpcache.stress.worker import Actor


class Fairness(Scenario):
    """Does each of those who want a key get its share?

    All want one key, again and again.  How unequal their shares are, and how long the longest wait was, is reported.
    A mutex that promises to be fair is judged: nobody has the key before one who had come a second earlier.
    """

    keys = 1
    workers = 4
    kills = 0.0

    def __init__(self, settings: Settings, arena: Arena) -> None:
        super().__init__(settings, arena)
        self.checks = (*EXCLUSION, in_turn) if arena.fair else EXCLUSION

    def act(self, actor: Actor) -> None:
        with actor.hold(self.pick(actor)):
            actor.work(0.001)

    def figures(self, story: Story) -> dict[str, float]:
        return shares(story)
