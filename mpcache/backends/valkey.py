"""The valkey stores, under dogpile.cache's name for their module.

Depends on redis: server and driver differ only in their names.
"""

from __future__ import annotations

from mpcache.backends.redis import ValkeyBackend, ValkeyClusterBackend, ValkeySentinelBackend

__all__ = ["ValkeyBackend", "ValkeyClusterBackend", "ValkeySentinelBackend"]
