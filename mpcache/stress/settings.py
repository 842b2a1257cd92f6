"""The settings of a run: all of them, so that a report can be replayed.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

ROUND = 5.0
"""Maximum seconds of a round.  Each history is checked and removed after its round, so hours need no more room."""


PROGRAM = "mpcache stress"
"""The command as users type it."""


def command(words: Sequence[str]) -> str:
    """Return the command line of a run, given its :meth:`Settings.words`."""
    return f"{PROGRAM} run {shlex.join(words)}"


def plain_number(value: float) -> str:
    """Write a number in full, without an exponent and without needless zeros: 10, 0.5, 1000000."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Settings:
    """One run of one scenario.

    :ivar scenario: its name.
    :ivar backend: a store's name, with or without ``mpcache.``; or ``dogpile.cache.NAME``, for a dogpile.cache region.
    :ivar mutex: a mutex' name; empty: the store's own.
    :ivar backend_arguments, mutex_arguments: added to the arguments that the environment sets by itself.
    :ivar workers: number of processes.
    :ivar threads: number of threads in each process.
    :ivar seconds: duration of all rounds together.
    :ivar kills: SIGKILLs a second.
    :ivar stops: SIGSTOPs a second; each is followed by a SIGCONT.
    :ivar delays: whether to use an engine that pauses before it stores to shared memory.
    :ivar seed: of all random choices.
    :ivar fault: name of the seeded bug; empty: none.
    """

    scenario: str
    backend: str = "shm"
    mutex: str = ""
    backend_arguments: Mapping[str, Any] = field(default_factory=dict)
    mutex_arguments: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 6
    threads: int = 1
    seconds: float = 10.0
    kills: float = 0.0
    stops: float = 0.0
    delays: bool = False
    seed: str = ""
    fault: str = ""

    def but(self, **changes: Any) -> Settings:
        """Return a copy with other values."""
        return replace(self, **changes)

    def json(self) -> str:
        """Return text from which :meth:`of` makes equal settings."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, text: str) -> Settings:
        """Read the text of :meth:`json`.  Raises TypeError and ValueError for another text."""
        return cls(**json.loads(text))

    def words(self) -> list[str]:
        """Return the arguments of ``stress run`` for these settings."""
        words = [self.scenario, "--backend", self.backend]
        words += ["--mutex", self.mutex] if self.mutex else []
        for option, given in (("backend", self.backend_arguments), ("mutex", self.mutex_arguments)):
            words += [f"--{option}-arguments", json.dumps(dict(given))] if given else []
        for option in ("workers", "threads", "seconds", "kills", "stops"):
            words += [f"--{option}", plain_number(getattr(self, option))]
        words += ["--delays"] if self.delays else []
        words += ["--seed", self.seed]
        return [*words, "--fault", self.fault] if self.fault else words
