"""Encode a value as one part of an exact key: equal parts mean equal values, of the same exact types.

Depends on tags, and on arrays, which it loads with the first array.  A part is ``tag length : text``, with
the length in characters, so that a sequence of parts can be read in one way only; the text of a container is the
parts of what it contains::

    N0:                              None
    b1:1  i3:-1f  f3:0.5  c8:0.5,-1.0                 bool, int in hexadecimal, float and complex by their repr
    s5:Paris  y4:00ff  Y48:...       str; bytes in hexadecimal; bytes over 64 by 192 bits of BLAKE2b
    t8:i1:1i1:2  L...  m...  g...  G...               tuple, list, dict (keys and values), set, frozenset (sorted)
    d q D T M e z Z u p r l          Decimal, Fraction, date, datetime, time, timedelta, timezone, ZoneInfo, UUID, Path,
                                     range, slice
    k E F R W                        __cache_key__, Enum, Flag, fields of a record, subclass of a builtin: class first
    a A v x                          arrays and frames, see arrays
    C B O                            a class or function by its name, a bound method, a pickle by its digest

Processes of every supported Python agree on this format, and tests/test_keys_exact.py pins it.  To change it is to
lose every cached value of every program that upgrades.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import io
import pathlib
import pickle
import sys
import types
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from mpcache._keys.tags import digest, joined, tagged

MOST_LEVELS = 100
"""The most levels of containers in containers.  A cycle has more."""

_LONG_BYTES = 64
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made by a class statement, not in C

_Encoder = Callable[[Any, int], str]


class NotEncodable(TypeError):
    """The value cannot be part of a key.  The text gives the reason, as a predicate after the name of a parameter."""


def part(value: Any, level: int = 0) -> str:
    """Return the part of a key that stands for this value and for no other.

    :param level: the nesting level of the container that the value is in.
    :raises NotEncodable: the value contains itself, has over 100 levels, or cannot be pickled.
    """
    if level > MOST_LEVELS:
        raise NotEncodable(f"contains itself, or has over {MOST_LEVELS} levels")
    encode = _EXACT.get(type(value), _other)
    return encode(value, level)


def module_of(thing: Any) -> str:
    """Return the module name of an object; a spawned child runs its parent's ``__main__`` as ``__mp_main__``."""
    name = str(getattr(thing, "__module__", None))
    return "__main__" if name == "__mp_main__" else name


# -- exact builtins --------------------------------------------------------------------------------------------------


def _bytes(value: bytes, level: int) -> str:
    return tagged("y", value.hex()) if len(value) <= _LONG_BYTES else tagged("Y", digest(value))


def _dict(value: dict[Any, Any], level: int) -> str:
    return joined("m", (part(one, level + 1) for item in dict.items(value) for one in item))


def _sequence(tag: str) -> _Encoder:
    return lambda value, level: joined(tag, [part(one, level + 1) for one in value])


def _unordered(tag: str) -> _Encoder:
    return lambda value, level: joined(tag, sorted(part(one, level + 1) for one in value))


def _attributes(tag: str, *names: str) -> _Encoder:
    return lambda value, level: joined(tag, [part(getattr(value, name), level + 1) for name in names])


def _by_text(tag: str, text: Callable[[Any], str]) -> _Encoder:
    return lambda value, level: tagged(tag, text(value))


def _decimal(value: Decimal) -> str:
    sign, digits, exponent = value.as_tuple()
    return f"{'-' if sign else ''}{''.join(map(str, digits))}E{exponent}"


def _zoned(tag: str) -> _Encoder:
    """Return the part of a time, with or without a date: the clock, the fold (which of two equal hours), the zone."""
    return lambda value, level: joined(
        tag, [tagged("s", value.replace(tzinfo=None).isoformat()), f"i1:{value.fold}", part(value.tzinfo, level + 1)]
    )


