"""Is a mutex left to a holder that is stopped, and is he told if it is not?

Leans on scenario and operations.
"""

from __future__ import annotations

from typing import Any

from mpcache.exception import NotHeld
from mpcache.stress.checker import EXCLUSION, one_creator, one_value, register
from mpcache.stress.environment import Arena
from mpcache.stress.operations import ask_for, move_on, numbered
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import GENERATION
from mpcache.stress.settings import Settings
from mpcache.stress.worker import Actor


class FrozenHolder(Scenario):
    """Is a mutex left to a holder that is stopped, and is he told if it is not?

    Holders and creators are stopped, beyond their lease if they have one.  A mutex that is not leased is never taken
    from them.  One that is may be, but then its release raises NotHeld, and a region with its store's own mutex gives
    what was created to its caller and does not put it in the place of what another has created since.
    """

    store = True
    keys = 6
    workers = 4
    kills = 0.0
    stops = 8.0

    def __init__(self, settings: Settings, arena: Arena) -> None:
        super().__init__(settings, arena)
        self.checks = (*EXCLUSION, one_creator, one_value, *((register,) if arena.own or not arena.leased else ()))

    def unfit(self) -> str:
        alone = self.settings.workers == 1
        return "one process is stopped as a whole, and nobody is left to take what it holds: play two" if alone else ""

    def act(self, actor: Actor) -> None:
        key = self.pick(actor)
        if (key - self.first) % 2:
            generation = actor.board.key(key)[GENERATION]
            ask_for(actor, numbered(key, generation), actor.key(key, generation), 0.02)
            move_on(actor, key, generation)
        else:
            with actor.hold(key) as mutex:
                actor.work(0.02)
                self._look(actor, key, mutex)

    def _look(self, actor: Actor, key: int, mutex: Any) -> None:
        """Who is told by ``owned()`` that he has lost it, is told so by ``release()``."""
        if not hasattr(mutex, "owned") or mutex.owned():
            return
        if not self.arena.leased:
            actor.find("not owned", f"owned() denied that key {key} was held, whose mutex cannot be lost", key)
        try:
            mutex.release()
        except NotHeld:
            return
        actor.find("not owned", f"owned() denied that key {key} was held, and release() gave it back", key)
