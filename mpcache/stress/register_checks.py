"""The register check: each key of a store behaves as an atomic register that may forget its value.

Depends on checker.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from mpcache.stress.checker import Violation
from mpcache.stress.history import NEVER, Entry, History, Kind, Outcome, actor_name


@dataclass
class _Cluster:
    """A value: its write, and the reads that returned it.

    :ivar first_end: when the first of these operations ended.
    :ivar last_begin: when the last of these operations began.
    """

    write: Entry
    reads: list[Entry] = field(default_factory=list)
    first_end: int = NEVER
    last_begin: int = 0

    def add(self, entry: Entry) -> None:
        if entry.until < self.first_end:
            self.first_end = entry.until
        if entry.began > self.last_begin:
            self.last_begin = entry.began

    def evidence(self) -> tuple[Entry, ...]:
        last = max(self.reads, key=lambda read: read.began, default=None)
        return (self.write,) if last is None else (self.write, last)


def register(history: History) -> Iterator[Violation]:
    """Check that one order of all operations of a key explains all reads.

    P. B. Gibbons and E. Korach, "Testing Shared Memories", SIAM Journal on Computing 26 (1997): where all written
    values differ, the operations of one value make a zone, from their first end to their last beginning.  A zone is
    forward if the first end comes first: the register surely held the value all through it.  An order exists if and
    only if no two forward zones overlap and no backward zone lies within a forward one.

    A miss proves nothing, since a cache may forget.  A delete is a write of a value that no operation reads.  A write
    whose writer was killed may have taken effect or not.  A creator gets the value that it made, stored or not; if
    another actor reads the value, it was stored before the creator got it.
    """
    writes, reads = history.by_key(Kind.WRITE, Kind.CREATE), history.by_key(Kind.READ, Kind.ASK)
    for key in sorted(writes.keys() | reads.keys()):
        clusters: dict[int, _Cluster] = {}
        silent: list[_Cluster] = []  # deletes: each is a cluster of its own
        for write in writes.get(key, ()):
            cluster = _Cluster(write)
            if write.ended and write.outcome == Outcome.DONE and write.kind == Kind.WRITE:
                cluster.add(write)  # of other writes it is not known whether and when they took effect
            if write.value:
                clusters[write.value] = cluster
            elif write.ended and write.outcome == Outcome.DONE:
                silent.append(cluster)
        yield from _sort_reads(key, clusters, reads.get(key, ()))
        yield from _atomic(key, [*clusters.values(), *silent])


def _sort_reads(key: int, clusters: dict[int, _Cluster], reads: Iterable[Entry]) -> Iterator[Violation]:
    """Add each read to the cluster of its value; yield reads of values that were not written before."""
    fills = []
    for read in reads:
        if not (read.ended and read.value and read.outcome == Outcome.DONE):
            continue
        cluster = clusters.get(read.value)
        if cluster is None:
            text = f"key {key}: {actor_name(read.actor)} read value {read.value:#x}, which was never written under it"
            yield Violation("foreign value", text, key, read.ended, (read,))
        elif read.ended < cluster.write.began:
            text = f"key {key}: {actor_name(read.actor)} read value {read.value:#x} before it was written"
            yield Violation("read before written", text, key, read.ended, (cluster.write, read))
        elif cluster.write.kind == Kind.CREATE and cluster.write.actor == read.actor:
            fills.append((cluster, read))
        else:
            cluster.reads.append(read)
            cluster.add(read)
            cluster.last_begin = max(cluster.last_begin, cluster.write.began)
    for cluster, ask in fills:
        if cluster.reads:
            cluster.add(ask)


def _atomic(key: int, clusters: list[_Cluster]) -> Iterator[Violation]:
    """Yield the first pair of zones that no order of operations explains."""
    known = [cluster for cluster in clusters if cluster.last_begin]
    forward = sorted(
        (cluster for cluster in known if cluster.first_end < cluster.last_begin), key=lambda one: one.first_end
    )
    for one, other in pairwise(forward):
        if other.first_end < one.last_begin:
            reader = actor_name(one.evidence()[-1].actor)
            text = f"key {key}: {reader} read {one.write.value:#x} after {other.write.value:#x} was there"
            yield Violation("aged", text, key, one.last_begin, (*one.evidence(), *other.evidence()))
            return  # beyond the first violation the order is lost, and each later operation would be reported, too
    starts = [cluster.first_end for cluster in forward]
    for cluster in known:
        if cluster.first_end >= cluster.last_begin:
            at = bisect_right(starts, cluster.last_begin) - 1
            if at >= 0 and starts[at] < cluster.last_begin and cluster.first_end < forward[at].last_begin:
                one = forward[at]
                what = f"value {cluster.write.value:#x} was written" if cluster.write.value else "it was deleted"
                reader = actor_name(one.evidence()[-1].actor)
                text = f"key {key}: {reader} read {one.write.value:#x}, though in between {what}"
                yield Violation("aged", text, key, one.last_begin, (*one.evidence(), *cluster.evidence()))
                return
