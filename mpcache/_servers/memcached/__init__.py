"""Memcached servers: what mpcache asks of them, the same for each of four client libraries.

Depends on exception.  The modules: a link for each library, and the pool that lends links.
"""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from mpcache.exception import DogpileCacheException, ValidationError, ValueTooLarge

PORT = 11211

TIMEOUT = 3.0
"""Seconds after which a server that has not answered counts as down."""

MONTH = 30 * 24 * 3600
"""Seconds: memcached takes a larger number for a date."""

OVER = MONTH + 1
"""An expiry that has passed: memcached takes it for a date, in 1970."""

DOOMSDAY = 2**31
"""Seconds since the Unix epoch that memcached cannot count: such an item would expire at once."""

_ADDRESS = re.compile(r"(?:inet6?:)?(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d+))?")


def server_list(url: Any) -> list[Any]:
    """Return ``url``, which names one server or several, as a list."""
    given = [url] if isinstance(url, str) else list(url)
    if not given:
        raise ValidationError("url names no server; give one such as '127.0.0.1:11211', or a list of them")
    return given


def address(url: str) -> str | tuple[str, int] | None:
    """Return the path of a unix socket, or (host, port); None: another form, which only some libraries know."""
    if url.startswith(("/", "unix:")):
        return url.removeprefix("unix:")
    match = _ADDRESS.fullmatch(url)
    return None if match is None else (match["six"] or match["host"], int(match["port"] or PORT))


def expiry(seconds: float | None) -> int:
    """Return an expiry as memcached takes it: whole seconds, or, over a month, the date; 0, never, after 2038.

    :param seconds: None, 0 and -1: never; a date stays as it is.
    """
    if not seconds or seconds == -1 or seconds >= DOOMSDAY:
        return 0
    whole = max(1, -int(-seconds // 1))
    now = int(time.time())
    date = whole if whole <= MONTH or whole >= now else now + whole
    return date if date < DOOMSDAY else 0


def with_port(url: Any) -> Any:
    """Return a server as most libraries want it: ``host:port``, ``[address]:port``, a path; other forms unchanged."""
    where = address(url) if isinstance(url, str) else None
    if where is None or isinstance(where, str):
        return where or url
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


_PLAIN = re.compile(r"[!-~]{1,250}")
_NOT_ASCII = re.compile(rb"[!-~\x80-\xff]{1,250}")


def plain_name(name: str | bytes | float) -> str:
    """Return a key as memcached takes it: a digest, if it is over 250 bytes or has spaces or control characters.

    :raises TypeError: it is neither text nor a number, which becomes its digits.
    """
    if isinstance(name, str) and _PLAIN.fullmatch(name):
        return name
    if isinstance(name, (int, float)):
        return str(name)
    if not isinstance(name, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"key {name!r} is of type {type(name).__name__}; memcached takes str, bytes or a number")
    text = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else bytes(name)
    try:
        if _NOT_ASCII.fullmatch(text):
            return text.decode()
    except UnicodeDecodeError:
        pass
    return f"mpcache~{hashlib.sha256(text).hexdigest()[:40]}"


class LockServer(Protocol):
    """What a mutex needs of a server.  Each method waits for the server's answer, and raises when none comes."""

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those of these keys that have a value, in one round trip."""

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        """Return a value and the number of its last change."""

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        """Store a value if the key has none; return whether it was stored."""

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        """Store a value if the last change is still the one that :meth:`gets` returned."""

    def set(self, key: str, value: bytes, seconds: int) -> None:
        """Store a value."""


class Link:
    """One client of one library.

    :param urls: the servers.
    :param options: of the store; an option that is left out has the library's default.
    :ivar worked: whether it ever got an answer: only then may an error come from a connection closed while idle.
    """

    errors: tuple[type[Exception], ...] = (OSError,)
    """What its methods raise when the servers fail."""

    thread_bound: ClassVar[bool] = False
    """Whether the library keeps a connection for each thread, so that a link must stay in its thread."""

    def __init__(self, urls: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.worked = False

    @property
    def guards(self) -> bool:
        """Return whether :meth:`cas` can detect that a value was changed since."""
        return True

    def get(self, key: str) -> bytes | None:
        """Return one value; some libraries do that faster than for many keys."""
        return self.get_many((key,)).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        raise NotImplementedError

    def gets(self, key: str) -> tuple[bytes, Any] | None:
        raise NotImplementedError

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        raise NotImplementedError

    def cas(self, key: str, value: bytes, seconds: int, seen: Any) -> bool:
        raise NotImplementedError

    def set(self, key: str, value: bytes, seconds: int) -> None:
        """Store a value.  Raises ValueTooLarge, as add and cas do, if it is over the server's largest item."""
        raise NotImplementedError

    def set_many(self, mapping: Mapping[str, bytes], seconds: int) -> list[str]:
        """Store values in one round trip; return the keys of those that were not stored, for whatever reason."""
        raise NotImplementedError

    def delete_many(self, keys: Sequence[str]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close its connections.  Also called in a forked child: the parent's server must not notice that."""

    def disown(self) -> None:
        """Called in a forked child: the link is the parent's, and is never used here."""
        self.close()

    def __del__(self) -> None:
        if "_client" in self.__dict__:  # otherwise the library is missing, or refused the arguments
            self.close()


class NotStored(DogpileCacheException):
    """The server refused an item, and the library does not say why: mostly the server is out of memory."""


def not_stored(key: str, value: bytes) -> NotStored:
    """Return the error for an item that the server refused for an unknown reason."""
    return NotStored(f"memcached did not store the {len(value)} bytes of key {key!r}; it may be out of memory")


def too_large(key: str, value: bytes) -> ValueTooLarge:
    """Return the error for an item that the server refused for its size."""
    return ValueTooLarge(
        f"the value of key {key!r} takes {len(value)} bytes, more than the server's largest item (memcached -I, 1 MiB"
        " unless set); compress it, store less, or start the servers with a larger -I",
        key=key,
    )


# The libraries agree on these flags of an item, and that an item without any of them is bytes.
PICKLE, INTEGER, LONG, ZLIB = 1, 2, 4, 8


FOREIGN: Any = object()
"""Stands for an item that other programs stored and that is not bytes: pickles are not read."""


def plain(value: bytes, flags: int) -> Any:
    """Return the bytes that were stored, or FOREIGN."""
    if flags & (PICKLE | INTEGER | LONG):
        return FOREIGN
    try:
        return zlib.decompress(value) if flags & ZLIB else value
    except zlib.error:  # damaged, or another program's flag of that number
        return FOREIGN


def with_change(value: Any, seen: Any) -> tuple[bytes, Any] | None:
    """Return what ``gets`` returns of an item; of a foreign item, empty bytes and its number."""
    return None if seen is None else (value if isinstance(value, bytes) else b"", int(seen))


def only_bytes(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Return those of the values that are bytes."""
    return {key: value for key, value in found.items() if isinstance(value, bytes)}