_EXACT: dict[type, _Encoder] = {
    type(None): lambda value, level: "N0:",
    bool: lambda value, level: "b1:1" if value else "b1:0",
    int: _by_text("i", lambda value: format(value, "x")),
    float: _by_text("f", float.__repr__),
    complex: _by_text("c", lambda value: f"{value.real!r},{value.imag!r}"),
    str: lambda value, level: f"s{len(value)}:{value}",
    bytes: _bytes,
    tuple: _sequence("t"),
    list: _sequence("L"),
    dict: _dict,
    set: _unordered("g"),
    frozenset: _unordered("G"),
    Decimal: _by_text("d", _decimal),
    Fraction: _by_text("q", lambda value: f"{value.numerator:x}/{value.denominator:x}"),
    dt.date: _by_text("D", dt.date.isoformat),
    dt.datetime: _zoned("T"),
    dt.time: _zoned("M"),
    dt.timedelta: _attributes("e", "days", "seconds", "microseconds"),
    dt.timezone: lambda value, level: _sequence("z")(value.__getinitargs__(), level),  # the offset, and a name
    UUID: _by_text("u", lambda value: value.hex + ("" if value.is_safe.value is None else f",{value.is_safe.value}")),
    range: _attributes("r", "start", "stop", "step"),
    slice: _attributes("l", "start", "stop", "step"),
    **{
        kind: _by_text("p", lambda value: f"{type(value).__name__},{value}")
        for kind in (
            *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
            *(pathlib.PurePath, pathlib.Path),
        )
    },
}


# -- all other objects, in this order --------------------------------------------------------------------------------


def _other(value: Any, level: int) -> str:
    if hasattr(type(value), "__cache_key__"):
        return joined("k", [tagged("s", _name(type(value))), part(value.__cache_key__(), level + 1)])
    for encode in _IN_ORDER:
        text = encode(value, level + 1)
        if text is not None:
            return text
    return _pickle(value)


def _zone(value: Any, level: int) -> str | None:
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is None or type(value) is not zoneinfo.ZoneInfo or value.key is None:
        return None
    return tagged("Z", value.key)


def _enum(value: Any, level: int) -> str | None:
    if not isinstance(value, enum.Enum) or not _is_importable(type(value)):
        return None
    kind = type(value)
    if isinstance(value, enum.Flag):
        return joined("F", [_class(kind), part(value.value, level)])
    if kind.__members__.get(value.name) is value:
        return joined("E", [_class(kind), tagged("s", value.name)])
    return joined("E", [_class(kind), part(value.name, level), part(value.value, level)])  # _missing_() has made it


def _record(value: Any, level: int) -> str | None:
    """Return the part of a dataclass, attrs class, named tuple or pydantic model that has no state but its fields."""
    fields = _fields(value)
    if fields is None or not _is_importable(type(value)):
        return None
    return joined("R", [_class(type(value)), part(fields, level)])


def _fields(value: Any) -> dict[str, Any] | None:
    kind = type(value)
    own = kind.__dict__
    if "_fields" in own and isinstance(value, tuple):
        names = own["_fields"]
        whole = len(names) == len(value) and not _state(value)
        return dict(zip(names, tuple.__iter__(value), strict=True)) if whole else None
    if "__dataclass_fields__" in own or "__attrs_attrs__" in own:
        fields = dataclasses.fields(value) if "__dataclass_fields__" in own else own["__attrs_attrs__"]
        names = [field.name for field in fields]
        state = _state(value) if _holds_state_in_attributes(kind) else None
        return {name: state[name] for name in names} if state is not None and state.keys() == set(names) else None
    return _fields_of_pydantic(value)


def _fields_of_pydantic(value: Any) -> dict[str, Any] | None:
    pydantic = sys.modules.get("pydantic")
    model = getattr(pydantic, "BaseModel", None)
    if model is None or not isinstance(value, model) or not hasattr(type(value), "model_fields"):
        return None
    fields = {name: vars(value)[name] for name in type(value).model_fields if name in vars(value)}
    return {"fields": fields, "extra": value.__pydantic_extra__, "private": value.__pydantic_private__}


def _state(value: Any) -> dict[str, Any]:
    """Return all attributes of an object: those in its ``__dict__`` and in the slots of its classes."""
    slots: dict[str, Any] = {}
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, types.MemberDescriptorType) and hasattr(value, name):
                slots[name] = getattr(value, name)
    return {**slots, **getattr(value, "__dict__", {})}


