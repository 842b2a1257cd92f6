"""From a function and its arguments to a key, and from a key to one that a store can hold.

Leans on nothing of mpcache.  The keys are letter for letter those of dogpile.cache, so that a store which
both fill is of use to both.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect

ToStr = Callable[[Any], str]

BOUND_NAMES = ("self", "cls")


def function_key_generator(namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str) -> Callable[..., str]:
    """Keys ``module:function|namespace|1 2`` from positional arguments; a leading self or cls is left out.

    The state of ``self`` is therefore no part of the key, 1 and ``"1"`` make the same one, and two methods of
    one name in one module need namespaces to be told apart.

    :param to_str: makes the text of one argument.
    """
    return _of_one(_start(fn.__name__, namespace, fn), fn, to_str)


def function_multi_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str
) -> Callable[..., list[str]]:
    """One key for each positional argument, as :func:`function_key_generator` makes it for this one alone."""
    return _of_many(_start(fn.__name__, namespace, fn), fn, to_str)


def qualname_function_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str
) -> Callable[..., str]:
    """Like :func:`function_key_generator`, with the qualified name: ``module:Class.method|1 2``.

    Methods of one name in two classes of a module need no namespaces then.
    """
    return _of_one(_start(fn.__qualname__, namespace, fn), fn, to_str)


def qualname_function_multi_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str
) -> Callable[..., list[str]]:
    """Like :func:`function_multi_key_generator`, with the qualified name."""
    return _of_many(_start(fn.__qualname__, namespace, fn), fn, to_str)


def kwarg_function_key_generator(
    namespace: str | None, fn: Callable[..., Any], to_str: ToStr = str
) -> Callable[..., str]:
    """Like :func:`function_key_generator`, and keywords are welcome: values in the order of the sorted names.

    The names themselves are not in the key: of a function with ``**kw``, f(x=1) and f(y=1) are one entry.
    """
    start = _start(fn.__name__, namespace, fn)
    spec = _spec(fn)
    skip = _receivers(spec)
    names = spec.args[skip:]
    defaults = dict(zip(reversed(spec.args), reversed(spec.defaults or ()), strict=False))

    def generate_key(*args: Any, **kw: Any) -> str:
        given = args[skip:]
        if len(given) > len(names):
            raise IndexError(f"{start}: {len(given)} positional arguments, and names for {len(names)} only")
        values = {**defaults, **dict(zip(names, given, strict=False)), **kw}
        return start + " ".join(to_str(values[name]) for name in sorted(values))

    return generate_key


def sha1_mangle_key(key: str | bytes) -> str:
    """40 hexadecimal digits for a key of any length."""
    return sha1(key.encode("utf-8") if isinstance(key, str) else key, usedforsecurity=False).hexdigest()


def length_conditional_mangler(length: int, mangler: Callable[[str], str]) -> Callable[[str], str]:
    """A mangler that leaves keys of fewer than ``length`` characters as they are."""

    def mangle(key: str) -> str:
        return mangler(key) if len(key) >= length else key

    return mangle


class repr_obj:
    """Keys on their way into a log: the repr is made when it is printed, and cut in the middle when long."""

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


def _of_one(start: str, fn: Callable[..., Any], to_str: ToStr) -> Callable[..., str]:
    skip = _receivers(_spec(fn))

    def generate_key(*args: Any, **kw: Any) -> str:
        _refuse_keywords(kw)
        return start + " ".join(map(to_str, args[skip:]))

    if to_str is str:
        generate_key.recipe = start, skip  # type: ignore[attr-defined]  # for who can do it without making a str
    return generate_key


def _of_many(start: str, fn: Callable[..., Any], to_str: ToStr) -> Callable[..., list[str]]:
    skip = _receivers(_spec(fn))

    def generate_keys(*args: Any, **kw: Any) -> list[str]:
        _refuse_keywords(kw)
        return [start + to_str(arg) for arg in args[skip:]]

    return generate_keys


def _start(name: str, namespace: str | None, fn: Callable[..., Any]) -> str:
    middle = "" if namespace is None else f"|{namespace}"
    # Spawned children run the script as __mp_main__; they and their parent must come to the same keys.
    module = "__main__" if fn.__module__ == "__mp_main__" else fn.__module__
    return f"{module}:{name}{middle}|"


def _spec(fn: Callable[..., Any]) -> inspect.FullArgSpec:
    import inspect  # milliseconds of `import mpcache`, for those who decorate nothing

    try:
        return inspect.getfullargspec(fn)
    except TypeError:  # some builtins do not tell their parameters
        return inspect.FullArgSpec([], "args", None, None, [], None, {})


def _receivers(spec: inspect.FullArgSpec) -> int:
    return 1 if spec.args and spec.args[0] in BOUND_NAMES else 0


def _refuse_keywords(kw: dict[str, Any]) -> None:
    if kw:
        raise ValueError(
            "dogpile.cache's default key creation function does not accept keyword arguments."
            f"  Got {', '.join(sorted(kw))}: name kwarg_function_key_generator as the function_key_generator."
        )
