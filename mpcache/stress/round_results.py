"""The results of one round: its history and findings, read from its folder, and the latencies in it.

Depends on actor_log, checker, timing_checks, round_plan and latency.
"""

from __future__ import annotations

import json
from pathlib import Path

from mpcache.stress import actor_log, timing_checks
from mpcache.stress.checker import Violation
from mpcache.stress.errors import CannotRun
from mpcache.stress.history import History, Kind, Signal
from mpcache.stress.latency import Latencies
from mpcache.stress.round_plan import NO_ROOM, RoundPlan, findings


def load_history(plan: RoundPlan) -> History:
    """Read the history of a round, from the files that its processes have left."""
    data = json.loads((plan.folder / "signals").read_text())
    environment = plan.environment
    history = History(
        signals=[Signal(*signal) for signal in data["signals"]],
        leased=environment.leased,
        takeover=environment.takeover,
        own=environment.own,
        began=data["began"],
        ended=data["ended"],
        lives=data["lives"],
        gives_up=environment.gives_up,
    )
    died = history.killed()
    for actor, path in actor_log.paths(plan.folder):
        for entry in actor_log.read(path, died.get(actor >> 8)):
            history.entries.setdefault(entry.kind, []).append(entry)
    return history


def load_findings(folder: Path) -> list[Violation]:
    """Read the findings of a round.  Raises CannotRun: one says that the machine lacks room for the run."""
    path = findings(folder)
    found = [Violation(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    for violation in found:
        if violation.check == NO_ROOM:
            raise CannotRun(f"this machine has no room for it; {violation.text.strip()}")
    return found


def add_latencies(latencies: Latencies, history: History) -> None:
    """Add the latencies of a round to those of a run."""
    latencies.add("acquire", (hold.got - hold.began for hold in history.of(Kind.HOLD) if hold.got))
    latencies.add("take-over", (took for took, _ in timing_checks.takeovers(history)))
    latencies.add("hand-off", timing_checks.handoffs(history))
    latencies.add("stampede", timing_checks.stampedes(history))
    for name, kind in (("get", Kind.READ), ("set", Kind.WRITE), ("get_or_create", Kind.ASK)):
        latencies.add(name, (entry.ended - entry.began for entry in history.of(kind) if entry.ended))
