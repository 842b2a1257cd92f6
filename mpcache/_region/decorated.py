"""The common part of all decorated functions: how they are made, their keys, and how they look to inspect.

Depends on keys and arguments; the region is handed in.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

from mpcache._keys import prefixes as keys_prefixes
from mpcache._keys.arguments import BOUND_NAMES, Arguments, Call, Parameters, plain_and_given
from mpcache._keys.exact import ExactKeys, SaidKeys, SaidManyKeys
from mpcache._keys.text import TextCannotStand
from mpcache._region.decorated_pickling import is_by_cloudpickle
from mpcache._region.fast_path import Access
from mpcache._region.function_counts import FunctionCounts, flush_at_exit
from mpcache._region.requests import FUNCTION_HITS, current_function
from mpcache._region.stats import CacheInfo, cache_info, function_stats
from mpcache._region.ttl import checked
from mpcache.invalidation import seconds
from mpcache.keys import generator

UNCACHED = object()
"""Stands for the key of a call that has none."""


class Region(Protocol):
    """The interface of a region that decorated functions use."""

    access: Access
    function_key_generator: Any
    function_multi_key_generator: Any

    def get(self, *args: Any, **kw: Any) -> Any: ...
    def set(self, *args: Any, **kw: Any) -> Any: ...
    def delete(self, *args: Any, **kw: Any) -> Any: ...
    def get_multi(self, *args: Any, **kw: Any) -> Any: ...
    def set_multi(self, *args: Any, **kw: Any) -> Any: ...
    def delete_multi(self, *args: Any, **kw: Any) -> Any: ...
    def get_or_create(self, *args: Any, **kw: Any) -> Any: ...
    def get_or_create_multi(self, *args: Any, **kw: Any) -> Any: ...
    def aget_or_create(self, *args: Any, **kw: Any) -> Any: ...


class Options(NamedTuple):
    """The options of both decorators."""

    namespace: str | None
    expiration_time: Any
    should_cache_fn: Callable[[Any], bool] | None
    to_str: Callable[[Any], str]
    key: Callable[..., Any] | None = None
    ignore: Iterable[str] = ()
    ttl: Any = None

    def checked(self) -> Options:
        """Return the options with times in seconds; a callable one is checked at each call.

        :raises ValidationError: the expiration time, or the time to live, is not a time.
        """
        expires = self.expiration_time if callable(self.expiration_time) else seconds(self.expiration_time)
        return self._replace(expiration_time=expires, ttl=checked(self.ttl))

    @property
    def more(self) -> dict[str, Any]:
        """Return what a creation gets besides; nothing for a region whose class knows no time to live."""
        return {} if self.ttl is None else {"ttl": self.ttl}


class Recipe(NamedTuple):
    """Everything that a decorated function is made from, so that another process can make it again."""

    region: Region
    options: Options
    key_generator: Any
    """The key generator; None: the region's."""
    kinds: tuple[Any, Any]
    """The classes of decorated functions: for a plain function, and for an ``async`` one."""

    def function(self) -> Any:
        """Return :meth:`decorate` as a function, which can have attributes: programs set some on the decorator."""

        def decorate(fn: Any) -> Any:
            return self.decorate(fn)

        return decorate

    def decorate(self, fn: Any) -> Any:
        """Return the decorated function; a class method or static method stays such a method."""
        if isinstance(fn, (staticmethod, classmethod)):
            kind = _ClassMethod if isinstance(fn, classmethod) else staticmethod
            return kind(self.decorate(fn.__func__))
        plain, given = plain_and_given(fn)
        kind = self.kinds[inspect.iscoroutinefunction(plain)]
        key = self.keys(plain, kind.many)
        made = kind(self, fn, plain, Arguments(plain, *given), key)
        keys_prefixes.note(self.region, getattr(key, "start", None), plain, isinstance(key, ExactKeys))
        if self.key_generator is None:
            _with_keys_of.setdefault(self.region, WeakSet()).add(made)
        return made

    def keys(self, fn: Any, many: bool) -> Callable[..., Any]:
        """Return the object that makes the keys of a function."""
        namespace, _, _, to_str, key, ignore, _ = self.options
        if key is not None:
            if ignore:
                raise TypeError(f"{fn.__qualname__}: give key= or ignore=, not both; key= alone makes the key")
            return (SaidManyKeys if many else SaidKeys)(namespace, fn, key)
        of_region = self.region.function_multi_key_generator if many else self.region.function_key_generator
        generate = generator(self.key_generator or of_region, many)
        known = Parameters(generate)
        if ignore and "ignore" not in known.names and not known.others:
            raise TypeError(f"{fn.__qualname__}: the key generator {generate!r} takes no ignore=")
        more: dict[str, Any] = {"ignore": ignore} if ignore else {}
        if many:
            return generate(namespace, fn, to_str=to_str, **more)  # type: ignore[no-any-return]
        given = () if to_str is str else (to_str,)  # a generator of the user's may take two arguments only
        return generate(namespace, fn, *given, **more)  # type: ignore[no-any-return]


