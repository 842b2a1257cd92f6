"""A function whose results are kept by its arguments.

Leans on keys, invalidation and refresh; the region is handed in.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload

from mpcache.api import NO_VALUE, NoValueType
from mpcache.invalidation import seconds
from mpcache.keys import BOUND_NAMES
from mpcache.refresh import refresh

if TYPE_CHECKING:
    from mpcache.region import CacheRegion

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Decorator(Protocol):
    """What :meth:`.CacheRegion.cache_on_arguments` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an async function is the one that comes first
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> AsyncCachedFunction[P, T]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> CachedFunction[P, R]: ...


class Options(NamedTuple):
    """What both decorators take."""

    namespace: str | None
    expiration_time: Any
    should_cache_fn: Callable[[Any], bool] | None
    to_str: Callable[[Any], str]

    def checked(self, verb: str) -> Options:
        """Return the options with the expiration time in seconds; a callable one is checked at each call.

        :param verb: the decorator's name, for the error's text.
        :raises TypeError: the namespace is the function, since the decorator was written without its parentheses.
        :raises ValidationError: the expiration time is none.
        """
        if callable(self.namespace):
            raise TypeError(f"{verb} got the function as its namespace; write @region.{verb}(), with parentheses")
        expires = self.expiration_time
        return self if callable(expires) else self._replace(expiration_time=seconds(expires))


def decorator(region: CacheRegion, options: Options, key_generator: Callable[..., Callable[..., Any]]) -> Decorator:
    """See :meth:`.CacheRegion.cache_on_arguments`."""
    options = options.checked("cache_on_arguments")
    more = () if options.to_str is str else (options.to_str,)  # a generator of the user's may take two arguments only

    def decorate(fn: Any) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            return type(fn)(decorate(fn.__func__))
        plain, given = plain_and_given(fn)
        kind: Any = AsyncCachedFunction if inspect.iscoroutinefunction(plain) else CachedFunction
        key = key_generator(options.namespace, plain, *more)
        return kind(region, fn, plain, Arguments(plain, *given), key, options.expiration_time, options.should_cache_fn)

    return decorate


def plain_and_given(fn: Any) -> tuple[Any, Call]:
    """The function in a partial or a bound method, and the arguments that these add to it.

    A partial is a call that is half made, so that it shares its values with the function in it.
    """
    if isinstance(fn, functools.partial):
        plain, (args, kw) = plain_and_given(fn.func)
        return plain, ((*args, *fn.args), {**kw, **fn.keywords})
    if inspect.ismethod(fn):
        plain, (args, kw) = plain_and_given(fn.__func__)
        return plain, ((*args, fn.__self__), kw)
    if not hasattr(fn, "__name__"):
        raise TypeError(f"{fn!r} has no name to make keys of; decorate a function that calls it")
    return fn, ((), {})


