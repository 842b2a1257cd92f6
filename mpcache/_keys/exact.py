"""Make exact keys of calls: two calls have one key only if the function and the arguments are the same.

Depends on encoding, which makes the part of a value, and on arguments.  The key of a call is::

    module:qualname|        n5:users         s5:alice i1:2     *8:i1:1i1:2   b1:1            &...
    (| and : are escaped)   the namespace    by position       *args         keyword-only    **kw, sorted by name

in one line, without the blanks.  A key over 200 bytes ends in 192 bits of BLAKE2b of the whole key, marked by ``|~``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mpcache._keys.arguments import Arguments, Parameters
from mpcache._keys.encoding import NotEncodable, module_of, part
from mpcache._keys.tags import digest, joined, tagged

LONGEST = 200
"""The most bytes of a key, in UTF-8."""

_HEAD = LONGEST - 52  # "|~" and "~" and 48 hexadecimal digits, and one byte that a long start loses

DEFAULT = "o0:"
"""Stands for an argument that is the parameter's default and that cannot be encoded."""


class ExactKeys:
    """Makes the key of a call.

    :param bound: the first argument of each call is the object, or the class, of a method.
    """

    def __init__(
        self, namespace: str | None, fn: Any, to_str: Callable[[Any], str], ignore: Iterable[str], bound: bool = False
    ) -> None:
        self.start = start_of(namespace, fn)
        self._made_of = namespace, fn, to_str, ignore
        self._fn, self._parameters, self._arguments = fn, Parameters(fn), Arguments(fn)
        self._ignore = self._parameters.checked(ignore, fn)
        self._to_str = None if to_str is str else to_str
        self._bound = bound

    @property
    def bound(self) -> ExactKeys:
        """Return these keys for the function as a method that is bound to its object, or its class."""
        return type(self)(*self._made_of, bound=True)

    @property
    def fast(self) -> tuple[int, int] | None:
        """Return, for the engine, how many first arguments to skip, and how many parts follow.

        The latter is -1 less the parts before ``*args``, if there are ``*args``.  None: the engine cannot make these.
        """
        known = self._parameters
        left_out = [name in self._ignore for name in known.positional]
        skip = left_out.index(False) if False in left_out else len(left_out)
        plain = not (known.by_name or known.others or self._to_str or any(left_out[skip:]))
        if not plain or known.rest in self._ignore or (self._bound and not skip):
            return None
        fixed = len(known.positional) - skip
        return skip, -1 - fixed if known.rest else fixed

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Return the key of a call with these arguments.

        :raises TypeError: the function does not accept these arguments, or an argument cannot be part of a key.
        """
        return self.of(*self._arguments.bind(args, kw))

    def of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Return the key of a call whose arguments are in the form that :class:`.Arguments` brings them into."""
        known, pieces = self._parameters, [self.start]
        positional = known.positional
        if self._bound:
            pieces.append(self._receiver(args[0]))
            args, positional = args[1:], positional[1:]
        fixed = len(positional)
        pieces += map(self._part, positional, args)
        if len(args) < fixed or (len(args) > fixed and not known.rest):
            pieces.append("!")  # normalized by the decorator around the function, which takes other arguments
        if (known.rest or args[fixed:]) and known.rest not in self._ignore:
            pieces.append(joined("*", [self._part(known.rest or "*", one) for one in args[fixed:]]))
        return shortened("".join(pieces) + self._named(kw), len(self.start))

    def _named(self, kw: dict[str, Any]) -> str:
        known = self._parameters
        # A "!" stands for a keyword-only argument that is missing: a decorator around the function provides it.
        pieces = [self._part(name, kw[name]) if name in kw else "!" for name in known.by_name]
        others = sorted(kw.keys() - set(known.by_name))
        if (known.others or others) and known.others not in self._ignore:
            named = (tagged("s", name) + self._part(name, kw[name]) for name in others if name not in self._ignore)
            pieces.append(joined("&", named))
        return "".join(pieces)

    def _part(self, name: str, value: Any) -> str:
        if name in self._ignore:
            return ""
        if self._to_str:
            return part(self._to_str(value))
        try:
            return part(value)
        except NotEncodable as error:
            defaults = self._parameters.defaults
            if name in defaults and value is defaults[name]:
                return DEFAULT
            raise TypeError(self._refusal(name, value, error)) from error

    def _receiver(self, value: Any) -> str:
        name = self._parameters.name_at(0)
        if name in self._ignore:
            return ""
        if isinstance(value, type) or hasattr(type(value), "__cache_key__"):
            return self._part(name, value)
        raise TypeError(
            f"{name_of(self._fn)}() is a method, and its key cannot distinguish one {type(value).__qualname__}"
            f" from another: give the class __cache_key__(), or leave the object out of the key with ignore=({name!r},)"
        )

    def _refusal(self, name: str, value: Any, error: NotEncodable) -> str:
        return (
            f"{name_of(self._fn)}(): the argument {name!r}, of type {type(value).__qualname__}, {error}."
            f"  It cannot be part of a key: leave it out with ignore=({name!r},), make the key with key=,"
            " or give its class __cache_key__()"
        )


