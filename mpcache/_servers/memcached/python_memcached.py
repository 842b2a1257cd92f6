"""The link to memcached servers through python-memcached.

The library is imported when a link is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpcache._servers.memcached import (
    FOREIGN,
    TIMEOUT,
    ZLIB,
    Link,
    NotStored,
    address,
    not_stored,
    only_bytes,
    plain,
    too_large,
    with_change,
)

_REFUSALS = (b"NOT_STORED", b"EXISTS", b"NOT_FOUND")
"""The answers of a server that deliberately keeps what it has."""


class _Blind:
    """Stands in for an unpickler: what others have pickled is not read, since reading it would run it."""

    def __init__(self, file: Any) -> None:
        pass

    def load(self) -> None:
        return None


@functools.cache
def _host() -> Any:
    from memcache import _Host

    class TellingHost(_Host):  # type: ignore[misc,unused-ignore]
        """Keeps the server's answer: the library returns only whether it was the expected one."""

        said = b""

        def expect(self, text: bytes, raise_exception: bool = False) -> Any:
            self.said = super().expect(text, raise_exception)
            return self.said

    return TellingHost


def _inflated(value: bytes) -> bytes:
    found = plain(value, ZLIB)
    return b"" if found is FOREIGN else found


class MemcacheLink(Link):
    """python-memcached, which returns 0 or None if a server is down; this link raises."""

    thread_bound = True
    errors = (OSError, NotStored)

    def __init__(self, urls: Sequence[Any], options: Mapping[str, Any]) -> None:
        super().__init__(urls, options)
        import memcache

        self._compress = {"min_compress_len": options["min_compress_len"]} if "min_compress_len" in options else {}
        self._client = memcache.Client(
            [_for_memcache(url) for url in urls],
            dead_retry=options.get("dead_retry", 30),
            socket_timeout=options.get("socket_timeout", TIMEOUT),
            server_max_value_length=0,  # the server knows its limit; otherwise values over 1 MiB are dropped silently
            cache_cas=True,
            unpickler=_Blind,
            decompressor=_inflated,
        )
        for host in self._client.servers:
            host.__class__ = _host()

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = only_bytes(self._client.get_multi(keys))
        if len(found) < len(keys):
            self._still_there()
        return found

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        value = self._client.gets(key)
        seen = self._client.cas_ids.get(key.encode())
        self._client.reset_cas()
        if seen is None:
            self._still_there()
        return with_change(value, seen)

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        return self._stored(key, value, self._client.add, seconds)

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        self._client.cas_ids = {key.encode(): seen}
        try:
            return self._stored(key, value, self._client.cas, seconds)
        finally:
            self._client.reset_cas()

    def set(self, key: str, value: bytes, seconds: int) -> None:
        self._stored(key, value, self._client.set, seconds)

    def set_many(self, mapping: Mapping[str, bytes], seconds: int) -> list[str]:
        refused = list(self._client.set_multi(mapping, seconds, **self._compress))
        if refused:
            self._still_there()
        return refused

    def delete_many(self, keys: Sequence[str]) -> None:
        self._client.delete_multi(keys)
        self._still_there()

    def _stored(self, key: str, value: bytes, verb: Callable[..., Any], seconds: int) -> bool:
        for host in self._client.servers:
            host.said = b""
        if verb(key, value, seconds, **self._compress):
            return True
        self._still_there()
        said = b"".join(host.said for host in self._client.servers)
        if said in _REFUSALS:
            return False
        raise too_large(key, value) if b"too large" in said else not_stored(key, value)

    def _still_there(self) -> None:
        dead = [host for host in self._client.servers if host.deaduntil]
        if len(dead) == len(self._client.servers):
            raise ConnectionError(f"no memcached server answers: {', '.join(map(str, dead))}")

    def close(self) -> None:
        self._client.disconnect_all()


def _for_memcache(url: Any) -> Any:
    where = address(url) if isinstance(url, str) else None
    if isinstance(where, str):
        return f"unix:{where}"
    return url if where is None else f"inet6:[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"
