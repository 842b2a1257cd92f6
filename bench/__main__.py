"""The command line: ``python -m bench [--quick] [NAME ...]``.

Leans on report and on the benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import handoff, measure, mutexes, regions, report
from bench.stage import Stage

BENCHMARKS = {
    "acquire": mutexes.ACQUIRE,
    "handoff": handoff.HANDOFF,
    "get": regions.GET,
    "get-or-create": regions.GET_OR_CREATE,
}

KEPT, MISSED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit status."""
    options = _options(arguments)
    pace = measure.QUICK if options.quick else measure.THOROUGH
    where, outcomes, printer = report.machine(), {}, report.printer()
    printer.header(where)
    with Stage(pace) as stage:
        for name in options.names or BENCHMARKS:
            benchmark = BENCHMARKS[name]
            rounds = pace.rounds if benchmark.figure == "least" else pace.meetings
            outcomes[name] = measure.run(benchmark, stage, rounds)
            printer.outcome(name, outcomes[name], options.allow)
    if options.json:
        report.write_json(options.json, where, outcomes, options.allow)
    kept = all(kept for outcome in outcomes.values() for _, kept in report.verdicts(outcome, options.allow))
    return KEPT if kept or not options.check else MISSED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    asked = argparse.ArgumentParser(prog="python -m bench", description="Side by side with the peers, in one run.")
    asked.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all of them unless given")
    asked.add_argument("--quick", action="store_true", help="few and short rounds: to see that it runs")
    asked.add_argument("--json", metavar="FILE", help="write the figures there, in nanoseconds")
    asked.add_argument("--check", action="store_true", help=f"exit with {MISSED} if a bound was missed or not measured")
    asked.add_argument(
        "--allow", type=float, default=1.0, metavar="TIMES", help="a bound is kept up to so many times its limit (1)"
    )
    options = asked.parse_args(arguments)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        asked.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
