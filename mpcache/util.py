"""The helpers that users of dogpile.cache import by name.

Leans on keys and backends, which own some of them.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from mpcache.backends import PluginLoader
from mpcache.keys import (
    function_key_generator,
    function_multi_key_generator,
    kwarg_function_key_generator,
    length_conditional_mangler,
    repr_obj,
    sha1_mangle_key,
)

__all__ = [
    "KeyReentrantMutex",
    "LockError",
    "NameRegistry",
    "PluginLoader",
    "ReadWriteMutex",
    "coerce_string_conf",
    "function_key_generator",
    "function_multi_key_generator",
    "kwarg_function_key_generator",
    "length_conditional_mangler",
    "memoized_property",
    "repr_obj",
    "sha1_mangle_key",
    "to_list",
]

_INTEGER = re.compile(r"[-+]?\d+")
_DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False}


def coerce_string_conf(d: Mapping[str, Any]) -> dict[str, Any]:
    """What the strings of a configuration file stand for: integers, decimals, true, false and None.

    Whatever looks like a number becomes one, a password of digits too.
    """
    return {name: _coerced(value.strip()) if isinstance(value, str) else value for name, value in d.items()}


def _coerced(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if text == "None":
        return None
    return _WORDS.get(text.lower(), text)


def to_list(x: Any, default: Any = None) -> Any:
    """A list or tuple as it is, anything else as the one item of a list, None as the default."""
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


class NameRegistry:
    """One object for each name, for as long as somebody holds on to it.

    :param creator: ``(identifier, *args, **kw) -> object``; what it makes must allow weak references.
    """

    def __init__(self, creator: Callable[..., Any]) -> None:
        self.creator = creator
        self._living: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self._busy = threading.RLock()

    def get(self, identifier: Any, *args: Any, **kw: Any) -> Any:
        """The living object of a name, or a new one."""
        with self._busy:
            found = self._living.get(identifier)
            if found is None:
                found = self._living[identifier] = self.creator(identifier, *args, **kw)
            return found


class KeyReentrantMutex:
    """Many keys on one mutex: the thread that holds one of them may take others.

    :param mutex: the one that stands behind all keys; it must be its holder's thread that releases it.
    :param keys: which keys each thread holds.
    """

    def __init__(self, key: str, mutex: Any, keys: defaultdict[int, set[str]]) -> None:
        self.key = key
        self.mutex = mutex
        self.keys = keys

    @classmethod
    def factory(cls, mutex: Any) -> Callable[[str], KeyReentrantMutex]:
        """From a mutex to ``(key) -> KeyReentrantMutex``."""
        keys: defaultdict[int, set[str]] = defaultdict(set)
        return lambda key: cls(key, mutex, keys)

    def acquire(self, wait: bool = True) -> bool:
        """Take this key; the same key a second time meets the mutex itself."""
        me = threading.get_ident()
        held = self.keys.get(me)
        if held and self.key not in held:
            held.add(self.key)
            return True
        if not self.mutex.acquire(wait):
            return False
        self.keys[me].add(self.key)
        return True

    def release(self) -> None:
        """Give this key back, and with the last one the mutex."""
        me = threading.get_ident()
        held = self.keys.get(me)
        assert held, "this thread didn't do the acquire"
        assert self.key in held, f"No acquire held for key {self.key!r}"
        held.remove(self.key)
        if not held:
            del self.keys[me]
            self.mutex.release()

    def locked(self) -> bool:
        """Whether this thread holds this key."""
        return self.key in self.keys.get(threading.get_ident(), ())


class LockError(Exception):
    """A release of a :class:`ReadWriteMutex` by one who does not hold it."""


class ReadWriteMutex:
    """Many readers, or one writer.  Among threads; a writer who waits keeps new readers out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writer: int | None = None

    def acquire_read_lock(self, wait: bool = True) -> bool | None:
        """Read along.  Without waiting: whether one may; else None."""
        with self._changed:
            if not wait and self._writer is not None:
                return False
            self._changed.wait_for(lambda: self._writer is None)
            self._readers += 1
        return None if wait else True

    def release_read_lock(self) -> None:
        """Raises LockError when nobody reads."""
        with self._changed:
            if not self._readers:
                raise LockError("nobody holds the read lock; acquire it before releasing it")
            self._readers -= 1
            self._changed.notify_all()

    def acquire_write_lock(self, wait: bool = True) -> bool | None:
        """Write alone.  Without waiting: whether one may; else None."""
        with self._changed:
            if not wait and (self._readers or self._writer is not None):
                return False
            self._changed.wait_for(lambda: self._writer is None)
            self._writer = threading.get_ident()
            try:
                self._changed.wait_for(lambda: not self._readers)
            except BaseException:
                self._leave()
                raise
        return None if wait else True

    def release_write_lock(self) -> None:
        """Raises LockError when another thread writes, or none does."""
        with self._changed:
            if self._writer != threading.get_ident():
                raise LockError("this thread does not hold the write lock; its holder has to release it")
            self._leave()

    def _leave(self) -> None:
        self._writer = None
        self._changed.notify_all()
