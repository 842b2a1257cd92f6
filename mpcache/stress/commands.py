"""The commands list, run, replay and faults: their options, their output, and their exit statuses.

Depends on click; run, faults and report do the work.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

import mpcache
from mpcache import _console, backends, mutexes
from mpcache._console import columns, open_console, out
from mpcache.stress import faults, scenarios
from mpcache.stress.console import StressConsole, settings_of, title_of
from mpcache.stress.environment import PRIVATE, PROMISED, kind_of, own_mutex
from mpcache.stress.errors import CannotRun
from mpcache.stress.faults import fault_check
from mpcache.stress.interrupts import defer_signals, signals_as_ctrl_c
from mpcache.stress.run import COULD_NOT_RUN, HELD, VIOLATED, Run
from mpcache.stress.settings import PROGRAM, Settings, command

ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 held, 1 violated, 2 could not run."""
    try:
        with signals_as_ctrl_c():
            status = group.main(arguments, prog_name="stress", standalone_mode=False)
        return int(status or HELD)
    except click.ClickException as error:
        error.show()
        return COULD_NOT_RUN
    except (click.Abort, KeyboardInterrupt):
        _console.error("stress", "interrupted before anything was played")
    except (CannotRun, OSError) as error:
        _console.error("stress", str(error))
    except SystemExit:  # by click: the reader of the output has closed the pipe
        pass
    except Exception:  # Python's status would be 1, which means that a violation was found
        _console.error("stress", traceback.format_exc())
    return COULD_NOT_RUN


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mpcache.__version__, message="mpcache %(version)s")
def group() -> None:
    """Can this lock be trusted, on this machine, with these settings?

    Real processes run scenarios; some of them are killed or stopped.  Then a checker reads the logs that they have
    written.  The status is 0 if all held, 1 if something was violated, 2 if it could not be run.
    """


@group.command("list")
def list_() -> None:
    """List the scenarios, the stores and the mutexes."""
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
        raise click.BadParameter("this must be a JSON object, such as '{\"lease\": 2}'")
    return found


class _Finite(click.FloatRange):
    """A range of finite numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        return found if math.isfinite(found) else self.fail(f"{value} is not a finite number.", param, ctx)


_PLACE = click.Path(file_okay=False, path_type=Path)


@group.command()
@click.argument("scenario", metavar="SCENARIO|all")
@click.option("--backend", default="shm", show_default=True, help="Name of the store.")
@click.option("--mutex", "mutex", multiple=True, help="Name of the mutex; may be repeated.  Default: the store's own.")
@click.option(
    "--backend-arguments",
    default="",
    callback=_as_json,
    metavar="JSON",
    help="Arguments of the store, in addition to its usual ones.",
)
@click.option(
    "--mutex-arguments",
    default="",
    callback=_as_json,
    metavar="JSON",
    help="Arguments of the mutex, in addition to its usual ones.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Number of processes.  Default: depends on the scenario.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads in each process.  [default: 1]")
@click.option("--seconds", type=_Finite(0.2), default=10.0, show_default=True, help="Duration of each scenario.")
@click.option("--kills", type=_Finite(0), help="SIGKILLs a second.  Default: depends on the scenario.")
@click.option("--stops", type=_Finite(0), help="SIGSTOPs a second.  Default: depends on the scenario.")
@click.option(
    "--delays", is_flag=True, help="Use an engine that pauses before it stores to shared memory; needs the sources."
)
@click.option("--seed", default="", help="Seed of all random choices.  Default: another each time.")
@click.option("--fault", default="", help="Seed this known bug; 'stress faults --list' names them.")
@click.option(
    "--report", type=_PLACE, help="Write report.html and report.json to this directory, whatever the verdict."
)
@click.option("--plain", is_flag=True, help="No colours, no lines that change.")
def run(scenario: str, mutex: tuple[str, ...], report: Path | None, plain: bool, **given: Any) -> int:
    """Run a scenario, or all of them, and check what happened.

    If there is a violation, a report is written, from which 'stress replay' runs it again.
    """
    names = scenarios.names() if scenario == ALL else [scenario]
    runs = [settings_for(name, one, given) for name in names for one in mutex or ("",)]
    if report is not None:
        _make(report)
    console = StressConsole(open_console(plain))
    reports, missed = _play_all(runs, console)
    with defer_signals():  # drawing a page takes a second: a signal in it must not lose the verdict
        return _conclude(reports, console, report) or (COULD_NOT_RUN if missed else HELD)


def _make(folder: Path) -> None:
    """Make the folder of the report, before anything runs.  Raises CannotRun: it cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotRun(f"{folder} cannot be written to")


