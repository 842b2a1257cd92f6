"""Is each of many keys that are asked for together created once, by one actor?

Depends on scenario, actor and operations.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.creation_checks import one_creator, one_value
from mpcache.stress.operations import advance, get_or_create_multi, key_number
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION


class ManyKeys(Scenario):
    """Is each of many keys that are asked for together created once, by one actor?

    Each call asks for the present generations of several keys, in any order; the sets of keys overlap.  Creators are
    killed with all the keys that they had claimed.  Each generation of a key has one creator, and no call hangs.
    """

    store = True
    keys = 12
    kills = 40.0
    checks = (one_creator, one_value)

    def act(self, actor: Actor) -> None:
        keys = actor.random.sample(range(self.first, self.first + self.keys), actor.random.randrange(2, 7))
        generations = {key: actor.scoreboard.key(key)[GENERATION] for key in keys}
        get_or_create_multi(actor, {actor.key_name(*pair): key_number(*pair) for pair in generations.items()})
        for key, generation in generations.items():
            if actor.random.random() < 0.1:
                advance(actor, key, generation)
