"""Pools of links to memcached servers: one thread at a time uses a link, and a forked child begins with none.

Depends on the links by their names.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from mpcache._servers.memcached import TIMEOUT, Link
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache.exception import ValidationError, ValueTooLarge

_table = {
    "pymemcache": ("pymemcache", "PymemcacheLink"),
    "memcached": ("python_memcached", "MemcacheLink"),
    "pylibmc": ("pylibmc", "PylibmcLink"),
    "bmemcached": ("bmemcached", "BmemcachedLink"),
}


def kind_of(library: str) -> type[Link]:
    """Return the class of a library's links.  Raises ValidationError: it is none of the four."""
    if library not in _table:
        raise ValidationError(f"library={library!r} is none of {', '.join(sorted(_table))}")
    module, name = _table[library]
    kind: type[Link] = getattr(importlib.import_module(f"mpcache._servers.memcached.{module}"), name)
    return kind


class _AllThreads:
    """The idle links of all threads."""

    def __init__(self) -> None:
        self.idle: list[Link] = []


class _ThisThread(threading.local, _AllThreads):
    """The idle links of each thread, for libraries whose links must stay in their thread."""


class Pool:
    """Links of one kind.  One thread at a time uses a link, and none uses it after a fork.

    A connection that was closed while it was idle, for instance because the server restarted, is replaced silently.

    :param urls: the servers.
    :param library: the name of the client library, see :func:`kind_of`.
    :param options: those of the links.
    :param patient: do not ask a server that has failed for as long as the library waits; otherwise each call asks it.
    """

    def __init__(self, urls: Sequence[Any], library: str, options: Mapping[str, Any], patient: bool = False) -> None:
        self._kind, self._library = kind_of(library), library
        self._urls, self._options, self._patient = urls, options, patient
        self._at_once = options.get("socket_timeout", TIMEOUT) / 2
        self.errors: tuple[type[Exception], ...] = ()
        self.guards = False
        self._forget()
        self._spare.idle.append(self._new_link())  # the library is installed, and takes the arguments
        _pools.add(self)

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._do("get", key)
        return found

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = self._do("get_many", keys)
        return found

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        found: tuple[bytes, Any] | None = self._do("gets", key)
        return found

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        try:
            return bool(self._do("add", key, value, seconds, again=False))
        except _Idle:
            # Either the request did not reach the server, or its answer did not reach this process.
            found = self.gets(key)
            mine = found is not None and found[0] == value
            return mine or bool(self._do("add", key, value, seconds))

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        return bool(self._do("cas", key, value, seconds, seen))

    def set(self, key: str, value: bytes, seconds: int) -> None:
        self._do("set", key, value, seconds)

    def set_many(self, mapping: Mapping[str, bytes], seconds: int) -> list[str]:
        refused: list[str] = self._do("set_many", mapping, seconds)
        return refused

    def delete_many(self, keys: Sequence[str]) -> None:
        self._do("delete_many", keys)

    def _new_link(self) -> Link:
        try:
            link = self._kind(self._urls, self._options)
        except ImportError as missing:
            remedy = f"to reach memcached by this library: pip install 'mpcache[{self._library}]'"
            raise ImportError(f"{missing}; {remedy}") from missing
        self.errors, self.guards = link.errors, link.guards
        return link

    def _do(self, verb: str, *args: Any, again: bool = True) -> Any:
        idle = self._spare.idle
        try:
            link = idle.pop()
        except IndexError:
            link = self._new_link()
        began = time.monotonic()
        try:
            answer = self._used(link, idle, verb, args)
        except link.errors as error:
            link.close()  # it may not have read the whole answer
            if raised_by_signal_handler(error):
                raise
            if self._patient and not link.worked:
                idle.append(link)  # it knows which servers are down, and when to ask them again
                raise
            if not link.worked or time.monotonic() - began > self._at_once:
                raise
            if not again:
                raise _Idle from None
        else:
            return answer
        return self._do_on_new_link(idle, verb, args)

    def _do_on_new_link(self, idle: list[Link], verb: str, args: tuple[Any, ...]) -> Any:
        link = self._new_link()
        try:
            return self._used(link, idle, verb, args)
        except link.errors:
            link.close()
            if self._patient:
                idle.append(link)
            raise

    def _used(self, link: Link, idle: list[Link], verb: str, args: tuple[Any, ...]) -> Any:
        try:
            answer = getattr(link, verb)(*args)
        except ValueTooLarge:
            idle.append(link)
            raise
        except link.errors:
            raise
        except BaseException:  # a signal handler raised in the middle of an answer
            link.close()
            raise
        link.worked = True
        idle.append(link)
        return answer

    def _forget(self) -> None:
        self._spare: Any = _ThisThread() if self._kind.thread_bound else _AllThreads()

    def disown(self) -> None:
        for link in self._spare.idle:
            link.disown()
        self._forget()


class _Idle(Exception):
    """The connection was closed while it was idle."""


class Servers:
    """Each server by itself, for locks: a key's lock is on one of them, which no failover may change.

    :param urls: the servers, in the same order in all processes that are to exclude each other.
    :param options: only those of the connection are used: no serde, no compression, no noreply, no retrying.
    """

    def __init__(self, urls: Sequence[Any], library: str = "pymemcache", options: Mapping[str, Any] = {}) -> None:
        plain = {name: options[name] for name in _OF_CONNECTION if name in options}
        self.identity = tuple(map(str, urls))
        self._pools = [Pool([url], library, plain) for url in urls]

    def home(self, key: str) -> Pool:
        """Return the server that has the lock of this key, the same for each library."""
        return self._pools[zlib.crc32(key.encode()) % len(self._pools)]


_OF_CONNECTION = ("socket_timeout", "tls_context", "username", "password", "binary", "socket_keepalive")

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _disown_all() -> None:
    for pool in list(_pools):
        pool.disown()


os.register_at_fork(after_in_child=_disown_all)
