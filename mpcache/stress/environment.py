"""Where a run is played: a store and a mutex of its own, set up before it and gone after it.

Leans on region, backends, mutexes and shm by their names, on third_party_locks, and on testing for servers, which end
with whoever started them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpcache import backends, make_region, mutexes
from mpcache.api import Guarantees
from mpcache.exception import SegmentError
from mpcache.shm import segment
from mpcache.stress import third_party_locks
from mpcache.stress.settings import Settings

LEASE = 1.0
"""Seconds, where only a server can tell that a holder is dead."""

ORIGINAL = "dogpile.cache."
"""Begins the names of stores whose regions are not mpcache's."""

_PREFIX = "stress-"
_OWN = {"shm": "shm", "dbm": "file", "redis": "redis", "valkey": "valkey"}
_OWN |= dict.fromkeys(("pymemcache", "pylibmc", "memcached", "bmemcached"), "memcached")
_MEMCACHED = ("pymemcache", "pylibmc", "memcached", "bmemcached")

EVICTS_NOTHING = frozenset({"dbm", "redis", "valkey", *_MEMCACHED, "memory", "memory_pickle", f"{ORIGINAL}memory"})
"""Stores that have more room, as the arena sets them up, than any scenario needs."""

PRIVATE = frozenset({"memory", "memory_pickle"})
"""mpcache's stores that each process has for itself, and that die with it."""

PROMISED = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=1.0)
"""What is asked of a mutex that does not say what it guarantees."""


class Unplayable(Exception):
    """The run cannot be played; the text says why, and what would help."""


@dataclass(frozen=True)
class Arena:
    """A store and a mutex, described so that any process can have them.

    :ivar folder: of the run.
    :ivar name: of everything in it that has a name of its own.
    :ivar assumed: whether the mutex says nothing of its guarantees, so that the usual ones are asked of it.
    :ivar takeover: seconds that the death of a holder may cost the others.
    :ivar leased: whether a hold may lapse while its holder lives.
    """

    folder: str
    name: str
    backend: str
    backend_arguments: Mapping[str, Any]
    mutex: str
    mutex_arguments: Mapping[str, Any]
    own: bool
    takeover: float
    leased: bool
    processes: bool
    survives_death: bool
    fair: bool
    assumed: bool = False

    @property
    def original(self) -> bool:
        """Whether the region is dogpile.cache's."""
        return self.backend.startswith(ORIGINAL)

    @property
    def gives_up(self) -> bool:
        """Whether its store drops what it cannot store in time; others wait, or raise."""
        return self.backend == "shm"

    @property
    def full(self) -> str:
        """The store's name as configure() knows it."""
        return full if (full := f"mpcache.{self.backend}") in backends.names() else self.backend

    def region(self) -> Any:
        """A new region of it, for this process."""
        if self.original:
            import dogpile.cache

            return dogpile.cache.make_region().configure(self.backend, arguments={**self.backend_arguments})
        arguments = {**self.backend_arguments}
        if self.own:
            return make_region().configure(self.full, arguments=arguments)
        return make_region().configure(
            self.full, arguments=arguments, mutex=kind_of(self.mutex), mutex_arguments={**self.mutex_arguments}
        )

    def mutexes(self) -> Callable[[str], Any]:
        """What makes a mutex of a key."""
        factory, arguments = mutexes.resolve(kind_of(self.mutex)), self.mutex_arguments
        return lambda key: factory(key, **arguments)

    @property
    def inherited(self) -> bool:
        """Whether its mutex can be had by those only that are forked after it was made."""
        return self.mutex in third_party_locks.TABLE and third_party_locks.TABLE[self.mutex].inherited

    def prepare(self) -> None:
        """Make what workers can only inherit, before any of them is there."""
        if self.mutex in third_party_locks.TABLE:
            third_party_locks.TABLE[self.mutex].prepare(**self.mutex_arguments)

    def json(self) -> str:
        """Text from which :meth:`of` makes an equal one."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Arena:
        """What :meth:`json` wrote."""
        return cls(**json.loads(text))


def kind_of(mutex: str) -> Any:
    """What the name stands for among the foreign ones; else the name."""
    return third_party_locks.TABLE.get(mutex, mutex)


def own_mutex(backend: str) -> str:
    """The name of the mutex that a store brings along; a thread's, for one that nobody shares."""
    return _OWN.get(backend.removeprefix("mpcache."), "thread")


@contextmanager
def set_up(settings: Settings, size: str) -> Iterator[Arena]:
    """Make room for a run, and clear it away.

    :param size: of a shared-memory segment.
    :raises Unplayable: a name that nobody knows, or a server that is not there.
    """
    backend, mutex = settings.backend.removeprefix("mpcache."), settings.mutex or own_mutex(settings.backend)
    sweep()
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        name = _PREFIX + folder.name
        start = _Servers(stack)
        stack.callback(segment.unlink, name)
        stack.callback(segment.unlink, f"{name}-locks")
        stack.callback(_forget_semaphores, folder / "locks")
        stack.callback(third_party_locks.clear, folder, name)
        of_store = {**_store(backend, folder, name, size, start), **settings.backend_arguments}
        of_mutex = {**_mutex(mutex, folder, name, start), **settings.mutex_arguments}
        guarantees = _guarantees(mutex)
        lease = _lease(of_mutex)
        yield Arena(
            folder=str(folder),
            name=name,
            backend=backend,
            backend_arguments=of_store,
            mutex=mutex,
            mutex_arguments=of_mutex,
            own=mutex == own_mutex(backend) and not settings.mutex_arguments,
            takeover=lease + 1.5 if guarantees.leased else guarantees.takeover or PROMISED.takeover or 1.0,
            leased=guarantees.leased,
            processes=guarantees.processes,
            survives_death=guarantees.survives_death,
            fair=guarantees.fair,
            assumed=guarantees is PROMISED,
        )
        start.check()


