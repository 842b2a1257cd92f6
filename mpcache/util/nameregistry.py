"""One living object for each name.

Leans on nothing of mpcache.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any


class NameRegistry:
    """One object for each name, for as long as the program has a reference to it.

    :param creator: ``(identifier, *args, **kw) -> object``; what it makes must allow weak references.
    """

    def __init__(self, creator: Callable[..., Any]) -> None:
        self.creator = creator
        self._living: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self._busy = threading.RLock()

    def get(self, identifier: Any, *args: Any, **kw: Any) -> Any:
        """Return the living object of a name, or a new one."""
        with self._busy:
            found = self._living.get(identifier)
            if found is None:
                found = self._living[identifier] = self.creator(identifier, *args, **kw)
            return found
