"""A memcached store whose subclass brings its own client, as subclasses for dogpile.cache do.

Depends on api.  The store uses only that client, so that a pool, TLS or SASL of the subclass is never bypassed.  The
client has the methods of python-memcached, and gets CachedValues, which it serializes, as in dogpile.cache::

    client             a property, and what it returns is asked
    _create_client()   called once for each thread of each process
    _imports()         called before; a subclass that overrides only this is refused
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mpcache.api import NO_VALUE, BackendFormatted, BackendSetType, CacheBackend, CacheMutex, KeyType
from mpcache.mutexes.base import incarnation

_VERBS = ("client", "_create_client")


class OwnClient(CacheBackend):
    """The part of a memcached store that speaks to the client of its subclass.

    :ivar set_arguments: keyword arguments for the client's ``set``, such as ``time``.
    """

    brings_client: bool = False
    """Whether a subclass has overridden ``client`` or ``_create_client``."""

    set_arguments: Mapping[str, Any] = {}

    def _prepare_client(self, arguments: Mapping[str, Any]) -> None:
        """Find out whether the subclass brings a client.  Raises TypeError: it only says what to import."""
        kind: Any = type(self)
        self.brings_client = any(getattr(kind, verb) is not getattr(OwnClient, verb) for verb in _VERBS)
        if hasattr(kind, "_imports"):
            if not self.brings_client:
                raise TypeError(
                    f"{kind.__name__} overrides '_imports', which gives mpcache no client; override"
                    " _create_client(), which returns one"
                )
            kind._imports(self)
        if self.brings_client:
            self.serializer = self.deserializer = None  # the client has its own
            self.distributed_lock = arguments.get("distributed_lock", False)
            self.lock_timeout = arguments.get("lock_timeout", 0)
            self._clients = threading.local()

    @property
    def client(self) -> Any:
        """Return the client that the subclass has made, of this thread.  Raises AttributeError: it makes none."""
        if not self.brings_client:
            raise AttributeError(f"{type(self).__name__} has no client: mpcache keeps a pool of its own for a server")
        mine = self._clients
        if getattr(mine, "living", None) is not incarnation():  # a child never uses its parent's connections
            mine.client, mine.living = self._create_client(), incarnation()
        return mine.client

    def _create_client(self) -> Any:
        raise NotImplementedError

    # -- what a region asks ----------------------------------------------------------------------------

    def get(self, key: KeyType) -> BackendFormatted:
        found: Any = self.client.get(key)
        return NO_VALUE if found is None else found

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        found = self.client.get_multi(keys) or {}
        return [value if (value := found.get(key)) is not None else NO_VALUE for key in keys]

    def set(self, key: KeyType, value: BackendSetType) -> None:
        self.client.set(key, value, **self.set_arguments)

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        self.client.set_multi(dict(mapping), **self.set_arguments)

    def delete(self, key: KeyType) -> None:
        self.client.delete(key)

    def delete_multi(self, keys: Sequence[KeyType]) -> None:
        if hasattr(self.client, "delete_multi"):
            self.client.delete_multi(keys)
        else:
            for key in keys:
                self.client.delete(key)

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        return ClientMutex(self, key) if self.distributed_lock else None


class ClientMutex(CacheMutex):
    """A mutex of the client's ``add``, ``get`` and ``delete``.  If its holder dies, only its time-out ends it."""

    def __init__(self, store: OwnClient, key: KeyType) -> None:
        self.key, self._store, self._token = key, store, secrets.token_hex(8)
        self._name = f"_lock{key}"

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Take it; with ``wait=False`` return False at once if another has it.

        :param timeout: seconds to wait at most; None: no limit.
        """
        deadline, pause = None if timeout is None else time.monotonic() + timeout, 0.001
        while not self._store.client.add(self._name, self._token, self._store.lock_timeout):
            if not wait or (deadline is not None and time.monotonic() >= deadline):
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return True

    def release(self) -> None:
        """Release it, unless it has lapsed and another process holds it."""
        if self._store.client.get(self._name) == self._token:
            self._store.client.delete(self._name)

    def locked(self) -> bool:
        """Return whether the lock is held."""
        return self._store.client.get(self._name) is not None
