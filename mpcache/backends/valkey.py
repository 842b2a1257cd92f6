"""The valkey stores, by the name that dogpile.cache has for their module.

Leans on redis: server and driver differ in nothing but their names.
"""

from __future__ import annotations

from mpcache.backends.redis import ValkeyBackend, ValkeyClusterBackend, ValkeySentinelBackend

__all__ = ["ValkeyBackend", "ValkeyClusterBackend", "ValkeySentinelBackend"]
