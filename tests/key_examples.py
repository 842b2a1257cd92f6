"""Values of each kind that exact keys encode, each with its part of a key, the same in each Python and process.

This is not a test: processes of other kinds call :func:`disagreeing`, too.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import uuid
import zoneinfo
from collections import namedtuple
from typing import Any, ClassVar, NamedTuple

from mpcache._keys.encoding import part

__all__ = ["decimal", "fractions", "pathlib", "uuid"]  # the expressions use them


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: Any
    y: Any = 0
    origin: ClassVar[int] = 0


@dataclasses.dataclass(frozen=True)
class Slotted:
    """A dataclass without a __dict__."""

    __slots__ = ("x",)
    x: Any


class Pair(NamedTuple):
    """A named tuple."""

    a: Any
    b: Any


Named = namedtuple("Named", ["x"])


class Colour(enum.Enum):
    """An enum."""

    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    """An enum of ints."""

    LOW = 1


class Status(enum.IntEnum):
    """An enum that makes a member for each unknown value, all of one name."""

    OK = 1

    @classmethod
    def _missing_(cls, value: object) -> Status:
        made = int.__new__(cls, value)  # type: ignore[call-overload]
        made._name_, made._value_ = "OK", value
        return made  # type: ignore[no-any-return]


class Nameless(enum.Enum):
    """An enum that makes a member without a name for each unknown value."""

    OK = 1

    @classmethod
    def _missing_(cls, value: object) -> Nameless:
        made = object.__new__(cls)
        made._name_, made._value_ = None, value  # type: ignore[assignment]
        return made


class Bits(enum.Flag):
    """A flag."""

    A = 1
    B = 2


class Text(str):
    """A subclass of str."""


class Counted(int):
    """A subclass of int that hides its value."""

    def __pos__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "hidden"


class Items(list):  # type: ignore[type-arg]
    """A subclass of list."""


@dataclasses.dataclass(init=False)
class Refusal(Exception):
    """A dataclass whose state is that of an exception, and in no field."""


@dataclasses.dataclass(init=False)
class Label(str):
    """A dataclass whose state is a text, and in no field."""

    __slots__ = ()


@dataclasses.dataclass(init=False)
class Ids(list):  # type: ignore[type-arg]
    """A dataclass whose state is a list, and in no field."""


class Row(tuple):  # type: ignore[type-arg]
    """A tuple with the names of its fields, and a ``__dict__``."""

    _fields = ("a",)


class Keyed:
    """A class with __cache_key__()."""

    def __init__(self, id: Any) -> None:
        self.id, self.loaded_at = id, object()

    def __cache_key__(self) -> Any:
        return self.id

    def method(self) -> None: ...


class Plain:
    """A class with plain attributes."""

    def __init__(self, state: Any) -> None:
        self.state = state


def at_module_level() -> None: ...


def at_module_level_of_any(*args: Any) -> None: ...


PARIS = zoneinfo.ZoneInfo("Europe/Paris")
UTC = datetime.timezone.utc
FIVE = datetime.timezone(datetime.timedelta(hours=5), "five")


PINNED: dict[str, str] = {
    "None": "N0:",
    "True": "b1:1",
    "False": "b1:0",
    "0": "i1:0",
    "-31": "i3:-1f",
    "2**70": "i18:400000000000000000",
    "0.1": "f3:0.1",
    "-0.0": "f4:-0.0",
    'float("nan")': "f3:nan",
    'float("-inf")': "f4:-inf",
    "1e300": "f6:1e+300",
    "complex(1, -0.0)": "c8:1.0,-0.0",
    '""': "s0:",
    '"naïve"': "s5:naïve",
    '"\\udce9"': "s1:\udce9",
    'b""': "y0:",
    'b"\\x00\\xff"': "y4:00ff",
    "bytes(65)": "Y48:3478412d388ed2c02eba8baacb290e2da6fa04c9fcd7012b",
    'bytearray(b"ab")': "O74:s18:builtins:bytearrays48:0e6337674a2c62c5aa24b1c777137edd41c68ee20193b9cc",
    "()": "t0:",
    '(1, "1", (2,))': "t15:i1:1s1:1t4:i1:2",
    "[1, [2]]": "L11:i1:1L4:i1:2",
    '{"b": 1, "a": 2}': "m16:s1:bi1:1s1:ai1:2",
    "{3, 1, 2}": "g12:i1:1i1:2i1:3",
    'frozenset({"a", "b"})': "G8:s1:as1:b",
    'decimal.Decimal("-1.50")': "d7:-150E-2",
    'decimal.Decimal("NaN")': "d2:En",
    'decimal.Decimal("-Infinity")': "d4:-0EF",
    "fractions.Fraction(-1, 3)": "q4:-1/3",
    "datetime.date(2024, 2, 29)": "D10:2024-02-29",
    "datetime.datetime(2024, 2, 29, 12, 30, 1, 5)": "T37:s26:2024-02-29T12:30:01.000005i1:0N0:",
    "datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=PARIS)": "T43:s19:2024-10-27T02:30:00i1:1Z12:Europe/Paris",
    "datetime.datetime(2024, 2, 29, tzinfo=UTC)": "T47:s19:2024-02-29T00:00:00i1:0z16:e12:i1:0i1:0i1:0",
    "datetime.time(1, 2, tzinfo=FIVE)": "M45:s8:01:02:00i1:0z26:e15:i1:0i4:4650i1:0s4:five",
    "datetime.timedelta(days=-1, seconds=5)": "e13:i2:-1i1:5i1:0",
    "uuid.UUID(int=5)": "u32:00000000000000000000000000000005",
    'pathlib.PurePosixPath("/a/./b")': "p18:PurePosixPath,/a/b",
    'pathlib.Path("a")': "p11:PosixPath,a",
    "range(0, 9, 2)": "r12:i1:0i1:9i1:2",
    "slice(1, None)": "l10:i1:1N0:N0:",
    "Point(1, 2)": "R48:C24:tests.key_examples:Pointm16:s1:xi1:1s1:yi1:2",
    "Slotted(1)": "R41:C26:tests.key_examples:Slottedm8:s1:xi1:1",
    'Pair(1, "b")': "R47:C23:tests.key_examples:Pairm16:s1:ai1:1s1:bs1:b",
    "Named(1)": "R39:C24:tests.key_examples:Namedm8:s1:xi1:1",
    "Colour.RED": "E35:C25:tests.key_examples:Colours3:RED",
    "Bits.A | Bits.B": "F31:C23:tests.key_examples:Bitsi1:3",
    "Level.LOW": "E34:C24:tests.key_examples:Levels3:LOW",
    'Text("a")': "W34:C23:tests.key_examples:Texts1:am0:",
    "Counted(5)": "W37:C26:tests.key_examples:Countedi1:5m0:",
    "Items([1, 2])": "W42:C24:tests.key_examples:ItemsL8:i1:1i1:2m0:",
    "Keyed(7)": "k32:s24:tests.key_examples:Keyedi1:7",
    "Point": "C24:tests.key_examples:Point",
    "len": "C12:builtins:len",
    "at_module_level": "C34:tests.key_examples:at_module_level",
    "Keyed(7).method": "B71:C31:tests.key_examples:Keyed.methodk32:s24:tests.key_examples:Keyedi1:7",
    'Plain("content")': "O80:s24:tests.key_examples:Plains48:8a016295d74fe8f7082af14597a65da27fbf1b02cd38f2c8",
}


def disagreeing() -> list[str]:
    """Return the expressions whose values have another part in this process."""
    return [text for text, pinned in PINNED.items() if part(eval(text, globals())) != pinned]
