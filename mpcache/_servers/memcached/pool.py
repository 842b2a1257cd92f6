"""Links to memcached servers, handed out: each is used by one thread at a time, and a forked child begins with none.

Leans on memcaching, and on the links by their names.
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
from mpcache.exception import ValidationError, ValueTooLarge
from mpcache.signal_handlers import raised_by_signal_handler

_table = {
    "pymemcache": ("pymemcache", "PymemcacheLink"),
    "memcached": ("python_memcached", "MemcacheLink"),
    "pylibmc": ("pylibmc", "PylibmcLink"),
    "bmemcached": ("bmemcached", "BmemcachedLink"),
}


def kind_of(library: str) -> type[Link]:
    """The links of a library.  Raises ValidationError: it is none of the four."""
    if library not in _table:
        raise ValidationError(f"library={library!r} is none of {', '.join(sorted(_table))}")
    module, name = _table[library]
    kind: type[Link] = getattr(importlib.import_module(f"mpcache._servers.memcached.{module}"), name)
    return kind


class _Everywhere:
    def __init__(self) -> None:
        self.idle: list[Link] = []


class _InThisThread(threading.local, _Everywhere):
    pass


class Pool:
    """Links of one kind.  Each is used by one thread at a time, and by none after a fork.

    A connection that was closed while it lay idle, by a server that was restarted, say, is replaced unnoticed.

    :param urls: the servers.
    :param library: which library speaks to them, by its name, see :func:`kind_of`.
    :param options: those of the links.
    :param patient: leave a server that has failed alone for as long as the library does; otherwise each call asks it.
    """

    def __init__(self, urls: Sequence[Any], library: str, options: Mapping[str, Any], patient: bool = False) -> None:
        self._kind, self._library = kind_of(library), library
        self._urls, self._options, self._patient = urls, options, patient
        self._at_once = options.get("socket_timeout", TIMEOUT) / 2
        self.errors: tuple[type[Exception], ...] = ()
        self.guards = False
        self._forget()
        self._spare.idle.append(self._new_link())  # the library is there, and takes the arguments
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
            # Either it never came there, or its answer never came here.
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
            link.close()  # what it was answered, it may not have read
            if raised_by_signal_handler(error):
                raise
            if self._patient and not link.worked:
                idle.append(link)  # with what it knows of the dead, and when to ask them again
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
        except BaseException:  # a signal came in the midst of an answer
            link.close()
            raise
        link.worked = True
        idle.append(link)
        return answer

    def _forget(self) -> None:
        self._spare: Any = _InThisThread() if self._kind.thread_bound else _Everywhere()

    def disown(self) -> None:
        for link in self._spare.idle:
            link.disown()
        self._forget()


class _Idle(Exception):
    """The connection had been closed while it lay idle."""


class Servers:
    """Each server by itself, for locks: a key's lock lives on one of them, which no failover may change.

    :param urls: the servers, for all who are to exclude each other in one order.
    :param options: of these, only those of the connection count: no serde, no compression, no noreply, no retrying.
    """

    def __init__(self, urls: Sequence[Any], library: str = "pymemcache", options: Mapping[str, Any] = {}) -> None:
        plain = {name: options[name] for name in _OF_CONNECTION if name in options}
        self.identity = tuple(map(str, urls))
        self._pools = [Pool([url], library, plain) for url in urls]

    def home(self, key: str) -> Pool:
        """The server that has the lock of this key, the same whichever the library is."""
        return self._pools[zlib.crc32(key.encode()) % len(self._pools)]


_OF_CONNECTION = ("socket_timeout", "tls_context", "username", "password", "binary", "socket_keepalive")

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _disown_all() -> None:
    for pool in list(_pools):
        pool.disown()


os.register_at_fork(after_in_child=_disown_all)
