"""Is each value created once, by one?

Leans on scenario and operations.
"""

from __future__ import annotations

from mpcache.stress.checker import one_creator, one_value
from mpcache.stress.operations import ask_for, move_on, numbered
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION
from mpcache.stress.worker import Actor


class OneCreator(Scenario):
    """Is each value created once, by one?

    All ask for the present generation of a few keys; who has created it, or waited for it, may begin the next.
    Creators are killed; then another takes over, and nobody else.
    """

    store = True
    keys = 4
    kills = 40.0
    checks = (one_creator, one_value)

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        generation = actor.board.key(key)[GENERATION]
        ask_for(actor, numbered(key, generation), actor.key(key, generation))
        if actor.random.random() < 0.2:
            move_on(actor, key, generation)
