"""Does all of it hold at once, for hours?

Leans on the other scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator

from mpcache.stress.checker import Check, Story, Violation
from mpcache.stress.environment import Arena
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
from mpcache.stress.worker import Actor

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
"""What is done, and how often of all of them."""


class Soak(Scenario):
    """Does all of it hold at once, for hours?

    Every worker does what the workers of the other scenarios do, each on keys of its own: it holds and nests, gets and
    sets, creates one value or many, deletes and invalidates, forks inside of holds.  Some are killed, some stopped.
    """

    store = True
    kills = 15.0
    stops = 1.0
    size = "64MB"
    programs = True

    def __init__(self, settings: Settings, arena: Arena) -> None:
        super().__init__(settings, arena)
        first, parts = 0, []
        for kind, often in _PARTS.items():
            part = kind(settings, arena)
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
    """All checks of a scenario, over what concerns its keys."""

    def check(story: Story) -> Iterator[Violation]:
        own = story.only(range(part.first, part.first + part.keys))
        for each in part.checks:
            yield from each(own)

    return check