class ExactManyKeys(ExactKeys):
    """Makes the keys for a call of a function of many things: a list with one key for each thing."""

    @property
    def cut(self) -> int:
        """Return how many of the first arguments are not things: a receiver, and arguments left out by ``ignore=``."""
        return leading(self._parameters, self._ignore, self._bound)

    def of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Return the keys of the things in a call, in their order."""
        start = self.start + (self._receiver(args[0]) if self._bound else "")
        end, cut, known = self._named(kw), self.cut, self._parameters
        texts = (self._part(known.name_at(place + cut), thing) for place, thing in enumerate(args[cut:]))
        return [shortened(start + text + end, len(self.start)) for text in texts]


class SaidKeys:
    """Makes the key of a call from the result of ``key=`` for its arguments.

    :param key_function: the function given as ``key=``; gets the arguments, those of a method with the object first.
    """

    fast = None

    def __init__(self, namespace: str | None, fn: Any, key_function: Callable[..., Any]) -> None:
        self.start = start_of(namespace, fn)
        self._fn, self._key_function, self._arguments = fn, key_function, Arguments(fn)

    @property
    def bound(self) -> SaidKeys:
        """Return this key maker itself: a receiver is in the key if ``key=`` puts it there."""
        return self

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Return the key of a call with these arguments."""
        return self.of(*self._arguments.bind(args, kw))

    def of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Return the key of a call whose arguments are in the form that :class:`.Arguments` brings them into."""
        return self._key(args, kw)

    def _key(self, args: tuple[Any, ...], kw: dict[str, Any]) -> str:
        returned = self._key_function(*args, **kw)
        try:
            return shortened(f"{self.start}{part(returned)}", len(self.start))
        except NotEncodable as error:
            kind = type(returned).__qualname__
            raise TypeError(
                f"{name_of(self._fn)}(): key= returned something of type {kind}, which {error}; return a str, or a"
                " tuple of values that can be part of a key"
            ) from error


class SaidManyKeys(SaidKeys):
    """The same for a function of many things: ``key=`` gets one thing, after the receiver if there is one."""

    def __init__(self, namespace: str | None, fn: Any, key_function: Callable[..., Any], bound: bool = False) -> None:
        super().__init__(namespace, fn, key_function)
        self._made_of = namespace, fn, key_function
        self.cut = leading(Parameters(fn), frozenset(), bound)

    @property
    def bound(self) -> SaidManyKeys:
        """Return these keys for the function as a method."""
        return type(self)(*self._made_of, bound=True)

    def of(self, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Return the keys of the things in a call, in their order."""
        return [self._key((*args[: self.cut], thing), kw) for thing in args[self.cut :]]


def leading(known: Parameters, ignore: frozenset[str], bound: bool) -> int:
    """Return how many of the first arguments of a function of many things are not things."""
    cut = 1 if bound else 0
    while cut < len(known.positional) and known.positional[cut] in ignore:
        cut += 1
    return cut


def start_of(namespace: str | None, fn: Any) -> str:
    """Return the common beginning of a function's keys."""
    module, name = (
        text.replace("%", "%25").replace("|", "%7c").replace(":", "%3a") for text in (module_of(fn), fn.__qualname__)
    )
    return f"{module}:{name}|" + ("" if namespace is None else tagged("n", str(namespace)))


def name_of(fn: Any) -> str:
    """Return the name of a function for messages."""
    return f"{module_of(fn)}.{fn.__qualname__}"


def shortened(key: str, start: int) -> str:
    """Return a short key as it is; shorten a long one to its beginning, for people, and a digest of the whole.

    :param start: the length of the part before the arguments.
    """
    if len(key) <= LONGEST // 4 or (len(key) <= LONGEST and key.isascii()):
        return key
    whole = key.encode("utf-8", "surrogatepass")
    if len(whole) <= LONGEST:
        return key
    name, _, rest = key.partition("|")
    head = f"{name}|~{rest}".encode("utf-8", "surrogatepass")
    if len(name.encode("utf-8", "surrogatepass")) > _HEAD:
        head = name.encode("utf-8", "surrogatepass")[:_HEAD] + b"|~"
    return f"{head[: _HEAD + 2].decode('utf-8', 'ignore')}~{digest(whole)}"
