"""The mutexes by name: one primitive a file, all with one interface.

Depends on exception; a primitive is imported when its name is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from mpcache._support.hints import did_you_mean
from mpcache.exception import PluginNotFound

GROUP = "mpcache.mutexes"
"""The entry-point group that other packages add their mutexes to."""

_table: dict[str, tuple[str, str]] = {
    "file": ("mpcache.mutexes.file", "FileMutex"),
    "memcached": ("mpcache.mutexes.memcached", "MemcachedMutex"),
    "null": ("mpcache.mutexes.null", "NullMutex"),
    "redis": ("mpcache.mutexes.redis", "RedisMutex"),
    "semaphore": ("mpcache.mutexes.semaphore", "SemaphoreMutex"),
    "shm": ("mpcache.mutexes.shm", "ShmMutex"),
    "thread": ("mpcache.mutexes.thread", "ThreadMutex"),
    "valkey": ("mpcache.mutexes.redis", "ValkeyMutex"),
}


def register_mutex(name: str, modulepath: str, objname: str) -> None:
    """Give a mutex a name; the module is imported when the name is first used, and the last registration wins."""
    _table[name] = (modulepath, objname)


def names() -> list[str]:
    """Return the names that need no entry point, sorted."""
    return sorted(_table)


def resolve(mutex: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes a mutex of a key: ``factory(key, **mutex_arguments)``.

    :param mutex: a name (``"thread"``, ``"shm"``, ...), or a factory, which is returned as it is.
    :raises PluginNotFound: the name is not registered.
    """
    if callable(mutex):
        return mutex
    if mutex in _table:
        modulepath, objname = _table[mutex]
        factory: Callable[..., Any] = getattr(importlib.import_module(modulepath), objname)
        return factory
    return _from_entry_point(mutex)


def _from_entry_point(name: str) -> Callable[..., Any]:
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP):
        if entry.name == name:
            factory: Callable[..., Any] = entry.load()
            return factory
    known = ", ".join(names())
    meant = did_you_mean(name, names())
    raise PluginNotFound(f"no mutex is named {name!r}{meant}; there are {known} and the entry points of {GROUP!r}")


def __getattr__(name: str) -> Any:
    for modulepath, objname in _table.values():
        if objname == name:
            return getattr(importlib.import_module(modulepath), objname)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
