"""The configurable part of a region: its settings, and how configure() makes a binding of them.

Depends on configuration and fast_path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from mpcache._region.binding import Binding, Expiration, Unbound
from mpcache._region.configuration import adopt, build, disown, portable, unknown_arguments, warn_of_a_weak_mutex
from mpcache._region.counters import Counters
from mpcache._region.fast_path import Access, fast_path_of
from mpcache._region.requests import RequestCounts, Requests
from mpcache._region.value_io import value_io_for
from mpcache.api import Deserializer, KeyManglerType, KeyType, Serializer
from mpcache.exception import RegionAlreadyConfigured
from mpcache.invalidation import DefaultInvalidationStrategy, judge_of, patience, seconds
from mpcache.proxy import chain_of, layers_of

_C = TypeVar("_C", bound="Configurable")


class _Setting:
    """An attribute of a region from which its binding is made: an assignment makes another binding.

    :param checked: returns the value to keep; raises ValidationError, and then nothing is changed.
    """

    def __init__(self, checked: Callable[[Any], Any] = lambda value: value) -> None:
        self._checked = checked

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, region: Any, owner: type) -> Any:
        return self if region is None else region.__dict__[self._name]

    def __set__(self, region: Any, value: Any) -> None:
        region.__dict__[self._name] = self._checked(value)
        region._rebind()


def _time(given: Expiration) -> Expiration:
    """Return an expiration time as it is, so that programs read what they assigned."""
    seconds(given)
    return given


class Configurable:
    """A region without its calls.  It is made at import time, and configured when the settings are known."""

    __slots__ = ("__dict__", "__weakref__", "access")

    access: Access
    """The calls of this region with its present binding; until configure() they raise RegionNotConfigured."""

    expiration_time: Any = _Setting(_time)
    creation_wait: Any = _Setting(patience)
    key_mangler: Any = _Setting()
    serializer: Any = _Setting()
    deserializer: Any = _Setting()

    _make_mutex: Callable[[KeyType], Any] | None
    _thread_mutex: Callable[[KeyType], Any]

    name: str | None

    def __init__(
        self,
        key_mangler: KeyManglerType | None,
        serializer: Serializer | None,
        deserializer: Deserializer | None,
    ) -> None:
        self.counters, self.requests = Counters(), Requests()
        self.key_mangler = self._user_defined_key_mangler = key_mangler
        self.serializer = self._user_defined_serializer = serializer
        self.deserializer = self._user_defined_deserializer = deserializer
        self.expiration_time, self.creation_wait = None, 60.0
        self._configuration: dict[str, Any] | None = None
        self._adopted: dict[str, Any] = {}
        self._invalidator: Any = DefaultInvalidationStrategy()
        self._own_invalidator, self._invalidator_was_chosen = self._invalidator, False
        self._rebind()

    def configure(
        self: _C,
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
    ) -> _C:
        """Give the region its store.  All arguments take effect in one step, or none does.

        :param backend: the store's name, such as ``"mpcache.shm"``; the prefix may also be ``"dogpile.cache."``.
        :param expiration_time: how long values are fresh; None: for ever.
        :param arguments: the arguments of the store.
        :param wrap: proxies, as classes or objects; the first is the outermost.
        :param replace_existing_backend: allow a second configure().
        :param region_invalidator: a :class:`.RegionInvalidationStrategy`; None: the store's, if it has one.
        :param mutex: decides which task creates, instead of the store's mutex: a name, or ``key -> mutex``.
        :param mutex_arguments: the arguments of the mutex that ``mutex`` names.
        :param creation_wait: how long to wait for a value that another task creates; None: without limit.
        :raises TypeError: there is no such argument; arguments of the store go into ``arguments``.
        :raises RegionAlreadyConfigured, PluginNotFound, ValidationError: or an error of the store.
        """
        if unknown:
            raise TypeError(unknown_arguments(Configurable.configure, unknown))
        if self.is_configured and not replace_existing_backend:
            raise RegionAlreadyConfigured(
                f"This region is already configured with backend: {self.backend}.  "
                "Specify replace_existing_backend=True to replace."
            )
        given = (backend, expiration_time, arguments, _config_argument_dict, _config_prefix, wrap)
        parts = build(self.name, *given, mutex, mutex_arguments, creation_wait)
        self.__dict__.update(
            adopt(self.__dict__, parts.store),
            backend=parts.backend,
            expiration_time=parts.expiration_time,
            creation_wait=parts.creation_wait,
            _make_mutex=parts.make_mutex,
            _thread_mutex=parts.thread_mutex,
            _configuration=parts.configuration,
            **self._strategy(region_invalidator, parts.store),
        )
        self._rebind()
        warn_of_a_weak_mutex(parts.store, mutex)
        return self

    def _strategy(self, given: Any, store: Any) -> dict[str, Any]:
        """Return the changed attributes: the strategy is the given one, the one chosen before, or the store's."""
        if given:
            return {"_invalidator": given, "_own_invalidator": given, "_invalidator_was_chosen": True}
        if self._invalidator_was_chosen:
            return {}
        offer = getattr(store, "invalidation", None)
        return {"_invalidator": (offer() if offer else None) or self._own_invalidator}

    def _rebind(self) -> None:
        """Make the binding from all settings, and assign it in one step.

        If another thread changes a setting meanwhile, both make the binding again: the last one has all settings.
        """
        settings: dict[str, Any] = {}
        while not _same(settings, self.__dict__):
            settings = self.__dict__.copy()  # in one step, so that no binding has the settings of two configurations
            self.access = self._access(settings)

    def _access(self, settings: dict[str, Any]) -> Access:
        if "backend" not in settings:
            return Unbound(self)  # type: ignore[return-value]
        backend, strategy, counters = settings["backend"], settings["_invalidator"], settings["counters"]
        store = chain_of(backend)[-1]
        if hasattr(store, "on_dropped"):
            store.on_dropped = settings["requests"].dropped
        binding = Binding(
            name=self.name,
            backend=backend,
            store=store,
            value_io=value_io_for(backend, settings["serializer"], settings["deserializer"], counters),
            key_mangler=settings["key_mangler"],
            expiration_time=settings["expiration_time"],
            creation_wait=settings["creation_wait"],
            invalidator=strategy,
            judge=judge_of(strategy),
            make_mutex=settings["_make_mutex"],
            thread_mutex=settings["_thread_mutex"],
            counters=counters,
            requests=RequestCounts(settings["requests"], store),
        )
        return Access(binding, fast_path_of(binding), self._decorated_calls_may_be_fast())

    def _decorated_calls_may_be_fast(self) -> bool:
        """Return whether decorated functions need not call the region's get_or_create()."""
        return True

    def wrap(self, proxy: Any) -> None:
        """Put one more proxy, a class or an object, before the store and its present proxies."""
        (layer,) = layers_of([proxy])
        self.backend = layer.wrap(self.backend)

    @property
    def is_configured(self) -> bool:
        """Return whether the region has a store."""
        return "backend" in self.__dict__

    @property
    def binding(self) -> Binding:
        """Return the parts that the region's calls use now.  Raises RegionNotConfigured."""
        return self.access.binding

    @property
    def backend(self) -> Any:
        """Return the store, or the outermost proxy before it.  Raises RegionNotConfigured."""
        return self.binding.backend

    @backend.setter
    def backend(self, outermost: Any) -> None:
        self.__dict__["backend"] = outermost
        self._rebind()

    @backend.deleter
    def backend(self) -> None:
        """Remove the store: the region is then as it was before configure()."""
        if not self.is_configured:
            raise AttributeError(f"{self!r} has no backend")
        self.__dict__.update(disown(self.__dict__), _invalidator=self._own_invalidator)
        self._adopted, self._configuration = {}, None
        for name in ("backend", "_make_mutex", "_thread_mutex"):
            self.__dict__.pop(name, None)
        self._rebind()

    @property
    def actual_backend(self) -> Any:
        """Return the store itself, behind all proxies."""
        return self.binding.store

    @property
    def region_invalidator(self) -> Any:
        """Return the invalidation strategy that :meth:`invalidate` uses."""
        return self._invalidator

    @region_invalidator.setter
    def region_invalidator(self, strategy: Any) -> None:
        self.__dict__.update(_invalidator=strategy, _own_invalidator=strategy, _invalidator_was_chosen=True)
        self._rebind()

    @property
    def mishaps(self) -> Counters:
        """Return :attr:`counters`, by its older name."""
        return self.counters

    def __repr__(self) -> str:
        title = type(self).__name__ if self.name is None else f"{type(self).__name__} {self.name!r}"
        if not self.is_configured:
            return f"<{title}, not configured>"
        lifetime = "for ever" if self.expiration_time is None else f"{self.expiration_time} s"
        *layers, store = chain_of(self.backend)
        chain = " > ".join([*(type(layer).__name__ for layer in layers), repr(store)])
        mutex = (self._configuration or {}).get("mutex")
        guarded = "" if mutex is None else f", mutex {mutex}"
        return f"<{title} on {chain}, fresh {lifetime}{guarded}>"

    def __getstate__(self) -> dict[str, Any]:
        return portable(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        configuration = state.pop("_configuration")
        self.__dict__.update(state, _configuration=None, _adopted={}, _invalidator=state["_own_invalidator"])
        self._rebind()
        if configuration is not None:
            self.configure(**configuration, expiration_time=self.expiration_time, creation_wait=self.creation_wait)


def _same(settings: dict[str, Any], now: dict[str, Any]) -> bool:
    return settings.keys() == now.keys() and all(now.get(name) is value for name, value in settings.items())
