"""Names at redis servers: of a key's lock and fence, in a cluster on the node of the key; and of the server itself.

Depends on the names of all servers.
"""

from __future__ import annotations

import binascii
import functools
import itertools
from typing import Any

from mpcache._servers.names import key_bytes, namespaced

SLOTS = 16384
"""Hash slots of a cluster."""


def slot_of(key: bytes) -> int:
    """Return the hash slot of a key, by the cluster specification: of its tag, if it has one between braces."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    tag = key[start + 1 : end] if end > start + 1 else key
    return binascii.crc_hqx(tag, 0) % SLOTS


@functools.lru_cache(maxsize=1)
def tags() -> dict[int, bytes]:
    """Return for each slot a text that lies in it, in all processes the same: the first such number."""
    found: dict[int, bytes] = {}
    for number in itertools.count():  # to 150,000 or so, in some hundredths of a second
        found.setdefault(binascii.crc_hqx(b"%d" % number, 0) % SLOTS, b"%d" % number)
        if len(found) == SLOTS:
            break
    return found


def is_cluster(client: Any) -> bool:
    """Return whether a client speaks to a cluster."""
    return hasattr(client, "keyslot")


def names_of(key: str | bytes, prefix: str, namespace: str, clustered: bool) -> tuple[bytes, bytes]:
    """Return the names of a key's lock and of its fence."""
    full = namespaced(namespace, key)
    if not clustered:
        return prefix.encode() + full, b"mpcache:fence"
    tag = b"{" + tags()[slot_of(key_bytes(key))] + b"}"
    return prefix.encode() + tag + full, b"mpcache:fence" + tag


def place_of(client: Any) -> Any:
    """Return what is equal for two clients if they speak to the same database."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        return client
    how = pool.connection_kwargs
    if hasattr(pool, "service_name"):
        return (pool.service_name, how.get("db") or 0, client)
    return (how.get("path") or (how.get("host", "localhost"), how.get("port", 6379)), how.get("db") or 0)
