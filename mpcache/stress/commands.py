"""The commands: list, run, replay and faults; what each takes, what it prints, and with which status it ends.

Leans on click; the work is done by run, faults and report.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import click

import mpcache
from mpcache import _console, backends, mutexes
from mpcache._console import columns, open_console, out
from mpcache.stress import faults, scenarios
from mpcache.stress.console import StressConsole, settings_of, title_of
from mpcache.stress.environment import PRIVATE, PROMISED, Unplayable, kind_of, own_mutex
from mpcache.stress.faults import fault_check
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED, Trial, noting
from mpcache.stress.settings import PROGRAM, Settings, command

ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0 held, 1 violated, 2 could not run."""
    try:
        with _signals_as_ctrl_c():
            status = group.main(arguments, prog_name="stress", standalone_mode=False)
        return int(status or HELD)
    except click.ClickException as error:
        error.show()
        return COULD_NOT_RUN
    except (click.Abort, KeyboardInterrupt):
        _console.error("stress", "interrupted before anything was played")
    except (Unplayable, OSError) as error:
        _console.error("stress", str(error))
    except SystemExit:  # by click: nobody reads what is printed any more
        pass
    except Exception:  # 1 would be Python's status for it, and says that a lock was found wanting
        _console.error("stress", traceback.format_exc())
    return COULD_NOT_RUN


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """What ends programs politely ends this one with a verdict on what ran."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    polite = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]  # by nohup
    before: dict[int, Any] = {one: signal.signal(one, interrupt) for one in polite}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mpcache.__version__, message="mpcache %(version)s")
def group() -> None:
    """Is this lock to be trusted, on this machine, with these settings?

    Scenarios are played with real processes, some of which are killed or stopped; then a judge reads what they wrote
    down.  The status is 0 if all held, 1 if something was violated, 2 if it could not be run.
    """


@group.command("list")
def list_() -> None:
    """List the scenarios, and what they can be played on."""
    for line in columns([(name, scenarios.load(name).question()) for name in scenarios.names()], left=2):
        out(line)
    names = [name.removeprefix("mpcache.") for name in backends.names() if name.startswith("mpcache.")]
    out(f"\nstores    {', '.join(names)}; and those of other packages, by their names")
    out(f"mutexes   {', '.join(mutexes.names())}; and those of other packages, by their names")


def _as_json(context: click.Context, parameter: click.Parameter, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise click.BadParameter(f"this is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter("an object is wanted, such as '{\"lease\": 2}'")
    return found


class _Finite(click.FloatRange):
    """A range in which there is no NaN, and whose end is no number either."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        return found if math.isfinite(found) else self.fail(f"{value} is no number of that kind.", param, ctx)


_PLACE = click.Path(file_okay=False, path_type=Path)