_with_keys_of: WeakKeyDictionary[Any, WeakSet[Decorated]] = WeakKeyDictionary()
"""The decorated functions of each region that have no key generator of their own."""


def make_keys_again(region: Any) -> None:
    """Let the already decorated functions use the key generators that their region has now."""
    for function in _with_keys_of.get(region, ()):
        function._take_keys(function._recipe.keys(function._fn, function.many))


def made_again(recipe: Recipe, fn: Any) -> Any:
    """Decorate a function again in the process that it was sent to."""
    return recipe.decorate(fn)


class _ClassMethod(classmethod):  # type: ignore[type-arg]
    """A class method whose attributes are bound to the class, too, which Python 3.13 does not do."""

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        return self.__func__.__get__(type(obj) if owner is None else owner, owner)


class Keys:
    """The key maker of a function's calls, for a plain function or a method that is bound to its object.

    :ivar of: makes the key from arguments that are in the form of :class:`.Arguments`.
    :ivar start: the common beginning of all keys; None: unknown, since the generator does not give it.
    :ivar cut: for a function of many things: how many of the first arguments are not things; None: unknown.
    :ivar fast: how the engine can make the keys; None: it cannot.
    """

    __slots__ = ("cut", "fast", "of", "start")

    def __init__(self, key: Any) -> None:
        self.of: Callable[[tuple[Any, ...], dict[str, Any]], Any]
        self.of = getattr(key, "of", None) or (lambda args, kw: key(*args, **kw))
        self.start: str | None = getattr(key, "start", None)
        self.fast: Any = getattr(key, "fast", None)
        self.cut: int | None = getattr(key, "cut", None)


