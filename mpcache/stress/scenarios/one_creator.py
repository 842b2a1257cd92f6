"""Is each value created once, by one?

Leans on scenario.
"""

from __future__ import annotations

from mpcache.stress.board import GENERATION, HOLDING
from mpcache.stress.diary import Kind, Outcome
from mpcache.stress.judge import one_creator, one_value
from mpcache.stress.scenario import Scenario
from mpcache.stress.worker import Actor, prove


class OneCreator(Scenario):
    """Is each value created once, by one?

    All ask for the present generation of a few keys; who has created it, or waited for it, may begin the next.
    Creators are killed; then another takes over, and nobody else.
    """

    store = True
    keys = 4
    checks = (one_creator, one_value)

    def act(self, actor: Actor) -> None:
        key = actor.random.randrange(self.keys)
        word = actor.board.key(key)
        generation = word[GENERATION]
        number = key | generation << 8
        ask_for(actor, number, actor.key(key, generation))
        if actor.random.random() < 0.2 and word[GENERATION] == generation:
            word[GENERATION] = generation + 1


def ask_for(actor: Actor, number: int, name: str, work: float = 0.002) -> int:
    """Ask for a key, by get_or_create, and write down who created it."""

    def create() -> bytes:
        at = actor.diary.begin(Kind.CREATE, number)
        value = actor.new()
        actor.diary.got(at, value)
        actor.row[HOLDING] = 1
        actor.work(work)
        actor.row[HOLDING] = 0
        actor.diary.end(at, Outcome.ALONE if alone(actor) > before else Outcome.DONE)
        return prove(name, value, actor.random.randrange(40, 400))

    before = alone(actor)
    return actor.read(Kind.ASK, number, name, lambda: actor.region.get_or_create(name, create))


def alone(actor: Actor) -> int:
    """How many values this process has created without a mutex, as it is allowed to."""
    mishaps = getattr(actor.region, "mishaps", None)
    return 0 if mishaps is None else int(mishaps.counts["created_alone"])
