"""Convert the items of a configuration file to the arguments of configure().

Depends on hints.  One mapping may configure many regions, each by a prefix of its own::

    cache.local.backend                    = mpcache.memory          required
    cache.local.arguments.max_entries      = 10000                   the store's arguments
    cache.local.expiration_time            = 300
    cache.local.replace_existing_backend   = false
    cache.local.wrap                                                 proxies, so only from a dict made in Python
    cache.local.mutex                      = shm
    cache.local.mutex_arguments.segment    = locks                   the arguments of the mutex that is named
    cache.local.creation_wait              = 60
    cache.local.function_key_generator     = exact                   or text, qualname, kwarg; for many keys, too,
    cache.local.function_multi_key_generator = exact                 unless this says otherwise
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpcache._support.hints import nearest, warn

_INTEGER = re.compile(r"[-+]?\d+")
_DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False}

_OPTIONS = ("expiration_time", "wrap", "replace_existing_backend", "mutex", "creation_wait")
_GROUPS = ("arguments", "mutex_arguments")

KEY_GENERATORS = ("function_key_generator", "function_multi_key_generator")
"""Options of the region itself, which configure() does not take."""


def coerce_string_conf(d: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the strings of a configuration file stand for: integers, decimals, true, false and None.

    Each string that looks like a number becomes a number, also a password of digits.
    """
    return {name: _coerced(value.strip()) if isinstance(value, str) else value for name, value in d.items()}


def configuration(config_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the keyword arguments for configure() that a mapping has under a prefix.

    The store gets the whole mapping, with its strings coerced: its ``from_config_dict`` takes its own items.  A name
    that looks like a misspelt option causes a warning.

    :param prefix: with its dot, such as ``"cache.local."``.
    :raises KeyError: there is no ``backend`` under the prefix.
    """
    conf = coerce_string_conf(config_dict)
    if prefix + "backend" not in conf:
        raise KeyError(_no_backend(conf, prefix))
    _warn_of_unknown(conf, prefix)
    chosen = {name: conf[prefix + name] for name in _OPTIONS if prefix + name in conf}
    return {
        "backend": conf[prefix + "backend"],
        "_config_argument_dict": conf,
        "_config_prefix": prefix + "arguments.",
        "mutex_arguments": _under(conf, prefix + "mutex_arguments."),
        **chosen,
    }


def _no_backend(conf: Mapping[str, Any], prefix: str) -> str:
    near = nearest("backend", [name[len(prefix) :] for name in conf if name.startswith(prefix)])
    hint = "" if near is None else f"; there is {prefix + near!r}, did you mean that?"
    return f"{prefix}backend: the configuration names no backend under {prefix!r}{hint}"


def _warn_of_unknown(conf: Mapping[str, Any], prefix: str) -> None:
    """Warn of unknown names; with more dots (other regions' perhaps) or no prefix, only if they resemble an option."""
    unknown = []
    for name in (name[len(prefix) :] for name in conf if name.startswith(prefix)):
        first, dot, rest = name.partition(".")
        known = _GROUPS if dot else ("backend", *_OPTIONS, *KEY_GENERATORS)
        if first in known:
            continue
        near = nearest(first, known)
        if near is not None:
            unknown.append(f"{prefix + name!r} (did you mean {prefix + near + dot + rest!r}?)")
        elif prefix and not dot:
            unknown.append(repr(prefix + name))
    if unknown:
        text = f"the configuration has no option {', '.join(unknown)}; under {prefix!r} there are backend, "
        options, groups = ", ".join((*_OPTIONS, *KEY_GENERATORS)), " or ".join(f"{group}." for group in _GROUPS)
        warn(f"{text}{options}, and those that begin with {groups}")


def key_generators(config_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the :data:`KEY_GENERATORS` that a mapping has under a prefix; a name for the first applies to both."""
    chosen = {name: config_dict[prefix + name] for name in KEY_GENERATORS if prefix + name in config_dict}
    if isinstance(chosen.get(KEY_GENERATORS[0]), str):
        chosen.setdefault(KEY_GENERATORS[1], chosen[KEY_GENERATORS[0]])
    return {name: given.strip() if isinstance(given, str) else given for name, given in chosen.items()}


def _under(conf: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in conf.items() if name.startswith(prefix)}


def _coerced(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if text == "None":
        return None
    return _WORDS.get(text.lower(), text)
