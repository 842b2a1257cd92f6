"""Pickles in pieces: the pickle of a value whose large buffers are not copied.

The C function writer_to (_wire.c) does the same as the Python one here, faster.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

Payload: TypeAlias = "bytes | tuple[Any, ...]"
"""The stored form of a value without its header: bytes, or pieces (bytes and other buffers) that make them up."""


def _writer_to(pieces: list[Any]) -> Callable[[Any], None]:
    """Return a function that appends its argument to the pieces; a copy of it, unless it is bytes."""
    return lambda piece: pieces.append(piece if type(piece) is bytes else bytes(piece))


try:
    from mpcache._wire._wire import writer_to
except ImportError:  # the extension was not compiled
    writer_to = _writer_to


class _File:
    """A file for a pickler.  Bytes, bytearrays and arrays of 64 KiB or more arrive as they are, between the rest."""

    def __init__(self, write: Callable[[Any], None]) -> None:
        self.write = write


def pickling(still: bool = False) -> tuple[Callable[[Any], None], Callable[[], None], list[Any]]:
    """Return (dump, forget, pieces), for one thread: ``dump(value)`` adds to the pieces, ``forget()`` clears the
    pickler's memo.  To use them again, clear the pieces; after an exception, make new ones.

    :param still: the value is an array, and no code runs that could change its memory: it is not copied.
    """
    pieces: list[Any] = []
    pickler = pickle.Pickler(_File(pieces.append if still else writer_to(pieces)), 5)
    return pickler.dump, pickler.clear_memo, pieces


def pickled(value: Any) -> Payload:
    """Return what ``pickle.dumps(value, 5)`` returns, or a tuple of its pieces; raises what that raises."""
    still = type(value) is getattr(sys.modules.get("numpy"), "ndarray", None)
    still = still and not value.dtype.hasobject and value.flags.forc
    dump, _, pieces = pickling(still)
    dump(value)
    if still:  # what the pickler wrote points into the array, and does not keep it alive
        pieces = [pickle.PickleBuffer(value).raw() if type(piece) is memoryview else piece for piece in pieces]
    return pieces[0] if len(pieces) == 1 else tuple(pieces)
