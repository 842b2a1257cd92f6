"""A worker: a process whose actors repeat the scenario's operation until the round is over.

Depends on actor, round_plan, scenario and faults.  The round runner forks a worker, or starts it as a program that
calls :func:`main`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

from mpcache.stress import faults
from mpcache.stress.actor import Actor, ProcessResources
from mpcache.stress.history import now
from mpcache.stress.round_plan import RoundPlan, add_error
from mpcache.stress.scenario import Scenario
from mpcache.stress.scoreboard import DONE, SINCE, STOP, WHO, Scoreboard


def main() -> None:
    """Run a worker that inherits nothing.  The arguments of the program are FOLDER WORKER LIFE PARENT."""
    folder, worker, life, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    die_with(parent)
    plan = RoundPlan.read(folder)
    prepare(plan)
    scenario: Scenario = plan.scenario()
    run_worker(plan, plan.scoreboard(), scenario, ProcessResources(plan, scenario.store), worker, life)


def prepare(plan: RoundPlan) -> None:
    """Seed the plan's fault, before anything is used, and make what workers can only inherit."""
    if plan.settings.fault:
        faults.seed(plan.settings.fault)
    plan.environment.prepare()


def run_worker(
    plan: RoundPlan, scoreboard: Scoreboard, scenario: Scenario, resources: ProcessResources, worker: int, life: int
) -> None:
    """Run all actors of this process; return when all have ended.

    :param worker: place on the scoreboard.
    """
    actors = [Actor(plan, scoreboard, (worker, thread), life, resources) for thread in range(plan.settings.threads)]

    def act(actor: Actor) -> None:
        try:
            run_actor(actor, scenario)
        except BaseException as error:
            actor.row[SINCE] = 0
            add_error(plan.folder, scoreboard, f"worker {life}", error)

    threads = [threading.Thread(target=act, args=(actor,)) for actor in actors[1:]]
    for thread in threads:
        thread.start()
    act(actors[0])
    for thread in threads:
        thread.join()


def run_actor(actor: Actor, scenario: Scenario) -> None:
    """Repeat the scenario's operation until the round is over or the actor's log is full."""
    row, head, log = actor.row, actor.scoreboard.head, actor.log
    row[WHO] = actor.number
    scenario.begin(actor)
    while not head[STOP] and log.ready():
        row[SINCE] = now()
        scenario.act(actor)
        row[SINCE] = 0
        row[DONE] += 1


# -- parents and children -------------------------------------------------------------------------------------------


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends; exit now if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)


def adopt() -> None:
    """Become the parent of orphaned descendants, so as to see them end."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
