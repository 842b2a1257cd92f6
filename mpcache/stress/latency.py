"""Latencies, as histograms that keep their tails.

Depends on hdrhistogram: G. Tene, "How NOT to Measure Latency"; its histograms have the same relative error for all
values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_MOST = 3_600_000_000_000
"""The largest latency that is counted, in ns: an hour.  A longer one counts as an hour."""

_DIGITS = 2


class Latencies:
    """Histograms of latencies in ns, by name."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {}

    def add(self, name: str, durations: Iterable[int]) -> None:
        """Count latencies of one kind."""
        from hdrh.histogram import HdrHistogram

        for ns in durations:
            if name not in self._of:
                self._of[name] = HdrHistogram(1, _MOST, _DIGITS)
            self._of[name].record_value(min(max(ns, 1), _MOST))

    def at(self, name: str, percentile: float) -> int:
        """Return a percentile in ns; 0 if none was counted."""
        return int(self._of[name].get_value_at_percentile(percentile)) if name in self._of else 0

    def count(self, name: str) -> int:
        """Return the number of latencies that were counted."""
        return int(self._of[name].get_total_count()) if name in self._of else 0

    def plain(self) -> dict[str, Any]:
        """Return data for JSON: of each name the count, percentiles as ``[percentile, ns]``, the encoded histogram."""
        return {name: _plain(histogram) for name, histogram in self._of.items()}


def _plain(histogram: Any) -> dict[str, Any]:
    steps = [
        [step.percentile_level_iterated_to, step.value_iterated_to] for step in histogram.get_percentile_iterator(5)
    ]
    return {
        "count": histogram.get_total_count(),
        "median": histogram.get_value_at_percentile(50),
        "p99": histogram.get_value_at_percentile(99),
        "p99.9": histogram.get_value_at_percentile(99.9),
        "max": histogram.get_max_value(),
        "percentiles": steps,
        "hdr": histogram.encode().decode("ascii"),
    }
