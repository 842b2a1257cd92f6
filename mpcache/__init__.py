"""One cache for all your workers: dogpile.cache's regions, with the store and its locks in shared memory.

This module has the public names, and nothing else.
"""

from __future__ import annotations

from mpcache import util as util  # programs write mpcache.util.sha1_mangle_key below a bare import
from mpcache.api import NO_VALUE, BytesBackend, CacheBackend, CachedValue
from mpcache.factory import shared
from mpcache.lock import Lock, NeedRegenerationException
from mpcache.proxy import ProxyBackend
from mpcache.region import CacheRegion, make_region, register_backend

__version__ = "0.1.0"

__all__ = [
    "shared",
    "make_region",
    "CacheRegion",
    "NO_VALUE",
    "CachedValue",
    "Lock",
    "NeedRegenerationException",
    "CacheBackend",
    "BytesBackend",
    "ProxyBackend",
    "register_backend",
    "__version__",
]


def __dir__() -> list[str]:
    return sorted(__all__)
