"""Decorate a function, so that its results are cached by its arguments.

Depends on decorated and refresh; the region is handed in.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from mpcache._keys.arguments import Call
from mpcache._region.decorated import UNCACHED, Bound, Decorated, Keys, Options, Recipe, Region
from mpcache._region.refresh import refresh
from mpcache._region.requests import current_function
from mpcache.api import NO_VALUE, NoValueType

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class _Whatever:
    """A class that no function declares as its result: a function that matches is generic, or declares nothing."""


G = TypeVar("G", bound=Callable[..., _Whatever | Iterable[_Whatever] | Coroutine[Any, Any, _Whatever]])


class Decorator(Protocol):
    """The type of what :meth:`.CacheRegion.cache_on_arguments` returns."""

    @overload
    def __call__(self, fn: G, /) -> CachedGenericFunction[G]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an async function comes before a function
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> AsyncCachedFunction[P, T]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> CachedFunction[P, R]: ...


def decorator(region: Region, options: Options, key_generator: Any) -> Decorator:
    """Return the decorator of :meth:`.CacheRegion.cache_on_arguments`."""
    kinds = CachedFunction, AsyncCachedFunction
    made: Decorator = Recipe(region, options.checked(), key_generator, kinds).function()
    return made


class Cached(Decorated, Generic[P, R]):
    """A decorated function of one value.

    Its methods take the arguments of the call in question, in any form that the call may have.  For a
    method, ``obj.method.get(1)`` is bound like ``obj.method(1)``; ``Class.method.get(None, 1)`` works, too.
    A call whose arguments have no key is not cached: ``get`` finds nothing, ``set`` and ``invalidate`` do nothing.
    """

    __slots__ = ()

    def get(self, /, *args: P.args, **kw: P.kwargs) -> R | NoValueType:
        """Return the value that a call would return without creating it; NO_VALUE if there is none."""
        given = self._given(args, kw)
        return self._get(self._keys_for(given[0]), given)

    def set(self, value: R, /, *args: P.args, **kw: P.kwargs) -> None:
        """Store the value that a call is to return."""
        given = self._given(args, kw)
        self._set(self._keys_for(given[0]), value, given)

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """Delete the cached value of a call."""
        given = self._given(args, kw)
        self._invalidate(self._keys_for(given[0]), given)

    def key(self, /, *args: P.args, **kw: P.kwargs) -> str:
        """Return the key of a call.

        :raises TypeError: the call has no key, since an argument cannot be part of a key.
        """
        given = self._given(args, kw)
        key: str = self._keys_for(given[0]).of(*given)
        return key

    def _get(self, keys: Keys, given: Call) -> R | NoValueType:
        key = self._key_for(keys, given)
        value: R | NoValueType = NO_VALUE if key is UNCACHED else self._region.get(key, self._lifetime())
        return value

    def _set(self, keys: Keys, value: R, given: Call) -> None:
        key = self._key_for(keys, given)
        if key is not UNCACHED:
            self._store(key, value)

    def _invalidate(self, keys: Keys, given: Call) -> None:
        key = self._key_for(keys, given)
        if key is not UNCACHED:
            self._region.delete(key)


class CachedFunction(Cached[P, R], Generic[P, R]):
    """A decorated function."""

    __slots__ = ()

    original: Callable[P, R]
    """The undecorated function."""

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        region, expires = self._region, self._expires
        if expires is not None:
            expires = self._lifetime()
        missing = None if kw else self._arguments.missing.get(len(args))
        given: Call = self._arguments.bind(args, kw) if missing is None else (args + missing, kw)
        value: Any
        fast_call = region.access.call
        if fast_call is not None and self._fast is not None and not given[1]:
            value = fast_call(self._start, self._fast, given[0], expires, self._counts)
            if value is not NotImplemented and value is not NO_VALUE:
                return value  # type: ignore[no-any-return]
        return self._created(self._keys_for(given[0]), self._fn, given, expires)

    def _as_method(self, /, *args: Any, **kw: Any) -> R:
        """Call the function as a method: the first argument is its object."""
        region, keys, expires = self._region, self._bound, self._lifetime()
        given = self._arguments.bind(args, kw)
        fast_call = region.access.call
        if fast_call is not None and keys.fast is not None and not given[1]:
            value = fast_call(keys.start, keys.fast, given[0], expires, self._counts)
            if value is not NotImplemented and value is not NO_VALUE:
                return value  # type: ignore[no-any-return]
        return self._created(keys, getattr(self._fn, "_as_method", self._fn), given, expires)

    def _created(self, keys: Keys, creator: Callable[..., R], given: Call, expires: Any) -> R:
        key = self._key_for(keys, given)
        if key is UNCACHED:
            return creator(*given[0], **given[1])
        token = current_function.set(self._counts)
        try:
            value: R = self._region.get_or_create(key, creator, expires, self._should, given, **self._more)
            if self._region.access.try_get is not None:
                self._count_untaken()
        finally:
            current_function.reset(token)
        return value

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Call the function now, and store its result, even if should_cache_fn would refuse it.

        This call waits for a running creation; other tasks wait for this one.  If the key is set, deleted or
        invalidated meanwhile, the value is returned and not stored.

        :raises LockTimeout: the running creation did not finish within ``creation_wait``.
        """
        given = self._given(args, kw)
        return self._refresh(self._keys_for(given[0]), given)

    def _refresh(self, keys: Keys, given: Call) -> R:
        key = self._key_for(keys, given)
        if key is UNCACHED:
            return self._fn(*given[0], **given[1])  # type: ignore[no-any-return]
        create = functools.partial(self._fn, *given[0], **given[1])
        value: R = refresh(self._region.access.binding, key, create, self._store, self._counts)
        return value

    @overload
    def __get__(self: Callable[Concatenate[S, Q], R], obj: None, owner: type[S]) -> MethodOfClass[S, Q, R]: ...

    @overload
    def __get__(  # type: ignore[misc]  # it is one
        self: Callable[Concatenate[type[S], Q], R], obj: None, owner: type[S]
    ) -> CachedMethod[Q, R]: ...

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> CachedFunction[P, R]: ...

    @overload
    def __get__(  # type: ignore[misc]  # it is one
        self: Callable[Concatenate[type[S], Q], R], obj: S, owner: type[S] | None = None
    ) -> CachedMethod[Q, R]: ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], R], obj: S, owner: type | None = None
    ) -> CachedMethod[Q, R]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else CachedMethod(self, obj)


