"""The fast reader of stored values, in C."""

from collections.abc import Callable
from typing import Any

def unwire(
    wires: list[Any], now: float, longest: float, loads: Callable[[bytes], Any], nothing: Any, /
) -> tuple[list[Any], list[int]]: ...
def writer_to(pieces: list[Any], /) -> Callable[[Any], None]: ...
