"""What a run is asked to do: all of it, so that a report can be played again.

Leans on nothing of mpcache.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

ROUND = 5.0
"""Seconds of a round, at most.  After each the histories are judged and forgotten, so that hours need no more room."""


PROGRAM = "mpcache stress"
"""The command, as it is installed."""


def command(words: Sequence[str]) -> str:
    """The command line that plays a run, see :meth:`Settings.words`, again."""
    return f"{PROGRAM} run {shlex.join(words)}"


@dataclass(frozen=True)
class Settings:
    """One run of one scenario.

    :ivar scenario: its name.
    :ivar backend: a store's name, with or without ``mpcache.``; or ``dogpile.cache.NAME``, a region of the original.
    :ivar mutex: a mutex' name; empty: the store's own.
    :ivar backend_arguments, mutex_arguments: added to those that the arena has for names that it knows.
    :ivar workers: processes.
    :ivar threads: in each of them.
    :ivar seconds: of play, in all rounds together.
    :ivar kills: SIGKILLs a second.
    :ivar stops: SIGSTOPs a second; each is followed by a SIGCONT.
    :ivar delays: whether the engine is one that pauses at its shared stores.
    :ivar seed: of everything that is chosen at random.
    :ivar fault: a known bug's name; empty: none.
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
        """A copy with other values."""
        return replace(self, **changes)

    def json(self) -> str:
        """Text from which :meth:`of` makes an equal one."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, text: str) -> Settings:
        """What :meth:`json` wrote.  Raises TypeError and ValueError for another text."""
        return cls(**json.loads(text))

    def words(self) -> list[str]:
        """The words after ``stress run`` that mean the same."""
        words = [self.scenario, "--backend", self.backend]
        words += ["--mutex", self.mutex] if self.mutex else []
        for option, given in (("backend", self.backend_arguments), ("mutex", self.mutex_arguments)):
            words += [f"--{option}-arguments", json.dumps(dict(given))] if given else []
        for option in ("workers", "threads", "seconds", "kills", "stops"):
            words += [f"--{option}", f"{getattr(self, option):g}"]
        words += ["--delays"] if self.delays else []
        words += ["--seed", self.seed]
        return [*words, "--fault", self.fault] if self.fault else words
