"""Small things that are of use wherever a plugin is found, an option is read, or a value is computed once.

Leans on config and backends, which own some of them.
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
    """Return a list or tuple as it is, anything else as the one item of a list, None as the default."""
    if x is None:
        return default
    return x if isinstance(x, (list, tuple)) else [x]


class memoized_property:
    """A property that is computed once, and from then on lies in the object's ``__dict__``."""

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
    """What a :class:`KeyReentrantMutex` needs of the one that stands behind it."""

    @abc.abstractmethod
    def acquire(self, wait: bool = True) -> bool:
        """Take it; with ``wait=False`` return False at once if another has it."""

    @abc.abstractmethod
    def release(self) -> None:
        """Give it back."""


class KeyReentrantMutex:
    """Many keys on one mutex: the thread that holds one of them may take others.

    A forked child holds nothing, though its thread has the number of the one that forked.

    :param mutex: the one that stands behind all keys; it must be its holder's thread that releases it.
    :param keys: which keys each thread of each process holds; all that share the mutex share this, too.
    """

    def __init__(self, key: str, mutex: Mutex, keys: _Held) -> None:
        self.key = key
        self.mutex = mutex
        self.keys = keys

    @classmethod
    def factory(cls, mutex: Mutex) -> Callable[[str], KeyReentrantMutex]:
        """From a mutex to ``(key) -> KeyReentrantMutex``."""
        keys: _Held = {}
        return lambda key: cls(key, mutex, keys)

    def acquire(self, wait: bool = True) -> bool:
        """Take this key; the same key a second time meets the mutex itself."""
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
        """Give this key back, and with the last one the mutex."""
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
