"""Each public name of dogpile.cache 1.5 exists in mpcache, and is called in the same way.

The names are discovered, not listed: missing names, and those called differently, are in the tables below, and a
line that has become untrue fails.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

dogpile = pytest.importorskip("dogpile")

MODULES: dict[str, str] = {}
"""Modules that mpcache does not have."""

IMPORTED = "imported there for its own use; it stands in api, exception, lock, proxy or util, in both houses"
INNER = "a helper of its own tests"
NAMED = "lock_prefix says how the names of locks begin; in a cluster they have a tag besides"
LEASED = "MemcachedMutex takes its place; a mixin's arguments are every memcached store's, or those of its library"
NAMES = {
    f"dogpile.{module}:{name}": reason
    for module, reason, names in [
        ("cache.region", IMPORTED, "BackendArguments BackendFormatted CacheMutex CacheReturnType MetaDataType"),
        ("cache.region", IMPORTED, "CantDeserializeException Lock NameRegistry NeedRegenerationException ProxyBackend"),
        ("cache.region", IMPORTED, "PluginLoader SerializedReturnType coerce_string_conf exception memoized_property"),
        ("cache.region", IMPORTED, "function_key_generator function_multi_key_generator repr_obj"),
        ("cache.util", IMPORTED, "sha1"),
        ("cache.backends.file", IMPORTED, "util"),
        ("cache.backends.memcached", IMPORTED, "CacheBackend bmemcached memcache pylibmc pymemcache util"),
        ("cache.backends.memcached", LEASED, "MemcacheArgs MemcachedLock"),
        ("cache.backends.redis", IMPORTED, "redis"),
        ("cache.backends.redis", NAMED, "RedisBackend.lock_template RedisClusterBackend.lock_template"),
        ("cache.backends.redis", NAMED, "RedisSentinelBackend.lock_template"),
        ("cache.backends.valkey", IMPORTED, "BytesBackend NO_VALUE valkey"),
        ("cache.backends.valkey", NAMED, "ValkeyBackend.lock_template ValkeyClusterBackend.lock_template"),
        ("cache.backends.valkey", NAMED, "ValkeySentinelBackend.lock_template"),
        ("testing.fixtures", IMPORTED, "CacheBackend Lock register_backend"),
        ("testing.fixtures", INNER, "raise_cant_deserialize_exception"),
    ]
    for name in names.split()
}
"""Names that mpcache does not have."""

OTHERWISE: dict[str, str] = {}
"""Names that are called differently."""


def counterpart(module: str) -> str:
    """Return mpcache's name for a module of dogpile.cache: two prefixes are replaced."""
    if module == "dogpile.cache" or module.startswith("dogpile.cache."):
        return "mpcache" + module[len("dogpile.cache") :]
    return "mpcache" + module[len("dogpile") :]


def their_modules() -> Iterator[types.ModuleType]:
    yield dogpile
    for found in pkgutil.walk_packages(dogpile.__path__, "dogpile."):
        if found.name not in MODULES:
            yield importlib.import_module(found.name)


def is_public(module: types.ModuleType, name: str, thing: Any) -> bool:
    """Return whether an object is of the package itself, not imported from another."""
    if name.startswith("_") or name in getattr(module, "__all__", ()):
        return name in getattr(module, "__all__", ())
    if isinstance(thing, types.ModuleType):
        walked_itself = {f"{module.__name__}.{name}", f"{counterpart(module.__name__)}.{name}"}
        known = {thing.__name__, counterpart(thing.__name__)}
        return thing.__name__.startswith("dogpile") and not known & walked_itself
    named = getattr(thing, "__name__", name) == name or getattr(thing, "_name", None) == name
    home = str(getattr(thing, "__module__", module.__name__))
    return home.startswith("dogpile") or not (named and hasattr(thing, "__module__"))


def their_names() -> list[str]:
    return sorted(
        f"{module.__name__}:{name}"
        for module in their_modules()
        for name, thing in vars(module).items()
        if is_public(module, name, thing) and type(thing).__name__ != "_Feature" and name != "TYPE_CHECKING"
    )


def standing(name: str) -> Any:
    """Return the object under a name."""
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))


