"""The environment of a run: a store and a mutex of its own, set up before the run and removed after it.

Depends on region, backends, mutexes and shm by their names, on third_party_locks and run_folder, and on testing for
servers, which end with the process that started them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpcache import backends, make_region, mutexes
from mpcache.api import Guarantees
from mpcache.exception import SegmentError
from mpcache.shm import segment
from mpcache.stress import third_party_locks
from mpcache.stress.errors import CannotRun
from mpcache.stress.run_folder import name_of, own_folder, remove_named, sweep
from mpcache.stress.settings import Settings

LEASE = 1.0
"""Seconds of a lease, where only a server can find that a holder is dead."""

ORIGINAL = "dogpile.cache."
"""Prefix of the stores whose regions are dogpile.cache's."""

_OWN = {"shm": "shm", "dbm": "file", "redis": "redis", "valkey": "valkey"}
_OWN |= dict.fromkeys(("pymemcache", "pylibmc", "memcached", "bmemcached"), "memcached")
_MEMCACHED = ("pymemcache", "pylibmc", "memcached", "bmemcached")

EVICTS_NOTHING = frozenset({"dbm", "redis", "valkey", *_MEMCACHED, "memory", "memory_pickle", f"{ORIGINAL}memory"})
"""Stores that have more room than any scenario needs, as the environment configures them."""

PRIVATE = frozenset({"memory", "memory_pickle"})
"""Stores of which each process has its own, which dies with it."""

PROMISED = Guarantees(processes=True, hosts=False, survives_death=True, fair=False, takeover=1.0)
"""Assumed of a mutex without guarantees."""


@dataclass(frozen=True)
class Environment:
    """A store and a mutex, described so that any process can make them.

    :ivar folder: of the run.
    :ivar name: of the run's segment, semaphores and so on.
    :ivar own: whether the mutex is the store's own.
    :ivar assumed: whether the mutex declares no guarantees, so that the usual ones are assumed.
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
        """Return whether the region is dogpile.cache's."""
        return self.backend.startswith(ORIGINAL)

    @property
    def gives_up(self) -> bool:
        """Return whether the store drops a value that it cannot store in time; other stores wait, or raise."""
        return self.backend == "shm"

    @property
    def full(self) -> str:
        """Return the store's name for configure()."""
        return full if (full := f"mpcache.{self.backend}") in backends.names() else self.backend

    def region(self) -> Any:
        """Return a new region for this process."""
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
        """Return a function that makes the mutex of a key."""
        factory, arguments = mutexes.resolve(kind_of(self.mutex)), self.mutex_arguments
        return lambda key: factory(key, **arguments)

    @property
    def inherited(self) -> bool:
        """Return whether only processes that are forked after the mutex was made can have it."""
        return self.mutex in third_party_locks.TABLE and third_party_locks.TABLE[self.mutex].inherited

    def prepare(self) -> None:
        """Make what workers can only inherit, before they are forked."""
        if self.mutex in third_party_locks.TABLE:
            third_party_locks.TABLE[self.mutex].prepare(**self.mutex_arguments)

    def json(self) -> str:
        """Return text from which :meth:`of` makes an equal environment."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Environment:
        """Read the text of :meth:`json`."""
        return cls(**json.loads(text))


def kind_of(mutex: str) -> Any:
    """Return the third-party lock of that name, else the name."""
    return third_party_locks.TABLE.get(mutex, mutex)


def own_mutex(backend: str) -> str:
    """Return the name of a store's own mutex; ``thread`` for a store of one process."""
    return _OWN.get(backend.removeprefix("mpcache."), "thread")


@contextmanager
def set_up(settings: Settings, size: str) -> Iterator[Environment]:
    """Set up the environment of a run, and remove it at the end.

    :param size: of a shared-memory segment.
    :raises CannotRun: an unknown name, or a server that is not installed.
    """
    backend, mutex = settings.backend.removeprefix("mpcache."), settings.mutex or own_mutex(settings.backend)
    sweep()
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        name = name_of(folder)
        start = _Servers(stack)
        stack.callback(remove_named, folder)
        of_store = {**_store(backend, folder, name, size, start), **settings.backend_arguments}
        of_mutex = {**_mutex(mutex, folder, name, start), **settings.mutex_arguments}
        guarantees = _guarantees(mutex)
        lease = _lease(of_mutex)
        yield Environment(
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
        raise CannotRun(str(error)) from error
    return getattr(factory, "guarantees", PROMISED)


def _lease(arguments: Mapping[str, Any]) -> float:
    try:
        return float(arguments.get("lease", LEASE))
    except (TypeError, ValueError):
        raise CannotRun(f"a lease is a number of seconds, not {arguments['lease']!r}") from None


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
    """Create a segment now, since a lack of room for it is no violation by a worker."""
    try:
        segment.attach(name, size)
    except SegmentError as error:
        raise CannotRun(str(error)) from error
    return {called: name, "size": size}


class _Servers:
    """The servers of a run, one of each kind."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._urls: dict[str, str] = {}
        self._started: list[Any] = []

    def check(self) -> None:
        """Raise CannotRun unless all servers live: a violation after the death of a server proves nothing."""
        for server in self._started:
            if (ended := server.ended()) is not None:
                raise CannotRun(f"{server.program}, which was started for this run, ended with {ended}; run it again")

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
                raise CannotRun(str(error)) from error
            self._urls[kind] = getattr(server, url)
            self._started.append(server)
        return self._urls[kind]
