"""A scenario: the operation that each actor repeats, and the checks that the round's history must pass.

Depends on actor, environment, checker and settings.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

from mpcache.api import Guarantees
from mpcache.stress.actor import Actor
from mpcache.stress.checker import Check
from mpcache.stress.environment import Environment
from mpcache.stress.history import History
from mpcache.stress.settings import Settings

AT_LEASES = 2.0, 0.5
"""SIGKILLs and SIGSTOPs a second, at most, where each makes the others wait for the end of a lease."""

AT_THREADS = 8.0, 4.0
"""SIGKILLs and SIGSTOPs a second, at most, where all actors are threads of one process and die together."""


class Scenario:
    """One question.  The first line of the class' docstring is the question; the rest says how it is asked.

    :cvar store: whether it tests a store, too; else the mutex alone.
    :cvar keys: number of its keys, each of which has a row on the scoreboard.
    :cvar workers, kills, stops: defaults of the settings.
    :cvar size: of a shared-memory segment.
    :cvar programs: whether some workers are programs of their own, which inherit nothing.
    :cvar checks: of the history.
    :ivar first: number of its first key; the others follow.
    """

    store: ClassVar[bool] = False
    keys: ClassVar[int] = 3
    workers: ClassVar[int] = 6
    kills: ClassVar[float] = 20.0
    stops: ClassVar[float] = 0.0
    size: ClassVar[str] = "16MB"
    programs: ClassVar[bool] = False
    checks: tuple[Check, ...] = ()
    first: int = 0

    def __init__(self, settings: Settings, environment: Environment) -> None:
        self.settings = settings
        self.environment = environment

    @classmethod
    def question(cls) -> str:
        """Return the question, in one line."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]

    @classmethod
    def signal_rates(cls, mutex: Guarantees) -> dict[str, float]:
        """Return the default kills and stops a second for a mutex with these guarantees."""
        most = AT_LEASES if mutex.leased else (cls.kills, cls.stops) if mutex.processes else AT_THREADS
        return {"kills": min(cls.kills, most[0]), "stops": min(cls.stops, most[1])}

    def unfit(self) -> str:
        """Return why it would prove nothing in this environment; empty: it would."""
        return ""

    def begin(self, actor: Actor) -> None:
        """Prepare an actor, before its first operation."""

    def pick(self, actor: Actor) -> int:
        """Return one of its keys at random."""
        return self.first + actor.random.randrange(self.keys)

    def figures(self, history: History) -> dict[str, float]:
        """Return figures of a round, by names; a report shows the greatest of all rounds."""
        return {}

    def act(self, actor: Actor) -> None:
        """Run one operation; called again until the round is over or the worker is killed."""
        raise NotImplementedError
