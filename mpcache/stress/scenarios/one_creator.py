"""Is each value created once, by one actor?

Depends on scenario, actor and operations.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.creation_checks import one_creator, one_value
from mpcache.stress.operations import advance, get_or_create, key_number
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION


class OneCreator(Scenario):
    """Is each value created once, by one actor?

    All actors ask for the present generation of a few keys; an actor that has the value may begin the next generation.
    Creators are killed; then exactly one other actor takes over.
    """

    store = True
    keys = 4
    kills = 40.0
    checks = (one_creator, one_value)

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        generation = actor.scoreboard.key(key)[GENERATION]
        get_or_create(actor, key_number(key, generation), actor.key_name(key, generation))
        if actor.random.random() < 0.2:
            advance(actor, key, generation)