def settings_for(scenario: str, mutex: str, given: dict[str, Any]) -> Settings:
    """Return the settings that a user has given, with defaults that suit the scenario and the mutex."""
    try:
        kind = scenarios.load(scenario)
    except KeyError:
        known = ", ".join(scenarios.names())
        raise CannotRun(f"there is no scenario {scenario!r}; there are {known}, and {ALL}") from None
    name = mutex or own_mutex(given["backend"])
    try:
        guarantees = getattr(mutexes.resolve(kind_of(name)), "guarantees", PROMISED)
    except mpcache.exception.PluginNotFound as error:
        raise CannotRun(str(error)) from None
    told = {name: value for name, value in given.items() if value is not None}
    suits = {**kind.signal_rates(guarantees), "workers": kind.workers if guarantees.processes else 1}
    if not guarantees.processes and "workers" not in told:
        suits["threads"] = kind.workers
    if kind.store and given["backend"].removeprefix("mpcache.") in PRIVATE:
        suits["kills"] = 0.0
    return Settings(scenario=scenario, mutex=mutex, **{**suits, **told})


def _play_all(runs: Sequence[Settings], console: StressConsole) -> tuple[list[dict[str, Any]], bool]:
    """Run all; return the reports, and whether some runs were impossible.  Ctrl-C ends it with the reports so far.

    :raises CannotRun: none of the runs was possible.
    :raises OSError: the same, or the reader of the output has closed the pipe.
    """
    for module in ("hdrh", "jinja2", "matplotlib"):
        if find_spec(module) is None:
            raise CannotRun(f"it needs {module}; pip install 'mpcache[stress]', or from a checkout '.[stress]'")
    reports, missed = list[dict[str, Any]](), list[Exception]()
    for settings in runs:
        try:
            _play(settings, console, reports)
        except (CannotRun, OSError) as error:
            if len(runs) == 1 or isinstance(error, BrokenPipeError):
                raise
            missed.append(error)
            console.line((f"- could not run  {title_of(settings)}: {error}", "yellow"))
        except KeyboardInterrupt:
            if not reports:
                raise
            reports[-1]["interrupted"] = True  # Ctrl-C came after the run
        if reports and reports[-1]["interrupted"]:
            break
    if missed and not reports:
        raise CannotRun("none of the runs was possible")
    return reports, bool(missed)


def _play(settings: Settings, console: StressConsole, reports: list[dict[str, Any]]) -> None:
    """Run one, and append its report at once: Ctrl-C may come before it is printed."""
    current = Run(settings)
    with console.watching(title_of(settings)) as current.watcher:
        reports.append(current.run())
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
@click.option("--times", type=click.IntRange(1), default=1, show_default=True, help="How many times.")
@click.option("--plain", is_flag=True, help="No colours, no lines that change.")
def replay(report: Path, times: int, plain: bool) -> int:
    """Run again what a report shows: the violated runs, else all of them.

    The random choices are the same; the moments at which signals arrive are not.
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
@click.option("--list", "listed", is_flag=True, help="List the bugs, and run nothing.")
@click.option("--controls", is_flag=True, help="Also run each scenario without its bug.")
@click.option("--seconds", type=_Finite(0.2), help="Maximum for each bug.  Default: depends on the bug.")
@click.option("--seed", default="", help="Seed of all random choices.  Default: another each time.")
@click.option("--plain", is_flag=True, help="No colours, no lines that change.")
def faults_(names: tuple[str, ...], listed: bool, controls: bool, seconds: float | None, seed: str, plain: bool) -> int:
    """Run scenarios with known bugs, to prove that the scenarios find them.

    All bugs, or those that are named: engines compiled with a bug, mutexes and a dogpile lock with a bug patched in,
    and third-party locks and stores with weaker guarantees than a user may expect.  The status is 0 if each was caught.
    """
    if listed:
        for line in columns([row[:3] for row in faults.rows()], left=3):
            out(line)
        return HELD
    console = StressConsole(open_console(plain))
    with console.watching("known bugs") as watcher:
        results = fault_check.check_faults(
            names, seconds, console.caught, controls=controls, seed=seed, watcher=watcher
        )
    console.summary(results)
    return fault_check.status(results)
