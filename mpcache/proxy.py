"""Proxies: layers that a program puts between a region and its store.

Depends on api.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mpcache.api import (
    BackendFormatted,
    BackendSetType,
    CacheBackend,
    CacheMutex,
    KeyType,
    SerializedReturnType,
)

_P = TypeVar("_P", bound="ProxyBackend")


class ProxyBackend(CacheBackend):
    """A proxy that passes every call on; a subclass overrides the calls that it observes or changes.

    A region with a serializer (shm, redis, dbm, memory_pickle) calls the ``*_serialized*`` methods, any other region
    the plain ones: override those that your region calls.
    """

    def __init__(self, *arg: Any, **kw: Any) -> None:
        pass

    def wrap(self: _P, backend: CacheBackend) -> _P:
        """Put this proxy before a store, or before another proxy, and return it."""
        self.proxied = backend
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the store: a region that is unpickled puts its proxies before a store of its own."""
        return {name: value for name, value in self.__dict__.items() if name != "proxied"}

    def get(self, key: KeyType) -> BackendFormatted:
        return self.proxied.get(key)

    def get_multi(self, keys: Sequence[KeyType]) -> Sequence[BackendFormatted]:
        return self.proxied.get_multi(keys)

    def set(self, key: KeyType, value: BackendSetType) -> None:
        self.proxied.set(key, value)

    def set_multi(self, mapping: Mapping[KeyType, BackendSetType]) -> None:
        self.proxied.set_multi(mapping)

    def delete(self, key: KeyType) -> bool | None:
        return self.proxied.delete(key)

    def delete_multi(self, keys: Sequence[KeyType]) -> Collection[KeyType] | None:
        return self.proxied.delete_multi(keys)

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        return self.proxied.get_serialized(key)

    def get_serialized_multi(self, keys: Sequence[KeyType]) -> Sequence[SerializedReturnType]:
        return self.proxied.get_serialized_multi(keys)

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        self.proxied.set_serialized(key, value)

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        self.proxied.set_serialized_multi(mapping)

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        return self.proxied.get_mutex(key)


def layers_of(wrap: Any) -> list[ProxyBackend]:
    """Return the proxies of ``wrap`` as objects; all are checked before the first is put before a store."""
    given = list(wrap) if isinstance(wrap, Iterable) else [wrap] if wrap else []
    layers = [one() if isinstance(one, type) and issubclass(one, ProxyBackend) else one for one in given]
    for layer in layers:
        if not isinstance(layer, ProxyBackend):
            raise TypeError(f"{layer!r} is not a valid ProxyBackend")
    return layers


def chain_of(outermost: Any) -> list[Any]:
    """Return the proxies, the outermost first, and last the store that they stand before."""
    chain = [outermost]
    while hasattr(chain[-1], "proxied"):
        chain.append(chain[-1].proxied)
    return chain
