"""The stores that the demo can be played on: each is set up, described to the workers, and cleared away.

Leans on shm for shared memory, and on testing for servers, which end with whoever started them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from mpcache.cli.demo_facts import MILLISECOND, TAKE_OVER_WITHIN
from mpcache.cli.guest import a_segment, leftovers
from mpcache.shm import segment

SIZE = 8 << 20
LEASE = 1.0
"""Seconds: what the death of a creator may cost the others where only a server can tell that it is dead."""


@dataclass(frozen=True)
class Stage:
    """One store, ready for use.

    :ivar where: for the title.
    :ivar backend, arguments: what a worker configures its region with.
    :ivar clear: the command by which a worker clears away when the demo has died; empty: there is nothing to clear.
    :ivar take_over_within: nanoseconds that a dead creator may cost the others.
    :ivar left: what is still there when all is over.
    """

    where: str
    backend: str
    arguments: Mapping[str, Any]
    clear: list[str]
    take_over_within: int
    left: Callable[[], list[str]]


@contextmanager
def _shm(name: str) -> Iterator[Stage]:
    with a_segment(name, SIZE):
        yield Stage(
            where=f"{SIZE >> 20} MiB of {os.path.dirname(segment.directory())}",
            backend="mpcache.shm",
            arguments={"name": name, "size": SIZE},
            clear=["-m", "mpcache.cli", "rm", name],
            take_over_within=TAKE_OVER_WITHIN,
            left=lambda: leftovers(name),
        )


@contextmanager
def _dbm(name: str) -> Iterator[Stage]:
    folder = tempfile.mkdtemp(prefix=f"mpcache-{name}-")
    try:
        yield Stage(
            where=f"a dbm file in {folder}",
            backend="mpcache.dbm",
            arguments={"filename": os.path.join(folder, "cache.dbm")},
            clear=["-c", "import shutil, sys; shutil.rmtree(sys.argv[1], True)", folder],
            take_over_within=TAKE_OVER_WITHIN,
            left=lambda: [folder] if os.path.exists(folder) else [],
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _redis(name: str) -> Iterator[Stage]:
    from mpcache.testing.servers import Redis

    with Redis() as server:
        yield Stage(
            where=f"a redis server at {server.socket}",
            backend="mpcache.redis",
            arguments={"url": server.unix_url, "lock_timeout": LEASE, "namespace": name},
            clear=[],
            take_over_within=int(LEASE * 1000 + 1000) * MILLISECOND,
            left=lambda: _directory_of(server),
        )


@contextmanager
def _memcached(name: str) -> Iterator[Stage]:
    from mpcache.testing.servers import Memcached

    with Memcached() as server:
        yield Stage(
            where=f"a memcached server at {server.url}",
            backend="mpcache.pymemcache",
            arguments={"url": server.url, "lock_timeout": LEASE, "namespace": name},
            clear=[],
            # Its clock has seconds, and a lease is asked for with one more, so that it never lapses too soon.
            take_over_within=int(LEASE * 1000 + 3000) * MILLISECOND,
            left=lambda: _directory_of(server),
        )


def _directory_of(server: Any) -> list[str]:
    return [str(server.directory)] if server.directory.exists() else []


STAGES: dict[str, Callable[[str], AbstractContextManager[Stage]]] = {
    "shm": _shm,
    "dbm": _dbm,
    "redis": _redis,
    "memcached": _memcached,
}
"""By the name of the store."""
