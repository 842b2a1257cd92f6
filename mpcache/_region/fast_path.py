"""The calls of a region with its binding: one C call where the store has a fast path, else the reference path.

Depends on reference_path and invalidation.  A fast path exists where nothing stands between the region and a store in
shared memory: no proxy, no serializer of the region's own, no invalidation strategy but the store's.  Its calls decline
rare or delicate cases by returning NotImplemented: the reference path then does the call.  Only this file applies it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from mpcache._region import reference_path
from mpcache._region.binding import Binding, Expiration
from mpcache.api import KeyType
from mpcache.invalidation import SharedInvalidation


class Access:
    """The calls of a region with one binding.

    :param fast: the store's fast path, see :func:`fast_path_of`; None: each call takes the reference path.
    :param decorated: whether decorated functions may read by the fast path: not those of a region whose class has its
     own ``get_or_create``, which they must call.
    :ivar get: (key, expiration time, ignore_expiration): the value, or NO_VALUE.
    :ivar get_multi: (list of keys, expiration time, ignore_expiration): a list of values and NO_VALUEs.
    :ivar set: (key, value, ttl).
    :ivar set_multi: (mapping, ttl).
    :ivar try_get: as ``get``, by the fast path alone, and without counting a miss; it may return NotImplemented.  None:
     there is no fast path.
    :ivar call: (start and form of the key, arguments, expiration time, counts): likewise, the value of a decorated
     function's call.
    """

    # Slots are read faster than items of a dict, which matters in a hit of 70 ns.
    __slots__ = ("binding", "call", "get", "get_multi", "set", "set_multi", "try_get")

    get: Callable[[KeyType, Expiration, bool], Any]
    get_multi: Callable[[list[KeyType], Expiration, bool], list[Any]]
    set: Callable[[KeyType, Any, Expiration], Any]
    set_multi: Callable[[Mapping[KeyType, Any], Expiration], Any]
    try_get: Callable[[KeyType, Expiration, bool], Any] | None
    call: Callable[[Any, Any, tuple[Any, ...], Any, Any], Any] | None

    def __init__(self, binding: Binding, fast: Any, decorated: bool = True) -> None:
        self.binding = binding
        for name in ("get", "get_multi", "set", "set_multi"):
            reference = functools.partial(getattr(reference_path, name), binding)
            setattr(self, name, reference if fast is None else fast.or_else(f"fast_{name}", reference))
        self.try_get = None if fast is None else fast.fast_look
        self.call = fast.fast_call if fast is not None and decorated else None


def fast_path_of(binding: Binding) -> Any:
    """Return the store's fast path for a binding; None: it has none, or something stands in between."""
    offer = getattr(binding.backend, "fast_path", None)
    judge = binding.invalidator
    if offer is None or not (isinstance(judge, SharedInvalidation) and judge.counts_in(binding.backend)):
        return None
    value_io = binding.value_io
    here = binding.requests.here.fast
    return offer(value_io.serializer, value_io.deserializer, binding.key_mangler, binding.expiration_time, here)
