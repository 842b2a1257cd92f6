"""Is what was begun before an invalidation, or a delete, gone after it?

Leans on scenario, on one_creator for what is created and on whole_values for what is written.
"""

from __future__ import annotations

from mpcache.backends import load_backend
from mpcache.stress.checker import not_invalidated, register
from mpcache.stress.environment import Arena
from mpcache.stress.history import Kind
from mpcache.stress.operations import ask_for, delete, refresh, write
from mpcache.stress.scenario import Scenario
from mpcache.stress.settings import Settings
from mpcache.stress.staleness_checks import fills_refused
from mpcache.stress.worker import Actor


class Invalidate(Scenario):
    """Is what was begun before an invalidation, or a delete, gone after it?

    Values are created, refreshed and set, deleted and invalidated all together, by any process, and asked for by all.
    Nobody is served one that was begun before an invalidation by anybody had come and gone, however slow its creator
    was.  Where a store guards what is being created, neither is one that was begun before a set or a delete.
    """

    store = True
    keys = 6
    largest = 2_000

    def __init__(self, settings: Settings, arena: Arena) -> None:
        super().__init__(settings, arena)
        self.checks = (not_invalidated, register, *((fills_refused,) if _guards(arena) else ()))

    def unfit(self) -> str:
        return _reaches_one_process(self.arena) if self.settings.workers > 1 else ""

    def act(self, actor: Actor) -> None:
        key, dice = self.pick(actor), actor.random.random()
        name = actor.key(key)
        if dice < 0.4 or (dice < 0.5 and self.arena.original):  # whose refresh guards nothing, and is not judged
            ask_for(actor, key, name, 0.005)
        elif dice < 0.5:
            refresh(actor, key, name, 0.005)
        elif dice < 0.9:
            actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
        elif dice < 0.94:
            write(actor, key, name, self.largest)
        elif dice < 0.97:
            delete(actor, key, name)
        else:
            at = actor.diary.begin(Kind.INVALIDATE, key)
            actor.region.invalidate()
            actor.diary.end(at)


def _guards(arena: Arena) -> bool:
    """Whether a store refuses what was begun before its key was changed."""
    if arena.original or (arena.backend in ("redis", "valkey") and not arena.own):
        return False
    return hasattr(load_backend(arena.full), "begin_fill")


def _reaches_one_process(arena: Arena) -> str:
    if not arena.original and hasattr(load_backend(arena.full), "invalidation"):
        return ""
    return f"invalidate() of {arena.backend} reaches its own process only, and says so: play --workers 1"
