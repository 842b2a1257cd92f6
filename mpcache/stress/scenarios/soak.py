"""Do all guarantees hold at once, for hours?

Depends on the other scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator

from mpcache.stress.actor import Actor
from mpcache.stress.checker import Check, Violation
from mpcache.stress.environment import Environment
from mpcache.stress.history import History
from mpcache.stress.scenario import Scenario
from mpcache.stress.scenarios.exclusion import Exclusion
from mpcache.stress.scenarios.fork_and_exec import ForkAndExec
from mpcache.stress.scenarios.frozen_holder import FrozenHolder
from mpcache.stress.scenarios.invalidate import Invalidate
from mpcache.stress.scenarios.many_keys import ManyKeys
from mpcache.stress.scenarios.nested import Nested
from mpcache.stress.scenarios.one_creator import OneCreator
from mpcache.stress.scenarios.whole_values import WholeValues
from mpcache.stress.settings import Settings

_PARTS: dict[type[Scenario], float] = {
    Exclusion: 20,
    Nested: 10,
    ForkAndExec: 1,
    FrozenHolder: 5,
    OneCreator: 20,
    ManyKeys: 10,
    WholeValues: 20,
    Invalidate: 10,
}
"""The scenarios, and their shares of all operations."""


class Soak(Scenario):
    """Do all guarantees hold at once, for hours?

    Every actor runs the operations of the other scenarios, each on keys of its own: it holds and nests mutexes, gets
    and sets values, creates one or many, deletes and invalidates, and forks inside of holds.  Some workers are
    killed, some are stopped.
    """

    store = True
    kills = 15.0
    stops = 1.0
    size = "64MB"
    programs = True

    def __init__(self, settings: Settings, environment: Environment) -> None:
        super().__init__(settings, environment)
        first, parts = 0, []
        for kind, often in _PARTS.items():
            part = kind(settings, environment)
            if not part.unfit():
                part.first = first
                first += part.keys
                parts.append((part, often))
        self._parts, self._often = zip(*parts, strict=True)
        self.checks = tuple(map(_of_its_keys, self._parts))

    def act(self, actor: Actor) -> None:
        (part,) = actor.random.choices(self._parts, self._often)
        part.act(actor)


def _of_its_keys(part: Scenario) -> Check:
    """Return a check that applies all checks of a scenario to the history of its keys."""

    def check(history: History) -> Iterator[Violation]:
        own = history.only(range(part.first, part.first + part.keys))
        for each in part.checks:
            yield from each(own)

    return check
