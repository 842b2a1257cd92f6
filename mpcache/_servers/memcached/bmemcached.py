"""The link to memcached servers through python-binary-memcached.

The library is imported when a link is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpcache._servers.memcached import TIMEOUT, ZLIB, Link, only_bytes, plain, too_large, with_change, with_port

E2BIG = 0x03
"""The status of the binary protocol for an item that is too large."""


@functools.cache
def _bmemcached_client() -> Any:
    from bmemcached import Client
    from bmemcached.protocol import Protocol as Connection

    class BytesConnection(Connection):  # type: ignore[misc,unused-ignore]
        """A connection for bytes, with the other libraries' flags, and with its time-out on a unix socket, too."""

        def serialize(self, value: bytes, compress_level: int = -1) -> tuple[int, bytes]:
            flags, text = super().serialize(value, compress_level)
            return flags & ZLIB, text

        def deserialize(self, value: bytes, flags: int) -> Any:
            return plain(value, flags)

        def _open_connection(self) -> None:
            super()._open_connection()
            if self.connection is not None:
                self.connection.settimeout(self.socket_timeout)

    class BytesClient(Client):  # type: ignore[misc,unused-ignore]
        def set_servers(self, servers: Sequence[str]) -> None:
            super().set_servers(servers)
            for connection in self._servers:
                connection.__class__ = BytesConnection

    return BytesClient


class BmemcachedLink(Link):
    """python-binary-memcached, which returns False or None if a server is down; this link raises."""

    thread_bound = True

    def __init__(self, urls: Sequence[Any], options: Mapping[str, Any]) -> None:
        super().__init__(urls, options)
        from bmemcached.exceptions import MemcachedException

        self.errors = (OSError, MemcachedException)
        self._refusal = MemcachedException
        self._client = _bmemcached_client()(
            [with_port(url) for url in urls],
            username=options.get("username"),
            password=options.get("password"),
            tls_context=options.get("tls_context"),
            socket_timeout=options.get("socket_timeout", TIMEOUT),
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = only_bytes(self._client.get_multi(keys))
        if len(found) < len(keys):
            self._still_there()
        return found

    @property
    def guards(self) -> bool:
        """Return False for several servers: the library stores on each of them, and each counts changes by itself."""
        return len(list(self._client.servers)) == 1

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        value, seen = self._client.gets(key)
        if seen is None:
            self._still_there()
        return with_change(value, seen)

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        return self._stored(key, value, self._client.add, key, value, seconds)

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        return self._stored(key, value, self._client.cas, key, value, seen, seconds)

    def set(self, key: str, value: bytes, seconds: int) -> None:
        self._stored(key, value, self._client.set, key, value, seconds)

    def _stored(self, key: str, value: bytes, verb: Callable[..., Any], *args: Any) -> bool:
        try:
            answer = verb(*args)
        except self._refusal as error:
            if error.code == E2BIG:
                raise too_large(key, value) from None
            raise
        if not answer:
            self._still_there()
        return bool(answer)

    def set_many(self, mapping: Mapping[str, bytes], seconds: int) -> list[str]:
        refused = list(self._client.set_multi(mapping, seconds))
        if refused:
            self._still_there()
        return refused

    def delete_many(self, keys: Sequence[str]) -> None:
        for server in self._client.servers:
            server.delete_multi(keys)
        self._still_there()

    def _still_there(self) -> None:
        servers = list(self._client.servers)
        if all(server.connection is None for server in servers):
            raise ConnectionError(f"no memcached server answers: {', '.join(server.server for server in servers)}")

    def close(self) -> None:
        self._client.disconnect_all()
