"""Read the signature of a function, once and in one way, and bring the arguments of its calls into one form.

Depends on nothing of mpcache.  Keys, the binding of a call's arguments and error messages all use this reading.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

BOUND_NAMES = ("self", "cls")
"""Text keys leave out a first parameter with such a name, whether or not the function is a method."""

Call = tuple[tuple[Any, ...], dict[str, Any]]

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def signature_of(fn: Any, follow_wrapped: bool = True) -> inspect.Signature | None:
    """Return the signature of a callable; None: it has none, as some builtins.

    :param follow_wrapped: return that of the wrapped function if a decorator has recorded it, by ``functools.wraps``.
    """
    try:
        return inspect.signature(fn, follow_wrapped=follow_wrapped)
    except (TypeError, ValueError):
        return None


def plain_and_given(fn: Any) -> tuple[Any, Call]:
    """Return the function inside a partial or a bound method, and the arguments that these add to it.

    A partial is a half-made call, so it shares its values with the function inside it.

    :raises TypeError: the function has no name to make keys of.
    """
    if isinstance(fn, functools.partial):
        plain, (args, kw) = plain_and_given(fn.func)
        return plain, ((*args, *fn.args), {**kw, **fn.keywords})
    if inspect.ismethod(fn):
        plain, (args, kw) = plain_and_given(fn.__func__)
        return plain, ((*args, fn.__self__), kw)
    if not callable(fn):
        raise TypeError(f"{fn!r} cannot be called, so it cannot be decorated; decorate a function")
    if not hasattr(fn, "__name__"):
        raise TypeError(f"{fn!r} has no name to make keys of; decorate a function that calls it")
    return fn, ((), {})


class Parameters:
    """The parameters of a function, in the order of its signature.

    :param follow_wrapped: as in :func:`signature_of`.
    :ivar positional: the names of the parameters that a call may give by position.
    :ivar rest: the name after ``*``, or None.
    :ivar by_name: the names of keyword-only parameters.
    :ivar others: the name after ``**``, or None.
    :ivar defaults: the default values by name.
    """

    def __init__(self, fn: Any, follow_wrapped: bool = True) -> None:
        plain = getattr(fn, "__func__", fn)  # for a bound method: its calls here have the object as an argument, too
        self.signature = signature_of(plain, follow_wrapped)
        known = self.signature.parameters.values() if self.signature else _ANY.parameters.values()
        self.positional = [p.name for p in known if p.kind in _BY_POSITION]
        self.by_name = [p.name for p in known if p.kind is p.KEYWORD_ONLY]
        self.rest = next((p.name for p in known if p.kind is p.VAR_POSITIONAL), None)
        self.others = next((p.name for p in known if p.kind is p.VAR_KEYWORD), None)
        self.defaults = {p.name: p.default for p in known if p.default is not p.empty}

    @property
    def names(self) -> list[str]:
        """Return the names of all parameters."""
        rest, others = ([name] if name else [] for name in (self.rest, self.others))
        return [*self.positional, *rest, *self.by_name, *others]

    @property
    def begins_with_receiver(self) -> bool:
        """Return whether the first parameter is called self or cls."""
        return bool(self.positional) and self.positional[0] in BOUND_NAMES

    def name_at(self, place: int) -> str:
        """Return the name of the parameter that takes the positional argument at this index."""
        return self.positional[place] if place < len(self.positional) else self.rest or f"number {place + 1}"

    def checked(self, ignore: Iterable[str], fn: Any) -> frozenset[str]:
        """Return the names to leave out of keys.

        :raises TypeError: there is no parameter of such a name, or ``ignore`` is a single str.
        """
        if isinstance(ignore, str):
            raise TypeError(f"ignore={ignore!r} is a str; give a tuple of names: ignore=({ignore!r},)")
        names = frozenset(ignore)
        for name in names:
            if name not in self.names:
                known = ", ".join(self.names) or "none"
                raise TypeError(
                    f"ignore: {getattr(fn, '__qualname__', fn)} has no parameter {name!r}; its parameters: {known}"
                )
        return names


def _any(*args: Any, **kw: Any) -> None: ...


_ANY = inspect.signature(_any)


class Arguments:
    """Normalizes the arguments of a call: by position where possible, with defaults filled in."""

    def __init__(self, fn: Any, args: tuple[Any, ...] = (), kw: dict[str, Any] | None = None) -> None:
        self._args, self._kw = args, kw or {}
        self.missing: dict[int, tuple[Any, ...]] = {}
        """From the number of positional arguments of a call without keywords to the defaults that complete the call."""
        self._by_name: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self._signature = signature_of(fn)
        self._unfollowed = signature_of(fn, False) if hasattr(fn, "__wrapped__") else None
        parameters = list(self._signature.parameters.values()) if self._signature else []
        self.first = parameters[0].name if parameters else None
        if all(parameter.kind in _BY_POSITION for parameter in parameters):
            self._prepare(parameters)

    def _prepare(self, parameters: list[inspect.Parameter]) -> None:
        for given in range(len(parameters) + 1):
            rest = parameters[given:]
            if all(parameter.default is not parameter.empty for parameter in rest):
                self.missing[given] = tuple(parameter.default for parameter in rest)
            if all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in rest):
                defaults = {parameter.name: parameter.default for parameter in rest}
                required = {parameter.name for parameter in rest if parameter.default is parameter.empty}
                self._by_name[given] = defaults, required

    def bind(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        """Return the arguments in the normalized form.

        :raises TypeError: where the function itself would raise it.
        """
        if self._args or self._kw:
            args, kw = (*self._args, *args), {**self._kw, **kw}
        if not kw:
            missing = self.missing.get(len(args))
            if missing is not None:
                return args + missing, kw
        elif len(args) in self._by_name:
            defaults, required = self._by_name[len(args)]
            if required <= kw.keys() <= defaults.keys():
                return args + tuple({**defaults, **kw}.values()), {}  # in the order of the parameters
        return self._bind_in_full(args, kw)

    def _bind_in_full(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Call:
        if self._signature is None:
            return args, kw
        try:
            bound = self._signature.bind(*args, **kw)
        except TypeError:
            if self._unfollowed is None:
                raise
            bound = self._unfollowed.bind(*args, **kw)  # the decorator takes other arguments than its function
        bound.apply_defaults()
        return bound.args, bound.kwargs

    def fit(self, args: tuple[Any, ...], kw: dict[str, Any]) -> bool:
        """Return whether the function accepts these arguments."""
        try:
            self.bind(args, kw)
        except TypeError:
            return False
        return True
