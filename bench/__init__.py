"""Side by side with the peers, in one run: ``python -m bench``.

Leans on mpcache and on whatever of the peers is installed; an absent one is skipped by name.

A benchmark is a list of contenders and, where something was promised, its bounds::

    environment        folders and servers of one's own, gone afterwards
    measure      rounds in turn, one of every contender; minima, medians, spread
    pool         processes that do the same at the same moment
    stores       ours and those of others, each an adapter of a few lines
    values       what is kept in them
    operations   what a get, a set, a get_or_create and a decorated call cost
    promises     what was said about that before
    mutexes      what an acquire and release costs
    handoff      how long a waiter in another process waits after the release
    stampede     how long all others wait after the end of the one who creates
    scaling      what a second process adds
    mix          95 reads and 5 writes, in 2 and 8 processes
    misses       how often what is asked for is not there
    fill         what an entry takes, and how long a set that evicts
    report       the table, the JSON, the bounds
    plots        the pictures

To add one: a module with a :class:`~bench.harness.Benchmark`, and a row in :data:`bench.__main__.BENCHMARKS`.
"""
