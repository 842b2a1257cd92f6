"""What a region stands on: a store, its proxies, a mutex, a strategy; and how configure() brings them together.

Leans on the tables of stores and of mutexes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, NoReturn, TypeAlias, TypeVar

from mpcache._region.config import configuration
from mpcache._region.counters import Mishaps
from mpcache._region.fast_path import ShortCut
from mpcache._region.value_io import Storage, storage_for
from mpcache._support.hints import did_you_mean, warn
from mpcache.api import Deserializer, KeyManglerType, KeyType, Serializer
from mpcache.backends import load_backend
from mpcache.exception import RegionAlreadyConfigured, RegionNotConfigured, ValidationError
from mpcache.invalidation import DefaultInvalidationStrategy, Judge, judge_of, seconds
from mpcache.mutexes import resolve
from mpcache.proxy import chain_of, layers_of

Expiration: TypeAlias = "float | timedelta | str | None"
"""Seconds, a timedelta, a text such as ``"5m"``; -1: for ever."""

_F = TypeVar("_F", bound="Foundation")

# What a region takes from its store where the user gave nothing; False refuses the store's one, too.
_FROM_STORE = ("key_mangler", "serializer", "deserializer")

# Arguments of stores that say which one is meant.
_IDENTIFYING = (
    *("filename", "name", "namespace"),
    *("url", "host", "port", "db", "service_name", "sentinels", "startup_nodes"),
)

# What belongs to this process, and is made anew by configure() wherever a region is unpickled.
_LIVING = ("backend", "_storage", "_make_mutex", "_thread_mutex", "_invalidator", "_judge", "_adopted")


class _NotConfigured:
    """Stands in the class for what configure() puts into the object."""

    def __get__(self, region: Any, owner: type) -> NoReturn:
        raise RegionNotConfigured(f"No backend is configured on this region: {region!r}; call configure() first.")


class Foundation(ShortCut):
    """The part of a region that is configured.  Made at import time, configured when the program knows how."""

    _storage: Storage = _NotConfigured()  # type: ignore[assignment]
    _make_mutex: Callable[[KeyType], Any] | None = _NotConfigured()  # type: ignore[assignment]
    _thread_mutex: Callable[[KeyType], Any] = _NotConfigured()  # type: ignore[assignment]

    def __init__(
        self,
        key_mangler: KeyManglerType | None,
        serializer: Serializer | None,
        deserializer: Deserializer | None,
    ) -> None:
        self.key_mangler = self._user_defined_key_mangler = key_mangler
        self.serializer = self._user_defined_serializer = serializer
        self.deserializer = self._user_defined_deserializer = deserializer
        self.expiration_time = None
        self.creation_wait: float | None = 60.0
        self.mishaps = Mishaps()
        self._configuration: dict[str, Any] | None = None
        self._adopted: dict[str, Any] = {}
        self._own_invalidator: Any = DefaultInvalidationStrategy()
        self._invalidator_was_chosen = False
        self._obey(self._own_invalidator)

    def configure(
        self: _F,
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
        **unknown: NoReturn,
    ) -> _F:
        """Give the region its store.  All of it comes about, or nothing.

        :param backend: the store's name, such as ``"mpcache.shm"``; ``"dogpile.cache."`` is as good a prefix.
        :param expiration_time: how long values are fresh; None: for ever.
        :param arguments: the store's.
        :param wrap: proxies, classes or objects; the first one is the outermost.
        :param replace_existing_backend: allows to configure a second time.
        :param region_invalidator: a :class:`.RegionInvalidationStrategy`; None: the store's, if it has one.
        :param mutex: who creates is decided by this one instead of the store's: a name, or ``key -> mutex``.
        :param mutex_arguments: for the mutex that is named.
        :param creation_wait: how long to wait for a value that another is creating; None: without end.
        :raises TypeError: there is no such argument; those of the store go into ``arguments``.
        :raises RegionAlreadyConfigured, PluginNotFound, ValidationError: and whatever the store raises.
        """
        self._refuse(unknown, replace_existing_backend)
        kind = load_backend(backend)
        given = None if expiration_time == "" else expiration_time  # an ini file with nothing after the "="
        lifetime, patience = seconds(given), seconds(creation_wait, "creation_wait")
        said = _config_argument_dict or arguments or {}
        namespace = _namespace(getattr(self, "name", None), backend, said, _config_prefix or "")
        make_mutex = _mutex_factory(mutex, mutex_arguments, namespace)
        layers = layers_of(wrap)
        if _config_argument_dict:
            store = kind.from_config_dict(_config_argument_dict, _config_prefix)
        else:
            store = kind(dict(arguments or {}))
        outermost = functools.reduce(lambda inner, layer: layer.wrap(inner), reversed(layers), store)

        self._adopt_from(store)
        self.expiration_time, self.creation_wait = lifetime, patience
        self._make_mutex, self._thread_mutex = make_mutex, _named_mutex("thread", {}, namespace)
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

    def _refuse(self, unknown: Mapping[str, Any], replace: bool) -> None:
        if unknown:
            raise TypeError(_unknown(unknown))
        if self.is_configured and not replace:
            raise RegionAlreadyConfigured(
                f"This region is already configured with backend: {self.backend}.  "
                "Specify replace_existing_backend=True to replace."
            )

    def configure_from_config(self: _F, config_dict: Mapping[str, Any], prefix: str) -> _F:
        """Configure from those items whose names begin with a prefix, as :mod:`mpcache._region.config` tells.

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
        self._find_shortcut()

    @backend.deleter
    def backend(self) -> None:
        """Leave the store: the region is as it was before configure()."""
        if not self.is_configured:
            raise AttributeError(f"{self!r} has no backend")
        for name in _FROM_STORE:
            if getattr(self, name) is self._adopted.get(name):
                setattr(self, name, getattr(self, f"_user_defined_{name}"))
        for name in ("backend", "_storage", "_make_mutex", "_thread_mutex"):
            self.__dict__.pop(name, None)
        self._adopted, self._configuration = {}, None
        self._obey(self._own_invalidator)

    def __repr__(self) -> str:
        name = getattr(self, "name", None)
        title = type(self).__name__ if name is None else f"{type(self).__name__} {name!r}"
        if not self.is_configured:
            return f"<{title}, not configured>"
        lifetime = "for ever" if self.expiration_time is None else f"{self.expiration_time} s"
        *layers, store = chain_of(self.backend)
        chain = " > ".join([*(type(layer).__name__ for layer in layers), repr(store)])
        mutex = (self._configuration or {}).get("mutex")
        guarded = "" if mutex is None else f", mutex {mutex}"
        return f"<{title} on {chain}, fresh {lifetime}{guarded}>"

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
        self._find_shortcut()

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

    def _mutex(self, key: KeyType) -> Any:
        """A new mutex for a key that is mangled already."""
        mutex = self._make_mutex(key) if self._make_mutex else self.backend.get_mutex(key)
        return self._thread_mutex(key) if mutex is None else mutex


