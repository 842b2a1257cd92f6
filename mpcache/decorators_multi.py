"""A function of many things, whose results are kept one by one: it is called for the missing ones only.

Leans on decorators; the region is handed in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, overload

from mpcache.api import NO_VALUE, NoValueType
from mpcache.decorators import Arguments, Bound, Decorated, Options, plain_and_given
from mpcache.refresh import ManyRefresh
from mpcache.values import by_key, in_order

if TYPE_CHECKING:
    from mpcache.region import CacheRegion

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
V = TypeVar("V")


def decorator(
    region: CacheRegion, options: Options, key_generator: Callable[..., Callable[..., Any]], asdict: bool
) -> Callable[[Any], Any]:
    """What :meth:`.CacheRegion.cache_multi_on_arguments` returns."""
    options = options.checked("cache_multi_on_arguments")

    def decorate(fn: Any) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            return type(fn)(decorate(fn.__func__))
        plain, given = plain_and_given(fn)
        if inspect.iscoroutinefunction(plain):
            raise TypeError(f"{plain.__qualname__} is async, which cache_on_arguments can do and this one cannot")
        key = key_generator(options.namespace, plain, to_str=options.to_str)
        arguments, should = Arguments(plain, *given), options.should_cache_fn
        kind: Any = CachedDictFunction if asdict else CachedManyFunction
        return kind(region, fn, plain, arguments, key, options.expiration_time, should)

    return decorate


class _Call(NamedTuple):
    receiver: tuple[Any, ...]
    """The object, or the class, of a method."""
    things: tuple[Any, ...]
    keys: list[Any]
    """One for each of the things."""
    kw: dict[str, Any]


class CachedManyFunction(Decorated, Generic[P, R, V]):
    """A decorated function of many things.

    ``load(*things)`` returns a list of their values.  The attributes take things as the call does, and a method
    is bound as for one value, see :class:`.CachedFunction`.
    """

    __slots__ = ()

    original: Callable[P, Any]
    """The function as it was before."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._arguments.receivers = 1  # it stands in a class, whatever its first argument is called

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        call = self._read(args, kw)
        thing_of = dict(zip(call.keys, call.things, strict=True))

        def create(*missing: Any) -> Any:
            things = [thing_of[key] for key in missing]
            return self._in_order(self._fn(*call.receiver, *things, **call.kw), things)

        values = self._region.get_or_create_multi(call.keys, create, self._lifetime(), self._should)
        return self._result(call.things, values)  # type: ignore[no-any-return]

    def get(self, /, *args: P.args, **kw: P.kwargs) -> list[V | NoValueType]:
        """What a call would return without creating any: a list, with NO_VALUE where there is none."""
        return self._region.get_multi(self._read(args, kw).keys, self._lifetime())

    def set(self, mapping: Mapping[Any, V], /) -> None:
        """Store what calls shall return: a value for each thing."""
        self._set((None,) * self._arguments.receivers, mapping)

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """Forget what calls have returned for these things."""
        self._region.delete_multi(self._read(args, kw).keys)

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Call the function for all these things now, and store what it returns.

        As :meth:`.CachedFunction.refresh`: things that another creates are waited for, and refreshed by a call of their
        own.

        :raises KeyError: it returns a dict, and has left one of them out.
        """
        call = self._read(args, kw)
        thing_of = dict(zip(call.keys, call.things, strict=True))

        def create(*keys: Any) -> Any:
            things = [thing_of[key] for key in keys]
            return self._all_of(self._fn(*call.receiver, *things, **call.kw), things)

        return self._result(call.things, ManyRefresh(self._region, call.keys, create).run())  # type: ignore[no-any-return]

    def _set(self, receiver: tuple[Any, ...], mapping: Mapping[Any, V]) -> None:
        call = self._read((*receiver, *mapping), {})
        self._region.set_multi(dict(zip(call.keys, mapping.values(), strict=True)))

    def _read(self, args: tuple[Any, ...], kw: dict[str, Any]) -> _Call:
        args, kw = self._arguments.bind(args, kw)
        cut = self._arguments.receivers
        things, keys = args[cut:], list(self._key(*args, **kw))
        return _Call(args[:cut], things, keys[len(keys) - len(things) :], kw)  # some make a key of the receiver, too

    def _in_order(self, made: Any, things: list[Any]) -> Any:
        return in_order(made, self.__qualname__)

    def _all_of(self, made: Any, things: list[Any]) -> list[Any]:
        return list(self._in_order(made, things))

    def _result(self, things: tuple[Any, ...], values: list[Any]) -> Any:
        return values

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> CachedManyFunction[P, R, V]: ...

    @overload
    def __get__(
        self: CachedManyFunction[Concatenate[S, Q], R, V], obj: S, owner: type | None = None
    ) -> CachedManyMethod[Q, R, V]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else CachedManyMethod(self, obj)


class CachedDictFunction(CachedManyFunction[P, R, V]):
    """One that returns a dict: what is not in it is not cached, and not in the result of a call either."""

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
        result: R = self.__func__(self.__self__, *args, **kw)
        return result

    def get(self, /, *args: P.args, **kw: P.kwargs) -> list[V | NoValueType]:
        """As :meth:`CachedManyFunction.get`."""
        values: list[V | NoValueType] = self.__func__.get(self.__self__, *args, **kw)
        return values

    def set(self, mapping: Mapping[Any, V], /) -> None:
        """As :meth:`CachedManyFunction.set`."""
        self.__func__._set((self.__self__,), mapping)

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """As :meth:`CachedManyFunction.invalidate`."""
        self.__func__.invalidate(self.__self__, *args, **kw)

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """As :meth:`CachedManyFunction.refresh`."""
        result: R = self.__func__.refresh(self.__self__, *args, **kw)
        return result
