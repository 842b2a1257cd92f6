"""Targets of the stores, by benchmark: ratios of minima, without the cost of a call.

Depends on harness.  The canary, an empty function, is measured beside all others and subtracted from them, so that
a call is no part of either side of a ratio.
"""

from __future__ import annotations

from bench.harness import Bound


def at_most(contender: str, most: float, of: str) -> Bound:
    """Return the bound: the least figure is at most ``most`` times the least figure of ``of``."""
    return Bound(contender, "least", most, of)


# The overhead of a store over its client library.
SERVERS = (at_most("mpcache.redis", 1.25, "redis client"), at_most("mpcache.pymemcache", 1.25, "pymemcache HashClient"))

# A value with a time to live takes the fast path, too.
WITH_TTL = at_most("mpcache.shm, with a ttl", 1.2, "mpcache.shm")

TARGETS = {
    "get": (
        at_most("mpcache.shm", 0.25, "dogpile.cache.memory"),
        at_most("mpcache.shm", 1 / 5, "lmdb + pickle"),
        at_most("mpcache.shm", 1 / 30, "diskcache"),
        at_most("mpcache.shm", 1 / 50, "pylibmc client"),
        at_most("mpcache.shm", 1 / 200, "dogpile.cache.redis"),
        at_most("engine", 0.2, "lmdb"),
        WITH_TTL,
        *SERVERS,
    ),
    "get-object": (
        at_most("mpcache.shm", 1.1, "pickle"),
        at_most("mpcache.shm", 0.5, "dogpile.cache.memory_pickle"),
    ),
    "miss": (at_most("mpcache.shm", 0.2, "dogpile.cache.memory"),),
    "get-multi": (at_most("mpcache.shm", 0.35, "dogpile.cache.memory"), *SERVERS),
    "set": (
        at_most("mpcache.shm", 0.5, "dogpile.cache.memory"),
        at_most("engine", 0.2, "lmdb"),
        WITH_TTL,
        *SERVERS,
    ),
    "set-object": (at_most("mpcache.shm", 1.15, "pickle"),),
    "get-or-create": (at_most("mpcache.shm", 0.05, "dogpile.cache.memory"),),
    "decorated": (
        at_most("mpcache.shm", 0.06, "dogpile.cache.memory"),
        at_most("mpcache.shm, exact keys", 1.1, "mpcache.shm"),
    ),
    "decorated-keyword": (at_most("mpcache.shm", 0.15, "dogpile.cache.memory"),),
}
