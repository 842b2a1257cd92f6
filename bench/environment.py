"""Where the contenders perform: a folder in memory and servers of their own, all gone afterwards.

Leans on mpcache.testing for the servers.
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
    from bench.harness import Pace


START: dict[str, Callable[[Any], Any]] = {
    "Redis": lambda servers: servers.Redis(),
    # It would refuse a value of 1 MiB; and of its four threads, one on another core answers three times as late.
    "Memcached": lambda servers: servers.Memcached("-I", "4m", "-t", "1", unix=True),
}
"""The kinds of servers, from the module that has them."""


class Absent(Exception):
    """A contender is not here; the text says why."""


class Environment:
    """Folders and servers, on sockets of the file system; what is asked for is made when it is first asked for.

    :ivar folder: in memory if the machine has a place for that, so that no disk is measured.  Segments are made there.
    :ivar pace: how thoroughly is measured.
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

    def see_to(self, kind: str | None) -> None:
        """Have a server of that kind from :mod:`mpcache.testing.servers` running, one for the whole run.

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
        """By which drivers find the server."""
        server = self._servers[kind]
        return str(getattr(server, "unix_url", server.url))
