"""Keep one object for each name, while the program uses it.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any


class NameRegistry:
    """A registry of one object for each name, for as long as the program has a reference to it.

    :param creator: ``(identifier, *args, **kw) -> object``; the object must allow weak references.
    """

    def __init__(self, creator: Callable[..., Any]) -> None:
        self.creator = creator
        self._living: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self._busy = threading.RLock()

    def get(self, identifier: Any, *args: Any, **kw: Any) -> Any:
        """Return the existing object of a name, or a new one."""
        with self._busy:
            found = self._living.get(identifier)
            if found is None:
                found = self._living[identifier] = self.creator(identifier, *args, **kw)
            return found
