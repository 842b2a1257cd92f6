"""The parts that a region's calls use, in one frozen object: the store, its value I/O, its mutexes, its judge.

configure() makes a Binding, and the region assigns it in one step.  A call reads it once: it never sees the store of
one configuration with the invalidation strategy of another.  Depends on value_io, counters and requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn, TypeAlias
from weakref import ref

from mpcache._region.counters import Counters
from mpcache._region.requests import RequestCounts
from mpcache._region.value_io import Found, ValueIO
from mpcache._wire.codec import value_version
from mpcache.api import NO_VALUE, Freshness, KeyManglerType, KeyType, NoValueType
from mpcache.exception import DogpileCacheException, RegionNotConfigured, ValidationError
from mpcache.invalidation import Judge, freshness, seconds

Expiration: TypeAlias = "float | timedelta | str | None"
"""An expiration time: seconds, a timedelta, a text such as ``"5m"``; -1: for ever."""

log = logging.getLogger("mpcache.region")

FRESH, STALE, ABSENT = Freshness.FRESH, Freshness.STALE, Freshness.ABSENT

_PLAIN_TIMES = (int, float, type(None))


class Binding(NamedTuple):
    """The parts of a configured region.

    :ivar name: the name of the region, for messages.
    :ivar backend: the store, or the outermost proxy before it.
    :ivar store: the store itself.
    :ivar value_io: reads values from the backend, and writes them to it.
    :ivar key_mangler: ``key -> key`` as the store gets it; None: none.
    :ivar expiration_time: seconds for which a value is fresh, unless a call says otherwise; None: for ever.
    :ivar creation_wait: seconds to wait for a value that another task creates; None: without limit.
    :ivar invalidator: the invalidation strategy.
    :ivar judge: decides whether one value is fresh, stale or absent.
    :ivar make_mutex: ``mangled key -> mutex``; None: the backend's.
    :ivar thread_mutex: the same, for a backend without mutexes.
    :ivar counters: counts non-fatal errors.
    :ivar requests: counts requests and creations.
    """

    name: str | None
    backend: Any
    store: Any
    value_io: ValueIO
    key_mangler: KeyManglerType | None
    expiration_time: Any
    creation_wait: float | None
    invalidator: Any
    judge: Judge
    make_mutex: Callable[[KeyType], Any] | None
    thread_mutex: Callable[[KeyType], Any]
    counters: Counters
    requests: RequestCounts

    def mangled(self, key: KeyType) -> KeyType:
        """Return the key as the store knows it."""
        return self.key_mangler(key) if self.key_mangler else key

    def mutex(self, mangled: KeyType) -> Any:
        """Return a new mutex for a key that is mangled already."""
        mutex = self.make_mutex(mangled) if self.make_mutex else self.backend.get_mutex(mangled)
        return self.thread_mutex(mangled) if mutex is None else mutex

    def lifetime(self, given: Expiration) -> float | None:
        """Return for how many seconds a value is fresh in a call; None: for ever.

        :raises ValidationError: it is no time.
        """
        chosen: Any = self.expiration_time if given is None else given
        if type(chosen) not in _PLAIN_TIMES:
            chosen = _checked(chosen)
        return None if chosen == -1 else chosen

    def look(self, mangled: KeyType, key: KeyType, lifetime: float | None) -> tuple[Any, Freshness]:
        """Return the stored value, and whether it is fresh, stale or absent, for a task that may create a value."""
        try:
            found = self.value_io.read(mangled)
        except TypeError as error:
            self.name_key(error, key)
            raise
        return self.worth(key, found, lifetime)

    def name_key(self, error: TypeError, *keys: Any) -> None:
        """Add the region and the key to the error of a store that was given a key which is not text."""
        for key in keys:
            if not isinstance(key, (str, bytes)):
                region = "a region without a name" if self.name is None else f"region {self.name!r}"
                error.args = (f"key {key!r} of {region}: {error}",)
                return

    def worth(self, key: KeyType, found: Found | NoValueType, lifetime: float | None) -> tuple[Any, Freshness]:
        """Return a value that was found, and whether it is fresh, stale or absent.

        :raises DogpileCacheException: a soft invalidation made it stale, and there is no expiration time.
        """
        if not found:
            log.debug("No value present for key: %r", key)
            return NO_VALUE, ABSENT
        value, created, epoch, version = found
        if version != value_version:
            log.debug("Dogpile version update for key: %r", key)
            return NO_VALUE, ABSENT
        worth = freshness(created, epoch, lifetime, self.judge)
        if worth is ABSENT:
            log.debug("Hard invalidation detected for key: %r", key)
        elif worth is STALE and lifetime is None:
            raise no_expiration_time()
        return value, worth


class Unbound:
    """Stands for the binding of a region that is not configured: each use of it raises RegionNotConfigured."""

    def __init__(self, region: object) -> None:
        self._region = ref(region)  # a strong reference would be a cycle, and keep the region alive

    def __getattr__(self, name: str) -> NoReturn:
        region = self._region()
        raise RegionNotConfigured(f"No backend is configured on this region: {region!r}; call configure() first.")


def no_expiration_time() -> DogpileCacheException:
    """Return the error of a soft invalidation without an expiration time, which would limit what is served stale."""
    return DogpileCacheException("Non-None expiration time required for soft invalidation")


def _checked(given: Any) -> float | None:
    try:
        return seconds(given)
    except ValidationError as error:
        remedy = "the second argument of get() is expiration_time, and the result without a value is NO_VALUE"
        raise ValidationError(f"{error}  If a default was meant: {remedy}.") from None
