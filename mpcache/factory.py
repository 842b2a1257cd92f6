"""Define shared(), which makes a cache that all workers share in one line.

Depends on region.
"""

from __future__ import annotations

from typing import Any

from mpcache._support.hints import did_you_mean
from mpcache.keys import exact_key_generator, exact_multi_key_generator
from mpcache.region import CacheRegion

_ARGUMENTS = ("mode", "shards", "namespace", "strict_size", "on_error")
_NOT_TO_CHOOSE = {"self", "name", "backend", "arguments", "replace_existing_backend"}


def shared(name: str | None, size: int | str | None = None, **region_arguments: Any) -> CacheRegion:
    """Return a configured region on a segment of shared memory.

    ::

        cache = mpcache.shared("myapp", size="256MB", expiration_time=300)

    Its decorated functions have exact keys, see :func:`mpcache.keys.exact_key_generator`.

    :param name: the segment's, the same in all processes that share it; None: for forked children only.
    :param size: bytes, or a text such as ``"64MB"``, the default; an existing segment keeps its own size.
    :param region_arguments: any arguments that :func:`.make_region`, :meth:`.CacheRegion.configure` and the store
        ``mpcache.shm`` take, such as ``expiration_time``, ``wrap``, ``mutex``, ``mode``, ``namespace``.
    :raises TypeError: none of the three takes this argument.
    """
    of_region, of_configure = _names(CacheRegion.__init__), _names(CacheRegion.configure)
    for given in region_arguments:
        if given not in {*of_region, *of_configure, *_ARGUMENTS}:
            raise TypeError(_unknown(given, {*of_region, *of_configure, *_ARGUMENTS}))
    region_arguments.setdefault("function_key_generator", exact_key_generator)
    region_arguments.setdefault("function_multi_key_generator", exact_multi_key_generator)
    region = CacheRegion(name, **_picked(region_arguments, of_region))
    arguments = {"name": name, **({} if size is None else {"size": size}), **_picked(region_arguments, _ARGUMENTS)}
    return region.configure("mpcache.shm", arguments=arguments, **_picked(region_arguments, of_configure))


def _names(function: Any) -> set[str]:
    import inspect  # milliseconds of `import mpcache`, for programs that never call this

    named = [name for name, it in inspect.signature(function).parameters.items() if it.kind is not it.VAR_KEYWORD]
    return {name for name in named if name[0] != "_"} - _NOT_TO_CHOOSE


def _picked(given: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}


def _unknown(name: str, known: set[str]) -> str:
    remedy = did_you_mean(name, known) or f"; its arguments are {', '.join(sorted(known))}"
    return f"shared() knows no argument {name!r}{remedy}"
