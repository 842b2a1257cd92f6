"""The region: the cache that a program holds.  It has one binding at a time, and passes its calls on.

Depends on the private parts of a region, in _region.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

from mpcache import keys as key_makers
from mpcache._region import reference_path
from mpcache._region.binding import FRESH, Binding, Expiration
from mpcache._region.config import configuration, key_generators
from mpcache._region.configurable import Configurable
from mpcache._region.creation import Creation
from mpcache._region.creation_multi import ManyCreation
from mpcache._region.holding import adapt
from mpcache._region.lookup import ANSWERS, Lookup, found
from mpcache._region.requests import FUNCTION_HITS, taken
from mpcache._region.ttl import TimeToLive, checked
from mpcache._wire.codec import value_version
from mpcache.api import NO_VALUE, CachedValue, Deserializer, KeyManglerType, KeyType, Serializer, ValuePayload
from mpcache.api import NoValueType as NoValueType  # dogpile.cache has this name here
from mpcache.backends import register_backend
from mpcache.invalidation import DefaultInvalidationStrategy, RegionInvalidationStrategy
from mpcache.lock import run

if TYPE_CHECKING:
    from mpcache._region.decorators import Decorator
    from mpcache._region.decorators_multi import CachedManyFunction

__all__ = [
    "AsyncCreator",
    "CacheRegion",
    "DefaultInvalidationStrategy",
    "ExpirationTimeCallable",
    "FunctionKeyGenerator",
    "FunctionMultiKeyGenerator",
    "RegionInvalidationStrategy",
    "ToStr",
    "make_region",
    "register_backend",
    "value_version",
]

log = logging.getLogger(__name__)

P = ParamSpec("P")
K = TypeVar("K")
V = TypeVar("V")
_R = TypeVar("_R", bound="CacheRegion")

ToStr: TypeAlias = key_makers.ToStr
ExpirationTimeCallable: TypeAlias = Callable[[], Expiration]
FunctionKeyGenerator: TypeAlias = Callable[..., Callable[..., KeyType]]
FunctionMultiKeyGenerator: TypeAlias = Callable[..., Callable[..., Sequence[KeyType]]]
AsyncCreator: TypeAlias = "Callable[[CacheRegion, KeyType, Callable[[], ValuePayload], Any], Any]"


def make_region(*arg: Any, **kw: Any) -> CacheRegion:
    """Return a new region; the arguments are those of :class:`CacheRegion`."""
    return CacheRegion(*arg, **kw)


class CacheRegion(Configurable):
    """A cache with one configuration.  Made at import time, configured when the program knows how.

    Times are seconds, timedeltas or texts such as ``"5m"``; -1 is for ever, 0 is always stale.

    :param name: for messages, and for programs with several regions.
    :param function_key_generator: makes the keys of :meth:`cache_on_arguments`, see :mod:`mpcache.keys`; a function, or
        a name such as ``"exact"``.
    :param function_multi_key_generator: the same for decorated functions of many keys.
    :param key_mangler: ``key -> key`` as the store gets it; None: the store's own; False: none.
    :param serializer: ``value -> bytes``; None: the store's own, if it has one.
    :param deserializer: the reverse; CantDeserializeException says that the value counts as absent.
    :param async_creation_runner: ``(region, key, creator, mutex)``: creates in the background while the stale
        value is served.  It must see to ``region.set(key, creator())``, and in any case, from any thread, to
        ``mutex.release()``.
    """

    def __init__(
        self,
        name: str | None = None,
        function_key_generator: FunctionKeyGenerator | str = key_makers.function_key_generator,
        function_multi_key_generator: FunctionMultiKeyGenerator | str = key_makers.function_multi_key_generator,
        key_mangler: KeyManglerType | None = None,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        async_creation_runner: AsyncCreator | None = None,
    ) -> None:
        self.name = name
        self.function_key_generator = key_makers.generator(function_key_generator)
        self.function_multi_key_generator = key_makers.generator(function_multi_key_generator, many=True)
        self.async_creation_runner = async_creation_runner
        super().__init__(key_mangler, serializer, deserializer)

    def configure_from_config(self: _R, config_dict: Mapping[str, Any], prefix: str) -> _R:
        """Configure from the items whose names begin with a prefix, as docs/configuration says.

        Functions that were decorated before then use the key generators that the configuration names.

        :raises KeyError: there is no ``backend`` among them; the other errors are those of :meth:`configure`.
        """
        named = key_generators(config_dict, prefix)
        chosen = {name: key_makers.generator(given, "multi" in name) for name, given in named.items()}
        self.configure(**configuration(config_dict, prefix))
        if chosen:
            from mpcache._region.decorated import make_keys_again  # imports inspect, which is slow to load

            self.__dict__.update(chosen)
            make_keys_again(self)
        return self

    def _decorated_calls_may_be_fast(self) -> bool:
        return type(self).get_or_create is CacheRegion.get_or_create  # a subclass's own get_or_create must be called

    # -- values --------------------------------------------------------------------------------------

    def get(self, key: KeyType, expiration_time: Expiration = None, ignore_expiration: bool = False) -> Any:
        """Return the value of a key, or NO_VALUE if there is none, or it is stale or invalidated.

        :param expiration_time: instead of the region's.
        :param ignore_expiration: return the value, however old or invalidated it is.
        """
        return self.access.get(key, expiration_time, ignore_expiration)

    def get_multi(
        self, keys: Iterable[KeyType], expiration_time: Expiration = None, ignore_expiration: bool = False
    ) -> list[Any]:
        """Do :meth:`get` for many keys in one look-up; return a list in their order, NO_VALUE where there is none."""
        return self.access.get_multi(keys if isinstance(keys, list) else list(keys), expiration_time, ignore_expiration)

    def get_value_metadata(
        self, key: KeyType, expiration_time: Expiration = None, ignore_expiration: bool = False
    ) -> CachedValue | None:
        """Do :meth:`get`; return the value with its metadata, or None instead of NO_VALUE."""
        return reference_path.get_value_metadata(self.binding, key, expiration_time, ignore_expiration)

    def set(self, key: KeyType, value: Any, ttl: Expiration = None) -> None:
        """Store a value.  NO_VALUE is not a value: to set it is to delete the key.

        :param ttl: the value's own time to live.  After it there is no value any more, not even a stale one;
            expiration times still decide from when the value is stale.  None and -1: no such limit.
        :raises CantSerializeException: the value cannot be serialized; nothing was changed.
        :raises ValueTooLarge: it is too large; the key has no value now, since the one before is not the newest.
        """
        self.access.set(key, value, ttl)

    def set_multi(self, mapping: Mapping[KeyType, Any], ttl: Expiration = None) -> None:
        """Do :meth:`set` for many keys in one write.

        :raises CantSerializeException: a value cannot be serialized; none was stored.
        :raises ValueTooLarge: values were too large, and their keys have none now; all others were stored.  The error's
            ``refused`` has each such key with its reason.
        """
        self.access.set_multi(mapping, ttl)

    def has(self, key: KeyType, expiration_time: Expiration = None) -> bool:
        """Return whether :meth:`get` would return a value, which is not deserialized; also as ``key in region``."""
        return reference_path.has(self.binding, key, expiration_time)

    def __contains__(self, key: KeyType) -> bool:
        return self.has(key)

    def delete(self, key: KeyType) -> bool | None:
        """Delete the value of a key, and return whether it had one; None: the store cannot know, as memcached.

        A value counts that is older than the expiration time; at a server, one that was invalidated, too.
        """
        return reference_path.delete(self.binding, key)

    def delete_multi(self, keys: Iterable[KeyType]) -> list[KeyType] | None:
        """Do :meth:`delete` for many keys; return those that had a value, or None."""
        return reference_path.delete_multi(self.binding, keys)

    def invalidate(self, hard: bool = True) -> None:
        """Treat all values stored until now as absent; with ``hard=False`` as stale.

        On a store that is shared and counts epochs, such as shm, this reaches every process at once.
        """
        self._invalidator.invalidate(hard)

    def key_is_locked(self, key: KeyType) -> bool:
        """Return whether a task is creating the value of this key."""
        return bool(self._mutex(self.binding.mangled(key)).locked())

    def _mutex(self, key: KeyType) -> Any:
        """Return a new mutex for a key that is mangled already; programs for dogpile.cache call it."""
        return self.binding.mutex(key)

    def stats(self, *, here: bool = False) -> dict[str, Any]:
        """Return how requests were answered and how creations ended, by all processes, and what the store holds.

        The page :doc:`counts` defines the names, and what a request and a creation are.  What a store cannot know is
        left out.  A store in shared memory counts for all processes that use the region's namespace; a dict for this
        process, which is all that use it; other stores know neither requests nor creations.

        :param here: count this process only, on any store, and nothing that the store holds.  The counts begin with the
            region, and again at 0 in a forked child, or where the region is unpickled.
        :raises RegionNotConfigured: the region has no store.
        :raises SegmentError: the segment is out of reach.
        """
        from mpcache._region.stats import stats  # imports the engine

        return stats(self.binding, here)

    # -- creation ------------------------------------------------------------------------------------

    def get_or_create(
        self,
        key: KeyType,
        creator: Callable[..., Any],
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
        *,
        ttl: TimeToLive = None,
    ) -> Any:
        """Return the value of a key; if there is none, exactly one of all tasks creates it, and the others wait.

        A stale value is returned at once while another task creates.  If the creator raises, nothing is stored and its
        caller gets the error; a value that cannot be serialized is treated the same.  A value that is larger than
        the store's largest, and NO_VALUE, are returned and not stored.

        :param expiration_time: instead of the region's.
        :param should_cache_fn: ``value -> bool``: whether to store it.
        :param creator_args: positional and keyword arguments for the creator.
        :param ttl: the created value's own time to live, as in :meth:`set`; or a function ``value -> ttl``.  A value
            with a ttl of 0 or less is returned and not stored.
        :raises LockTimeout: another task is creating the value, and did not finish within ``creation_wait``.
        :raises DeadlockError: the creator asks for its own key.
        """
        access = self.access
        if access.try_get is not None:
            value = access.try_get(key, expiration_time, False)
            if value is not NotImplemented and value is not NO_VALUE:
                return value
        function = taken()
        binding, ttl = access.binding, checked(ttl)
        mangled, lifetime = binding.mangled(key), binding.lifetime(expiration_time)
        seen = binding.look(mangled, key, lifetime)
        if seen[1] is FRESH:
            binding.requests.hit()
            if function is not None:
                binding.requests.add(function, FUNCTION_HITS, 1)
            return seen[0]
        how = creator, should_cache_fn, creator_args, ttl, function
        work = self._creation(binding, key, mangled, lifetime, *how)
        mutex = adapt(binding.mutex(mangled))
        return run(work.answered(mutex, binding.creation_wait, seen), mutex)

    def lookup(
        self,
        key: KeyType,
        creator: Callable[..., Any] | None = None,
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
        *,
        ttl: TimeToLive = None,
    ) -> Lookup:
        """Do :meth:`get_or_create`, and tell how it was answered; without a creator, tell what is stored.

        :return: ``(value, outcome)``, where the outcome is "hit", "stale", "created", "waited" or "miss".
        """
        binding, ttl = self.binding, checked(ttl)
        mangled, lifetime = binding.mangled(key), binding.lifetime(expiration_time)
        if creator is None:
            return found(binding, key, lifetime)
        seen = binding.look(mangled, key, lifetime)
        if seen[1] is FRESH:
            binding.requests.hit()
            return Lookup(seen[0], "hit")
        work = self._creation(binding, key, mangled, lifetime, creator, should_cache_fn, creator_args, ttl, None)
        mutex = adapt(binding.mutex(mangled))
        value = run(work.answered(mutex, binding.creation_wait, seen), mutex)
        return Lookup(value, ANSWERS[work.answer])

    def _creation(
        self,
        binding: Binding,
        key: KeyType,
        mangled: KeyType,
        lifetime: float | None,
        creator: Callable[..., Any],
        should_cache_fn: Callable[[Any], bool] | None,
        creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None,
        ttl: Any,
        function: Any,
    ) -> Creation:
        args, kw = creator_args or ((), {})
        make = functools.partial(creator, *args, **kw) if creator_args else creator
        runner = self.async_creation_runner and functools.partial(self.async_creation_runner, self, key)
        return Creation(binding, key, mangled, lifetime, creator, make, should_cache_fn, runner, ttl, function)

    def get_or_create_multi(
        self,
        keys: Iterable[KeyType],
        creator: Callable[..., Iterable[Any]],
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        *,
        ttl: TimeToLive = None,
    ) -> list[Any]:
        """Do :meth:`get_or_create` for many keys; return a list of their values, in their order.

        Missing values that no other task is creating are created in one call (one for every 256 keys).  Then this call
        waits for the values that other tasks create, holding nothing, so that no two calls can wait for each other.
        :attr:`async_creation_runner` is not used.

        :param creator: gets the missing keys, sorted, as its arguments, and returns their values in that order.
            If it returns fewer, the rest get their stale value, or NO_VALUE.
        :param should_cache_fn: ``value -> bool``, called for each value.
        :param ttl: as in :meth:`get_or_create`; a function is called for each value.
        :raises LockTimeout: other tasks create, and waiting for all of them took longer than ``creation_wait``.
        :raises TypeError: the keys cannot be sorted.
        """
        wanted, binding, function = list(keys), self.binding, taken()
        how = binding.lifetime(expiration_time), creator, should_cache_fn, ttl, function
        values = ManyCreation(binding, wanted, *how).run()
        return [values[key] for key in wanted]

    async def aget_or_create(
        self,
        key: KeyType,
        creator: Callable[..., Awaitable[Any]],
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
        *,
        ttl: TimeToLive = None,
    ) -> Any:
        """Do :meth:`get_or_create` with a creator that is awaited; waiting for another task blocks no event loop.

        :attr:`async_creation_runner` is not used.

        :param creator: an ``async def``, or another callable that returns an awaitable.
        """
        from mpcache._region.creation_async import get_or_create  # imports asyncio

        return await get_or_create(self.binding, key, creator, expiration_time, should_cache_fn, creator_args, ttl)

    # -- decorators ----------------------------------------------------------------------------------

    def cache_on_arguments(
        self,
        namespace: str | None = None,
        expiration_time: Expiration | ExpirationTimeCallable = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        to_str: ToStr = str,
        function_key_generator: FunctionKeyGenerator | str | None = None,
        *,
        key: Callable[..., Any] | None = None,
        ignore: Iterable[str] = (),
        ttl: TimeToLive = None,
    ) -> Decorator:
        """Return a decorator that caches the results of a function, ``async`` or not, by its arguments.

        The decorated function has ``get``, ``set``, ``invalidate``, ``refresh`` and ``key``, and the ``original``.

        :param namespace: part of the key; distinguishes functions of the same name and module.
        :param expiration_time: instead of the region's; may be a function, which is called at every call.
        :param to_str: makes the part of the key that stands for one argument.
        :param function_key_generator: instead of the region's; a function, or a name such as ``"exact"``.
        :param key: ``(arguments of the call) -> str``, or a tuple of values from which the key is made.  For a method
            its first argument is the object.
        :param ignore: names of parameters that are left out of the key.
        :param ttl: the time to live of each result, as in :meth:`get_or_create`.
        :raises TypeError: the parentheses are missing, or ``ignore`` names a parameter that does not exist.
        """
        from mpcache._region.decorated import Options
        from mpcache._region.decorators import decorator  # imports inspect, which is slow to load

        key_makers.refuse_bare(namespace, "cache_on_arguments")
        generator = function_key_generator and key_makers.generator(function_key_generator)
        options = Options(namespace, expiration_time, should_cache_fn, to_str, key, ignore, ttl)
        return decorator(self, options, generator)

    @overload
    def cache_multi_on_arguments(
        self,
        namespace: str | None = ...,
        expiration_time: Expiration | ExpirationTimeCallable = ...,
        should_cache_fn: Callable[[Any], bool] | None = ...,
        asdict: Literal[False] = ...,
        to_str: ToStr = ...,
        function_multi_key_generator: FunctionMultiKeyGenerator | str | None = ...,
        *,
        key: Callable[..., Any] | None = ...,
        ignore: Iterable[str] = ...,
        ttl: TimeToLive = ...,
    ) -> Callable[[Callable[P, Iterable[V]]], CachedManyFunction[P, list[V], V]]: ...

    @overload
    def cache_multi_on_arguments(
        self,
        namespace: str | None = ...,
        expiration_time: Expiration | ExpirationTimeCallable = ...,
        should_cache_fn: Callable[[Any], bool] | None = ...,
        *,
        asdict: Literal[True],
        to_str: ToStr = ...,
        function_multi_key_generator: FunctionMultiKeyGenerator | str | None = ...,
        key: Callable[..., Any] | None = ...,
        ignore: Iterable[str] = ...,
        ttl: TimeToLive = ...,
    ) -> Callable[[Callable[P, Mapping[K, V]]], CachedManyFunction[P, dict[K, V], V]]: ...

    def cache_multi_on_arguments(
        self,
        namespace: str | None = None,
        expiration_time: Expiration | ExpirationTimeCallable = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        asdict: bool = False,
        to_str: ToStr = str,
        function_multi_key_generator: FunctionMultiKeyGenerator | str | None = None,
        *,
        key: Callable[..., Any] | None = None,
        ignore: Iterable[str] = (),
        ttl: TimeToLive = None,
    ) -> Any:
        """Return a decorator for a function of many things: each result is cached apart, only missing ones are created.

        ``@cache.cache_multi_on_arguments() def load(*ids)`` returns a list with one value for each of its
        arguments, in the order of the arguments.

        :param asdict: the function returns a dict from things to values, and may leave out things without a value.
        :param function_multi_key_generator: instead of the region's; a function, or a name such as ``"exact"``.
        :param key: ``(thing, keyword-only arguments) -> str``, or a tuple of values from which the thing's key is made.
            For a method its first argument is the object.
        :param ignore: names of parameters that are left out of the keys, and that are not things.
        :param ttl: the time to live of each result, as in :meth:`get_or_create`.
        :raises TypeError: the parentheses are missing, or ``ignore`` names a parameter that does not exist.
        """
        from mpcache._region.decorated import Options  # imports inspect, which is slow to load
        from mpcache._region.decorators_multi import decorator

        key_makers.refuse_bare(namespace, "cache_multi_on_arguments")
        generator = function_multi_key_generator and key_makers.generator(function_multi_key_generator, many=True)
        options = Options(namespace, expiration_time, should_cache_fn, to_str, key, ignore, ttl)
        return decorator(self, options, generator, asdict)
