"""The helper functions and classes that programs for dogpile.cache import by name.

Depends on keys, config and backends, which define some of them.
"""

from __future__ import annotations

from mpcache.keys import (
    function_key_generator,
    function_multi_key_generator,
    kwarg_function_key_generator,
    length_conditional_mangler,
    qualname_function_key_generator,
    qualname_function_multi_key_generator,
    repr_obj,
    sha1_mangle_key,
)
from mpcache.util.langhelpers import (
    KeyReentrantMutex,
    PluginLoader,
    coerce_string_conf,
    memoized_property,
    to_list,
)
from mpcache.util.nameregistry import NameRegistry
from mpcache.util.readwrite_lock import LockError, ReadWriteMutex

__all__ = [
    "KeyReentrantMutex",
    "LockError",
    "NameRegistry",
    "PluginLoader",
    "ReadWriteMutex",
    "coerce_string_conf",
    "function_key_generator",
    "function_multi_key_generator",
    "kwarg_function_key_generator",
    "length_conditional_mangler",
    "memoized_property",
    "qualname_function_key_generator",
    "qualname_function_multi_key_generator",
    "repr_obj",
    "sha1_mangle_key",
    "to_list",
]