def here(name: str) -> Any:
    """Return mpcache's object for a name of dogpile.cache."""
    module, _, path = name.partition(":")
    return standing(f"{counterpart(module)}:{path}")


def their_members() -> list[str]:
    """Return the public attributes of dogpile.cache's classes, those of each class once."""
    kinds = {thing: name for name in their_names() if isinstance(thing := standing(name), type) and name not in NAMES}
    return [
        f"{name}.{member}"
        for kind, name in kinds.items()
        for member in ("__init__", *dir(kind))
        if any(member in vars(base) for base in kind.__mro__ if base.__module__.startswith("dogpile"))
        if not member.startswith("_") or member == "__init__"
    ]


def their_calls() -> list[str]:
    """Return the functions and methods, under each of their names."""
    names = (name for name in [*their_names(), *their_members()] if name not in NAMES)
    return [name for name in names if isinstance(standing(name), types.FunctionType | types.MethodType)]


def differences(theirs: inspect.Signature, ours: inspect.Signature) -> list[str]:
    """Return why a call that fits one signature may not fit the other."""
    found = []
    positions = list(ours.parameters)
    for position, (name, parameter) in enumerate(theirs.parameters.items()):
        mine = ours.parameters.get(name)
        if mine is None or mine.kind is not parameter.kind:
            found.append(f"{name}: not there, or of another kind")
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and positions[position] != name:
            found.append(f"{name}: in another place")
        elif not same_default(parameter.default, mine.default):
            found.append(f"{name}: {parameter.default!r} there, {mine.default!r} here")
    for name in positions:
        extra = ours.parameters[name]
        variable = extra.kind in (extra.VAR_POSITIONAL, extra.VAR_KEYWORD)
        if name not in theirs.parameters and extra.default is extra.empty and not variable:
            found.append(f"{name}: required here only")
    return found


def same_default(theirs: Any, ours: Any) -> bool:
    if callable(theirs) and callable(ours):
        return theirs.__qualname__ == ours.__qualname__
    return type(theirs) is type(ours) and bool(theirs == ours)


@pytest.mark.parametrize("name", [name for name in their_names() if name not in NAMES])
def test_1_1_every_public_name_is_there(name: str) -> None:
    theirs, ours = standing(name), here(name)
    assert isinstance(ours, type) or not isinstance(theirs, type)


@pytest.mark.parametrize("name", [name for name in their_members() if name not in NAMES])
def test_1_1_every_member_of_a_class_is_there(name: str) -> None:
    here(name)


@pytest.mark.parametrize("name", their_calls())
def test_1_1_it_is_called_in_the_same_way(name: str) -> None:
    found = differences(inspect.signature(standing(name)), inspect.signature(here(name)))
    assert bool(found) is (name in OTHERWISE), found


@pytest.mark.parametrize("module", ["util", "api", "exception", "region", "proxy", "backends", "lock"])
def test_1_1_modules_that_come_with_a_bare_import(module: str) -> None:
    """Programs write ``mpcache.util.sha1_mangle_key`` below ``import mpcache``."""
    subprocess.run([sys.executable, "-c", f"import mpcache; mpcache.{module}"], check=True)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_said_to_be_missing_is_missing(name: str) -> None:
    with pytest.raises(AttributeError):
        here(name)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_that_is_said_to_be_missing_is_missing(module: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(counterpart(module))


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        (lambda a, b=1: 0, lambda a, b=1, c=2, *rest, **more: 0, []),
        (lambda a: 0, lambda b: 0, ["a: not there, or of another kind", "b: required here only"]),
        (lambda a, b: 0, lambda b, a: 0, ["a: in another place", "b: in another place"]),
        (lambda a=1: 0, lambda a=1.0: 0, ["a: 1 there, 1.0 here"]),
        (lambda a: 0, lambda *, a: 0, ["a: not there, or of another kind"]),
        (lambda: 0, lambda a: 0, ["a: required here only"]),
    ],
)
def test_a_difference_is_seen(theirs: Any, ours: Any, found: list[str]) -> None:
    assert differences(inspect.signature(theirs), inspect.signature(ours)) == found


def test_dir_shows_the_public_names_only() -> None:
    import mpcache

    assert dir(mpcache) == sorted(mpcache.__all__)
    assert mpcache.util.sha1_mangle_key("k")  # programs write this below a bare import
