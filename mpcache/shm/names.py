"""Name keys as the engine can keep them: text that is not UTF-8 by its bytes, and keys that are too long by a digest.

Depends on the engine.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from mpcache.shm._engine import MAX_KEY

_HEAD = 100
"""Bytes of a long key that people can still read."""


def stored_name(key: Any) -> Any:
    """Return the key itself, or its name in a segment; the engine refuses what is not a key."""
    if not isinstance(key, (str, bytes)) or (len(key) <= MAX_KEY and key.isascii()):
        return key
    plain = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    if len(plain) > MAX_KEY:
        name = f"mpcache~{plain[:_HEAD].decode('utf-8', 'ignore')}~{blake2b(plain, digest_size=24).hexdigest()}"
        return name if isinstance(key, str) else name.encode()
    return key if isinstance(key, bytes) or _is_utf8(plain) else plain


def _is_utf8(plain: bytes) -> bool:
    try:
        plain.decode()
    except UnicodeDecodeError:
        return False
    return True
