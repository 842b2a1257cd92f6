"""Are values complete, of their key, and never older than one that was read before?

Depends on scenario, actor and operations.
"""

from __future__ import annotations

from mpcache.stress.actor import Actor
from mpcache.stress.history import Kind
from mpcache.stress.operations import delete, write
from mpcache.stress.register_checks import register
from mpcache.stress.scenario import Scenario


class WholeValues(Scenario):
    """Are values complete, of their key, and never older than one that was read before?

    Workers get, set and delete a few dozen keys, with values of very different sizes that carry a digest; some workers
    are killed in these operations.  Each key must behave as an atomic register that may forget its value.
    """

    store = True
    keys = 40
    kills = 40.0
    largest = 60_000
    checks = (register,)

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        name, dice = actor.key_name(key), actor.random.random()
        if dice < 0.7:
            actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
        elif dice < 0.95:
            write(actor, key, name, self.largest)
        else:
            delete(actor, key, name)
