"""A value and what is known of it, to bytes and back.

Leans on _wire, for speed.  The bytes are those of dogpile.cache, both ways::

    {"ct": 1795289673.26, "v": 2}|<payload>    ct  when its creation ended, seconds since the Unix epoch
                                               v   the version of this format
                                               x   when its time to live ends, if it was given one
                                               e   the epoch of its beginning, where a store counts epochs
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from mpcache._support.signal_handlers import raised_by_signal_handler

value_version = 2

# What stands before and after the time in nearly all values, of which nothing else is known; and where that begins.
_BEFORE, _AFTER = b'{"ct": ', b'"v": %d' % value_version
_PLAIN = b", " + _AFTER + b"}|"
_CREATED = len(_BEFORE)
_NEAR = 64
"""Bytes within which such a head is over: who looks for its end does not search a megabyte."""
_EXPIRES, _EPOCH = b', "x": ', b', "e": '


Payload: TypeAlias = "bytes | tuple[Any, ...]"
"""What is stored of a value: bytes; or pieces that make them up, bytes and other buffers, the large ones not copied."""


def _writer_to(pieces: list[Any]) -> Callable[[Any], None]:
    """Return a function that appends what it is given; a copy of it, unless it is bytes."""
    return lambda piece: pieces.append(piece if type(piece) is bytes else bytes(piece))


try:
    from mpcache._wire import writer_to
except ImportError:  # it was not compiled here
    writer_to = _writer_to


class _File:
    """A file for a pickler, which writes bytes, bytearrays and arrays from 64 KiB on as they are, between the rest."""

    def __init__(self, write: Callable[[Any], None]) -> None:
        self.write = write


def pickling(still: bool = False) -> tuple[Callable[[Any], None], Callable[[], None], list[Any]]:
    """Return (dump, forget, pieces), for one thread: ``dump(value)`` adds to the pieces, ``forget()`` drops what the
    pickler has seen.  To use them again, clear the pieces; after an exception, make new ones.

    :param still: the value is an array, after whose memory no code runs that could change it: it is not copied.
    """
    pieces: list[Any] = []
    pickler = pickle.Pickler(_File(pieces.append if still else writer_to(pieces)), 5)
    return pickler.dump, pickler.clear_memo, pieces


def pickled(value: Any) -> Payload:
    """What ``pickle.dumps(value, 5)`` returns, or a tuple of its pieces; raises what that raises."""
    still = type(value) is getattr(sys.modules.get("numpy"), "ndarray", None)
    still = still and not value.dtype.hasobject and value.flags.forc
    dump, _, pieces = pickling(still)
    dump(value)
    if still:  # what the pickler wrote points into the array, and does not keep it alive
        pieces = [pickle.PickleBuffer(value).raw() if type(piece) is memoryview else piece for piece in pieces]
    return pieces[0] if len(pieces) == 1 else tuple(pieces)


def join(payload: bytes, created: float, expires: float | None = None) -> bytes:
    """The bytes of a value that was created at ``created``, and whose time ends at ``expires``."""
    if expires is None:
        return b"%b%a%b%b" % (_BEFORE, float(created), _PLAIN, payload)
    return b"%b%a, %b%b%a}|%b" % (_BEFORE, float(created), _AFTER, _EXPIRES, float(expires), payload)


def split(wire: bytes) -> tuple[bytes, float, int | None, int, float | None]:
    """Take them apart: payload, created, epoch or None, version of the format, expires or None.

    :raises ValueError: these are not such bytes.
    """
    end = wire.find(_PLAIN, 0, _NEAR)
    # What nearly all of them look like, at a tenth of the price of JSON.
    if end > 0 and wire.startswith(_BEFORE) and b"," not in wire[_CREATED:end]:
        return wire[end + len(_PLAIN) :], float(wire[_CREATED:end]), None, value_version, None
    head, _, payload = wire.partition(b"|")
    created, _, rest = head[_CREATED:-1].partition(b", ")
    if head.startswith(_BEFORE) and rest.startswith(_AFTER) and head.endswith(b"}"):
        more = rest[len(_AFTER) :]
        if b"," not in more[1:]:
            if more.startswith(_EXPIRES):
                return payload, float(created), None, value_version, _end(more[len(_EXPIRES) :])
            if more.startswith(_EPOCH) and more[len(_EPOCH) :].isdigit():
                return payload, float(created), int(more[len(_EPOCH) :]), value_version, None
    metadata = _known(head)
    return payload, metadata["ct"], metadata.get("e"), metadata["v"], metadata.get("x")


def unwire(
    wires: list[Any], now: float, longest: float, loads: Callable[[bytes], Any], nothing: Any
) -> tuple[list[Any], list[int]]:
    """The quick look at many values: those that look like most.

    There is one in C, which does the same and leaves more.

    :param wires: bytes, or ``nothing``.
    :param now: seconds since the Unix epoch, and ``longest`` the seconds after which a value is stale.
    :param loads: the deserializer.
    :returns: the values in their order, with ``nothing`` where one is stale or there is none; and the indexes of those
        that :func:`split` must see, since they look otherwise, or could not be read.
    """
    values: list[Any] = []
    left: list[int] = []
    for index, wire in enumerate(wires):
        value = nothing
        if wire is not nothing:
            try:
                end = wire.index(_PLAIN, 0, _NEAR)
                if not wire.startswith(_BEFORE):
                    left.append(index)
                elif not now - float(wire[_CREATED:end]) > longest:  # a nan is not old
                    value = loads(wire[end + len(_PLAIN) :])
            except Exception as error:  # it is met again, by one who knows what to say of it
                if raised_by_signal_handler(error):
                    raise
                left.append(index)
        values.append(value)
    return values, left


def metadata_and_payload(wire: bytes) -> tuple[dict[str, Any], bytes]:
    """Take them apart, with all that is known.

    :raises ValueError: these are not such bytes.
    """
    head, _, payload = wire.partition(b"|")
    return _known(head), payload


def json_object(head: bytes) -> dict[str, Any]:
    """Return the JSON object that these bytes are.

    :raises ValueError: they are none, or one that this interpreter cannot read: it may be too deep for its stack.
    """
    import json  # milliseconds of `import mpcache`, for those who never come here

    try:
        metadata = json.loads(head)
    except Exception as error:
        _refuse(head, error)
    if not isinstance(metadata, dict):
        raise ValueError(f"what stands before the first '|' is no JSON object: {head[:60]!r}")
    return metadata


def _known(head: bytes) -> dict[str, Any]:
    metadata = json_object(head)
    try:
        known = {"ct": float(metadata["ct"]), "v": int(metadata["v"])}
        if metadata.get("x") is not None:
            known["x"] = _end(metadata["x"])
        if metadata.get("e") is not None:
            known["e"] = int(metadata["e"])
    except Exception as error:
        _refuse(head, error)
    return {**metadata, **known}


def _end(given: Any) -> float:
    end = float(given)
    if math.isnan(end):
        raise ValueError("a value whose time to live ends at no time")
    return end


def _refuse(head: bytes, error: Exception) -> NoReturn:
    """Raise a ValueError instead of the error that these bytes led to."""
    if raised_by_signal_handler(error):
        raise error
    raise ValueError(f"{head[:60]!r} cannot be read: {type(error).__name__}: {error}") from error
