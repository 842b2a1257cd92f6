"""The link to memcached servers through pymemcache.

The library is imported when a link is made.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from mpcache._servers.memcached import TIMEOUT, Link, address, only_bytes, plain, too_large, with_change
from mpcache._support import durations


class _Bytes:
    """The serde that leaves bytes as they are."""

    def serialize(self, key: Any, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, key: Any, value: bytes, flags: int) -> Any:
        return plain(value, flags)


_REFUSED: Any = object()


@functools.cache
def _hash_client() -> Any:
    from pymemcache.client.hash import HashClient
    from pymemcache.exceptions import MemcacheError

    class TellingHashClient(HashClient):  # type: ignore[misc,unused-ignore]
        """A client that raises when it does not ask a server because the server has just failed."""

        def _safely_run_func(self, client: Any, func: Any, default_val: Any, *args: Any, **kwargs: Any) -> Any:
            answer = super()._safely_run_func(client, func, _REFUSED, *args, **kwargs)
            if answer is _REFUSED:
                raise MemcacheError(f"{client.server} failed less than {durations.plain(self.retry_timeout)} s ago")
            return answer

    return TellingHashClient


class PymemcacheLink(Link):
    """pymemcache: a HashClient over the servers."""

    def __init__(self, urls: Sequence[Any], options: Mapping[str, Any]) -> None:
        super().__init__(urls, options)
        from pymemcache.client.retrying import RetryingClient
        from pymemcache.exceptions import MemcacheError, MemcacheServerError

        self.errors = (OSError, MemcacheError)
        self._server_error = MemcacheServerError
        timeout = options.get("socket_timeout", TIMEOUT)
        names = {"retry_attempts": 2, "retry_timeout": 1, "dead_timeout": 60}
        tuning = {name: options.get(f"hashclient_{name}", default) for name, default in names.items()}
        self._hash = self._client = _hash_client()(
            [address(url) or url if isinstance(url, str) else url for url in urls],
            serde=options.get("serde") or _Bytes(),
            default_noreply=bool(options.get("default_noreply", False)),
            allow_unicode_keys=True,
            connect_timeout=timeout,
            timeout=timeout,
            no_delay=True,
            tls_context=options.get("tls_context"),
            socket_keepalive=options.get("socket_keepalive"),
            **tuning,
        )
        if options.get("enable_retry_client"):
            rules = {name: options.get(name) for name in ("retry_delay", "retry_for", "do_not_retry_for")}
            rules["retry_delay"] = rules["retry_delay"] or 0
            self._client = RetryingClient(self._hash, attempts=options.get("retry_attempts") or 2, **rules)

    def get(self, key: str) -> bytes | None:
        found = self._client.get(key)
        return found if isinstance(found, bytes) else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        return only_bytes(self._client.get_many(keys))

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        return with_change(*self._client.gets(key))

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        return bool(self._stored(self._client.add, key, value, seconds, noreply=False))

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        return bool(self._stored(self._client.cas, key, value, seen, seconds, noreply=False))

    def set(self, key: str, value: bytes, seconds: int) -> None:
        self._stored(self._client.set, key, value, seconds)

    def _stored(self, store: Any, key: str, value: bytes, *args: Any, **kw: Any) -> Any:
        try:
            return store(key, value, *args, **kw)
        except self._server_error as error:
            if _says_too_large(error):
                raise too_large(key, value) from None
            raise

    def set_many(self, mapping: Mapping[str, bytes], seconds: int) -> list[str]:
        try:
            return list(self._client.set_many(dict(mapping), seconds))
        except self._server_error as error:
            if _says_too_large(error):  # of one of them; the answers for the rest were not read
                return list(mapping)
            raise

    def delete_many(self, keys: Sequence[str]) -> None:
        groups: dict[Any, list[str]] = {}
        for key in keys:  # HashClient.delete_many makes a round trip for each key
            groups.setdefault(self._hash.hasher.get_node(key), []).append(key)
        for node, group in groups.items():
            if node in self._hash.clients:
                self._hash.clients[node].delete_many(group)
            else:
                self._client.delete_many(group)  # no server is left, or one comes back: HashClient handles both

    def close(self) -> None:
        for client in self._hash.clients.values():
            client.close()


def _says_too_large(error: Exception) -> bool:
    return b"too large" in b" ".join(arg for arg in error.args if isinstance(arg, bytes))