def _unknown(given: Mapping[str, Any]) -> str:
    """What to say of arguments that configure() does not have."""
    import inspect  # for this error only

    known = [name for name in inspect.signature(Foundation.configure).parameters if name[0] != "_"]
    hints = [
        f"{name!r}{did_you_mean(name, known) or f'; one of the store goes into arguments={{{name!r}: ...}}'}"
        for name in given
    ]
    return f"configure() takes no argument {', nor '.join(hints)}"


def _namespace(name: str | None, backend: str, arguments: Mapping[str, Any], prefix: str) -> str:
    """What sets the keys of a region's mutexes apart from equal keys of other stores, in every process the same.

    Of the arguments only those count that say which store is meant: a deploy may change the others while it runs.
    """
    said = {known: arguments[prefix + known] for known in _IDENTIFYING if prefix + known in arguments}
    if isinstance(said.get("filename"), str):
        said["filename"] = os.path.abspath(said["filename"])
    return hashlib.sha1(repr((name, backend, said)).encode(), usedforsecurity=False).hexdigest()[:16]


def _mutex_factory(mutex: Any, arguments: Mapping[str, Any] | None, namespace: str) -> Callable[[KeyType], Any] | None:
    """``key -> mutex``; None leaves it to the store."""
    if mutex is not None:
        return _named_mutex(mutex, arguments or {}, namespace)
    if arguments:
        raise ValidationError(f"mutex_arguments={dict(arguments)!r} are for no mutex; name one with mutex=")
    return None


def _named_mutex(mutex: Any, arguments: Mapping[str, Any], namespace: str) -> Callable[[KeyType], Any]:
    kind = resolve(mutex)
    for_region = getattr(kind, "for_region", None)  # wants to know which keys belong together
    if for_region is not None:
        made: Callable[[KeyType], Any] = for_region(namespace, **arguments)
        return made
    return functools.partial(kind, **arguments) if arguments else kind


def _warn_of_a_weak_mutex(store: Any, mutex: Any) -> None:
    if mutex in (None, "null") or not getattr(store, "shared", False):
        return
    kind = resolve(mutex)
    guarantees = getattr(kind, "guarantees", None)
    if guarantees is not None and not guarantees.processes:
        warn(
            f"{getattr(kind, '__name__', kind)} excludes no other process, but {type(store).__name__} is"
            " shared: each will create the values for itself; leave mutex= out to have the store's own"
        )