@group.command()
@click.argument("scenario", metavar="SCENARIO|all")
@click.option("--backend", default="shm", show_default=True, help="The store, by its name.")
@click.option("--mutex", "mutex", multiple=True, help="By its name; may be given again.  Default: the store's own.")
@click.option(
    "--backend-arguments", default="", callback=_as_json, metavar="JSON", help="Added to what the store is given."
)
@click.option(
    "--mutex-arguments", default="", callback=_as_json, metavar="JSON", help="Added to what the mutex is given."
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes.  Default: what suits the scenario.")
@click.option("--threads", type=click.IntRange(1, 64), help="In each of them.  [default: 1]")
@click.option("--seconds", type=_Finite(0.2), default=10.0, show_default=True, help="Of each scenario.")
@click.option("--kills", type=_Finite(0), help="SIGKILLs a second.  Default: what suits the scenario.")
@click.option("--stops", type=_Finite(0), help="SIGSTOPs a second.  Default: what suits the scenario.")
@click.option("--delays", is_flag=True, help="With an engine that pauses at its shared stores; needs the sources.")
@click.option("--seed", default="", help="Of all that is chosen at random.  Default: another each time.")
@click.option("--fault", default="", help="With a known bug; 'stress faults --list' names them.")
@click.option("--report", type=_PLACE, help="Write report.html and report.json there, whatever the verdict.")
@click.option("--plain", is_flag=True, help="No colours, nothing that moves.")
def run(scenario: str, mutex: tuple[str, ...], report: Path | None, plain: bool, **given: Any) -> int:
    """Play a scenario, or all of them, and judge it.

    What is violated is written into a report, from which it can be played again.
    """
    names = scenarios.names() if scenario == ALL else [scenario]
    runs = [settings_for(name, one, given) for name in names for one in mutex or ("",)]
    if report is not None:
        _make(report)
    console = StressConsole(open_console(plain))
    reports, missed = _play_all(runs, console)
    with noting():  # a page takes a second to draw: what was found is told, whatever comes now
        return _conclude(reports, console, report) or (COULD_NOT_RUN if missed else HELD)


def _make(folder: Path) -> None:
    """A folder that can be written to, before anything is played for what is to be there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unplayable(f"{folder} cannot be written to")


def settings_for(scenario: str, mutex: str, given: dict[str, Any]) -> Settings:
    """What a user has said, and what suits the scenario and the mutex where he has not."""
    try:
        kind = scenarios.load(scenario)
    except KeyError:
        known = ", ".join(scenarios.names())
        raise Unplayable(f"there is no scenario {scenario!r}; there are {known}, and {ALL}") from None
    name = mutex or own_mutex(given["backend"])
    try:
        guarantees = getattr(mutexes.resolve(kind_of(name)), "guarantees", PROMISED)
    except mpcache.exception.PluginNotFound as error:
        raise Unplayable(str(error)) from None
    told = {name: value for name, value in given.items() if value is not None}
    suits = {**kind.trouble(guarantees), "workers": kind.workers if guarantees.processes else 1}
    if not guarantees.processes and "workers" not in told:
        suits["threads"] = kind.workers
    if kind.store and given["backend"].removeprefix("mpcache.") in PRIVATE:
        suits["kills"] = 0.0
    return Settings(scenario=scenario, mutex=mutex, **{**suits, **told})


def _play_all(runs: Sequence[Settings], console: StressConsole) -> tuple[list[dict[str, Any]], bool]:
    """The reports of all that could be played, and whether some could not.  Ctrl-C ends it with those that there are.

    :raises Unplayable: none could be played.
    :raises OSError: the same, or nobody reads what is printed.
    """
    for module in ("hdrh", "jinja2", "matplotlib"):
        if find_spec(module) is None:
            raise Unplayable(f"it needs {module}; pip install 'mpcache[stress]', or from a checkout '.[stress]'")
    reports, missed = list[dict[str, Any]](), list[Exception]()
    for settings in runs:
        try:
            _play(settings, console, reports)
        except (Unplayable, OSError) as error:
            if len(runs) == 1 or isinstance(error, BrokenPipeError):
                raise
            missed.append(error)
            console.line((f"- could not run  {title_of(settings)}: {error}", "yellow"))
        except KeyboardInterrupt:
            if not reports:
                raise
            reports[-1]["interrupted"] = True  # after it, if not in it
        if reports and reports[-1]["interrupted"]:
            break
    if missed and not reports:
        raise Unplayable("nothing of it could be played")
    return reports, bool(missed)


def _play(settings: Settings, console: StressConsole, reports: list[dict[str, Any]]) -> None:
    """Its report is among these as soon as there is one: Ctrl-C may come before all have seen it."""
    trial = Trial(settings)
    with console.watching(title_of(settings)) as trial.watcher:
        reports.append(trial.run())
    console.verdict(reports[-1])


def _conclude(reports: list[dict[str, Any]], console: StressConsole, folder: Path | None) -> int:
    violated = [report for report in reports if report["status"] == VIOLATED]
    if violated and folder is None:
        folder = Path(f"stress-report-{violated[0]['settings']['seed']}")
    if folder is not None:
        from mpcache.stress.report import write

        try:
            page = write(reports, folder)
        except OSError as error:
            console.line((f"no report: {error}", "bold red"))
            return VIOLATED if violated else COULD_NOT_RUN
        console.line(f"report: {page}")
        if violated:
            console.line(f"again:  {PROGRAM} replay {shlex.quote(str(folder))}")
    elif len(reports) == 1 and not reports[0]["unfit"]:
        console.line((f"again:  {command(reports[0]['words'])}", "dim"))
    if violated:
        return VIOLATED
    played = [report for report in reports if report["status"] == HELD]
    missing = [report for report in reports if report["status"] == COULD_NOT_RUN and not report["unfit"]]
    return HELD if played and not missing else COULD_NOT_RUN


@group.command()
@click.argument("report", type=click.Path(exists=True, path_type=Path))
@click.option("--times", type=click.IntRange(1), default=1, show_default=True, help="How often.")
@click.option("--plain", is_flag=True, help="No colours, nothing that moves.")
def replay(report: Path, times: int, plain: bool) -> int:
    """Play again what a report tells of: what it found violated, else all of it.

    The choices are the same, the moments at which signals arrive are not.
    """
    from mpcache.stress.report import load

    console, before = StressConsole(open_console(plain)), load(report)
    again = [one for one in before if one["status"] == VIOLATED] or before
    reports, missed = _play_all([settings_of(one) for one in again for _ in range(times)], console)
    violated = sum(one["status"] == VIOLATED for one in reports)
    console.line(f"{violated} of {len(reports)} violated")
    return VIOLATED if violated else COULD_NOT_RUN if missed else max(one["status"] for one in reports)


@group.command("faults")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--list", "listed", is_flag=True, help="Say what they are, and play nothing.")
@click.option("--controls", is_flag=True, help="Play each of the runs without its bug, too.")
@click.option("--seconds", type=_Finite(0.2), help="For each, at most.  Default: what suits it.")
@click.option("--seed", default="", help="Of all that is chosen at random.  Default: another each time.")
@click.option("--plain", is_flag=True, help="No colours, nothing that moves.")
def faults_(names: tuple[str, ...], listed: bool, controls: bool, seconds: float | None, seed: str, plain: bool) -> int:
    """Play known bugs: does what finds nothing elsewhere find these?

    All of them, or those that are named: engines compiled with one, mutexes and a dogpile lock with one patched in, and
    locks and stores of others that promise less than one would think.  The status is 0 if each was caught.
    """
    if listed:
        for line in columns([row[:3] for row in faults.rows()], left=3):
            out(line)
        return HELD
    console = StressConsole(open_console(plain))
    with console.watching("known bugs") as watcher:
        results = fault_check.play_all(names, seconds, console.caught, controls=controls, seed=seed, watcher=watcher)
    console.assay(results)
    return fault_check.status(results)