class BoundToObject(Bound, Generic[P, R]):
    """A decorated method of one value, bound to its object."""

    __slots__ = ()

    def get(self, /, *args: P.args, **kw: P.kwargs) -> R | NoValueType:
        """Do what :meth:`Cached.get` does."""
        value: R | NoValueType = self.__func__._get(self._bound, self._received(args, kw))
        return value

    def set(self, value: R, /, *args: P.args, **kw: P.kwargs) -> None:
        """Do what :meth:`Cached.set` does."""
        self.__func__._set(self._bound, value, self._received(args, kw))

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """Do what :meth:`Cached.invalidate` does."""
        self.__func__._invalidate(self._bound, self._received(args, kw))

    def key(self, /, *args: P.args, **kw: P.kwargs) -> str:
        """Do what :meth:`Cached.key` does."""
        key: str = self._bound.of(*self._received(args, kw))
        return key

    def _received(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        """Return the arguments, the object first.

        Programs for dogpile.cache, which drops the first argument here, pass a placeholder for the object.
        """
        bind, bound, without = self._arguments, (self.__self__, *args), (self.__self__, *args[1:])
        readings = (without, bound) if args and (args[0] is None or args[0] is self.__self__) else (bound, without)
        fitting = (reading for reading in readings[: 1 + bool(args)] if bind.fit(reading, kw))
        given: Call = bind.bind(next(fitting, bound), kw)
        return given


class CachedMethod(BoundToObject[P, R], Generic[P, R]):
    """A decorated method, bound to its object."""

    __slots__ = ()

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        value: R = self.__func__._as_method(self.__self__, *args, **kw)
        return value

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Do what :meth:`CachedFunction.refresh` does."""
        value: R = self.__func__._refresh(self._bound, self._received(args, kw))
        return value


class AsyncCachedFunction(Cached[P, T], Generic[P, T]):
    """A decorated ``async def``.  ``get``, ``set`` and ``invalidate`` are not awaited; ``refresh`` is."""

    original: Callable[P, Coroutine[Any, Any, T]]
    """The undecorated function."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        mark = getattr(inspect, "markcoroutinefunction", None)  # since Python 3.12
        if mark is not None and not inspect.iscoroutinefunction(self):
            mark(self)

    @property
    def _is_coroutine(self) -> Any:
        """Return the marker by which asyncio and asgiref recognise coroutine functions."""
        return getattr(sys.modules.get("asyncio.coroutines"), "_is_coroutine", None)

    async def __call__(self, /, *args: P.args, **kw: P.kwargs) -> T:
        given = self._arguments.bind(args, kw)
        return await self._created(self._keys_for(given[0]), self._fn, given)

    async def _as_method(self, /, *args: Any, **kw: Any) -> T:
        """Call the function as a method: the first argument is its object."""
        given = self._arguments.bind(args, kw)
        return await self._created(self._bound, getattr(self._fn, "_as_method", self._fn), given)

    async def _created(self, keys: Keys, creator: Any, given: Call) -> T:
        key = self._key_for(keys, given)
        if key is UNCACHED:
            return await creator(*given[0], **given[1])  # type: ignore[no-any-return]
        expires, token = self._lifetime(), current_function.set(self._counts)
        value: T
        try:
            value = await self._region.aget_or_create(key, creator, expires, self._should, given, **self._more)
        finally:
            current_function.reset(token)
        return value

    async def refresh(self, /, *args: P.args, **kw: P.kwargs) -> T:
        """Do what :meth:`CachedFunction.refresh` does, without blocking the loop."""
        given = self._given(args, kw)
        return await self._refresh(self._keys_for(given[0]), given)

    async def _refresh(self, keys: Keys, given: Call) -> T:
        from mpcache._region.creation_async import refresh  # imports asyncio

        key = self._key_for(keys, given)
        create = functools.partial(self._fn, *given[0], **given[1])
        if key is UNCACHED:
            return await create()  # type: ignore[no-any-return]
        value: T = await refresh(self._region.access.binding, key, create, self._store, self._counts)
        return value

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], Coroutine[Any, Any, T]], obj: None, owner: type[S]
    ) -> AsyncMethodOfClass[S, Q, T]: ...

    @overload
    def __get__(  # type: ignore[misc]  # it is one
        self: Callable[Concatenate[type[S], Q], Coroutine[Any, Any, T]], obj: None, owner: type[S]
    ) -> AsyncCachedMethod[Q, T]: ...

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> AsyncCachedFunction[P, T]: ...

    @overload
    def __get__(  # type: ignore[misc]  # it is one
        self: Callable[Concatenate[type[S], Q], Coroutine[Any, Any, T]], obj: S, owner: type[S] | None = None
    ) -> AsyncCachedMethod[Q, T]: ...

    @overload
    def __get__(
        self: AsyncCachedFunction[Concatenate[S, Q], T], obj: S, owner: type | None = None
    ) -> AsyncCachedMethod[Q, T]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else AsyncCachedMethod(self, obj)


