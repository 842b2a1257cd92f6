"""The region: what a user holds in hand.  It stands on a store and a mutex.

Leans on the tables of both, and on the rooms that decide: lock, invalidation, keys, storage.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeAlias, TypeVar

from mpcache import keys
from mpcache.api import (
    NO_VALUE,
    CachedValue,
    Deserializer,
    Freshness,
    KeyManglerType,
    KeyType,
    Serializer,
    ValuePayload,
)
from mpcache.backends import load_backend, register_backend
from mpcache.codec import value_version
from mpcache.config import configuration
from mpcache.creation import Creation, no_expiration_time
from mpcache.exception import (
    RegionAlreadyConfigured,
    RegionNotConfigured,
    ValidationError,
)
from mpcache.invalidation import (
    DefaultInvalidationStrategy,
    Judge,
    RegionInvalidationStrategy,
    freshness,
    judge_of,
    seconds,
)
from mpcache.lock import Seen, adapt, elect
from mpcache.mishaps import Mishaps
from mpcache.mutexes import resolve
from mpcache.proxy import chain_of, layers_of
from mpcache.storage import Storage, packed, storage_for

if TYPE_CHECKING:
    from mpcache.decorators import CachedFunction

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
R = TypeVar("R")

ToStr: TypeAlias = keys.ToStr
Expiration: TypeAlias = "float | timedelta | None"
ExpirationTimeCallable: TypeAlias = Callable[[], Expiration]
FunctionKeyGenerator: TypeAlias = Callable[..., Callable[..., KeyType]]
FunctionMultiKeyGenerator: TypeAlias = Callable[..., Callable[..., Sequence[KeyType]]]
AsyncCreator: TypeAlias = "Callable[[CacheRegion, KeyType, Callable[[], ValuePayload], Any], Any]"

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT

# What a region takes from its store where the user gave nothing; False refuses the store's one, too.
_FROM_STORE = ("key_mangler", "serializer", "deserializer")

# What belongs to this process, and is made anew by configure() wherever a region is unpickled.
_LIVING = ("backend", "_storage", "_make_mutex", "_thread_mutex", "_invalidator", "_judge", "_adopted")


class _NotConfigured:
    """Stands in the class for what configure() puts into the object."""

    def __get__(self, region: Any, owner: type) -> NoReturn:
        raise RegionNotConfigured("No backend is configured on this region; call configure() first.")


def make_region(*arg: Any, **kw: Any) -> CacheRegion:
    """A new region; the arguments are those of :class:`CacheRegion`."""
    return CacheRegion(*arg, **kw)


class CacheRegion:
    """A cache with one configuration.  Made at import time, configured when the program knows how.

    Times are seconds, or timedeltas; -1 is for ever, 0 is always stale.

    :param name: for you to tell regions apart.
    :param function_key_generator: makes the keys of :meth:`cache_on_arguments`, see :mod:`mpcache.keys`.
    :param function_multi_key_generator: the same for decorated functions of many keys.
    :param key_mangler: ``key -> key`` as the store gets it; None: the store's own; False: none.
    :param serializer: ``value -> bytes``; None: the store's own, if it has one.
    :param deserializer: the reverse; CantDeserializeException says that the value counts as absent.
    :param async_creation_runner: ``(region, key, creator, mutex)``: creates in the background while the stale
        value is served.  It must see to ``region.set(key, creator())``, and in any case, from any thread, to
        ``mutex.release()``.
    """

    _storage: Storage = _NotConfigured()  # type: ignore[assignment]
    _make_mutex: Callable[[KeyType], Any] | None = _NotConfigured()  # type: ignore[assignment]
    _thread_mutex: Callable[[KeyType], Any] = _NotConfigured()  # type: ignore[assignment]

    def __init__(
        self,
        name: str | None = None,
        function_key_generator: FunctionKeyGenerator = keys.function_key_generator,
        function_multi_key_generator: FunctionMultiKeyGenerator = keys.function_multi_key_generator,
        key_mangler: KeyManglerType | None = None,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        async_creation_runner: AsyncCreator | None = None,
    ) -> None:
        self.name = name
        self.function_key_generator = function_key_generator
        self.function_multi_key_generator = function_multi_key_generator
        self.key_mangler = self._user_defined_key_mangler = key_mangler
        self.serializer = self._user_defined_serializer = serializer
        self.deserializer = self._user_defined_deserializer = deserializer
        self.async_creation_runner = async_creation_runner
        self.expiration_time: Expiration = None
        self.creation_wait: float | None = 60.0
        self.mishaps = Mishaps()
        self._configuration: dict[str, Any] | None = None
        self._adopted: dict[str, Any] = {}
        self._own_invalidator: Any = DefaultInvalidationStrategy()
        self._invalidator_was_chosen = False
        self._obey(self._own_invalidator)

    # -- configuration -------------------------------------------------------------------------------

    def configure(
        self,
        backend: str,
        expiration_time: Expiration = None,
        arguments: Mapping[str, Any] | None = None,
        _config_argument_dict: Mapping[str, Any] | None = None,
        _config_prefix: str | None = None,
        wrap: Iterable[Any] = (),
        replace_existing_backend: bool = False,
        region_invalidator: Any = None,
        *,
        mutex: str | Callable[..., Any] | None = None,
        mutex_arguments: Mapping[str, Any] | None = None,
        creation_wait: Expiration = 60.0,
    ) -> CacheRegion:
        """Give the region its store.  All of it comes about, or nothing.

        :param backend: the store's name, such as ``"mpcache.shm"``; ``"dogpile.cache."`` is as good a prefix.
        :param expiration_time: how long values are fresh; None: for ever.
        :param arguments: the store's.
        :param wrap: proxies, classes or objects; the first one is the outermost.
        :param replace_existing_backend: allows to configure a second time.
        :param region_invalidator: a :class:`RegionInvalidationStrategy`; None: the store's, if it has one.
        :param mutex: who creates is decided by this one instead of the store's: a name, or ``key -> mutex``.
        :param mutex_arguments: for the mutex that is named.
        :param creation_wait: how long to wait for a value that another is creating; None: without end.
        :raises RegionAlreadyConfigured, PluginNotFound, ValidationError: and whatever the store raises.
        """
        if self.is_configured and not replace_existing_backend:
            raise RegionAlreadyConfigured(
                f"This region is already configured with backend: {self.backend}.  "
                "Specify replace_existing_backend=True to replace."
            )
        kind = load_backend(backend)
        lifetime, patience = seconds(expiration_time), seconds(creation_wait, "creation_wait")
        make_mutex = _mutex_factory(mutex, mutex_arguments)
        layers = layers_of(wrap)
        if _config_argument_dict:
            store = kind.from_config_dict(_config_argument_dict, _config_prefix)
        else:
            store = kind(dict(arguments or {}))
        outermost = functools.reduce(lambda inner, layer: layer.wrap(inner), reversed(layers), store)

        self._adopt_from(store)
        self.expiration_time, self.creation_wait = lifetime, patience
        self._make_mutex, self._thread_mutex = make_mutex, _named_mutex("thread", {})
        self.backend = outermost
        self._choose_invalidator(region_invalidator, store)
        self._configuration = {
            "backend": backend,
            "arguments": arguments,
            "_config_argument_dict": _config_argument_dict,
            "_config_prefix": _config_prefix,
            "mutex": mutex,
            "mutex_arguments": mutex_arguments,
        }
        _warn_of_a_weak_mutex(store, mutex)
        return self

    def configure_from_config(self, config_dict: Mapping[str, Any], prefix: str) -> CacheRegion:
        """Configure from those items whose names begin with a prefix, as :mod:`mpcache.config` tells.

        :raises KeyError: there is no ``backend`` among them; and whatever :meth:`configure` raises.
        """
        return self.configure(**configuration(config_dict, prefix))

    def wrap(self, proxy: Any) -> None:
        """Put one more proxy, a class or an object, before the store and the proxies that it has."""
        (layer,) = layers_of([proxy])
        self.backend = layer.wrap(self.backend)

    @property
    def is_configured(self) -> bool:
        """Whether there is a store."""
        return "backend" in self.__dict__

    @property
    def backend(self) -> Any:
        """The store, or the outermost proxy before it.  Raises RegionNotConfigured."""
        return self.__dict__["backend"] if self.is_configured else _NotConfigured().__get__(self, type(self))

    @backend.setter
    def backend(self, outermost: Any) -> None:
        self.__dict__["backend"] = outermost
        self._storage = storage_for(outermost, self.serializer, self.deserializer, self.mishaps)

    @property
    def actual_backend(self) -> Any:
        """The store itself, behind all proxies."""
        return chain_of(self.backend)[-1]

    @property
    def region_invalidator(self) -> Any:
        """The strategy that :meth:`invalidate` goes by."""
        return self._invalidator

    @region_invalidator.setter
    def region_invalidator(self, strategy: Any) -> None:
        self._own_invalidator, self._invalidator_was_chosen = strategy, True
        self._obey(strategy)

    def _obey(self, strategy: Any) -> None:
        self._invalidator = strategy
        self._judge: Judge = judge_of(strategy)

    def _choose_invalidator(self, given: Any, store: Any) -> None:
        if given:
            self.region_invalidator = given
        elif not self._invalidator_was_chosen:
            offer = getattr(store, "invalidation", None)
            self._obey((offer() if offer else None) or self._own_invalidator)

    def _adopt_from(self, store: Any) -> None:
        for name in _FROM_STORE:
            if getattr(self, name) is not self._adopted.get(name):  # assigned since the last configure()
                setattr(self, f"_user_defined_{name}", getattr(self, name))
            users = getattr(self, f"_user_defined_{name}")
            chosen = users or (None if users is False else getattr(store, name, None))
            self._adopted[name] = chosen
            setattr(self, name, chosen)

    # -- pickling: by configuration ------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in _LIVING}
        for name in _FROM_STORE:
            if state[name] is self._adopted.get(name):
                state[name] = state[f"_user_defined_{name}"]
        if self.is_configured and self._configuration is not None:
            state["_configuration"] = {**self._configuration, "wrap": chain_of(self.backend)[:-1]}
            portable = getattr(self.actual_backend, "portable_arguments", None)
            arguments = portable() if portable else None
            if arguments is not None:
                state["_configuration"].update(arguments=arguments, _config_argument_dict=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        configuration = state.pop("_configuration")
        self.__dict__.update(state, _configuration=None, _adopted={})
        self._obey(self._own_invalidator)
        if configuration is not None:
            self.configure(**configuration, expiration_time=self.expiration_time, creation_wait=self.creation_wait)

    # -- one value -----------------------------------------------------------------------------------

    def get(self, key: KeyType, expiration_time: Expiration = None, ignore_expiration: bool = False) -> Any:
        """The value of a key, or NO_VALUE: if there is none, or it is stale or invalidated.

        :param expiration_time: instead of the region's.
        :param ignore_expiration: return it, however old and invalidated it is.
        """
        found = self._storage.read(self.key_mangler(key) if self.key_mangler else key)
        if not found:
            return NO_VALUE
        value, created, epoch, _ = found
        if ignore_expiration or freshness(created, epoch, self._lifetime(expiration_time), self._judge) is FRESH:
            return value
        return NO_VALUE

    def get_value_metadata(
        self, key: KeyType, expiration_time: Expiration = None, ignore_expiration: bool = False
    ) -> CachedValue | None:
        """As :meth:`get`, with what is known of the value; None for NO_VALUE."""
        cached = self._storage.cached(self._mangled(key))
        if not cached:
            return None
        created, epoch = cached.metadata["ct"], cached.metadata.get("e")
        if ignore_expiration or freshness(created, epoch, self._lifetime(expiration_time), self._judge) is FRESH:
            return cached
        return None

    def set(self, key: KeyType, value: Any) -> None:
        """Store a value.  NO_VALUE is none: to set it is to delete.

        :raises CantSerializeException, ValueTooLarge: it cannot be stored.
        """
        if value is NO_VALUE:
            self.delete(key)
        else:
            self._storage.write(self._mangled(key), self._packed(key, value))

    def delete(self, key: KeyType) -> None:
        """Forget a value, also one that is not there."""
        self.backend.delete(self._mangled(key))

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
        mangled = self.key_mangler(key) if self.key_mangler else key
        lifetime = self._lifetime(expiration_time)
        seen = self._look(mangled, key, lifetime)
        if seen[1] is FRESH:
            return seen[0]
        args, kw = creator_args or ((), {})
        make = functools.partial(creator, *args, **kw) if creator_args else creator
        work = Creation(self, key, mangled, lifetime, creator, make, should_cache_fn)
        return elect(work, adapt(self._mutex(mangled)), self.creation_wait, seen)

    def cache_on_arguments(
        self,
        namespace: str | None = None,
        expiration_time: Expiration | ExpirationTimeCallable = None,
        should_cache_fn: Callable[[Any], bool] | None = None,
        to_str: ToStr = str,
        function_key_generator: FunctionKeyGenerator | None = None,
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
        """Decorate a function: its results are kept by its arguments.

        The decorated function has ``get``, ``set``, ``invalidate`` and ``refresh``, and the ``original``.

        :param namespace: sets it apart from another function of the same name and module.
        :param expiration_time: instead of the region's; may be a function that is asked at every call.
        :param to_str: makes the part of the key that stands for one argument.
        :param function_key_generator: instead of the region's.
        """
        from mpcache.decorators import decorator  # leans on inspect, which takes its time

        generator = function_key_generator or self.function_key_generator
        return decorator(self, namespace, expiration_time, should_cache_fn, to_str, generator)

    # -- the inner parts -----------------------------------------------------------------------------

    def _mangled(self, key: KeyType) -> KeyType:
        return self.key_mangler(key) if self.key_mangler else key

    def _mutex(self, key: KeyType) -> Any:
        """A new mutex for a key that is mangled already."""
        mutex = self._make_mutex(key) if self._make_mutex else self.backend.get_mutex(key)
        return self._thread_mutex(key) if mutex is None else mutex

    def _lifetime(self, given: Expiration) -> float | None:
        """Seconds that a value is fresh; None: for ever."""
        chosen = self.expiration_time if given is None else given
        if isinstance(chosen, timedelta):
            chosen = chosen.total_seconds()
        return None if chosen == -1 else chosen

    def _look(self, mangled: KeyType, key: KeyType, lifetime: float | None) -> Seen:
        """A look with a view to create: the value, and what it is worth."""
        found = self._storage.read(mangled)
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

    def _packed(self, key: KeyType, value: Any) -> Any:
        return packed(self._storage, key, value)


def _mutex_factory(mutex: Any, arguments: Mapping[str, Any] | None) -> Callable[[KeyType], Any] | None:
    """``key -> mutex``; None leaves it to the store."""
    if mutex is not None:
        return _named_mutex(mutex, arguments or {})
    if arguments:
        raise ValidationError(f"mutex_arguments={dict(arguments)!r} are for no mutex; name one with mutex=")
    return None


def _named_mutex(mutex: Any, arguments: Mapping[str, Any]) -> Callable[[KeyType], Any]:
    kind = resolve(mutex)
    for_region = getattr(kind, "for_region", None)  # wants to know which keys belong together
    if for_region is not None:
        kind, arguments = for_region(**arguments), {}
    return functools.partial(kind, **arguments) if arguments else kind


def _warn_of_a_weak_mutex(store: Any, mutex: Any) -> None:
    if mutex in (None, "null") or not getattr(store, "shared", False):
        return
    kind = resolve(mutex)
    guarantees = getattr(kind, "guarantees", None)
    if guarantees is not None and not guarantees.processes:
        warnings.warn(
            f"{getattr(kind, '__name__', kind)} excludes no other process, but {type(store).__name__} is"
            " shared: each will create the values for itself; leave mutex= out to have the store's own",
            stacklevel=3,
        )
