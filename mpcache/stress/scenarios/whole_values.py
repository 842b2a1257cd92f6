"""Are values whole, their key's own, and never older than one that was there before?

Leans on scenario and operations.
"""

from __future__ import annotations

from mpcache.stress.checker import register
from mpcache.stress.history import Kind
from mpcache.stress.operations import delete, write
from mpcache.stress.scenario import Scenario
from mpcache.stress.worker import Actor


class WholeValues(Scenario):
    """Are values whole, their key's own, and never older than one that was there before?

    Workers get, set and delete a few dozen keys, with values of very different sizes that prove themselves; some are
    killed at it.  Each key must behave as an atomic register that may forget.
    """

    store = True
    keys = 40
    kills = 40.0
    largest = 60_000
    checks = (register,)

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        name, dice = actor.key(key), actor.random.random()
        if dice < 0.7:
            actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
        elif dice < 0.95:
            write(actor, key, name, self.largest)
        else:
            delete(actor, key, name)