class AsyncCachedMethod(BoundToObject[P, T], Generic[P, T]):
    """A decorated ``async`` method, bound to its object."""

    async def __call__(self, /, *args: P.args, **kw: P.kwargs) -> T:
        value: T = await self.__func__._as_method(self.__self__, *args, **kw)
        return value

    async def refresh(self, /, *args: P.args, **kw: P.kwargs) -> T:
        """Do what :meth:`AsyncCachedFunction.refresh` does."""
        value: T = await self.__func__._refresh(self._bound, self._received(args, kw))
        return value


# -- for type checkers ----------------------------------------------------------------------------------------------

if TYPE_CHECKING:

    class _Unbound(Cached[Concatenate[S, Q], R], Generic[S, Q, R]):
        """A decorated method as attribute of its class: None may take the object's place."""

        def get(self, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> R | NoValueType: ...
        def set(self, value: R, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> None: ...
        def invalidate(self, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> None: ...
        def key(self, obj: S | None, /, *args: Q.args, **kw: Q.kwargs) -> str: ...

    class MethodOfClass(_Unbound[S, Q, R], CachedFunction[Concatenate[S, Q], R], Generic[S, Q, R]):
        """A decorated method, read from its class."""

    class AsyncMethodOfClass(_Unbound[S, Q, R], AsyncCachedFunction[Concatenate[S, Q], R], Generic[S, Q, R]):
        """A decorated ``async`` method, read from its class."""

    class CachedGenericFunction(Decorated, Generic[G]):
        """A decorated generic function: its result's type depends on its arguments, which no attribute can express."""

        many: bool
        original: G

        @property
        def __call__(self) -> G: ...
        @property
        def refresh(self) -> G: ...

        def get(self, /, *args: Any, **kw: Any) -> Any: ...
        def set(self, value: Any, /, *args: Any, **kw: Any) -> None: ...
        def invalidate(self, /, *args: Any, **kw: Any) -> None: ...
        def key(self, /, *args: Any, **kw: Any) -> str: ...
        def __get__(self, obj: Any, owner: Any = None) -> Any: ...
