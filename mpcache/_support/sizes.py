"""Sizes as people write them: ``"64MB"``.

Depends on nothing.
"""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(size: int | str) -> int:
    """Return the bytes of a size, given as a number or a text such as ``"64MB"``; k, M, G and T are powers of 1024.

    :raises ValueError: the size is neither.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise ValueError(f"size {size!r} is neither a number of bytes nor a text such as '64MB'")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def mebibytes(size: int) -> str:
    """Return a number of bytes as a text for people, such as ``"64 MiB"`` or ``"1.5 MiB"``."""
    return f"{size / 1024**2:.6f}".rstrip("0").rstrip(".") + " MiB"
