"""A value's header and its payload, to bytes and back: the only parser of the header.

The bytes are those of dogpile.cache, in both directions::

    {"ct": 1795289673.26, "v": 2}|<payload>    ct  when the creation ended, seconds since the Unix epoch
                                               v   the version of this format
                                               x   when the time to live ends; only of a value that has one
                                               e   the epoch in which the creation began, in stores that count epochs

Everything before the first ``|`` is a JSON object.  A header may have further items, in any order: nearly all headers
have the form above, which is read and written without JSON.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from mpcache._support.signal_handlers import raised_by_signal_handler

CREATED, VERSION, EXPIRES, EPOCH = "ct", "v", "x", "e"
"""The names in a header, and in the metadata of a CachedValue."""

value_version = 2

_BAR = b"|"
_BEFORE, _AFTER = b'{"ct": ', b'"v": %d' % value_version
"""What stands before and after the time in the headers of nearly all values."""
_PLAIN = b", " + _AFTER + b"}" + _BAR
_CREATED_AT = len(_BEFORE)
_NEAR = 64
"""Bytes within which such a header ends, so that a search for its end does not read a megabyte."""
_EXPIRES, _EPOCH = b', "x": ', b', "e": '
_EPOCH_ITEM = re.compile(rb', "e": (\d{1,20})(?=[,}])')


class Header(NamedTuple):
    """What a header of another program says, as far as it makes sense; None where it does not.

    :ivar plain: whether the header says nothing else, so that it can be written again from these.
    """

    created: float | None
    epoch: int | None
    expires: float | None
    plain: bool


# -- whole values ------------------------------------------------------------------------------------------------


def join(payload: bytes, created: float, expires: float | None = None, epoch: int | None = None) -> bytes:
    """Return the bytes of a value.

    :param created: when its creation ended, in seconds since the Unix epoch.
    :param expires: when its time to live ends, likewise; None: never.
    :param epoch: the epoch in which its creation began, for stores that count epochs.
    """
    if expires is None and epoch is None:
        return b"%b%a%b%b" % (_BEFORE, float(created), _PLAIN, payload)
    more = b"" if expires is None else b"%b%a" % (_EXPIRES, float(expires))
    more += b"" if epoch is None else b"%b%d" % (_EPOCH, epoch)
    return b"%b%a, %b%b}%b%b" % (_BEFORE, float(created), _AFTER, more, _BAR, payload)


def split(wire: bytes) -> tuple[bytes, float, int | None, int, float | None]:
    """Return (payload, created, epoch or None, version of the format, expires or None).

    :raises ValueError: these are not the bytes of a value.
    """
    end = wire.find(_PLAIN, 0, _NEAR)
    # Nearly all values look like this, and reading them so costs a tenth of reading JSON.
    if end > 0 and wire.startswith(_BEFORE) and b"," not in wire[_CREATED_AT:end]:
        return wire[end + len(_PLAIN) :], float(wire[_CREATED_AT:end]), None, value_version, None
    head, _, payload = wire.partition(_BAR)
    created, _, rest = head[_CREATED_AT:-1].partition(b", ")
    if head.startswith(_BEFORE) and rest.startswith(_AFTER) and head.endswith(b"}"):
        more = rest[len(_AFTER) :]
        if b"," not in more[1:]:
            if more.startswith(_EXPIRES):
                return payload, float(created), None, value_version, _end_of_life(more[len(_EXPIRES) :])
            if more.startswith(_EPOCH) and more[len(_EPOCH) :].isdigit():
                return payload, float(created), int(more[len(_EPOCH) :]), value_version, None
    metadata = _checked(head)
    return payload, metadata[CREATED], metadata.get(EPOCH), metadata[VERSION], metadata.get(EXPIRES)


def unwire(
    wires: list[Any], now: float, longest: float, loads: Callable[[bytes], Any], nothing: Any
) -> tuple[list[Any], list[int]]:
    """Read many values of the most frequent form; leave the others to :func:`split`.

    The C function of this name does the same, and leaves more.

    :param wires: bytes, or ``nothing``.
    :param now: seconds since the Unix epoch, and ``longest`` the seconds after which a value is stale.
    :param loads: the deserializer.
    :returns: the values in their order, with ``nothing`` where a value is stale or missing; and the indexes of those
        that :func:`split` must read, since they have another form, or could not be read.
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
                elif not now - float(wire[_CREATED_AT:end]) > longest:  # a nan is not old
                    value = loads(wire[end + len(_PLAIN) :])
            except Exception as error:  # the caller reads it again with split(), and reports the error
                if raised_by_signal_handler(error):
                    raise
                left.append(index)
        values.append(value)
    return values, left


# -- metadata ----------------------------------------------------------------------------------------------------


def new_metadata(created: float, expires: float | None) -> dict[str, Any]:
    """Return the metadata of a value that is stored as an object; the arguments are those of :func:`join`."""
    metadata = {CREATED: created, VERSION: value_version}
    return metadata if expires is None else {**metadata, EXPIRES: expires}