def _holds_state_in_attributes(kind: type) -> bool:
    """Return whether the attributes are the whole state: no base class in C and no pickling of its own holds more."""
    return _pickles_as(kind, object) and all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)


def _pickles_as(kind: Any, base: Any) -> bool:
    """Return whether a class has no pickling methods of its own."""
    return kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is base.__reduce__


def _array(value: Any, level: int) -> str | None:
    if type(value).__module__.partition(".")[0] not in ("numpy", "pandas"):
        return None
    from mpcache._keys.arrays import ArrayEncoder  # imports numpy, which is loaded already

    return ArrayEncoder(part).part(value, level)


def _named(value: Any, level: int) -> str | None:
    if isinstance(value, types.MethodType):
        return joined("B", [_function(value.__func__), part(value.__self__, level)])
    if isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, (types.ModuleType, type(None))):
        return None  # a method of an object in C
    if isinstance(value, type):
        return _class(value)
    return _function(value) if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)) else None


def _function(function: Any) -> str:
    if not _is_importable(function):
        raise NotEncodable(
            f"is {function!r}, which cannot be found under its name: a lambda, a closure, or one that was replaced"
        )
    return tagged("C", _name(function))


def _class(kind: type) -> str:
    if not _is_importable(kind):
        raise NotEncodable(f"is {kind!r}, which cannot be found under its name: it was made in a function, or replaced")
    return tagged("C", _name(kind))


def _name(thing: Any) -> str:
    return f"{module_of(thing)}:{thing.__qualname__}"


def _is_importable(thing: Any) -> bool:
    """Return whether the name of a class or function leads to it, and not to another object."""
    found = sys.modules.get(getattr(thing, "__module__", None) or "")
    for name in getattr(thing, "__qualname__", "").split("."):  # a bound partial has neither
        found = getattr(found, name, None)
    return found is thing or getattr(found, "__func__", None) is thing


_BASES = (str, int, float, complex, bytes, tuple, list, dict, set, frozenset)


def _subclass(value: Any, level: int) -> str | None:
    """Return the part of an object whose class derives from str, int, list ...: class, derived value, state."""
    kind = type(value)
    base = next((base for base in kind.__mro__ if base in _BASES), None)
    own = [one for one in kind.__mro__ if one not in (base, object)]
    if base is None or not _is_importable(kind) or not _pickles_as(kind, base):
        return None
    if not all(one.__flags__ & _HEAP_TYPE for one in own):
        return None
    return joined("W", [_class(kind), part(_plain(base, value), level), part(_state(value), level)])


def _plain(base: Any, value: Any) -> Any:
    """Return the builtin value in an object of a subclass, whatever methods the subclass has."""
    if base is dict:
        return dict(dict.items(value))
    if base in (tuple, list, set, frozenset):
        return base(base.__iter__(value))
    if base is bytes:
        return bytes.__getitem__(value, slice(None))
    return str.__str__(value) if base is str else base.__pos__(value)


_IN_ORDER: tuple[Callable[[Any, int], str | None], ...] = (_zone, _enum, _record, _array, _named, _subclass)


# -- objects without another encoding: by their pickle -----------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """A pickler that writes equal bytes for equal contents: an object that occurs twice is written twice."""

    def __init__(self, out: io.BytesIO) -> None:
        super().__init__(out, 4)
        self.fast = True

    def reducer_override(self, value: Any) -> Any:
        if type(value) is object:
            raise NotEncodable("contains a bare object(), which is equal to nothing in another process")
        of_main = isinstance(value, (type, types.FunctionType)) and module_of(value) == "__main__"
        if of_main or hasattr(type(value), "__cache_key__"):
            return _stands_for, (part(value),)
        return NotImplemented


def _stands_for(text: str) -> None:
    """Stand in a pickle for an object whose part is known; such a pickle is never read."""


def _pickle(value: Any) -> str:
    if type(value) is object:
        raise NotEncodable("is a bare object(), which is equal to nothing in another process")
    out = io.BytesIO()
    try:
        _Pickler(out).dump(value)
    except Exception as error:
        raise NotEncodable(f"cannot be pickled: {error}") from error
    return joined("O", [tagged("s", _name(type(value))), tagged("s", digest(out.getbuffer()))])
