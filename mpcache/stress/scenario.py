"""A scenario: what each worker does again and again, and what must be true of the histories.

Leans on environment, checker and settings.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ClassVar

from mpcache.api import Guarantees
from mpcache.stress.checker import Check, Story
from mpcache.stress.environment import Arena
from mpcache.stress.settings import Settings

if TYPE_CHECKING:
    from mpcache.stress.worker import Actor


AT_LEASES = 2.0, 0.5
"""SIGKILLs and SIGSTOPs a second, at most, where each keeps the others waiting until a lease is over."""

AT_THREADS = 8.0, 4.0
"""The same, where there is one process, and all die together."""


class Scenario:
    """One question.  The first line of the class' docstring is the question; the rest says how it is asked.

    :cvar store: whether it asks the store too; else the mutex alone.
    :cvar keys: how many keys have a row on the board.
    :cvar workers, kills, stops: what is right for it, where the user does not say.
    :cvar size: of a shared-memory segment.
    :cvar programs: whether every other worker is a program of its own, which inherits nothing.
    :cvar checks: what must be true.
    :ivar first: the first of its keys; the others follow.
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

    def __init__(self, settings: Settings, arena: Arena) -> None:
        self.settings = settings
        self.arena = arena

    @classmethod
    def question(cls) -> str:
        """What it asks, in one line."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]

    @classmethod
    def trouble(cls, mutex: Guarantees) -> dict[str, float]:
        """The kills and stops a second that are right for it, where the user does not say."""
        most = AT_LEASES if mutex.leased else (cls.kills, cls.stops) if mutex.processes else AT_THREADS
        return {"kills": min(cls.kills, most[0]), "stops": min(cls.stops, most[1])}

    def unfit(self) -> str:
        """Why it proves nothing in this arena; empty: it does."""
        return ""

    def begin(self, actor: Actor) -> None:
        """Once, in each thread, before its first act."""

    def pick(self, actor: Actor) -> int:
        """One of its keys."""
        return self.first + actor.random.randrange(self.keys)

    def figures(self, story: Story) -> dict[str, float]:
        """What else a round shows, by names; a report tells the greatest of all rounds."""
        return {}

    def act(self, actor: Actor) -> None:
        """One operation, begun anew until the round is over or the worker is killed."""
        raise NotImplementedError
