"""Does a stopped holder keep its mutex, and does it learn if it has lost it?

Depends on scenario, actor and operations.
"""

from __future__ import annotations

from typing import Any

from mpcache.exception import NotHeld
from mpcache.stress.actor import Actor
from mpcache.stress.checker import EXCLUSION
from mpcache.stress.creation_checks import one_creator, one_value
from mpcache.stress.environment import Environment
from mpcache.stress.operations import advance, get_or_create, key_number
from mpcache.stress.register_checks import register
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION
from mpcache.stress.settings import Settings


class FrozenHolder(Scenario):
    """Does a stopped holder keep its mutex, and does it learn if it has lost it?

    Holders and creators are stopped, for longer than their lease if they have one.  A mutex without a lease is never
    taken from them.  A leased mutex may be, but then its release raises NotHeld, and a region with its store's own
    mutex returns the created value to its caller and does not overwrite what another worker has created since.
    """

    store = True
    keys = 6
    workers = 4
    kills = 0.0
    stops = 8.0

    def __init__(self, settings: Settings, environment: Environment) -> None:
        super().__init__(settings, environment)
        self.checks = (
            *EXCLUSION,
            one_creator,
            one_value,
            *((register,) if environment.own or not environment.leased else ()),
        )

    def unfit(self) -> str:
        alone = self.settings.workers == 1
        return "a stopped process leaves no other to take its mutex: use two workers at least" if alone else ""

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        if (key - self.first) % 2:
            generation = actor.scoreboard.key(key)[GENERATION]
            get_or_create(actor, key_number(key, generation), actor.key_name(key, generation), 0.02)
            advance(actor, key, generation)
        else:
            with actor.hold(key) as mutex:
                actor.work(0.02)
                self._look(actor, key, mutex)

    def _look(self, actor: Actor, key: int, mutex: Any) -> None:
        """Check that release() raises NotHeld if owned() has said that the mutex is lost."""
        if not hasattr(mutex, "owned") or mutex.owned():
            return
        if not self.environment.leased:
            actor.report("not owned", f"owned() denied that key {key} was held, whose mutex cannot be lost", key)
        try:
            mutex.release()
        except NotHeld:
            return
        actor.report("not owned", f"owned() denied that key {key} was held, and release() gave it back", key)
