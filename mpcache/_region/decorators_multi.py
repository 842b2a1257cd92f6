"""Decorate a function of many things, whose results are cached one by one: it is called for missing ones only.

Depends on decorated; the region is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, overload

from mpcache._keys.arguments import BOUND_NAMES, Call
from mpcache._region.decorated import UNCACHED, Bound, Decorated, Keys, Options, Recipe, Region
from mpcache._region.refresh import ManyRefresh
from mpcache._region.requests import current_function
from mpcache._region.values import by_key, in_order
from mpcache.api import NO_VALUE, NoValueType

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
V = TypeVar("V")


def decorator(region: Region, options: Options, key_generator: Any, asdict: bool) -> Callable[[Any], Any]:
    """Return the decorator of :meth:`.CacheRegion.cache_multi_on_arguments`."""
    kind: Any = CachedDictFunction if asdict else CachedManyFunction
    made: Callable[[Any], Any] = Recipe(region, options.checked(), key_generator, (kind, _no_async)).function()
    return made


def _no_async(recipe: Recipe, fn: Any, plain: Any, *more: Any) -> Any:
    raise TypeError(f"{plain.__qualname__} is async, which cache_multi_on_arguments cannot do; use cache_on_arguments")


_no_async.many = True  # type: ignore[attr-defined]


class _Call(NamedTuple):
    before: tuple[Any, ...]
    """The object, or the class, of a method; and the arguments that are left out of the keys."""
    things: tuple[Any, ...]
    keys: Any
    """A list of keys, one for each of the things; or UNCACHED."""
    kw: dict[str, Any]


class CachedManyFunction(Decorated, Generic[P, R, V]):
    """A decorated function of many things.

    ``load(*things)`` returns a list of their values.  The attributes take things as the call does, and a method
    is bound as for one value, see :class:`.CachedFunction`.
    """

    __slots__ = ()

    original: Callable[P, Any]
    """The undecorated function."""

    many = True

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        return self._called(self._call(args, kw))

    def _called(self, call: _Call) -> R:
        if call.keys is UNCACHED:
            made = self._fn(*call.before, *call.things, **call.kw)
            return made  # type: ignore[no-any-return]
        thing_of = dict(zip(call.keys, call.things, strict=True))

        def create(*missing: Any) -> Any:
            things = [thing_of[key] for key in missing]
            return self._in_order(self._fn(*call.before, *things, **call.kw), things)

        expires, token = self._lifetime(), current_function.set(self._counts)
        try:
            values = self._region.get_or_create_multi(call.keys, create, expires, self._should, **self._more)
        finally:
            current_function.reset(token)
        return self._result(call.things, values)  # type: ignore[no-any-return]

    def get(self, /, *args: P.args, **kw: P.kwargs) -> list[V | NoValueType]:
        """Return a list of the values that a call would return without creating any, NO_VALUE where there is none."""
        return self._get(self._call(args, kw))

    def set(self, mapping: Mapping[Any, V], /) -> None:
        """Store the values that calls are to return: a value for each thing."""
        self._set(mapping, self._call((None,) * self._placeholders, {}, mapping))

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """Delete the cached values of these things."""
        self._invalidate(self._call(args, kw))

    def key(self, /, *args: P.args, **kw: P.kwargs) -> list[str]:
        """Return the keys of a call, one for each thing.

        :raises TypeError: a thing has no key, since it cannot be part of a key.
        """
        args_, kw_ = self._given(args, kw)
        return list(self._keys_for(args_).of(args_, kw_))

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Call the function for all these things now, and store its results.

        As :meth:`.CachedFunction.refresh`: this call waits for things that another task creates, and refreshes them by
        a call of their own.

        :raises KeyError: the function returned a dict, and left a thing out.
        """
        return self._refresh(self._call(args, kw))

    def _get(self, call: _Call) -> list[V | NoValueType]:
        if call.keys is UNCACHED:
            return [NO_VALUE] * len(call.things)
        values: list[V | NoValueType] = self._region.get_multi(call.keys, self._lifetime())
        return values

    def _set(self, mapping: Mapping[Any, V], call: _Call) -> None:
        if call.keys is not UNCACHED:
            self._store_multi(dict(zip(call.keys, mapping.values(), strict=True)))

    def _invalidate(self, call: _Call) -> None:
        if call.keys is not UNCACHED:
            self._region.delete_multi(call.keys)

    def _refresh(self, call: _Call) -> R:
        if call.keys is UNCACHED:
            made = self._fn(*call.before, *call.things, **call.kw)
            return self._result(call.things, self._all_of(made, list(call.things)))  # type: ignore[no-any-return]
        thing_of = dict(zip(call.keys, call.things, strict=True))

        def create(*keys: Any) -> Any:
            things = [thing_of[key] for key in keys]
            return self._all_of(self._fn(*call.before, *things, **call.kw), things)

        binding = self._region.access.binding
        values = ManyRefresh(binding, call.keys, create, self._store_multi, self._counts).run()
        return self._result(call.things, values)  # type: ignore[no-any-return]

    @property
    def _placeholders(self) -> int:
        """Return how many arguments of a call are not things: a mapping of things contains none of them."""
        return max(_cut(self._free, self._arguments.first), _cut(self._bound, None) if self._owners else 0)

    def _call(self, args: tuple[Any, ...], kw: dict[str, Any], things: Iterable[Any] = ()) -> _Call:
        """Return the parts of the arguments of a call that is not bound."""
        given = self._given((*args, *things), kw)
        return self._read(self._keys_for(given[0]), given)

    def _bound_call(self, receiver: Any, args: Iterable[Any], kw: dict[str, Any]) -> _Call:
        """Return the parts of the arguments of a call that is bound to an object."""
        return self._read(self._bound, self._arguments.bind((receiver, *args), kw))

    def _read(self, reading: Keys, given: Call) -> _Call:
        (args, kw), keys = given, self._key_for(reading, given)
        cut = _cut(reading, self._arguments.first)
        things = args[cut:]
        if keys is not UNCACHED:
            keys = list(keys)[len(keys) - len(things) :]  # some generators make a key of the receiver, too
        return _Call(args[:cut], things, keys, kw)

    def _in_order(self, made: Any, things: list[Any]) -> Any:
        return in_order(made, self.__qualname__)

    def _all_of(self, made: Any, things: list[Any]) -> list[Any]:
        return list(self._in_order(made, things))

    def _result(self, things: tuple[Any, ...], values: list[Any]) -> Any:
        return values

    @overload
    def __get__(self: Callable[Concatenate[S, Q], R], obj: None, owner: type[S]) -> ManyMethodOfClass[S, Q, R]: ...

    @overload
    def __get__(  # type: ignore[misc]  # it is one
        self: Callable[Concatenate[type[S], Q], R], obj: None, owner: type[S]
    ) -> CachedManyMethod[Q, R, Any]: ...

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> CachedManyFunction[P, R, V]: ...

    @overload
    def __get__(  # type: ignore[misc]  # it is one
        self: Callable[Concatenate[type[S], Q], R], obj: S, owner: type[S] | None = None
    ) -> CachedManyMethod[Q, R, Any]: ...

    @overload
    def __get__(
        self: CachedManyFunction[Concatenate[S, Q], R, V], obj: S, owner: type | None = None
    ) -> CachedManyMethod[Q, R, V]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else CachedManyMethod(self, obj)


