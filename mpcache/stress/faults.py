"""Known bugs, each of which a scenario must find: a stress test that finds no seeded bug proves nothing.

Leans on the mutexes and the region that it spoils.
"""

from __future__ import annotations


def seed(name: str) -> None:
    """Bring a bug into this process.  Raises KeyError: there is none of that name."""
    raise KeyError(name)
