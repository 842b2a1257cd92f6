"""The region: what a user holds in hand.  It stands on a store and a mutex.

Leans on its foundation, and on the rooms that decide: lock, invalidation, keys, storage.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

from mpcache import keys as key_makers
from mpcache._wire import codec
from mpcache._wire.codec import value_version
from mpcache.api import (
    NO_VALUE,
    CachedValue,
    Deserializer,
    Freshness,
    KeyManglerType,
    KeyType,
    NoValueType,
    Serializer,
    ValuePayload,
)
from mpcache.backends import register_backend
from mpcache.config import key_generators
from mpcache.creation import Creation, created_now, no_expiration_time
from mpcache.exception import ValidationError, ValueTooLarge
from mpcache.foundation import Expiration, Foundation
from mpcache.invalidation import (
    DefaultInvalidationStrategy,
    RegionInvalidationStrategy,
    end_of,
    freshness,
    seconds,
)
from mpcache.lock import Seen, adapt, elect
from mpcache.multi import ManyCreation
from mpcache.storage import Found, packed

if TYPE_CHECKING:
    from mpcache.decorators import Decorator
    from mpcache.decorators_multi import CachedManyFunction

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

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT

_PLAIN_TIMES = (int, float, type(None))


def make_region(*arg: Any, **kw: Any) -> CacheRegion:
    """A new region; the arguments are those of :class:`CacheRegion`."""
    return CacheRegion(*arg, **kw)


class CacheRegion(Foundation):
    """A cache with one configuration.  Made at import time, configured when the program knows how.

    Times are seconds, timedeltas or texts such as ``"5m"``; -1 is for ever, 0 is always stale.

    :param name: for you to tell regions apart.
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
        super().__init__(key_mangler, serializer, deserializer)
        self.async_creation_runner = async_creation_runner

    def configure_from_config(self: _R, config_dict: Mapping[str, Any], prefix: str) -> _R:
        """Configure from those items whose names begin with a prefix, as :mod:`mpcache.config` tells.

        Functions that were decorated before have the key generators that the configuration names.

        :raises KeyError: there is no ``backend`` among them; and whatever :meth:`configure` raises.
        """
        named = key_generators(config_dict, prefix)
        chosen = {name: key_makers.generator(given, "multi" in name) for name, given in named.items()}
        super().configure_from_config(config_dict, prefix)
        if chosen:
            from mpcache.decorated import make_keys_again  # depends on inspect, which takes its time

            self.__dict__.update(chosen)
            make_keys_again(self)
        return self

    # -- one value -----------------------------------------------------------------------------------

    def get(self, key: KeyType, expiration_time: Expiration = None, ignore_expiration: bool = False) -> Any:
        """The value of a key, or NO_VALUE: if there is none, or it is stale or invalidated.

        :param expiration_time: instead of the region's.
        :param ignore_expiration: return it, however old and invalidated it is.
        """
        peek = self._peek
        if peek is not None:
            value = peek(key, expiration_time, ignore_expiration)
            if value is not NotImplemented:
                return value
        mangled = self.key_mangler(key) if self.key_mangler else key
        if ignore_expiration or getattr(self._invalidator, "quiet", False):
            return self._storage.value(mangled, None if ignore_expiration else self._lifetime(expiration_time))
        lifetime = self._lifetime(expiration_time)
        found = self._storage.read(mangled)
        if not found:
            return NO_VALUE
        value, created, epoch, _ = found
        return value if freshness(created, epoch, lifetime, self._judge) is FRESH else NO_VALUE

    def get_multi(
        self, keys: Iterable[KeyType], expiration_time: Expiration = None, ignore_expiration: bool = False
    ) -> list[Any]:
        """As :meth:`get`, for many keys in one look: a list in their order, with NO_VALUE where there is none."""
        keys = keys if isinstance(keys, list) else list(keys)
        peek = self._peek_multi
        if peek is not None:
            values: list[Any] = peek(keys, expiration_time, ignore_expiration)
            if values is not NotImplemented:
                return values
        mangled = [self.key_mangler(key) for key in keys] if self.key_mangler else keys
        if not mangled:
            return []
        lifetime, judge = self._lifetime(expiration_time), self._judge
        if ignore_expiration or getattr(self._invalidator, "quiet", False):
            return self._storage.values_multi(mangled, None if ignore_expiration else lifetime)
        return [
            found[0] if found and freshness(found[1], found[2], lifetime, judge) is FRESH else NO_VALUE
            for found in self._storage.read_multi(mangled)
        ]

    def get_value_metadata(
        self, key: KeyType, expiration_time: Expiration = None, ignore_expiration: bool = False
    ) -> CachedValue | None:
        """As :meth:`get`, with what is known of the value; None for NO_VALUE."""
        lifetime = None if ignore_expiration else self._lifetime(expiration_time)
        cached = self._storage.cached(self._mangled(key))
        if not cached:
            return None
        created, epoch = cached.metadata[codec.CREATED], cached.metadata.get(codec.EPOCH)
        if ignore_expiration or freshness(created, epoch, lifetime, self._judge) is FRESH:
            return cached
        return None

    def set(self, key: KeyType, value: Any, ttl: Expiration = None) -> None:
        """Store a value.  NO_VALUE is none: to set it is to delete.

        :param ttl: its own time to live.  When that has passed there is no value any more, not even a stale one;
            expiration times go on to say from when it is stale.  None and -1: no such limit.
        :raises CantSerializeException, ValueTooLarge: it cannot be stored.
        """
        poke = self._poke
        if poke is not None and poke(key, value, ttl) is True:
            return
        if value is NO_VALUE:
            self.delete(key)
        else:
            expires = None if ttl is None else end_of(ttl)
            mangled = self._mangled(key)
            ready = packed(self._storage, key, value, created_now(self, (mangled,)), expires)
            self._storage.write(mangled, ready)

    def set_multi(self, mapping: Mapping[KeyType, Any], ttl: Expiration = None) -> None:
        """As :meth:`set`, for many keys in one write.

        :raises CantSerializeException: one of them cannot be stored, therefore none was.
        :raises ValueTooLarge: one of them was too large; all that are not were stored.
        """
        if self._poke_multi is not None and self._poke_multi(mapping, ttl) is True:
            return
        expires, storage = end_of(ttl), self._storage
        mangled = {key: self._mangled(key) for key in mapping}
        created = created_now(self, mangled.values())
        ready = {
            mangled[key]: packed(storage, key, value, created, expires)
            for key, value in mapping.items()
            if value is not NO_VALUE
        }
        none = [mangled[key] for key, value in mapping.items() if value is NO_VALUE]
        if none:
            self.backend.delete_multi(none)
        refused = storage.write_multi(ready) if ready else {}
        for key in mapping:
            if mangled[key] in refused:
                raise ValueTooLarge(f"key {key!r}: {refused[mangled[key]]}", key=key)

    def delete(self, key: KeyType) -> None:
        """Forget a value, also one that is not there."""
        self.backend.delete(self._mangled(key))

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        """As :meth:`delete`, for many keys."""
        self.backend.delete_multi([self._mangled(key) for key in keys])

    def invalidate(self, hard: bool = True) -> None:
        """Whatever was stored until now counts as absent; with ``hard=False`` as stale.

        On a store that is shared and counts epochs, such as shm, this reaches every process at once.
        """
        self._invalidator.invalidate(hard)

    def key_is_locked(self, key: KeyType) -> bool:
        """Whether somebody is creating the value of this key."""
        return bool(self._mutex(self._mangled(key)).locked())

    def get_or_create(
        self,
        key: KeyType,
        creator: Callable[..., Any],
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    ) -> Any:
        """The value of a key; if there is none, exactly one of all who ask creates it, and the others wait.

        A stale value is returned at once while another creates.  If the creator raises, nothing is stored and
        the error is its caller's; so it is with a value that cannot be serialized.  A value over the store's
        largest, and NO_VALUE, are returned and not stored.

        :param expiration_time: instead of the region's.
        :param should_cache_fn: ``value -> bool``: whether to store it.
        :param creator_args: positional and keyword arguments for the creator.
        :raises LockTimeout: another creates, and did not come to an end within ``creation_wait``.
        :raises DeadlockError: the creator asks for its own key.
        """
        peek = self._peek
        if peek is not None:
            value = peek(key, expiration_time, False)
            if value is not NotImplemented and value is not NO_VALUE:
                return value
        mangled = self.key_mangler(key) if self.key_mangler else key
        lifetime = self._lifetime(expiration_time)
        seen = self._look(mangled, key, lifetime)
        if seen[1] is FRESH:
            return seen[0]
        args, kw = creator_args or ((), {})
        make = functools.partial(creator, *args, **kw) if creator_args else creator
        work = Creation(self, key, mangled, lifetime, creator, make, should_cache_fn)
        return elect(work, adapt(self._mutex(mangled)), self.creation_wait, seen)

    def get_or_create_multi(
        self,
        keys: Iterable[KeyType],
        creator: Callable[..., Iterable[Any]],
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
    ) -> list[Any]:
        """As :meth:`get_or_create`, for many keys: a list of their values, in their order.

        What is missing, and not being created by others, is created in one call (one for every 256 keys).  Then
        the call waits for what others create, holding nothing, so that no two calls can wait for each other.
        Whatever :attr:`async_creation_runner` is, it has no part in this.

        :param creator: gets the missing keys, sorted, as its arguments, and returns their values in that order.
            Where it returns fewer, the stale value is taken for the rest, or NO_VALUE.
        :param should_cache_fn: ``value -> bool``, asked for each value.
        :raises LockTimeout: others create, and all the waiting for them came to more than ``creation_wait``.
        :raises TypeError: the keys cannot be sorted.
        """
        wanted = list(keys)
        work = ManyCreation(self, wanted, self._lifetime(expiration_time), creator, should_cache_fn)
        values = work.run()
        return [values[key] for key in wanted]

    async def aget_or_create(
        self,
        key: KeyType,
        creator: Callable[..., Awaitable[Any]],
        expiration_time: Expiration = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        creator_args: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    ) -> Any:
        """As :meth:`get_or_create`, with a creator that is awaited: waiting for another's value blocks no loop.

        Whatever :attr:`async_creation_runner` is, it has no part in this.

        :param creator: an ``async def``, or whatever else returns an awaitable.
        """
        from mpcache.aio import get_or_create  # leans on asyncio

        return await get_or_create(self, key, creator, expiration_time, should_cache_fn, creator_args)

    _genuine = get_or_create

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
    ) -> Decorator:
        """Decorate a function, ``async`` or not: its results are kept by its arguments.

        The decorated function has ``get``, ``set``, ``invalidate``, ``refresh`` and ``key``, and the ``original``.

        :param namespace: sets it apart from another function of the same name and module.
        :param expiration_time: instead of the region's; may be a function that is asked at every call.
        :param to_str: makes the part of the key that stands for one argument.
        :param function_key_generator: instead of the region's; a function, or a name such as ``"exact"``.
        :param key: ``(arguments of the call) -> str``, or a tuple of values: says what the key is made of.  Of a
            method it gets the object first.
        :param ignore: names of parameters that are left out of the key.
        :raises TypeError: the parentheses are missing, or ``ignore`` has a name that is that of no parameter.
        """
        from mpcache.decorated import Options
        from mpcache.decorators import decorator  # leans on inspect, which takes its time

        key_makers.refuse_bare(namespace, "cache_on_arguments")
        generator = function_key_generator and key_makers.generator(function_key_generator)
        return decorator(self, Options(namespace, expiration_time, should_cache_fn, to_str, key, ignore), generator)

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
    ) -> Any:
        """Decorate a function of many things, each of which is kept by itself; it is called for the missing ones.

        ``@cache.cache_multi_on_arguments() def load(*ids)`` returns a list with one value for each of its
        arguments, in any order in which it is asked for them.

        :param asdict: it returns a dict from things to values, and may leave out those that there are not.
        :param function_multi_key_generator: instead of the region's; a function, or a name such as ``"exact"``.
        :param key: ``(thing, keyword-only arguments) -> str``, or a tuple of values: says what the thing's key is made
            of.  Of a method it gets the object first.
        :param ignore: names of parameters that are left out of the keys, and that are no things.
        :raises TypeError: the parentheses are missing, or ``ignore`` has a name that is that of no parameter.
        """
        from mpcache.decorated import Options  # leans on inspect, which takes its time
        from mpcache.decorators_multi import decorator

        key_makers.refuse_bare(namespace, "cache_multi_on_arguments")
        generator = function_multi_key_generator and key_makers.generator(function_multi_key_generator, many=True)
        options = Options(namespace, expiration_time, should_cache_fn, to_str, key, ignore)
        return decorator(self, options, generator, asdict)

    # -- the inner parts -----------------------------------------------------------------------------

    def _mangled(self, key: KeyType) -> KeyType:
        return self.key_mangler(key) if self.key_mangler else key

    def _lifetime(self, given: Expiration) -> float | None:
        """Seconds that a value is fresh; None: for ever."""
        chosen: Any = self.expiration_time if given is None else given
        if type(chosen) not in _PLAIN_TIMES:
            chosen = _checked(chosen)
        return None if chosen == -1 else chosen

    def _look(self, mangled: KeyType, key: KeyType, lifetime: float | None) -> Seen:
        """A look with a view to create: the value, and what it is worth."""
        return self._worth(key, self._storage.read(mangled), lifetime)

    def _worth(self, key: KeyType, found: Found | NoValueType, lifetime: float | None) -> Seen:
        if not found:
            log.debug("No value present for key: %r", key)
            return NO_VALUE, ABSENT
        value, created, epoch, version = found
        if version != value_version:
            log.debug("Dogpile version update for key: %r", key)
            return NO_VALUE, ABSENT
        worth = freshness(created, epoch, lifetime, self._judge)
        if worth is ABSENT:
            log.debug("Hard invalidation detected for key: %r", key)
        elif worth is STALE and lifetime is None:
            raise no_expiration_time()
        return value, worth


def _checked(given: Any) -> float | None:
    try:
        return seconds(given)
    except ValidationError as error:
        remedy = "the second argument of get() is expiration_time, and the result without a value is NO_VALUE"
        raise ValidationError(f"{error}  Of a default: {remedy}.") from None
