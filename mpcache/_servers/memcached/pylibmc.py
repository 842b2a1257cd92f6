"""The link to memcached servers through pylibmc, over libmemcached.

The library is imported when a link is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpcache._servers.memcached import (
    FOREIGN,
    INTEGER,
    LONG,
    PICKLE,
    TIMEOUT,
    Link,
    NotStored,
    not_stored,
    only_bytes,
    too_large,
    with_change,
    with_port,
)


@functools.cache
def _pylibmc_client() -> Any:
    import pylibmc

    class Client(pylibmc.Client):  # type: ignore[misc,name-defined,unused-ignore]
        """A client for bytes, which does not read what others have pickled."""

        def deserialize(self, text: bytes, flags: int) -> Any:
            return FOREIGN if flags & (PICKLE | INTEGER | LONG) else text

    return Client


class PylibmcLink(Link):
    """pylibmc, over libmemcached."""

    def __init__(self, urls: Sequence[Any], options: Mapping[str, Any]) -> None:
        super().__init__(urls, options)
        import pylibmc

        self.errors = (OSError, pylibmc.Error, NotStored)
        self._too_big, self._not_found = pylibmc.TooBig, pylibmc.NotFound
        self._compress = {"min_compress_len": options["min_compress_len"]} if "min_compress_len" in options else {}
        timeout = options.get("socket_timeout", TIMEOUT)
        behaviors: dict[str, Any] = {"tcp_nodelay": True}
        behaviors |= dict.fromkeys(("connect_timeout", "_poll_timeout"), int(timeout * 1e3))
        behaviors |= dict.fromkeys(("send_timeout", "receive_timeout"), int(timeout * 1e6))
        behaviors |= {**(options.get("behaviors") or {}), "cas": True}
        self._client = _pylibmc_client()(
            [with_port(url) for url in urls], binary=bool(options.get("binary")), behaviors=behaviors
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        return only_bytes(self._sure(self._client.get_multi, keys, lambda found: not found))

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        # The key as bytes: of a str the library keeps a pointer to memory that it has freed.
        value, seen = self._sure(self._client.gets, key.encode(), lambda found: found[1] is None)
        return with_change(value, seen)

    def _sure(self, ask: Callable[..., Any], what: Any, empty: Callable[[Any], bool]) -> Any:
        """Ask again if the answer is empty: a server that has just died or timed out looks empty, but only once."""
        answer = ask(what)
        return ask(what) if empty(answer) else answer

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        return self._stored(key, value, self._client.add, key, value, seconds, **self._compress)

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        try:
            return self._stored(key, value, self._client.cas, key, value, seen, seconds)
        except self._not_found:
            return False

    def set(self, key: str, value: bytes, seconds: int) -> None:
        if not self._stored(key, value, self._client.set, key, value, seconds, **self._compress):
            raise not_stored(key, value)

    def _stored(self, key: str, value: bytes, verb: Callable[..., Any], *args: Any, **kw: Any) -> bool:
        try:
            return bool(verb(*args, **kw))
        except self._too_big:
            raise too_large(key, value) from None

    def set_many(self, mapping: Mapping[str, bytes], seconds: int) -> list[str]:
        try:
            return list(self._client.set_multi(mapping, time=seconds, **self._compress))
        except self._too_big:  # one of them is; the library does not say what became of the rest
            return list(mapping)

    def delete_many(self, keys: Sequence[str]) -> None:
        self._client.delete_multi(keys)

    def disown(self) -> None:
        """Never free the client: libmemcached would send "quit" over the connection, which is the parent's, too."""
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._client))
