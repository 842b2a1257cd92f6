"""Side by side with the peers, in one run: ``python -m bench``.

Leans on mpcache and on whatever of the peers is installed; an absent one is skipped by name.

A benchmark is a list of contenders and, where something was promised, its bounds::

    stage       folders and servers of one's own, gone afterwards
    measure     rounds in turn, one of every contender; minima, medians, spread
    mutexes     what an acquire and release costs
    handoff     how long a waiter in another process waits after the release
    regions     what a hit costs
    report      the table, the JSON, the bounds

To add one: a module with a :class:`~bench.measure.Benchmark`, and a row in :data:`bench.__main__.BENCHMARKS`.
"""
