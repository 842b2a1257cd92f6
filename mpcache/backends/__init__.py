"""The stores by name: one store a file.

Depends on exception and hints; a store is imported when it is configured.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mpcache._support import hints
from mpcache._support.hints import did_you_mean
from mpcache.exception import PluginNotFound


class PluginLoader:
    """Finds the class of a name: in a table first, then in the entry points of other packages.

    :param group: the entry-point group in which other packages announce their classes.
    :param more: further groups, searched after it.
    """

    class NotFound(Exception):
        """No class has this name."""

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
        """Return the class of a name.

        :raises PluginLoader.NotFound: no class has it.
        """
        if name not in self.impls:
            self.impls[name] = self._table[name]() if name in self._table else self._from_entry_point(name)
        return self.impls[name]

    def names(self) -> list[str]:
        """Return the registered names, sorted, without those of entry points."""
        return sorted(self._table)

    def _from_entry_point(self, name: str) -> Any:
        from importlib.metadata import entry_points  # takes milliseconds, and most programs do not need it

        for group in self._groups:
            for entry in entry_points(group=group, name=name):
                return entry.load()
        known = ", ".join(self.names()) or "no names at all"
        raise self.NotFound(f"the name {name!r} is not registered; registered are {known}")


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
    """Return the registered names, sorted."""
    return _backend_loader.names()


def load_backend(name: str) -> Any:
    """Return the class of the store that has a name; ``dogpile.cache.X`` is another spelling of ``mpcache.X``.

    A name that was registered with dogpile.cache is found where that is loaded.

    :raises PluginNotFound: there is none.
    """
    for spelling in (name, _OURS + name[len(_THEIRS) :] if name.startswith(_THEIRS) else name):
        try:
            return _backend_loader.load(spelling)
        except PluginLoader.NotFound as error:
            missing = error
    theirs = getattr(sys.modules.get("dogpile.cache.backends"), "_backend_loader", None)
    if any(name in getattr(theirs, known, ()) for known in ("_unloaded", "impls")):
        return theirs.load(name)  # type: ignore[union-attr]  # nothing is in None
    raise PluginNotFound(f"Couldn't find cache plugin to load: {name} ({missing}{_meant(name)})") from None


def _meant(name: str) -> str:
    """Return what to say of a wrong name: a name without its prefix, or a similar one, is suggested."""
    short = {known.rpartition(".")[2]: known for known in names()}
    ours = _OURS + name[len(_THEIRS) :] if name.startswith(_THEIRS) else name
    return f"; did you mean {short[name]!r}?" if name in short else did_you_mean(ours, names())


def warn_of_unknown(backend: object, arguments: Mapping[str, Any], known: Iterable[str]) -> None:
    """Warn, once, of all arguments that a store does not know."""
    hints.warn_of_unknown(type(backend).__name__, arguments, known)
