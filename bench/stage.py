"""Where the contenders perform: a folder in memory and servers of their own, all gone afterwards.

Leans on mpcache.testing for the servers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bench.measure import Pace

T = TypeVar("T")


class Absent(Exception):
    """A contender is not here; the text says why."""


class Stage:
    """Folders and servers; what is asked for is made when it is first asked for.

    :ivar folder: in memory if the machine has a place for that, so that no disk is measured.  Segments are made there.
    :ivar pace: how thoroughly is measured.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._ends = ExitStack()
        self._servers: dict[type, object] = {}

    def __enter__(self) -> Stage:
        memory = "/dev/shm"
        self.folder = Path(tempfile.mkdtemp(prefix="mpcache-bench-", dir=memory if os.path.isdir(memory) else None))
        self._ends.callback(shutil.rmtree, self.folder, ignore_errors=True)
        os.environ["MPCACHE_SHM"] = str(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def server(self, kind: type[T]) -> T:
        """A server of that kind from :mod:`mpcache.testing.servers`, one for the whole run.

        :raises Absent: it is not installed.
        """
        from mpcache.testing.servers import NoServer

        if kind not in self._servers:
            try:
                server = kind()
            except NoServer as missing:
                raise Absent(str(missing)) from missing
            self._servers[kind] = server
            self._ends.callback(server.end)  # type: ignore[attr-defined]
        return self._servers[kind]  # type: ignore[return-value]
