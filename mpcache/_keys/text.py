"""Make keys from the texts of arguments, as dogpile.cache does, if each text can stand for its argument.

Depends on arguments.  The text of an object that has no __str__ of its own contains its address, at which another
object lies in another process, or later in this one; the text of a large array leaves the middle out.  With such a key
a call could get the value of another call, so it has no key.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from mpcache._keys.arguments import Parameters

_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None), range})
_CONTAINERS = (tuple, list, set, frozenset)
_ARRAY = ("__array__", "__array_interface__", "__dataframe__", "__arrow_c_stream__")


class TextCannotStand(TypeError):
    """The text of an argument cannot stand for it: the call has no key, and is not cached.

    :ivar name: the name of the parameter.
    """

    def __init__(self, function: str, name: str, value: Any, why: str) -> None:
        self.name = name
        kind = type(value)
        super().__init__(
            f"{function}: the text of the argument {name!r}, of type {kind.__module__}.{kind.__qualname__}, {why}, so"
            " that it cannot stand for the argument in a key, and the call is not cached.  Use exact keys"
            f' (function_key_generator="exact"), make the key with key=, leave it out with ignore=({name!r},), or'
            " make its text with to_str="
        )


def why_not(value: Any, text: str, level: int = 0) -> str | None:
    """Return why this text cannot stand for the value; None: it can."""
    kind = type(value)
    if kind in _PLAIN or level > 20:
        return None
    if kind in _CONTAINERS or kind is dict:
        inner = [one for item in value.items() for one in item] if kind is dict else value
        reasons = (why_not(one, repr(one), level + 1) for one in inner if type(one) not in _PLAIN)
        return next((reason for reason in reasons if reason), None)
    if " at 0x" in text or f"{id(value):x}" in text.lower() or str(id(value)) in text:
        return "has an address in it"
    if any(hasattr(kind, name) for name in _ARRAY) and _is_cut(value, text):
        return "leaves some of its values out, or some of their digits"
    return None


def _is_cut(value: Any, text: str) -> bool:
    if "..." in text or "\N{HORIZONTAL ELLIPSIS}" in text:
        return True
    return text not in _in_full(value)


def _in_full(value: Any) -> tuple[str, ...]:
    """Return the texts that an array or a frame may have if they show everything in it; none if that is unknown."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy and isinstance(value, (numpy.ndarray, numpy.generic)):
        with numpy.printoptions(threshold=sys.maxsize, floatmode="unique"):
            return str(value), repr(value)
    if pandas and isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        limits = ("rows", "columns", "colwidth", "seq_items")
        shown = [item for limit in limits for item in (f"display.max_{limit}", None)]
        with pandas.option_context(*shown, "display.width", None, "display.precision", 17):
            return str(value), repr(value)
    return ()


# -- the keys --------------------------------------------------------------------------------------------------------


def text_keys(
    name: str,
    namespace: str | None,
    fn: Any,
    to_str: Callable[[Any], str],
    ignore: Iterable[str],
    *,
    many: bool = False,
    keywords: bool = False,
) -> TextKeys:
    """Return the key maker of a function, with the name that the function has in keys.

    :param many: make a list with a key for each argument.
    :param keywords: accept keyword arguments.
    """
    # Spawned children run the script as __mp_main__; they and their parent must make the same keys.
    module = "__main__" if fn.__module__ == "__mp_main__" else fn.__module__
    start = f"{module}:{name}" + ("" if namespace is None else f"|{namespace}") + "|"
    kind = ManyTextKeys if many else KeywordTextKeys if keywords else TextKeys
    return kind(start, fn, to_str, ignore)


class TextKeys:
    """Makes the key of a call: a start, and the texts of the arguments with blanks between them.

    :param bound: the first argument of each call is the object, or the class, of a method.
    """

    def __init__(
        self, start: str, fn: Any, to_str: Callable[[Any], str], ignore: Iterable[str], bound: bool = False
    ) -> None:
        self.start = start
        self._made_of = start, fn, to_str, ignore
        self._parameters = known = Parameters(fn)
        self._ignore = known.checked(ignore, fn)
        self._to_str = to_str
        # dogpile.cache looks for self and cls in the function itself, not in the function that it wraps.
        self._own = Parameters(fn, follow_wrapped=False)
        self._skip = 1 if bound or self._own.begins_with_receiver else 0
        self._function = f"{fn.__module__}.{fn.__qualname__}()"

    @property
    def bound(self) -> TextKeys:
        """Return these keys for the function as a method that is bound to its object, or its class."""
        return type(self)(*self._made_of, bound=True)

    @property
    def fast(self) -> int | None:
        """Return, for the engine, how many first arguments to skip; None: the engine cannot make the keys."""
        return self._skip if self._to_str is str and not self._ignore else None

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Return the key of a call.

        :raises TextCannotStand: for an argument; never if ``to_str`` is not str.
        """
        self._refuse_keywords(kw)
        given = args[self._skip :]
        if not self._ignore and _PLAIN.issuperset(map(type, given)):
            return self.start + " ".join(map(self._to_str, given))
        return self.start + " ".join(self._text(name, value) for name, value in self._given(args))

    def of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Return the key of a call whose arguments are in the form that :class:`.Arguments` brings them into."""
        return self(*args, **kw)

    def _given(self, args: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """Return the arguments that are in the key, with the names of their parameters."""
        name_at, ignore = self._parameters.name_at, self._ignore
        named = [(name_at(place), value) for place, value in enumerate(args)][self._skip :]
        return [(name, value) for name, value in named if name not in ignore] if ignore else named

    def _refuse_keywords(self, kw: dict[str, Any]) -> None:
        refused = sorted(kw.keys() - self._ignore)
        if refused:
            raise ValueError(
                "dogpile.cache's default key creation function does not accept keyword arguments."
                f"  Got {', '.join(refused)}: name kwarg_function_key_generator as the function_key_generator, or"
                ' "exact".'
            )

    def _text(self, name: str, value: Any) -> str:
        text = self._to_str(value)
        if self._to_str is str and type(value) not in _PLAIN:
            why = why_not(value, text)
            if why:
                raise TextCannotStand(self._function, name, value, why)
        return text


class ManyTextKeys(TextKeys):
    """Makes the keys of a call of many things: a list with one key for each argument."""

    fast = None

    @property
    def cut(self) -> int:
        """Return how many of the first arguments are not things: a receiver, and arguments left out by ``ignore=``."""
        cut = self._skip
        while cut < len(self._parameters.positional) and self._parameters.positional[cut] in self._ignore:
            cut += 1
        return cut

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Return the keys of a call."""
        self._refuse_keywords(kw)
        return [self.start + self._text(name, value) for name, value in self._given(args)]


class KeywordTextKeys(TextKeys):
    """Makes the key of a call of the values of all arguments, in the order of the sorted names."""

    fast = None

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Return the key of a call."""
        given, known = args[self._skip :], self._own
        if len(args) > len(known.positional):
            known = self._parameters
        names = known.positional[self._skip :]
        if len(given) > len(names):
            raise IndexError(f"{self.start}: {len(given)} positional arguments, but names for {len(names)} only")
        defaults = {name: known.defaults[name] for name in names if name in known.defaults}
        values = {**defaults, **dict(zip(names, given, strict=False)), **kw}
        return self.start + " ".join(self._text(name, values[name]) for name in sorted(values.keys() - self._ignore))
