"""Benchmarks of mpcache and comparable libraries, in one run: ``python -m bench``.

Depends on mpcache and on those libraries that are installed; the output names the others as skipped.

A benchmark is a list of contenders and, where there is a target, its bounds::

    environment     the folder and the servers of a run, removed afterwards
    pace            how many rounds, and how many calls in a round
    harness         contenders, rounds in turn, statistics
    workers         processes that do the same work from the same moment on
    stores          adapters of a few lines for mpcache's stores and for others
    values          the stored values
    targets         the bounds of the stores
    operations      cost of a get, a set, a get_or_create and a decorated call
    arrays          cost of a set of 10 MiB
    mutexes         cost of an acquire and release
    handoff         time from a release to the waiter in another process
    stampede        time from the creator's end until all other processes have the value
    scaling         throughput with a second process
    mixed_workload  95 reads and 5 writes, in 2 and 8 processes
    hit_ratio       how often a requested key is missing, beside other eviction policies
    full_store      bytes for each entry, losses, and the time of a set that evicts
    report          the table, the JSON, the bounds
    plots           the pictures

To add one: a module with a :class:`~bench.harness.Benchmark`, and a row in :data:`bench.__main__.BENCHMARKS`.
"""
