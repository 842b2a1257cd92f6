"""Refuse objects that cannot be cached, such as generators, and results of creators of many that have no order.

Depends on exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from mpcache.exception import CantSerializeException

_USED_UP = (GeneratorType, CoroutineType, AsyncGeneratorType)

_REMEDIES = {
    GeneratorType: "it can be read once only; return a list of what it yields",
    CoroutineType: "it can be awaited once only; await aget_or_create(), or decorate the async function itself",
    AsyncGeneratorType: "it can be read once only; collect it in a list, in an async function, for aget_or_create()",
}


def refuse_used_up(key: Any, value: Any) -> None:
    """Refuse a value that only its first reader could use, on every store.

    :param key: the user's, for the error's text.
    :raises CantSerializeException: the value is a generator, a coroutine or an async generator.
    """
    if isinstance(value, _USED_UP):
        kind = type(value).__name__.replace("_", " ")
        raise CantSerializeException(f"the value of key {key!r} is a {kind}: {_REMEDIES[type(value)]}")


def in_order(values: Any, made_by: str) -> Iterable[Any]:
    """Return the result of a creator of many values, if it has an order in which it can be paired with the keys.

    :param made_by: the creator, for the error's text.
    :raises TypeError: it is a mapping, a set, a text, bytes, or nothing to iterate over.
    """
    if isinstance(values, Mapping):
        remedy = "cache_multi_on_arguments(asdict=True) takes a mapping"
        raise TypeError(_wrong(made_by, "a mapping", values, remedy))
    if isinstance(values, Set):
        raise TypeError(_wrong(made_by, "a set, which has no order", values, "a list has one"))
    if isinstance(values, (str, bytes, bytearray)):
        raise TypeError(_wrong(made_by, "one text", values, "put it in a list if it is the value of a single key"))
    if not isinstance(values, Iterable) and not hasattr(values, "__getitem__"):
        raise TypeError(_wrong(made_by, "a single object", values, "put it in a list if it is of a single key"))
    return values  # type: ignore[no-any-return]


def by_key(values: Any, made_by: str) -> Mapping[Any, Any]:
    """Return the result of a function with ``asdict=True``.

    :raises TypeError: it is not a mapping, and has not the methods of one.
    """
    if not hasattr(values, "get") or not hasattr(values, "__getitem__"):
        raise TypeError(f"{made_by} returned a {type(values).__name__}; with asdict=True it must return a mapping")
    return values  # type: ignore[no-any-return]


def _wrong(made_by: str, what: str, values: Any, remedy: str) -> str:
    return (
        f"{made_by} returned {what} ({type(values).__name__}); it must return a sequence of values in the order of its"
        f" keys; {remedy}"
    )
