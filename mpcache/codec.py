"""A value and what is known of it, to bytes and back.

Leans on nothing of mpcache.  The bytes are those of dogpile.cache, both ways::

    {"ct": 1795289673.26, "v": 2}|<payload>    ct  when its creation ended, seconds since the Unix epoch
                                               v   the version of this format
                                               x   when its time to live ends, if it was given one
                                               e   the epoch of its beginning, where a store counts epochs
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

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


class _Pieces(list[Any]):
    """A file for a pickler, which writes bytes, bytearrays and arrays from 64 KiB on as they are, between the rest."""

    write = list.append


def pickling() -> tuple[Callable[[Any], None], Callable[[], None], list[Any]]:
    """(dump, forget, pieces), to be used by one at a time: ``dump(value)`` adds to the pieces, ``forget()`` lets go of
    what the pickler has seen.  Who uses them again clears the pieces, and begins anew after an exception."""
    pieces = _Pieces()
    pickler = pickle.Pickler(pieces, 5)
    return pickler.dump, pickler.clear_memo, pieces


def pickled(value: Any) -> Payload:
    """What ``pickle.dumps(value, 5)`` returns, or a tuple of its pieces; raises what that raises."""
    dump, _, pieces = pickling()
    dump(value)
    return pieces[0] if len(pieces) == 1 else tuple(pieces)


def join(payload: bytes, created: float, expires: float | None = None) -> bytes:
    """The bytes of a value that was created at ``created``, and whose time ends at ``expires``."""
    if expires is None:
        return b"%b%a%b%b" % (_BEFORE, float(created), _PLAIN, payload)
    return b"%b%a, %b%b%a}|%b" % (_BEFORE, float(created), _AFTER, _EXPIRES, float(expires), payload)


def split(wire: bytes) -> tuple[bytes, float, int | None, int, float | None]:
    """Take them apart: payload, created, epoch or None, version of the format, expires or None.

    :raises ValueError, KeyError, TypeError: these are not such bytes.
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
                return payload, float(created), None, value_version, float(more[len(_EXPIRES) :])
            if more.startswith(_EPOCH) and more[len(_EPOCH) :].isdigit():
                return payload, float(created), int(more[len(_EPOCH) :]), value_version, None
    metadata = _json(head)
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
            except Exception:  # it is met again, by one who knows what to say of it
                left.append(index)
        values.append(value)
    return values, left


def metadata_and_payload(wire: bytes) -> tuple[dict[str, Any], bytes]:
    """Take them apart, with all that is known.

    :raises ValueError, KeyError, TypeError: these are not such bytes.
    """
    head, _, payload = wire.partition(b"|")
    return _json(head), payload


def _json(head: bytes) -> dict[str, Any]:
    import json  # milliseconds of `import mpcache`, for those who never come here

    metadata = json.loads(head)
    if not isinstance(metadata, dict):
        raise ValueError(f"what stands before the first '|' is no JSON object: {head[:60]!r}")
    known = {"ct": float(metadata["ct"]), "v": int(metadata["v"])}
    if metadata.get("x") is not None:
        known["x"] = float(metadata["x"])
    return {**metadata, **known}
