"""The first half of configure(), which changes no region: check the arguments, make the store and the mutexes.

Depends on the tables of backends and of mutexes: no other module of a region knows both.  Also the parts that a region
takes over from its store (adopt), gives back (disown), and takes along when it is pickled (portable).
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from mpcache._region.binding import Expiration
from mpcache._support.hints import did_you_mean, warn
from mpcache.api import KeyType
from mpcache.backends import load_backend
from mpcache.exception import ValidationError
from mpcache.invalidation import patience, seconds
from mpcache.mutexes import resolve
from mpcache.proxy import chain_of, layers_of

FROM_STORE = ("key_mangler", "serializer", "deserializer")
"""Attributes that a region takes from its store if the user gave none; False refuses the store's one, too."""

OF_PROCESS = ("backend", "_make_mutex", "_thread_mutex", "_invalidator", "_adopted")
"""Attributes that belong to this process: configure() makes them again where a region is unpickled."""

# Arguments of stores that identify the store.
_IDENTIFYING = (
    *("filename", "name", "namespace"),
    *("url", "host", "port", "db", "service_name", "sentinels", "startup_nodes"),
)


class Parts(NamedTuple):
    """The parts that configure() has made."""

    backend: Any
    """The store, or the outermost proxy before it."""
    store: Any
    make_mutex: Callable[[KeyType], Any] | None
    thread_mutex: Callable[[KeyType], Any]
    expiration_time: float | None
    creation_wait: float | None
    configuration: dict[str, Any]
    """The arguments of another configure(), where the region is unpickled."""


def build(
    name: str | None,
    backend: str,
    expiration_time: Expiration,
    arguments: Mapping[str, Any] | None,
    _config_argument_dict: Mapping[str, Any] | None,
    _config_prefix: str | None,
    wrap: Iterable[Any],
    mutex: str | Callable[..., Any] | None,
    mutex_arguments: Mapping[str, Any] | None,
    creation_wait: Expiration,
) -> Parts:
    """Make the parts of a configured region.  The store comes last, so that an error in the rest costs nothing.

    :param name: the name of the region; the others are those of :meth:`.CacheRegion.configure`.
    :raises PluginNotFound, ValidationError: or an error of the store.
    """
    kind = load_backend(backend)
    given = None if expiration_time == "" else expiration_time  # a configuration file with nothing after the "="
    lifetime, wait = seconds(given), patience(creation_wait)
    of_store = _config_argument_dict or arguments or {}
    namespace = _namespace(name, backend, of_store, _config_prefix or "")
    make_mutex = _mutex_factory(mutex, mutex_arguments, namespace)
    layers = layers_of(wrap)
    if _config_argument_dict:
        store = kind.from_config_dict(_config_argument_dict, _config_prefix)
    else:
        store = kind(dict(arguments or {}))
    outermost = functools.reduce(lambda inner, layer: layer.wrap(inner), reversed(layers), store)
    configuration = {
        "backend": backend,
        "arguments": arguments,
        "_config_argument_dict": _config_argument_dict,
        "_config_prefix": _config_prefix,
        "mutex": mutex,
        "mutex_arguments": mutex_arguments,
    }
    thread_mutex = _named_mutex("thread", {}, namespace)
    return Parts(outermost, store, make_mutex, thread_mutex, lifetime, wait, configuration)


def adopt(state: dict[str, Any], store: Any) -> dict[str, Any]:
    """Return the attributes of a region that change when it takes from a store what the user did not give.

    :param state: the region's attributes; ``_user_defined_NAME`` is what the user gave, ``_adopted`` what the region
     took from its previous store.
    """
    changed: dict[str, Any] = {"_adopted": {}}
    for name in FROM_STORE:
        users = state[f"_user_defined_{name}"]
        if state[name] is not state["_adopted"].get(name):  # assigned since the last configure()
            users = changed[f"_user_defined_{name}"] = state[name]
        chosen = users or (None if users is False else getattr(store, name, None))
        changed[name] = changed["_adopted"][name] = chosen
    return changed


def disown(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a region that change when it drops what it took from its store."""
    names = [name for name in FROM_STORE if state[name] is state["_adopted"].get(name)]
    return {name: state[f"_user_defined_{name}"] for name in names}


def portable(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a region that another process can use: its configuration, and what the user gave."""
    kept = {name: value for name, value in state.items() if name not in OF_PROCESS} | disown(state)
    if "backend" in state and state["_configuration"] is not None:
        *layers, store = chain_of(state["backend"])
        kept["_configuration"] = {**state["_configuration"], "wrap": layers}
        arguments = getattr(store, "portable_arguments", lambda: None)()
        if arguments is not None:
            kept["_configuration"].update(arguments=arguments, _config_argument_dict=None)
    return kept


def unknown_arguments(configure: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """Return the text of the error about arguments that configure() does not have."""
    import inspect  # for this error only

    known = [name for name in inspect.signature(configure).parameters if name[0] != "_"]
    hints = [
        f"{name!r}{did_you_mean(name, known) or f'; one of the store goes into arguments={{{name!r}: ...}}'}"
        for name in given
    ]
    return f"configure() takes no argument {', nor '.join(hints)}"


def warn_of_a_weak_mutex(store: Any, mutex: Any) -> None:
    """Warn if a store that processes share gets a mutex that excludes threads only."""
    if mutex in (None, "null") or not getattr(store, "shared", False):
        return
    kind = resolve(mutex)
    guarantees = getattr(kind, "guarantees", None)
    if guarantees is not None and not guarantees.processes:
        warn(
            f"{getattr(kind, '__name__', kind)} excludes no other process, but {type(store).__name__} is"
            " shared: each will create the values for itself; leave mutex= out to use the store's mutex"
        )


def _namespace(name: str | None, backend: str, arguments: Mapping[str, Any], prefix: str) -> str:
    """Return the scope that separates a region's mutexes from equal keys of other stores, the same in each process.

    It is made only of the arguments that identify the store: a deploy may change the others while the program runs.
    """
    identifying = {known: arguments[prefix + known] for known in _IDENTIFYING if prefix + known in arguments}
    if isinstance(identifying.get("filename"), str):
        identifying["filename"] = os.path.abspath(identifying["filename"])
    return hashlib.sha1(repr((name, backend, identifying)).encode(), usedforsecurity=False).hexdigest()[:16]


def _mutex_factory(mutex: Any, arguments: Mapping[str, Any] | None, namespace: str) -> Callable[[KeyType], Any] | None:
    """Return ``key -> mutex``; None: the region uses the store's mutex."""
    if mutex is not None:
        return _named_mutex(mutex, arguments or {}, namespace)
    if arguments:
        raise ValidationError(f"mutex_arguments={dict(arguments)!r} are for no mutex; name one with mutex=")
    return None


def _named_mutex(mutex: Any, arguments: Mapping[str, Any], namespace: str) -> Callable[[KeyType], Any]:
    kind = resolve(mutex)
    for_region = getattr(kind, "for_region", None)  # it must know which keys belong together
    if for_region is not None:
        made: Callable[[KeyType], Any] = for_region(namespace, **arguments)
        return made
    return functools.partial(kind, **arguments) if arguments else kind
