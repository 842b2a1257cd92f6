"""The short cut: of a store that has one, gets and sets in one call each, where nothing stands in between.

Leans on invalidation.  The region's methods try it first; whatever it declines goes the long way, which is the
reference, and which every other store goes always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpcache.invalidation import SharedInvalidation

Try = Callable[[Any, Any, Any], Any]
"""Returns the answer, or NotImplemented: ask by the long way."""


class _Heeded:
    """An attribute of a region that the short cut was made with: another value makes another one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, region: Any, owner: type) -> Any:
        return self if region is None else region.__dict__[self._name]

    def __set__(self, region: Any, value: Any) -> None:
        region.__dict__[self._name] = value
        region._find_shortcut()


class ShortCut:
    """What a region has of it.

    The three are slots, which are read a little faster than what lies in a dict: at 70 ns for a hit, that counts.
    """

    __slots__ = ("__dict__", "__weakref__", "_peek", "_peek_multi", "_poke", "_poke_multi", "_recall")

    _peek: Try | None
    """(key, lifetime, ignore_expiration): the value, or NO_VALUE."""
    _peek_multi: Try | None
    """(list of keys, lifetime, ignore_expiration): a list of them."""
    _poke: Try | None
    """(key, value, ttl): True."""
    _poke_multi: Callable[[Any, Any], Any] | None
    """(dict, ttl): True."""
    _recall: Callable[[Any, Any, tuple[Any, ...], Any], Any] | None
    """(start, form of the key, arguments, lifetime): the value of a decorated function's call, or NO_VALUE."""

    expiration_time: Any = _Heeded()
    key_mangler: Any = _Heeded()

    _storage: Any

    get_or_create: Any
    _genuine: Any
    """The get_or_create of CacheRegion: of a subclass with one of its own, decorated functions call that."""

    def _find_shortcut(self) -> None:
        self._peek = self._peek_multi = self._poke = self._poke_multi = self._recall = None
        store, judge = self.__dict__.get("backend"), self.__dict__.get("_invalidator")
        offer = getattr(store, "shortcut", None)
        if offer and isinstance(judge, SharedInvalidation) and judge.counts_in(store):
            kinds = self._storage.serializer, self._storage.deserializer
            short = offer(*kinds, self.key_mangler, self.expiration_time)
            if short is not None:
                self._peek, self._peek_multi = short.peek, short.peek_multi
                self._poke, self._poke_multi = short.poke, short.poke_multi
                self._recall = short.recall if type(self).get_or_create is type(self)._genuine else None
