"""Is what a full store still has right, and is the newest there?

Leans on scenario and operations.
"""

from __future__ import annotations

from mpcache.stress.checker import register
from mpcache.stress.environment import EVICTS_NOTHING
from mpcache.stress.history import Kind
from mpcache.stress.operations import write
from mpcache.stress.scenario import Scenario
from mpcache.stress.staleness_checks import newest
from mpcache.stress.worker import Actor


class Eviction(Scenario):
    """Is what a full store still has right, and is the newest there?

    Far more values than there is room for, of very different sizes, are set and got by all; some are killed at it.
    What is found is whole, the key's own and not older than what was there before; and what was just set is there.
    """

    store = True
    keys = 800
    kills = 40.0
    size = "2MB"
    largest = 60_000
    checks = (register, newest)

    def unfit(self) -> str:
        name = self.arena.backend
        return f"{name} has room for all that is set here, and evicts nothing" if name in EVICTS_NOTHING else ""

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        name = actor.key(key)
        if actor.random.random() < 0.6:
            write(actor, key, name, self.largest)
        actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
