"""The stored values: bytes of four sizes, and a typical object.

Depends on nothing.
"""

from __future__ import annotations

import datetime
from typing import Any

KIB = bytes(range(256)) * 4

OBJECT: dict[str, Any] = {
    "id": 8_423_117,
    "name": "Ada Augusta King-Noel",
    "email": "ada.king-noel@example.org",
    "born": datetime.date(1815, 12, 10),
    "joined": datetime.datetime(2021, 3, 4, 15, 9, 26, tzinfo=datetime.timezone.utc),
    "height": 1.63,
    "active": True,
    "manager": None,
    "roles": ["reader", "author", "editor"],
    "limits": {"requests": 5000, "bytes": 1 << 30, "burst": 40},
    "address": "12 St James's Square, London SW1Y 4JH, United Kingdom",
    "language": "en-GB",
    "time_zone": "Europe/London",
    "balance": 10_234.5,
    "tags": ("mathematics", "engines", "poetry"),
    "logins": list(range(1_700_000_000, 1_700_000_024)),
    "avatar": "https://static.example.org/avatars/8423117-320.png",
    "token": "3f2a9c5e71d84b06a2c9e8f1b7d35640",
    "about": "Writes notes that are three times as long as what they explain, and finds more in them. " * 2,
    "version": 17,
}
"""A dict of 20 fields; about 1 KiB when pickled."""

VALUES: dict[str, Any] = {
    "100B": KIB[:100],
    "1KiB": KIB,
    "object": OBJECT,
    "10KiB": KIB * 10,
    "1MiB": KIB * 1024,
}
