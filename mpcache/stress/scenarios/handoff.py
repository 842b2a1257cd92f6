"""How soon do waiters get what they wait for?

Depends on scenario, actor and operations.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.creation_checks import one_creator, one_value
from mpcache.stress.operations import advance, get_or_create, key_number
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION


class Handoff(Scenario):
    """How soon do waiters get what they wait for?

    All actors want one mutex, or one value that one of them creates.  The report shows the times from a release to the
    next holder, and from the creator's end until a waiter has the value; no worker is killed.  These times have no
    limit, but exclusion and creations are checked as in other scenarios.
    """

    store = True
    keys = 2
    kills = 0.0
    checks = (*EXCLUSION, one_creator, one_value)

    def act(self, actor: Actor) -> None:
        turn, value = self.first, self.first + 1
        generation = actor.scoreboard.key(value)[GENERATION]
        get_or_create(actor, key_number(value, generation), actor.key_name(value, generation), 0.01)
        advance(actor, value, generation)
        for _ in range(3):
            with actor.hold(turn):
                actor.work(0.001)
