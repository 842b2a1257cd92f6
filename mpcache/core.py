"""The names of dogpile.core, a former package, for programs that still import them.

Depends on lock and util.
"""

from __future__ import annotations

from mpcache import __version__
from mpcache.lock import Lock, NeedRegenerationException
from mpcache.util import nameregistry, readwrite_lock
from mpcache.util.nameregistry import NameRegistry
from mpcache.util.readwrite_lock import ReadWriteMutex

__all__ = [
    "Lock",
    "NameRegistry",
    "NeedRegenerationException",
    "ReadWriteMutex",
    "__version__",
    "nameregistry",
    "readwrite_lock",
]
