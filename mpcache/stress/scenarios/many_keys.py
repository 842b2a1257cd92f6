"""Is each of many keys that are asked for together created once, by one?

Leans on scenario and operations.
"""

from __future__ import annotations

from mpcache.stress.checker import one_creator, one_value
from mpcache.stress.operations import ask_for_all, move_on, numbered
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION
from mpcache.stress.worker import Actor


class ManyKeys(Scenario):
    """Is each of many keys that are asked for together created once, by one?

    All ask for the present generations of several keys in one call, sets that overlap, in any order.  Creators are
    killed with all the keys that they had claimed.  Each generation of a key has one creator, and nobody hangs.
    """

    store = True
    keys = 12
    kills = 40.0
    checks = (one_creator, one_value)

    def act(self, actor: Actor) -> None:
        keys = actor.random.sample(range(self.first, self.first + self.keys), actor.random.randrange(2, 7))
        generations = {key: actor.board.key(key)[GENERATION] for key in keys}
        ask_for_all(actor, {actor.key(*pair): numbered(*pair) for pair in generations.items()})
        for key, generation in generations.items():
            if actor.random.random() < 0.1:
                move_on(actor, key, generation)
