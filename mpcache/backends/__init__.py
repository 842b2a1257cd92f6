"""The stores by name: one store a file.

Leans on exception; a store is imported when it is configured.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mpcache.exception import PluginNotFound


class PluginLoader:
    """From a name to a class: a table first, then the entry points of other packages.

    :param group: the entry-point group in which other packages announce theirs.
    :param more: further groups, looked through after it.
    """

    class NotFound(Exception):
        """Nothing goes by this name."""

    def __init__(self, group: str, *more: str) -> None:
        self.group = group
        self.impls: dict[str, Any] = {}
        self._groups = (group, *more)
        self._table: dict[str, Callable[[], Any]] = {}

    def register(self, name: str, modulepath: str, objname: str) -> None:
        """Name a class without importing it.  The last registration of a name wins."""
        self._table[name] = lambda: getattr(importlib.import_module(modulepath), objname)
        self.impls.pop(name, None)

    def load(self, name: str) -> Any:
        """The class that goes by a name.

        :raises PluginLoader.NotFound: there is none.
        """
        if name not in self.impls:
            self.impls[name] = self._table[name]() if name in self._table else self._from_entry_point(name)
        return self.impls[name]

    def names(self) -> list[str]:
        """The registered names, sorted; entry points are not among them."""
        return sorted(self._table)

    def _from_entry_point(self, name: str) -> Any:
        from importlib.metadata import entry_points  # takes milliseconds, and most programs never come here

        for group in self._groups:
            for entry in entry_points(group=group, name=name):
                return entry.load()
        known = ", ".join(self.names()) or "no names at all"
        raise self.NotFound(f"nothing goes by the name {name!r}; registered are {known}")


_THEIRS, _OURS = "dogpile.cache.", "mpcache."

# A store that was written for dogpile.cache announces itself in the second group.
_backend_loader = PluginLoader("mpcache.backends", "dogpile.cache")

for _name, _module, _class in [
    ("bmemcached", "memcached", "BMemcachedBackend"),
    ("dbm", "file", "DBMBackend"),
    ("memcached", "memcached", "MemcachedBackend"),
    ("memory", "memory", "MemoryBackend"),
    ("memory_pickle", "memory", "MemoryPickleBackend"),
    ("null", "null", "NullBackend"),
    ("pylibmc", "memcached", "PylibmcBackend"),
    ("pymemcache", "memcached", "PyMemcacheBackend"),
    ("shm", "shm", "ShmBackend"),
    ("redis", "redis", "RedisBackend"),
    ("redis_sentinel", "redis", "RedisSentinelBackend"),
    ("redis_cluster", "redis", "RedisClusterBackend"),
    ("valkey", "redis", "ValkeyBackend"),
    ("valkey_sentinel", "redis", "ValkeySentinelBackend"),
    ("valkey_cluster", "redis", "ValkeyClusterBackend"),
]:
    _backend_loader.register(_OURS + _name, f"mpcache.backends.{_module}", _class)


def register_backend(name: str, modulepath: str, objname: str) -> None:
    """Give a store a name for configure().

    Its module is imported at configure(); the last registration of a name wins, over the built-in ones too.
    """
    _backend_loader.register(name, modulepath, objname)


def names() -> list[str]:
    """The registered names, sorted."""
    return _backend_loader.names()


def load_backend(name: str) -> Any:
    """The class of the store that goes by a name; ``dogpile.cache.X`` is another spelling of ``mpcache.X``.

    :raises PluginNotFound: there is none.
    """
    try:
        return _backend_loader.load(name)
    except PluginLoader.NotFound as missing:
        if name.startswith(_THEIRS):
            return load_backend(_OURS + name[len(_THEIRS) :])
        raise PluginNotFound(f"Couldn't find cache plugin to load: {name} ({missing})") from None


def warn_of_unknown(backend: object, arguments: Mapping[str, Any], known: Iterable[str]) -> None:
    """Say which arguments a store does not know.

    They are no error: one configuration may serve many stores.
    """
    import difflib  # milliseconds of `import mpcache`, for those who never come here

    names = sorted(known)
    for unknown in sorted(set(arguments) - set(names)):
        near = difflib.get_close_matches(unknown, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(names)}"
        warnings.warn(f"{type(backend).__name__} ignores the argument {unknown!r}; {hint}", stacklevel=2)
