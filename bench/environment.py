"""The environment of a run: a folder in memory, and servers; both are removed afterwards.

Depends on mpcache.testing for the servers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.pace import Pace


START: dict[str, Callable[[Any], Any]] = {
    "Redis": lambda servers: servers.Redis(),
    # Its default item limit refuses a value of 1 MiB; a thread of its on another core answers three times as late.
    "Memcached": lambda servers: servers.Memcached("-I", "4m", "-t", "1", unix=True),
}
"""How each kind of server is started, given :mod:`mpcache.testing.servers`."""


class Absent(Exception):
    """A contender cannot be measured here; the text says why."""


class Environment:
    """A folder, and servers on unix sockets, each of which starts when it is first needed.

    :ivar folder: in shared memory if the machine has it, so that no disk is measured.  Segments are made there, too.
    :ivar pace: how thoroughly to measure.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._ends = ExitStack()
        self._servers: dict[str, Any] = {}

    def __enter__(self) -> Environment:
        memory = os.environ.get("MPCACHE_SHM", "/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="mpcache-bench-", dir=memory if os.path.isdir(memory) else None))
        self._ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
        os.environ["MPCACHE_SHM"] = str(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def start_server(self, kind: str | None) -> None:
        """Start a server of this kind from :mod:`mpcache.testing.servers`, unless it runs; it serves the whole run.

        :raises Absent: it is not installed.
        """
        from mpcache.testing import servers

        if kind is None or kind in self._servers:
            return
        try:
            server = self._servers[kind] = START[kind](servers)
        except servers.NoServer as missing:
            raise Absent(str(missing)) from missing
        self._ends.callback(server.end)

    def url(self, kind: str) -> str:
        """Return the URL of a started server, for drivers."""
        server = self._servers[kind]
        return str(getattr(server, "unix_url", server.url))
