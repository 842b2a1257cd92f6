"""The calls of a region, for every store.  The fast path must give the same results.

Depends on fills and binding.  Each function does the method of the region of the same name, which documents it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mpcache._region.binding import FRESH, Binding, Expiration
from mpcache._region.fills import begun_elsewhere, created_now, fills_of
from mpcache._region.ttl import end_for
from mpcache._region.value_io import packed
from mpcache._wire import codec
from mpcache.api import NO_VALUE, CachedValue, KeyType
from mpcache.exception import ValueTooLarge
from mpcache.invalidation import end_of, freshness


def get(binding: Binding, key: KeyType, expiration_time: Expiration, ignore_expiration: bool) -> Any:
    """Return the value of a key, or NO_VALUE."""
    lifetime = None if ignore_expiration else binding.lifetime(expiration_time)
    try:
        mangled = binding.mangled(key)
        if ignore_expiration or getattr(binding.invalidator, "quiet", False):
            value = binding.value_io.value(mangled, lifetime)
        else:
            found: Any = binding.value_io.read(mangled)
            fresh = found and freshness(found[1], found[2], lifetime, binding.judge) is FRESH
            value = found[0] if fresh else NO_VALUE
    except TypeError as error:
        binding.name_key(error, key)
        raise
    requests = binding.requests
    (requests.miss if value is NO_VALUE else requests.hit)()
    return value


def get_multi(binding: Binding, keys: list[KeyType], expiration_time: Expiration, ignore_expiration: bool) -> list[Any]:
    """Return a list of values and NO_VALUEs."""
    values = _get_multi(binding, keys, expiration_time, ignore_expiration)
    binding.requests.values(values, NO_VALUE)
    return values


def _get_multi(
    binding: Binding, keys: list[KeyType], expiration_time: Expiration, ignore_expiration: bool
) -> list[Any]:
    lifetime = None if ignore_expiration else binding.lifetime(expiration_time)
    try:
        mangled = [binding.mangled(key) for key in keys]
        if not mangled:
            return []
        if ignore_expiration or getattr(binding.invalidator, "quiet", False):
            return binding.value_io.values_multi(mangled, lifetime)
        looked = binding.value_io.read_multi(mangled)
    except TypeError as error:
        binding.name_key(error, *keys)
        raise
    return [
        found[0] if found and freshness(found[1], found[2], lifetime, binding.judge) is FRESH else NO_VALUE
        for found in looked
    ]


def get_value_metadata(
    binding: Binding, key: KeyType, expiration_time: Expiration, ignore_expiration: bool
) -> CachedValue | None:
    """Return the value with its metadata, or None."""
    cached = _get_value_metadata(binding, key, expiration_time, ignore_expiration)
    (binding.requests.miss if cached is None else binding.requests.hit)()
    return cached


def _get_value_metadata(
    binding: Binding, key: KeyType, expiration_time: Expiration, ignore_expiration: bool
) -> CachedValue | None:
    lifetime = None if ignore_expiration else binding.lifetime(expiration_time)
    try:
        cached = binding.value_io.cached(binding.mangled(key))
    except TypeError as error:
        binding.name_key(error, key)
        raise
    if not cached:
        return None
    created, epoch = cached.metadata[codec.CREATED], cached.metadata.get(codec.EPOCH)
    if ignore_expiration or freshness(created, epoch, lifetime, binding.judge) is FRESH:
        return cached
    return None


def set(binding: Binding, key: KeyType, value: Any, ttl: Expiration) -> None:
    """Store a value, or delete the key if it is NO_VALUE, or its new value is too large."""
    if value is NO_VALUE:
        delete(binding, key)
        return
    fills = None
    try:
        mangled = binding.mangled(key)
        fills = fills_of(binding, (mangled,))
        expires = end_for(fills.ttl, value) if fills and ttl is None else end_of(ttl)
        ready = packed(binding.value_io, key, value, created_now(fills), expires)
        if not begun_elsewhere(binding, key):
            binding.value_io.write(mangled, ready)
    except TypeError as error:
        binding.name_key(error, key)
        raise
    except ValueTooLarge as error:
        if fills is not None:
            fills.too_large = True
        delete(binding, key)
        raise ValueTooLarge(str(error), key=key) from error


def set_multi(binding: Binding, mapping: Mapping[KeyType, Any], ttl: Expiration) -> None:
    """Store many values, and delete the keys whose value is NO_VALUE."""
    try:
        refused = _set_multi(binding, mapping, end_of(ttl))
    except TypeError as error:
        binding.name_key(error, *mapping)
        raise
    if refused:
        delete_multi(binding, refused)
        first, reason = next(iter(refused.items()))
        raise ValueTooLarge(f"key {first!r}: {reason}", key=first, refused=refused)


def _set_multi(binding: Binding, mapping: Mapping[KeyType, Any], expires: float | None) -> dict[KeyType, Exception]:
    """Store many values; return the errors of values over the store's largest, in the order of the mapping."""
    mangled = {key: binding.mangled(key) for key in mapping}
    created = created_now(fills_of(binding, mangled.values()))
    ready = {
        mangled[key]: packed(binding.value_io, key, value, created, expires)
        for key, value in mapping.items()
        if value is not NO_VALUE and not begun_elsewhere(binding, key)
    }
    none = [mangled[key] for key, value in mapping.items() if value is NO_VALUE]
    if none:
        binding.backend.delete_multi(none)
    refused = binding.value_io.write_multi(ready) if ready else {}
    return {key: refused[mangled[key]] for key in mapping if mangled[key] in refused}


def delete(binding: Binding, key: KeyType) -> bool | None:
    """Delete one key; return whether it had a value, or None."""
    try:
        had: bool | None = binding.backend.delete(binding.mangled(key))
    except TypeError as error:
        binding.name_key(error, key)
        raise
    return had


def delete_multi(binding: Binding, keys: Iterable[KeyType]) -> list[KeyType] | None:
    """Delete many keys; return those that had a value, or None."""
    given = list(keys)
    try:
        mangled = {binding.mangled(key): key for key in given}
        had = binding.backend.delete_multi(list(mangled))
    except TypeError as error:
        binding.name_key(error, *given)
        raise
    return None if had is None else [mangled[key] for key in had]


def has(binding: Binding, key: KeyType, expiration_time: Expiration) -> bool:
    """Return whether get() would return a value, without deserializing it."""
    lifetime = binding.lifetime(expiration_time)
    try:
        seen: Any = binding.value_io.describe(binding.mangled(key))
    except TypeError as error:
        binding.name_key(error, key)
        raise
    return bool(seen) and freshness(seen[1], seen[2], lifetime, binding.judge) is FRESH
