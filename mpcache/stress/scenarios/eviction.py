"""Does a full store return right values, and the newest ones?

Depends on scenario, actor and operations.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.environment import EVICTS_NOTHING
from mpcache.stress.history import Kind
from mpcache.stress.operations import write
from mpcache.stress.register_checks import register
from mpcache.stress.scenario import Scenario
from mpcache.stress.staleness_checks import newest


class Eviction(Scenario):
    """Does a full store return right values, and the newest ones?

    All workers set and get far more values than the store has room for, of very different sizes; some workers are
    killed in these operations.  A value that is found is complete, was written under its key and is not older than one
    that was there before; and most values are found right after they were set.
    """

    store = True
    keys = 800
    kills = 40.0
    size = "2600KB"
    largest = 60_000
    checks = (register, newest)

    def unfit(self) -> str:
        name = self.environment.backend
        return f"{name} has room for all values of this scenario, and evicts nothing" if name in EVICTS_NOTHING else ""

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        name = actor.key_name(key)
        if actor.random.random() < 0.6:
            write(actor, key, name, self.largest)
        actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
