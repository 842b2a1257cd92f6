"""A value and what is known of it, to bytes and back.

Leans on nothing of mpcache.  The bytes are those of dogpile.cache, both ways::

    {"ct": 1795289673.26, "v": 2}|<payload>    ct  when its creation ended, seconds since the Unix epoch
                                               v   the version of this format
                                               e   the epoch of its beginning, where a store counts epochs
"""

from __future__ import annotations

from typing import Any

value_version = 2

_BEFORE, _AFTER = b'{"ct": ', b', "v": %d}' % value_version


def join(payload: bytes, created: float) -> bytes:
    """The bytes of a value that was created at ``created``."""
    return b"%b%b%b|%b" % (_BEFORE, repr(float(created)).encode("ascii"), _AFTER, payload)


def split(wire: bytes) -> tuple[bytes, float, int | None, int]:
    """Take them apart: payload, created, epoch or None, version of the format.

    :raises ValueError, KeyError, TypeError: these are not such bytes.
    """
    head, _, payload = wire.partition(b"|")
    if head.startswith(_BEFORE) and head.endswith(_AFTER):
        number = head[len(_BEFORE) : -len(_AFTER)]
        if b"," not in number:  # what nearly all of them look like, at a tenth of the price of JSON
            return payload, float(number), None, value_version
    metadata = _json(head)
    return payload, metadata["ct"], metadata.get("e"), metadata["v"]


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
    return {**metadata, "ct": float(metadata["ct"]), "v": int(metadata["v"])}
