"""Make keys of functions and their arguments, and short keys of long ones.

Depends on _keys.exact and _keys.text, which are imported when they are used.  The text generators make the keys of
dogpile.cache, letter for letter, so that both can use one store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from mpcache.exception import ValidationError

if TYPE_CHECKING:
    from mpcache._keys.exact import ExactKeys, ExactManyKeys

ToStr = Callable[[Any], str]


def exact_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> ExactKeys:
    """Make keys that two calls share only if the function and all arguments are the same, in type and value.

    The default of ``mpcache.shared()``.

    :param to_str: makes the text of an argument, which then stands for it.
    :param ignore: names of parameters that are left out.
    :raises TypeError: ``ignore`` names a parameter that does not exist.  A call raises TypeError if an argument
        cannot be part of a key.
    """
    from mpcache._keys.exact import ExactKeys  # imports inspect, which is slow to load

    return ExactKeys(namespace, fn, to_str, ignore)


def exact_multi_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> ExactManyKeys:
    """Make one key for each thing, as :func:`exact_key_generator` does; keyword-only arguments are in each of them."""
    from mpcache._keys.exact import ExactManyKeys  # imports inspect, which is slow to load

    return ExactManyKeys(namespace, fn, to_str, ignore)


def function_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> Callable[..., str]:
    """Make keys ``module:function|namespace|1 2`` of positional arguments; a leading self or cls is left out.

    The state of ``self`` is therefore no part of the key, 1 and ``"1"`` make the same key, and two methods of
    one name in one module need namespaces to have different keys.  An argument whose text has its address in it, or
    leaves some of its content out, has no key.

    :param to_str: makes the text of one argument.
    :param ignore: names of parameters that are left out.
    """
    return _text_keys(fn.__name__, namespace, fn, to_str, ignore)


def function_multi_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> Callable[..., list[str]]:
    """Make one key for each positional argument, as :func:`function_key_generator` makes it for that argument alone."""
    return _text_keys(fn.__name__, namespace, fn, to_str, ignore, many=True)


def qualname_function_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> Callable[..., str]:
    """Make keys with the qualified name, else as :func:`function_key_generator`: ``module:Class.method|1 2``.

    Methods of one name in two classes of a module need no namespaces then.
    """
    return _text_keys(fn.__qualname__, namespace, fn, to_str, ignore)


def qualname_function_multi_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> Callable[..., list[str]]:
    """Make keys with the qualified name, else as :func:`function_multi_key_generator`."""
    return _text_keys(fn.__qualname__, namespace, fn, to_str, ignore, many=True)


def kwarg_function_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str, *, ignore: Iterable[str] = ()
) -> Callable[..., str]:
    """Make keys as :func:`function_key_generator` does, also of keyword arguments: values ordered by the sorted names.

    The names themselves are not in the key: with a function that takes ``**kw``, f(x=1) and f(y=1) have one key.
    """
    return _text_keys(fn.__name__, namespace, fn, to_str, ignore, keywords=True)


GENERATORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "exact": (exact_key_generator, exact_multi_key_generator),
    "text": (function_key_generator, function_multi_key_generator),
    "qualname": (qualname_function_key_generator, qualname_function_multi_key_generator),
    "kwarg": (kwarg_function_key_generator, function_multi_key_generator),
}
"""The names that a configuration may use: for each the generator of one key, and that of many."""


def generator(given: Any, many: bool = False) -> Callable[..., Any]:
    """Return the generator with a name, such as ``"exact"``; return a function as it is.

    :param many: return the generator that makes a list of keys.
    :raises ValidationError: there is no generator of that name.
    """
    if callable(given):
        return given  # type: ignore[no-any-return]
    if given not in GENERATORS:
        names = ", ".join(map(repr, GENERATORS))
        raise ValidationError(f"there is no key generator {given!r}; give a function, or one of the names {names}")
    return GENERATORS[given][many]


def sha1_mangle_key(key: str | bytes) -> str:
    """Return 40 hexadecimal digits, the SHA-1 of a key of any length."""
    plain = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return sha1(plain, usedforsecurity=False).hexdigest()


def length_conditional_mangler(length: int, mangler: Callable[[str], str]) -> Callable[[str], str]:
    """Return a mangler that applies ``mangler`` to keys of ``length`` characters or more, and returns others as is."""

    def mangle(key: str) -> str:
        return mangler(key) if len(key) >= length else key

    return mangle


class repr_obj:
    """An argument of a log call: the repr is made when the line is printed, and cut in the middle if it is long."""

    __slots__ = ("max_chars", "value")

    def __init__(self, value: Any, max_chars: int = 300) -> None:
        self.value = value
        self.max_chars = max_chars

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other.value) if isinstance(other, repr_obj) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = repr(self.value)
        surplus = len(text) - self.max_chars
        if surplus <= 0:
            return text
        end = self.max_chars // 2
        return f"{text[:end]} ... ({surplus} characters truncated) ... {text[-end:]}"


def refuse_bare(namespace: Any, name: str) -> None:
    """Refuse a decorator without its parentheses, which gets the function as its namespace.

    :raises TypeError: the namespace is a function.
    """
    if callable(namespace) or isinstance(namespace, (staticmethod, classmethod)):
        raise TypeError(f"the namespace is {namespace!r}, a function: write @region.{name}(), with parentheses")


def _text_keys(
    name: str, namespace: str | None, fn: Any, to_str: ToStr, ignore: Iterable[str], **how: bool
) -> Callable[..., Any]:
    from mpcache._keys.text import text_keys  # imports inspect, which is slow to load

    return text_keys(name, namespace, fn, to_str, ignore, **how)
