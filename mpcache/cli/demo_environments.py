"""The stores on which the demo can run: each is set up, described to the workers, and removed.

Depends on shm for shared memory, and on testing for servers, which end with the process that started them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpcache.cli.demo_checks import MILLISECOND, TAKE_OVER_WITHIN
from mpcache.cli.temp_segment import leftovers, temp_segment
from mpcache.shm import segment

if TYPE_CHECKING:
    from mpcache.testing.servers import Memcached, Redis

SIZE = 8 << 20
LEASE = 1.0
"""Seconds of a lease, where only a server can find that a creator is dead."""


@dataclass(frozen=True)
class Environment:
    """One store, ready for use.

    :ivar where: for the title.
    :ivar backend, arguments: for configure() in a worker.
    :ivar clear: arguments of Python with which a worker removes the store when the demo has died; empty: nothing to do.
    :ivar take_over_within: nanoseconds that the death of a creator may cost the others.
    :ivar left: returns the files that are left at the end.
    """

    where: str
    backend: str
    arguments: Mapping[str, Any]
    clear: list[str]
    take_over_within: int
    left: Callable[[], list[str]]


@contextmanager
def _shm(name: str) -> Iterator[Environment]:
    with temp_segment(name, SIZE):
        yield Environment(
            where=f"{SIZE >> 20} MiB of {os.path.dirname(segment.directory())}",
            backend="mpcache.shm",
            arguments={"name": name, "size": SIZE},
            clear=["-m", "mpcache.cli", "rm", name],
            take_over_within=TAKE_OVER_WITHIN,
            left=lambda: leftovers(name),
        )


@contextmanager
def _dbm(name: str) -> Iterator[Environment]:
    folder = tempfile.mkdtemp(prefix=f"mpcache-{name}-")
    try:
        yield Environment(
            where=f"a dbm file in {folder}",
            backend="mpcache.dbm",
            arguments={"filename": os.path.join(folder, "cache.dbm")},
            clear=["-c", "import shutil, sys; shutil.rmtree(sys.argv[1], True)", folder],
            take_over_within=TAKE_OVER_WITHIN,
            left=lambda: [folder] if os.path.exists(folder) else [],
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _redis(name: str) -> AbstractContextManager[Environment]:
    from mpcache.testing.servers import Redis

    return _served(name, Redis, "redis", 1.0)


def _memcached(name: str) -> AbstractContextManager[Environment]:
    from mpcache.testing.servers import Memcached

    # Its clock counts seconds, and the mutex adds one to a lease, so that it never lapses too soon.
    return _served(name, Memcached, "pymemcache", 3.0)


@contextmanager
def _served(name: str, kind: type[Redis] | type[Memcached], backend: str, slack: float) -> Iterator[Environment]:
    """Set up a store on a server of its own.

    :param slack: seconds beyond a lease that the death of a creator may cost.
    """
    with kind() as server:
        yield Environment(
            where=f"a {server.program} at {server.url}",
            backend=f"mpcache.{backend}",
            arguments={"url": server.url, "lock_timeout": LEASE, "namespace": name},
            clear=[],
            take_over_within=int((LEASE + slack) * 1000) * MILLISECOND,
            left=lambda: [str(server.directory)] if server.directory.exists() else [],
        )


ENVIRONMENTS: dict[str, Callable[[str], AbstractContextManager[Environment]]] = {
    "shm": _shm,
    "dbm": _dbm,
    "redis": _redis,
    "memcached": _memcached,
}
"""The environments by the names of their stores."""
