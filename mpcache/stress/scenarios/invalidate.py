"""Are values that were begun before an invalidation, a set or a delete gone after it?

Depends on scenario, actor, operations and the checks.
"""

from __future__ import annotations

from mpcache.backends import load_backend
from mpcache.stress.actor import Actor
from mpcache.stress.environment import Environment
from mpcache.stress.history import Kind
from mpcache.stress.operations import delete, get_or_create, refresh, write
from mpcache.stress.register_checks import register
from mpcache.stress.scenario import Scenario
from mpcache.stress.settings import Settings
from mpcache.stress.staleness_checks import fills_refused, not_invalidated


class Invalidate(Scenario):
    """Are values that were begun before an invalidation, a set or a delete gone after it?

    All processes create, refresh, set, delete and invalidate values, and get them.  No process gets a value that was
    begun before an invalidation that has returned, however slow its creator was.  If the store guards creations, the
    same goes for a set or a delete of the key.
    """

    store = True
    keys = 6
    largest = 2_000

    def __init__(self, settings: Settings, environment: Environment) -> None:
        super().__init__(settings, environment)
        self.checks = (not_invalidated, register, *((fills_refused,) if _guards(environment) else ()))

    def unfit(self) -> str:
        return _reaches_one_process(self.environment) if self.settings.workers > 1 else ""

    def act(self, actor: Actor) -> None:
        key, dice = self.pick(actor), actor.random.random()
        name = actor.key_name(key)
        if dice < 0.4 or (
            dice < 0.5 and self.environment.original
        ):  # the refresh of dogpile.cache guards nothing, so it is not checked
            get_or_create(actor, key, name, 0.005)
        elif dice < 0.5:
            refresh(actor, key, name, 0.005)
        elif dice < 0.9:
            actor.read(Kind.READ, key, name, lambda: actor.region.get(name))
        elif dice < 0.94:
            write(actor, key, name, self.largest)
        elif dice < 0.97:
            delete(actor, key, name)
        else:
            at = actor.log.begin(Kind.INVALIDATE, key)
            actor.region.invalidate()
            actor.log.end(at)


def _guards(environment: Environment) -> bool:
    """Return whether the store refuses a value whose creation began before its key was changed."""
    if environment.original or (environment.backend in ("redis", "valkey") and not environment.own):
        return False
    return hasattr(load_backend(environment.full), "begin_fill")


def _reaches_one_process(environment: Environment) -> str:
    if not environment.original and hasattr(load_backend(environment.full), "invalidation"):
        return ""
    return f"invalidate() of {environment.backend} reaches its own process only, as documented: use --workers 1"