def metadata_and_payload(wire: bytes) -> tuple[dict[str, Any], bytes]:
    """Return everything that a value's header says, and the payload.

    :raises ValueError: these are not the bytes of a value.
    """
    head, _, payload = wire.partition(_BAR)
    return _checked(head), payload


def lenient(wire: bytes) -> tuple[Header, bytes] | None:
    """Return what the header of any JSON says, and the payload; None: these bytes have no such header."""
    head, end, payload = wire.partition(_BAR)
    try:
        metadata = _json_object(head) if end else None
    except ValueError:
        return None
    if metadata is None:
        return None
    created, expires = (_a_time(metadata.get(name)) for name in (CREATED, EXPIRES))
    epoch = metadata.get(EPOCH)
    plain = metadata.keys() - {EPOCH} == {CREATED, VERSION} and metadata[VERSION] == value_version
    plain = plain and created is not None and isinstance(epoch, int | None)
    return Header(created, epoch if isinstance(epoch, int) else None, expires, plain), payload


def expires_at(wire: bytes) -> float | None:
    """Return when a value's time to live ends; None: it has none, or the bytes are another program's."""
    end = wire.find(_BAR)
    if end < 0 or wire.find(b'"x"', 0, end) < 0:
        return None
    try:
        return split(wire)[4]
    except ValueError:
        return None


# -- a header with one item changed ------------------------------------------------------------------------------


def with_epoch(wire: bytes, epoch: int) -> bytes:
    """Return the value with the epoch in which its creation began, in the place of another epoch.

    Bytes without a readable header are returned as they are.
    """
    end = wire.find(_BAR)
    if end < 0 or not wire.startswith(b'{"') or wire[end - 1 : end] != b"}":
        return wire
    if wire.find(b'"e"', 0, end) >= 0:
        return _with_item(wire, EPOCH, epoch)
    return b"%b%b%d}%b" % (wire[: end - 1], _EPOCH, epoch, wire[end:])


def take_epoch(wire: bytes) -> tuple[int | None, bytes]:
    """Return the epoch of a value, and the value without it; (None, the same bytes): it has none."""
    end = max(0, wire.find(_BAR))
    item = _EPOCH_ITEM.search(wire, 0, end)
    if item is not None:
        return int(item[1]), wire[: item.start()] + wire[item.end() :]
    if wire.find(b'"e"', 0, end) < 0:
        return None, wire
    found = lenient(wire)
    return (None, wire) if found is None or found[0].epoch is None else (found[0].epoch, _with_item(wire, EPOCH, None))


def with_expires(wire: bytes, expires: float | None) -> bytes:
    """Return the value with another end of its time to live; bytes without a readable header as they are."""
    return _with_item(wire, EXPIRES, expires)


def with_payload(wire: bytes, payload: bytes) -> bytes:
    """Return the value with its header, and another payload."""
    return wire[: wire.index(_BAR) + len(_BAR)] + payload


def _with_item(wire: bytes, name: str, value: Any) -> bytes:
    """Write a header with this item at its end; without the item, if the value is None."""
    import json

    head, end, payload = wire.partition(_BAR)
    try:
        metadata = _json_object(head) if end else None
    except ValueError:
        return wire
    if metadata is None:
        return wire
    metadata.pop(name, None)
    return json.dumps(metadata if value is None else metadata | {name: value}).encode() + _BAR + payload


# -- JSON --------------------------------------------------------------------------------------------------------


def _json_object(head: bytes) -> dict[str, Any]:
    """Return the JSON object that these bytes are.

    :raises ValueError: they are none, or one that this interpreter cannot read: it may be too deep for its stack.
    """
    import json  # takes milliseconds of `import mpcache`, and most programs never need it

    try:
        metadata = json.loads(head)
    except Exception as error:
        _refuse(head, error)
    if not isinstance(metadata, dict):
        raise ValueError(f"the bytes before the first '|' are not a JSON object: {head[:60]!r}")
    return metadata


def _checked(head: bytes) -> dict[str, Any]:
    metadata = _json_object(head)
    try:
        known = {CREATED: float(metadata[CREATED]), VERSION: int(metadata[VERSION])}
        if metadata.get(EXPIRES) is not None:
            known[EXPIRES] = _end_of_life(metadata[EXPIRES])
        if metadata.get(EPOCH) is not None:
            known[EPOCH] = int(metadata[EPOCH])
    except Exception as error:
        _refuse(head, error)
    return {**metadata, **known}


def _a_time(given: Any) -> float | None:
    """Return seconds since the Unix epoch; None: it is no number, or none that can be a time."""
    return float(given) if isinstance(given, (int, float)) and 0 <= given <= sys.float_info.max else None


def _end_of_life(given: Any) -> float:
    end = float(given)
    if math.isnan(end):
        raise ValueError("the end of a value's time to live is not a number")
    return end


def _refuse(head: bytes, error: Exception) -> NoReturn:
    """Raise a ValueError instead of the error that these bytes led to."""
    if raised_by_signal_handler(error):
        raise error
    raise ValueError(f"{head[:60]!r} cannot be read: {type(error).__name__}: {error}") from error
