"""The plan of one round, which run writes and the round runner and its workers read; and the findings they report back.

Depends on settings, environment and scoreboard; on scenarios by their names.  All of it lies in the folder of the
round.
"""

from __future__ import annotations

import errno
import json
import os
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from mpcache.stress import scenarios
from mpcache.stress.environment import Environment
from mpcache.stress.history import now
from mpcache.stress.scoreboard import FINDINGS, Scoreboard
from mpcache.stress.settings import Settings

LIMIT = 5
"""No wait exceeds this many times the patience, even for a process that is always busy or never gets a core."""

ORPHANS = 5.0
"""Seconds that children of a worker may outlive the worker, until they have noticed its death."""


class RoundPlan(NamedTuple):
    """What a round runner and its workers are to do.

    :ivar round: number of the round.
    :ivar seconds: duration.
    :ivar folder: of the round.
    """

    settings: Settings
    environment: Environment
    round: int
    seconds: float
    folder: Path

    def write(self) -> None:
        """Write the plan into its folder."""
        data = {"settings": self.settings.json(), "environment": self.environment.json()}
        (self.folder / "plan").write_text(json.dumps(data | {"round": self.round, "seconds": self.seconds}))

    @classmethod
    def read(cls, folder: Path) -> RoundPlan:
        """Read the plan of a folder."""
        data = json.loads((folder / "plan").read_text())
        settings, environment = Settings.of(data["settings"]), Environment.of(data["environment"])
        return cls(settings, environment, data["round"], data["seconds"], folder)

    @property
    def patience(self) -> float:
        """Return seconds that an operation may take: before it, all other workers may be killed one after the other."""
        return 6 + 4 * self.environment.takeover * bool(self.settings.kills or self.settings.stops)

    def scoreboard(self) -> Scoreboard:
        """Map the round's scoreboard."""
        return Scoreboard(self.folder / "scoreboard", self.settings.workers, self.settings.threads)

    def scenario(self) -> Any:
        """Return a new object of the plan's :class:`~mpcache.stress.scenario.Scenario`."""
        return scenarios.load(self.settings.scenario)(self.settings, self.environment)


# -- findings: what processes of a round see that no log would show -----------------------------------------------

NO_ROOM = "no room"
"""The check of a finding that is no violation: the machine lacks disk space or descriptors for this run."""


def findings(folder: Path) -> Path:
    """Return the path of a round's findings, a file that exists as soon as there is one."""
    return folder / "findings"


def add_finding(folder: Path, check: str, text: str, key: int | None = None) -> None:
    """Append a finding, in one write, since several processes append.

    :param check, text, key: as of a :class:`~mpcache.stress.checker.Violation`.
    """
    finding = {"check": check, "text": text, "key": key, "at": now()}
    fd = os.open(findings(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(finding).encode() + b"\n")
    finally:
        os.close(fd)


def add_error(folder: Path, scoreboard: Scoreboard, who: str, error: BaseException) -> None:
    """Append the finding that a process or thread ended with an error."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
    text = "".join(traceback.format_exception(error))
    add_finding(folder, NO_ROOM if full else "error", f"{who} ended with an error:\n{text}")
    scoreboard.head[FINDINGS] += 1
