"""Are values whole, their key's own, and never older than one that was there before?

Leans on scenario.
"""

from __future__ import annotations

from mpcache.stress.diary import Kind, Outcome
from mpcache.stress.judge import register
from mpcache.stress.scenario import Scenario
from mpcache.stress.worker import SMALLEST, Actor, prove


class WholeValues(Scenario):
    """Are values whole, their key's own, and never older than one that was there before?

    Workers get, set and delete a few dozen keys, with values of very different sizes that prove themselves; some are
    killed at it.  Each key must behave as an atomic register that may forget.
    """

    store = True
    keys = 40
    largest = 60_000
    checks = (register,)

    def act(self, actor: Actor) -> None:
        key = actor.random.randrange(self.keys)
        name, dice = actor.key(key), actor.random.random()
        if dice < 0.7:
            actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
        elif dice < 0.95:
            write(actor, key, name, self.largest)
        else:
            at = actor.diary.begin(Kind.WRITE, key)
            actor.region.delete(name)
            actor.diary.end(at)


def write(actor: Actor, key: int, name: str, largest: int) -> int:
    """Set a key to a new value, of any size up to ``largest``; small ones are the most."""
    number = actor.new()
    size = int(SMALLEST * (largest / SMALLEST) ** actor.random.random())
    at = actor.diary.begin(Kind.WRITE, key)
    actor.diary.got(at, number)
    dropped = drops(actor)
    actor.region.set(name, prove(name, number, size))
    actor.diary.end(at, Outcome.REFUSED if drops(actor) > dropped else Outcome.DONE)
    return number


def drops(actor: Actor) -> int:
    """How many sets of this process a store has given up, as the contract allows."""
    return 0
