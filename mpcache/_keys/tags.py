"""Write a part of an exact key: ``tag length : text``, so that a sequence of parts can be read in one way only.

Depends on nothing of mpcache.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any


def tagged(tag: str, text: str) -> str:
    """Return ``tag length : text``."""
    return f"{tag}{len(text)}:{text}"


def joined(tag: str, parts: Iterable[str]) -> str:
    """Return a part whose text is other parts."""
    return tagged(tag, "".join(parts))


def digest(data: Any) -> str:
    """Return 192 bits of BLAKE2b of bytes, in hexadecimal."""
    return blake2b(data, digest_size=24).hexdigest()
