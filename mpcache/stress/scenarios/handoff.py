"""How soon do those who wait have what they wait for?

Leans on scenario and operations.
"""

from __future__ import annotations

from mpcache.stress.checker import EXCLUSION, one_creator, one_value
from mpcache.stress.operations import ask_for, move_on, numbered
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION
from mpcache.stress.worker import Actor


class Handoff(Scenario):
    """How soon do those who wait have what they wait for?

    All want one mutex, or all want one value that one of them creates.  The figures are the times from a release to
    the next holder, and from the creator's end until one who waited for the value has it; nobody is killed.  No limit
    is set to them, but exclusion and creators are looked at as always.
    """

    store = True
    keys = 2
    kills = 0.0
    checks = (*EXCLUSION, one_creator, one_value)

    def act(self, actor: Actor) -> None:
        turn, value = self.first, self.first + 1
        generation = actor.board.key(value)[GENERATION]
        ask_for(actor, numbered(value, generation), actor.key(value, generation), 0.01)
        move_on(actor, value, generation)
        for _ in range(3):
            with actor.hold(turn):
                actor.work(0.001)
