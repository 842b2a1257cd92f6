"""Small helpers: find a plugin, read an option, compute a value once, share a mutex between keys.

Depends on config and backends, which define some of them.
"""

from __future__ import annotations

import abc
import os
import threading
from collections.abc import Callable, MutableMapping, MutableSet
from typing import Any, TypeAlias

from mpcache._region.config import coerce_string_conf
from mpcache.backends import PluginLoader

__all__ = ["KeyReentrantMutex", "Mutex", "PluginLoader", "coerce_string_conf", "memoized_property", "to_list"]

_Held: TypeAlias = MutableMapping[Any, MutableSet[str]]


def to_list(x: Any, default: Any = None) -> Any:
    """Return a list or tuple as it is, None as the default, and anything else as a list of one item."""
    if x is None:
        return default
    return x if isinstance(x, (list, tuple)) else [x]


class memoized_property:
    """A property that is computed once, and then stored in the object's ``__dict__``."""

    def __init__(self, fget: Callable[[Any], Any], doc: str | None = None) -> None:
        self.fget = fget
        self.__name__ = fget.__name__
        self.__doc__ = doc or fget.__doc__

    def __get__(self, obj: Any, cls: type | None) -> Any:
        if obj is None:
            return self
        value = obj.__dict__[self.__name__] = self.fget(obj)
        return value


class Mutex(abc.ABC):
    """The interface of the mutex that a :class:`KeyReentrantMutex` uses."""

    @abc.abstractmethod
    def acquire(self, wait: bool = True) -> bool:
        """Acquire the mutex; with ``wait=False`` return False at once if another task holds it."""

    @abc.abstractmethod
    def release(self) -> None:
        """Release the mutex."""


class KeyReentrantMutex:
    """A mutex of one key, of many keys on one mutex: the thread that holds one of the keys may acquire others.

    A forked child holds nothing, although its thread has the same identifier as the thread that forked.

    :param mutex: the mutex of all keys; the thread that acquired it must release it.
    :param keys: the keys that each thread of each process holds; all key mutexes on one mutex share this mapping.
    """

    def __init__(self, key: str, mutex: Mutex, keys: _Held) -> None:
        self.key = key
        self.mutex = mutex
        self.keys = keys

    @classmethod
    def factory(cls, mutex: Mutex) -> Callable[[str], KeyReentrantMutex]:
        """Return ``key -> KeyReentrantMutex`` for a mutex."""
        keys: _Held = {}
        return lambda key: cls(key, mutex, keys)

    def acquire(self, wait: bool = True) -> bool:
        """Acquire this key; to acquire the same key a second time is to acquire the mutex itself."""
        me = _me()
        held = self.keys.get(me)
        if held and self.key not in held:
            held.add(self.key)
            return True
        if not self.mutex.acquire(wait):
            return False
        self.keys.setdefault(me, set()).add(self.key)
        return True

    def release(self) -> None:
        """Release this key, and with the thread's last key the mutex."""
        me = _me()
        held = self.keys.get(me)
        assert held, "this thread didn't do the acquire"
        assert self.key in held, f"No acquire held for key {self.key!r}"
        held.remove(self.key)
        if not held:
            del self.keys[me]
            self.mutex.release()

    def locked(self) -> bool:
        """Return whether this thread holds this key."""
        return self.key in self.keys.get(_me(), ())


def _me() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()