class Decorated:
    """The base class of all decorated functions."""

    __slots__ = (
        *("__dict__", "__weakref__"),
        *("_arguments", "_counts", "_expires", "_fast", "_fn", "_key", "_recipe", "_region", "_should", "_start"),
        *("_bound", "_free", "_more", "_none_is_receiver", "_owners", "_warned"),
    )

    __qualname__: str

    many = False
    """Whether one call asks for many things."""

    def __init__(self, recipe: Recipe, fn: Any, plain: Any, arguments: Arguments, key: Callable[..., Any]) -> None:
        # The __dict__ of a class is not state of the function that makes its objects.
        updated = () if isinstance(plain, type) else functools.WRAPPER_UPDATES
        functools.update_wrapper(self, plain, updated=updated)  # type: ignore[arg-type]  # subclasses can be called
        self._recipe, self._region, self._fn, self._arguments = recipe, recipe.region, plain, arguments
        self._expires, self._should = recipe.options[1:3]
        self._more = recipe.options.more
        # Spawned children run the script as __mp_main__; they and their parent must count one function.
        module = "__main__" if self.__module__ == "__mp_main__" else self.__module__
        self._counts = FunctionCounts(f"{module}.{self.__qualname__}")
        self._owners: tuple[type, ...] = ()
        self._warned: set[str] = set()
        self.original = fn
        self._take_keys(key)
        # functools.wraps() copies __dict__, so that a decorator on top of this one passes the attributes on.
        names = ("get", "set", "invalidate", "refresh", "key", "stats", "cache_info")
        self.__dict__.update((name, getattr(self, name)) for name in names if hasattr(self, name))
        flush_at_exit(self)

    def _take_keys(self, key: Callable[..., Any]) -> None:
        bound = Keys(getattr(key, "bound", key))
        self._key, self._bound = key, bound
        self._free = bound if _is_method(self.original) else Keys(key)
        self._none_is_receiver = not isinstance(key, ExactKeys) or self._arguments.first in BOUND_NAMES
        self._start, self._fast = self._free.start, self._free.fast
        if self._owners and self._fast == 0:
            self._fast = None  # None may stand for a receiver, which the engine cannot handle

    def __set_name__(self, owner: type, name: str) -> None:
        """Store the class in whose body the function is defined: its objects are receivers."""
        inner = getattr(type(self._fn), "__set_name__", None)
        if inner is not None:
            inner(self._fn, owner, name)
        if self.__qualname__.rpartition(".")[0] == owner.__qualname__:
            self._owners = (*self._owners, owner)
            self._take_keys(self._key)

    def _keys_for(self, args: tuple[Any, ...]) -> Keys:
        """Return the keys of an unbound call, which through the class gets its object, or None, as an argument."""
        if not self._owners or not args:
            return self._free
        is_none = args[0] is None and self._none_is_receiver
        return self._bound if is_none or isinstance(args[0], self._owners) else self._free

    def _key_for(self, keys: Keys, given: Call) -> Any:
        """Return the key of a call, or UNCACHED with a warning, once for each parameter."""
        try:
            return keys.of(*given)
        except TextCannotStand as reason:
            if reason.name not in self._warned:
                self._warned.add(reason.name)
                warnings.warn(str(reason), UserWarning, stacklevel=5)
            return UNCACHED

    def _given(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        """Return the arguments of an attribute; those of a class method may lack the class, on Python 3.13."""
        if self._owners or not _lacks_class(self._arguments, args):
            return self._arguments.bind(args, kw)
        with_class = (None, *args)
        return self._arguments.bind(with_class if self._arguments.fit(with_class, kw) else args, kw)

    def _lifetime(self) -> Any:
        """Return the expiration time at this call."""
        return self._expires() if callable(self._expires) else self._expires

    def _store(self, key: Any, value: Any) -> None:
        """Store a value for a call, with the time to live that a created one would have."""
        ttl = self._more.get("ttl")
        if ttl is None:
            self._region.set(key, value)
        else:
            self._region.set(key, value, ttl(value) if callable(ttl) else ttl)

    def _store_multi(self, mapping: Mapping[Any, Any]) -> None:
        """Do :meth:`_store` for many keys."""
        ttl = self._more.get("ttl")
        if callable(ttl):
            for key, value in mapping.items():
                self._store(key, value)
        else:
            self._region.set_multi(mapping, *(() if ttl is None else (ttl,)))

    # -- counts ------------------------------------------------------------------------------------------------------

    def stats(self, *, here: bool = False) -> dict[str, Any]:
        """Return how the calls of this function were answered, by all processes, as far as the store knows that.

        A store in shared memory counts for all processes; a dict counts for this process, which is all that use it;
        other stores know nothing, and the result is empty.  What cannot be computed yet is left out.

        The page :doc:`counts` defines the names.

        :param here: count this process only, on any store.  A forked child begins at 0.
        :raises RegionNotConfigured: the region has no store yet.
        """
        return function_stats(self._region.access.binding, self._counts, here)

    def cache_info(self) -> CacheInfo:
        """Return ``(hits, misses, maxsize, currsize)``, as functions with ``functools.lru_cache`` do.

        Hits are all calls that a value from the store answered; ``maxsize`` is None and ``currsize`` 0, as no store
        counts the values of a function.  They are those of all processes where :meth:`stats` knows these, else of this
        process.

        :raises RegionNotConfigured: the region has no store yet.
        """
        return cache_info(self._region.access.binding, self._counts)

    def flush_counts(self) -> None:
        """Add to the sums of all processes the calls that this process has not added yet; it does so when it ends."""
        flush = getattr(self._region.access.binding.store, "flush_function", None)
        if flush is not None:
            flush(self._counts)

    def _count_untaken(self) -> None:
        """Count a hit of a call that the region has answered by its fast path, which knows of no function."""
        if current_function.get() is self._counts:
            self._region.access.binding.requests.add(self._counts, FUNCTION_HITS, 1)

    # These make an object a function for inspect, and so for asyncio and web frameworks, on every Python.

    @property
    def __code__(self) -> Any:
        return self._fn.__code__

    @property
    def __defaults__(self) -> Any:
        return self._fn.__defaults__

    @property
    def __kwdefaults__(self) -> Any:
        return self._fn.__kwdefaults__

    @property
    def __globals__(self) -> Any:
        return self._fn.__globals__

    def as_function(self) -> Callable[..., Any]:
        """Return a plain function that calls this object, for programs that accept only functions."""
        if inspect.iscoroutinefunction(self):

            @functools.wraps(self)
            async def acall(*args: Any, **kw: Any) -> Any:
                return await self(*args, **kw)

            return acall

        @functools.wraps(self)  # type: ignore[arg-type]
        def call(*args: Any, **kw: Any) -> Any:
            return self(*args, **kw)  # type: ignore[operator]

        return call

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name, as functions are; see decorated_pickling for those of ``__main__``."""
        if self.__module__ == "__main__" and is_by_cloudpickle():
            return made_again, (self._recipe, self.original)
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self._fn!r}>"


def _is_method(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.ismethod(fn)


def _lacks_class(arguments: Arguments, args: tuple[Any, ...]) -> bool:
    return arguments.first == BOUND_NAMES[1] and (not args or not (args[0] is None or isinstance(args[0], type)))


class Bound:
    """A decorated method bound to its object."""

    __slots__ = ("__func__", "__self__")

    __name__: str

    def __init__(self, func: Any, owner: Any) -> None:
        self.__func__ = func
        self.__self__ = owner

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__func__._fn.__get__(self.__self__))

    def stats(self, *, here: bool = False) -> dict[str, Any]:
        """Do what :meth:`Decorated.stats` does: of the function, whatever its object."""
        found: dict[str, Any] = self.__func__.stats(here=here)
        return found

    def cache_info(self) -> CacheInfo:
        """Do what :meth:`Decorated.cache_info` does."""
        info: CacheInfo = self.__func__.cache_info()
        return info

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
