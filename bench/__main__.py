"""The command line: ``python -m bench [NAME ...] [--quick]``.

Depends on report and on the benchmarks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import (
    arrays,
    full_store,
    handoff,
    harness,
    hit_ratio,
    mixed_workload,
    mutexes,
    operations,
    pace,
    plots,
    report,
    scaling,
    stampede,
)
from bench.environment import Environment
from bench.harness import Benchmark

BENCHMARKS = {
    "acquire": mutexes.ACQUIRE,
    "handoff": handoff.HANDOFF,
    **operations.BENCHMARKS,
    **arrays.BENCHMARKS,
    "scaling": scaling.SCALING,
    "mix": mixed_workload.MIX,
    "stampede": stampede.STAMPEDE,
    "misses": hit_ratio.MISSES,
    **full_store.BENCHMARKS,
}

KEPT, MISSED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return the exit status: 0, or with ``--check`` 1 if a bound was missed or not measured."""
    options = _options(arguments)
    chosen = pace.QUICK if options.quick else pace.THOROUGH
    where, outcomes, printer = report.machine(), {}, report.printer()
    printer.header(where)
    with Environment(chosen) as environment:
        for name in options.names or BENCHMARKS:
            outcomes[name] = harness.run(_of_those(BENCHMARKS[name], options.only), environment)
            printer.outcome(name, outcomes[name], options.allow)
    if options.json:
        report.write_json(options.json, where, outcomes, options.allow)
    if options.plots:
        plots.draw(options.plots, outcomes)
    kept = all(verdict.kept for outcome in outcomes.values() for verdict in report.verdicts(outcome, options.allow))
    return KEPT if kept or not options.check else MISSED


def _of_those(benchmark: Benchmark, only: list[str]) -> Benchmark:
    """Keep the contenders with one of these words in their names, and the canary."""
    if not only:
        return benchmark
    wanted = [one for one in benchmark.contenders if any(word in one.name for word in (harness.CANARY, *only))]
    return benchmark._replace(contenders=tuple(wanted))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    asked = argparse.ArgumentParser(
        prog="python -m bench", description="Measure mpcache and comparable libraries in one run."
    )
    asked.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks: {', '.join(BENCHMARKS)}; default: all")
    asked.add_argument("--quick", action="store_true", help="few and short rounds, to check that it runs")
    asked.add_argument("--only", nargs="+", metavar="WORD", help="measure contenders with one of these in the name")
    asked.add_argument("--json", metavar="FILE", help="write the figures to this file, times in nanoseconds")
    asked.add_argument("--plots", metavar="DIR", help="draw a PNG of each benchmark here; needs matplotlib")
    asked.add_argument("--check", action="store_true", help=f"exit with {MISSED} if a bound was missed or not measured")
    asked.add_argument(
        "--allow", type=float, default=1.0, metavar="TIMES", help="factor by which each limit is multiplied (1)"
    )
    options = asked.parse_args(arguments)
    if options.plots and not plots.can():
        asked.error("--plots needs matplotlib: pip install 'mpcache[bench]'")
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        asked.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