def _cut(reading: Keys, first: str | None) -> int:
    """Return how many of the first arguments are not things; a user's key generator does not give the number."""
    known: int = (first in BOUND_NAMES) if reading.cut is None else reading.cut
    return int(known)


class CachedDictFunction(CachedManyFunction[P, R, V]):
    """A decorated function that returns a dict: things not in it are not cached, nor in the result of a call."""

    __slots__ = ()

    def _in_order(self, made: Any, things: list[Any]) -> Any:
        found = by_key(made, self.__qualname__)
        return [found.get(thing, NO_VALUE) for thing in things]

    def _all_of(self, made: Any, things: list[Any]) -> list[Any]:
        found = by_key(made, self.__qualname__)
        return [found[thing] for thing in things]

    def _result(self, things: tuple[Any, ...], values: list[Any]) -> Any:
        return {thing: value for thing, value in zip(things, values, strict=True) if value is not NO_VALUE}


class CachedManyMethod(Bound, Generic[P, R, V]):
    """A decorated method of many things, bound to its object."""

    __slots__ = ()

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        result: R = self.__func__._called(self._call(args, kw))
        return result

    def get(self, /, *args: P.args, **kw: P.kwargs) -> list[V | NoValueType]:
        """Do what :meth:`CachedManyFunction.get` does."""
        values: list[V | NoValueType] = self.__func__._get(self._call(args, kw))
        return values

    def set(self, mapping: Mapping[Any, V], /) -> None:
        """Do what :meth:`CachedManyFunction.set` does."""
        before = (None,) * (self.__func__._placeholders - 1)
        self.__func__._set(mapping, self._call((*before, *mapping), {}))

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """Do what :meth:`CachedManyFunction.invalidate` does."""
        self.__func__._invalidate(self._call(args, kw))

    def key(self, /, *args: P.args, **kw: P.kwargs) -> list[str]:
        """Do what :meth:`CachedManyFunction.key` does."""
        given = self._arguments.bind((self.__self__, *args), kw)
        return list(self._bound.of(*given))

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Do what :meth:`CachedManyFunction.refresh` does."""
        result: R = self.__func__._refresh(self._call(args, kw))
        return result

    def _call(self, args: Iterable[Any], kw: dict[str, Any]) -> _Call:
        call: _Call = self.__func__._bound_call(self.__self__, args, kw)
        return call


if TYPE_CHECKING:

    class ManyMethodOfClass(CachedManyFunction[Concatenate[S, Q], R, Any], Generic[S, Q, R]):
        """A decorated method as attribute of its class: None may take the object's place."""

        def get(self, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> list[Any]: ...
        def invalidate(self, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> None: ...
        def key(self, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> list[str]: ...
