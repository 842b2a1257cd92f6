"""A function whose results are kept by its arguments.

Leans on keys only; the region is handed in.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from mpcache.api import NoValueType

if TYPE_CHECKING:
    from mpcache.region import CacheRegion

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

Call = tuple[tuple[Any, ...], dict[str, Any]]


def decorator(
    region: CacheRegion,
    namespace: str | None,
    expiration_time: Any,
    should_cache_fn: Callable[[Any], bool] | None,
    to_str: Callable[[Any], str],
    key_generator: Callable[..., Callable[..., Any]],
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """What :meth:`.CacheRegion.cache_on_arguments` returns."""
    more = () if to_str is str else (to_str,)  # a generator of the user's may take two arguments only
    lifetime = expiration_time if callable(expiration_time) else lambda: expiration_time

    def decorate(fn: Any) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            return type(fn)(decorate(fn.__func__))
        plain, given = _plain(fn)
        if inspect.iscoroutinefunction(plain):
            raise TypeError(f"{plain.__qualname__} is async, and a coroutine is of use but once")
        key = key_generator(namespace, plain, *more)
        return CachedFunction(region, fn, plain, _Arguments(plain, *given), key, lifetime, should_cache_fn)

    return decorate


def _plain(fn: Any) -> tuple[Any, Call]:
    """The function in a partial or a bound method, and the arguments that these add to it.

    A partial is a call that is half made, so that it shares its values with the function in it.
    """
    if isinstance(fn, functools.partial):
        plain, (args, kw) = _plain(fn.func)
        return plain, ((*args, *fn.args), {**kw, **fn.keywords})
    if inspect.ismethod(fn):
        plain, (args, kw) = _plain(fn.__func__)
        return plain, ((*args, fn.__self__), kw)
    if not hasattr(fn, "__name__"):
        raise TypeError(f"{fn!r} has no name to make keys of; decorate a function that calls it")
    return fn, ((), {})


class _Arguments:
    """Brings the arguments of a call into one form: by position where possible, and defaults filled in."""

    def __init__(self, fn: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> None:
        self._args, self._kw = args, kw
        try:
            self._signature: inspect.Signature | None = inspect.signature(fn)
        except ValueError:  # some builtins do not tell
            self._signature = None
        kinds = [p.kind for p in self._signature.parameters.values()] if self._signature else []
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._complete = len(kinds) if all(kind in positional for kind in kinds) else -1

    def bind(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        """Raises TypeError where the function itself would."""
        args, kw = (*self._args, *args), {**self._kw, **kw}
        if self._signature is None or (not kw and len(args) == self._complete):
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


class CachedFunction(Generic[P, R]):
    """The decorated function.

    Its methods take the arguments of the call that they are about, in any form that the call may have.  Of a
    method, ``obj.method.get(1)`` is bound like ``obj.method(1)``; ``Class.method.get(None, 1)`` will do, too.
    """

    __slots__ = ("__dict__", "__weakref__", "_arguments", "_fn", "_key", "_lifetime", "_region", "_should")

    original: Callable[P, R]
    """The function as it was before."""

    def __init__(
        self,
        region: CacheRegion,
        fn: Callable[P, R],
        plain: Callable[..., R],
        arguments: _Arguments,
        key: Callable[..., Any],
        lifetime: Callable[[], Any],
        should_cache_fn: Callable[[Any], bool] | None,
    ) -> None:
        functools.update_wrapper(self, plain)
        self._region, self._fn, self._arguments = region, plain, arguments
        self._key, self._lifetime, self._should = key, lifetime, should_cache_fn
        self.original = fn
        # functools.wraps() copies what is in __dict__: so a decorator on top of this one passes them on.
        self.__dict__.update((name, getattr(self, name)) for name in ("get", "set", "invalidate", "refresh"))

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        args_, kw_ = self._arguments.bind(args, kw)
        region, key = self._region, self._key(*args_, **kw_)
        value: R = region.get_or_create(key, self._fn, self._lifetime(), self._should, (args_, kw_))
        return value

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

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """Call the function now, and store what it returns; asks neither the mutex nor should_cache_fn."""
        args_, kw_ = self._arguments.bind(args, kw)
        value = self._fn(*args_, **kw_)
        self._region.set(self._key(*args_, **kw_), value)
        return value

    def _key_of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        args, kw = self._arguments.bind(args, kw)
        return self._key(*args, **kw)

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> CachedFunction[P, R]: ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[S, Q], R], obj: S, owner: type | None = None
    ) -> CachedMethod[Q, R]: ...

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else CachedMethod(self, obj)

    def __reduce__(self) -> str:
        """Pickled by name, as functions are."""
        return self.__qualname__  # type: ignore[no-any-return, attr-defined]

    def __repr__(self) -> str:
        return f"<cached {self._fn!r}>"


class CachedMethod(Generic[P, R]):
    """A decorated method, bound to its object."""

    __slots__ = ("__func__", "__self__")

    def __init__(self, func: CachedFunction[Any, R], owner: Any) -> None:
        self.__func__ = func
        self.__self__ = owner

    def __call__(self, /, *args: P.args, **kw: P.kwargs) -> R:
        return self.__func__(self.__self__, *args, **kw)

    def get(self, /, *args: P.args, **kw: P.kwargs) -> R | NoValueType:
        """As :meth:`CachedFunction.get`."""
        return self.__func__.get(*self._received(args, kw), **kw)

    def set(self, value: R, /, *args: P.args, **kw: P.kwargs) -> None:
        """As :meth:`CachedFunction.set`."""
        self.__func__.set(value, *self._received(args, kw), **kw)

    def invalidate(self, /, *args: P.args, **kw: P.kwargs) -> None:
        """As :meth:`CachedFunction.invalidate`."""
        self.__func__.invalidate(*self._received(args, kw), **kw)

    def refresh(self, /, *args: P.args, **kw: P.kwargs) -> R:
        """As :meth:`CachedFunction.refresh`."""
        return self.__func__.refresh(*self._received(args, kw), **kw)

    def _received(self, args: tuple[Any, ...], kw: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments, the object first; programs for dogpile.cache put it, or None, there themselves."""
        bound = (self.__self__, *args)
        if not args or not (args[0] is None or args[0] is self.__self__):
            return bound
        readings = (bound, args) if args[0] is None else (args, bound)
        return next((reading for reading in readings if self.__func__._arguments.fit(reading, kw)), bound)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__func__._fn.__get__(self.__self__))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CachedMethod):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"