def _guarantees(mutex: str) -> Guarantees:
    try:
        factory = mutexes.resolve(kind_of(mutex))
    except Exception as error:
        raise Unplayable(str(error)) from error
    return getattr(factory, "guarantees", PROMISED)


def _lease(arguments: Mapping[str, Any]) -> float:
    try:
        return float(arguments.get("lease", LEASE))
    except (TypeError, ValueError):
        raise Unplayable(f"a lease is a number of seconds, not {arguments['lease']!r}") from None


def _store(backend: str, folder: Path, name: str, size: str, start: _Servers) -> dict[str, Any]:
    if backend == "shm":
        return _segment("name", name, size)
    if backend in ("dbm", f"{ORIGINAL}dbm"):
        return {"filename": str(folder / "cache.dbm")}
    if backend in ("redis", "valkey"):
        return {"url": start.redis(), "lock_timeout": LEASE, "namespace": name}
    if backend in _MEMCACHED:
        return {"url": start.memcached(), "lock_timeout": LEASE, "namespace": name}
    return {}


def _mutex(mutex: str, folder: Path, name: str, start: _Servers) -> dict[str, Any]:
    if mutex == "shm":
        return _segment("segment", f"{name}-locks", "4MB")
    if mutex in ("file", "semaphore"):
        return {"directory": str(folder / "locks")}
    if mutex in ("redis", "valkey"):
        return {"url": start.redis(), "lease": LEASE}
    if mutex == "memcached":
        return {"url": start.memcached(), "lease": LEASE}
    if mutex in third_party_locks.TABLE:
        return {"directory": str(folder), "name": name}
    return {}


def _segment(called: str, name: str, size: str) -> dict[str, Any]:
    """One that is there from now on, for that there is no room for it is no worker's fault."""
    try:
        segment.attach(name, size)
    except SegmentError as error:
        raise Unplayable(str(error)) from error
    return {called: name, "size": size}


class _Servers:
    """Those that a run has started: one of a kind."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._urls: dict[str, str] = {}
        self._started: list[Any] = []

    def check(self) -> None:
        """Raise Unplayable unless all of them live: what went wrong after the death of one proves nothing."""
        for server in self._started:
            if (ended := server.ended()) is not None:
                raise Unplayable(f"{server.program}, which was started for it, ended with {ended}; play it again")

    def redis(self) -> str:
        return self._url("Redis", "unix_url")

    def memcached(self) -> str:
        return self._url("Memcached", "url")

    def _url(self, kind: str, url: str) -> str:
        from mpcache.testing import servers

        if kind not in self._urls:
            try:
                server = self._stack.enter_context(getattr(servers, kind)())
            except servers.NoServer as error:
                raise Unplayable(str(error)) from error
            self._urls[kind] = getattr(server, url)
            self._started.append(server)
        return self._urls[kind]


# -- what a run leaves, if it is killed ----------------------------------------------------------------------------


def base() -> Path:
    """The directory in which each run has its own."""
    path = Path(tempfile.gettempdir()) / f"mpcache-stress-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(0o700)
    there = path.lstat()  # a link would let another choose what sweep() removes
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o022:
        raise Unplayable(
            f"{path} is not a directory of uid {os.getuid()} that nobody else writes to;"
            " remove it, or set TMPDIR to a directory of your own"
        )
    return path


@contextmanager
def own_folder() -> Iterator[Path]:
    """A directory for one run.  It is locked while its run lives, by which :func:`sweep` knows."""
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base()))
    try:
        with open(folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_YOUNG = 60.0
"""Seconds in which a directory without a lock may yet get one."""


def sweep() -> list[str]:
    """Remove what runs that were killed have left; the names of these runs."""
    swept = []
    for folder in sorted(base().iterdir()):
        if folder.is_dir() and not folder.is_symlink() and _abandoned(folder):
            for name in (f"{_PREFIX}{folder.name}", f"{_PREFIX}{folder.name}-locks"):
                segment.unlink(name)
            _forget_semaphores(folder / "locks")
            third_party_locks.clear(folder, f"{_PREFIX}{folder.name}")
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder.name)
    return swept


def _abandoned(folder: Path) -> bool:
    try:
        with open(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > _YOUNG
    return True


def _forget_semaphores(directory: Path) -> None:
    """The bells of a directory of semaphore mutexes have names outside of it."""
    if directory.exists():
        from mpcache.mutexes.semaphore import SemaphoreMutex

        SemaphoreMutex.unlink(str(directory))
