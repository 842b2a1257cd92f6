"""The keys of users as the bytes that servers know, the same for each server and each library."""

from __future__ import annotations

from typing import Any


def key_bytes(key: Any) -> bytes:
    """Return a key as servers know it.  A number becomes its digits, as in the clients of those servers.

    :raises TypeError: it is neither text nor a number, and need not read the same in each process.
    """
    if isinstance(key, str):
        return key.encode("utf-8", "surrogatepass")
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key)
    if isinstance(key, (int, float)):
        return str(key).encode()
    raise TypeError(f"key {key!r} is of type {type(key).__name__}; a mutex at a server takes str, bytes or a number")


def namespaced(namespace: str, key: Any) -> bytes:
    """Return a key behind its namespace, which is written as a netstring, so that no other pair reads the same.

    Without a namespace it is the key alone, as in dogpile.cache.
    """
    space = namespace.encode("utf-8", "surrogatepass")
    return (b"%d:%b," % (len(space), space) if space else b"") + key_bytes(key)