class Arguments:
    """Brings the arguments of a call into one form: by position where possible, and defaults filled in."""

    def __init__(self, fn: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> None:
        self._args, self._kw = args, kw
        self.missing: dict[int, tuple[Any, ...]] = {}
        """The defaults that complete a call of so many arguments by position, and none by name."""
        self._by_name: dict[int, tuple[dict[str, Any], set[str]]] = {}
        try:
            self._signature: inspect.Signature | None = inspect.signature(fn)
        except ValueError:  # some builtins do not tell
            self._signature = None
        kinds = [p.kind for p in self._signature.parameters.values()] if self._signature else []
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if all(kind in positional for kind in kinds):
            self._prepare(list(self._signature.parameters.values()) if self._signature else [])
        names = list(self._signature.parameters)[:1] if self._signature else []
        self.receivers = 1 if names and names[0] in BOUND_NAMES else 0
        """How many of the first arguments are not what is asked for, but who is asked."""

    def _prepare(self, parameters: list[inspect.Parameter]) -> None:
        for given in range(len(parameters) + 1):
            rest = parameters[given:]
            if all(parameter.default is not parameter.empty for parameter in rest):
                self.missing[given] = tuple(parameter.default for parameter in rest)
            if all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in rest):
                defaults = {parameter.name: parameter.default for parameter in rest}
                required = {parameter.name for parameter in rest if parameter.default is parameter.empty}
                self._by_name[given] = defaults, required

    def bind(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        """Raises TypeError where the function itself would."""
        if self._args or self._kw:
            args, kw = (*self._args, *args), {**self._kw, **kw}
        if not kw:
            missing = self.missing.get(len(args))
            if missing is not None:
                return args + missing, kw
        elif len(args) in self._by_name:
            defaults, required = self._by_name[len(args)]
            if required <= kw.keys() <= defaults.keys():
                return args + tuple({**defaults, **kw}.values()), {}  # in the order of the parameters
        return self._bind_in_full(args, kw)

    def _bind_in_full(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        if self._signature is None:
            return args, kw
        bound = self._signature.bind(*args, **kw)
        bound.apply_defaults()
        return bound.args, bound.kwargs

    def fit(self, args: tuple[Any, ...], kw: dict[str, Any]) -> bool:
        """Whether the function could be called so."""
        try:
            self.bind(args, kw)
        except TypeError:
            return False
        return True


class Decorated:
    """What all decorated functions have in common."""

    __slots__ = (
        *("__dict__", "__weakref__"),
        *("_arguments", "_expires", "_fn", "_key", "_region", "_should", "_skip", "_start"),
    )

    __qualname__: str

    def __init__(
        self,
        region: CacheRegion,
        fn: Any,
        plain: Callable[..., Any],
        arguments: Arguments,
        key: Callable[..., Any],
        expires: Any,
        should_cache_fn: Callable[[Any], bool] | None,
    ) -> None:
        functools.update_wrapper(self, plain)  # type: ignore[arg-type]  # it is the subclasses that can be called
        self._region, self._fn, self._arguments = region, plain, arguments
        self._key, self._expires, self._should = key, expires, should_cache_fn
        recipe: tuple[str | None, int] = getattr(key, "recipe", (None, 0))
        self._start, self._skip = recipe
        self.original = fn
        # functools.wraps() copies what is in __dict__: so a decorator on top of this one passes them on.
        self.__dict__.update((name, getattr(self, name)) for name in ("get", "set", "invalidate", "refresh"))

    def _lifetime(self) -> Any:
        """The expiration time at this call."""
        return self._expires() if callable(self._expires) else self._expires

    def __reduce__(self) -> str:
        """Pickled by name, as functions are."""
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self._fn!r}>"


class Cached(Decorated, Generic[P, R]):
    """A decorated function of one value.

    Its methods take the arguments of the call that they are about, in any form that the call may have.  Of a
    method, ``obj.method.get(1)`` is bound like ``obj.method(1)``; ``Class.method.get(None, 1)`` will do, too.
    """

    __slots__ = ()

    def get(self, /, *args: P.args, **kw: P.kwargs) -> R | NoValueType:
        """The value that a call would return without creating one; NO_VALUE otherwise."""
        value: R | NoValueType = self._region.get(self._key_of(args, kw), self._lifetime())
        return value

    def set(self, value: R, /, *args: P.args, **kw: P.kwargs) -> None:
        """Store what a call shall return."""
        self._region.set(self._key_of(args, kw), value)

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """Forget what a call has returned."""
        self._region.delete(self._key_of(args, kw))

    def _key_of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        args, kw = self._arguments.bind(args, kw)
        return self._key(*args, **kw)


class CachedFunction(Cached[P, R], Generic[P, R]):
    """A decorated function."""

    __slots__ = ()

    original: Callable[P, R]
    """The function as it was before."""

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        region, expires = self._region, self._expires
        if expires is not None:
            expires = self._lifetime()
        missing = None if kw else self._arguments.missing.get(len(args))
        given: Call = self._arguments.bind(args, kw) if missing is None else (args + missing, kw)
        value: Any
        if region._recall is not None and self._start is not None and not given[1]:
            value = region._recall(self._start, self._skip, given[0], expires)
            if value is not NotImplemented and value is not NO_VALUE:
                return value  # type: ignore[no-any-return]
        value = region.get_or_create(self._key(*given[0], **given[1]), self._fn, expires, self._should, given)
        return value  # type: ignore[no-any-return]

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Call the function now, and store what it returns, whatever should_cache_fn says of it.

        A creation that is under way is waited for; others wait for this one.  If the key is set, deleted or
        invalidated meanwhile, the value is returned and not stored.

        :raises LockTimeout: the creation under way did not come to an end within ``creation_wait``.
        """
        args_, kw_ = self._arguments.bind(args, kw)
        value: R = refresh(self._region, self._key(*args_, **kw_), functools.partial(self._fn, *args_, **kw_))
        return value

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> CachedFunction[P, R]: ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], R], obj: S, owner: type | None = None
    ) -> CachedMethod[Q, R]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else CachedMethod(self, obj)


class Bound:
    """A decorated method and its object, in one."""

    __slots__ = ("__func__", "__self__")

    __name__: str

    def __init__(self, func: Any, owner: Any) -> None:
        self.__func__ = func
        self.__self__ = owner

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__func__._fn.__get__(self.__self__))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bound):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


class BoundToObject(Bound, Generic[P, R]):
    """A decorated method of one value, bound to its object."""

    __slots__ = ()

    def get(self, /, *args: P.args, **kw: P.kwargs) -> R | NoValueType:
        """As :meth:`Cached.get`."""
        value: R | NoValueType = self.__func__.get(*self._received(args, kw), **kw)
        return value

    def set(self, value: R, /, *args: P.args, **kw: P.kwargs) -> None:
        """As :meth:`Cached.set`."""
        self.__func__.set(value, *self._received(args, kw), **kw)

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """As :meth:`Cached.invalidate`."""
        self.__func__.invalidate(*self._received(args, kw), **kw)

    def _received(self, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments, the object first; programs for dogpile.cache put it, or None, there themselves."""
        bound = (self.__self__, *args)
        if not args or not (args[0] is None or args[0] is self.__self__):
            return bound
        readings = (bound, args) if args[0] is None else (args, bound)
        return next((reading for reading in readings if self.__func__._arguments.fit(reading, kw)), bound)


class CachedMethod(BoundToObject[P, R], Generic[P, R]):
    """A decorated method, bound to its object."""

    __slots__ = ()

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        value: R = self.__func__(self.__self__, *args, **kw)
        return value

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """As :meth:`CachedFunction.refresh`."""
        value: R = self.__func__.refresh(*self._received(args, kw), **kw)
        return value


class AsyncCachedFunction(Cached[P, T], Generic[P, T]):
    """A decorated ``async def``.  ``get``, ``set`` and ``invalidate`` are not awaited; ``refresh`` is."""

    original: Callable[P, Coroutine[Any, Any, T]]
    """The function as it was before."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        mark = getattr(inspect, "markcoroutinefunction", None)  # since Python 3.12
        if mark is not None:
            mark(self)

    async def __call__(self, /, *args: P.args, **kw: P.kwargs) -> T:
        args_, kw_ = self._arguments.bind(args, kw)
        region, key = self._region, self._key(*args_, **kw_)
        value: T = await region.aget_or_create(key, self._fn, self._lifetime(), self._should, (args_, kw_))
        return value

    async def refresh(self, /, *args: P.args, **kw: P.kwargs) -> T:
        """As :meth:`CachedFunction.refresh`, without blocking the loop."""
        from mpcache.aio import refresh  # leans on asyncio

        args_, kw_ = self._arguments.bind(args, kw)
        create = functools.partial(self._fn, *args_, **kw_)
        value: T = await refresh(self._region, self._key(*args_, **kw_), create)
        return value

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> AsyncCachedFunction[P, T]: ...

    @overload
    def __get__(
        self: AsyncCachedFunction[Concatenate[S, Q], T], obj: S, owner: type | None = None
    ) -> AsyncCachedMethod[Q, T]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else AsyncCachedMethod(self, obj)


class AsyncCachedMethod(BoundToObject[P, T], Generic[P, T]):
    """A decorated ``async`` method, bound to its object."""

    async def __call__(self, /, *args: P.args, **kw: P.kwargs) -> T:
        value: T = await self.__func__(self.__self__, *args, **kw)
        return value

    async def refresh(self, /, *args: P.args, **kw: P.kwargs) -> T:
        """As :meth:`AsyncCachedFunction.refresh`."""
        value: T = await self.__func__.refresh(*self._received(args, kw), **kw)
        return value
