"""The locks that this process holds at redis servers: the mutexes note them, the stores look them up.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import os
from typing import Any, Protocol


class HeldLock(Protocol):
    """What a store needs of a lock: the token by which the server knows its holder."""

    token: bytes


_holds: dict[tuple[Any, bytes], HeldLock] = {}
os.register_at_fork(after_in_child=_holds.clear)  # a child holds nothing


def note(place: Any, name: bytes, lock: HeldLock) -> None:
    """Note that this process holds a lock.

    :param place: of the server, as ``place_of`` of the names says it.
    :param name: of the lock.
    """
    _holds[place, name] = lock


def forget(place: Any, name: bytes, lock: HeldLock) -> None:
    """Forget that it does; nothing, if another lock was noted since."""
    if _holds.get((place, name)) is lock:
        del _holds[place, name]


def held_here(place: Any, name: bytes) -> HeldLock | None:
    """Return the lock of this name that this process holds; None: it holds none."""
    return _holds.get((place, name))
