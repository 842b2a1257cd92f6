"""What the redis store asks the server to do in one step, and the guard of a fill.

Depends on _servers.redis for scripts.  Each command is one script, so that a value and the lock of its key change
together; in a store without a mutex of its own a set is a plain SET.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from mpcache._servers.redis.holds import HeldLock
from mpcache._servers.redis.script import Script
from mpcache.api import KeyType
from mpcache.backends._fill_guard import BaseFillGuard

log = logging.getLogger("mpcache.backends.redis")

_LONGEST = 1e12
"""Seconds, thirty thousand years: the server refuses an expiry of more than some 64 bits."""


_KEEP = """
local function keep(value, milliseconds)
    if milliseconds then
        redis.call('SET', KEYS[1], value, 'PX', milliseconds)
    else
        redis.call('SET', KEYS[1], value)
    end
end
"""

# KEYS: the value's, the lock's.  The lock's text, see mutexes/redis.py: "mpcache ", the flag (its 9th byte, at offset
# 8; 0: the creation may be stored, 1: the key was changed), " ", the token of the hold (bytes 11 to 42), and more.

# A process that is creating a value for the key must not store it: it may have read its data before this write.
_VOID = """
if string.sub(redis.call('GET', KEYS[2]) or '', 1, 10) == 'mpcache 0 ' then
    redis.call('SETRANGE', KEYS[2], 8, '1')
end
"""

SET = Script(_KEEP + "keep(ARGV[1], ARGV[2])" + _VOID + "return 1")
DELETE = Script("local there = redis.call('DEL', KEYS[1])" + _VOID + "return there")

# ARGV: the token of the creator's hold, the value, its time to live in milliseconds, if any.  1: stored; 0: the key was
# changed since the creation began; -1: the lock was lost.
FILL = Script(
    _KEEP
    + """
local there = redis.call('GET', KEYS[2]) or ''
if string.sub(there, 11, 42) ~= ARGV[1] then
    return -1
elseif string.sub(there, 9, 9) ~= '0' then
    return 0
end
keep(ARGV[2], ARGV[3])
return 1
"""
)


class Command(NamedTuple):
    """One step at the server: a script, or, with None, a plain SET."""

    script: Script | None
    keys: list[Any]
    arguments: tuple[Any, ...] = ()

    def run(self, client: Any) -> Any:
        """Run it in one round trip, and return the server's reply."""
        if self.script is not None:
            return self.script(client, self.keys, *self.arguments)
        value, *milliseconds = self.arguments
        return client.set(self.keys[0], value, px=milliseconds[0] if milliseconds else None)

    def add_to(self, pipe: Any) -> None:
        """Add it to a pipeline."""
        if self.script is None:
            self.run(pipe)
        else:
            # Not by its digest, which the server might not know; and a pipeline of a cluster has no eval().
            pipe.execute_command("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


def run_all(client: Any, commands: Sequence[Command], clustered: bool) -> list[Any]:
    """Run commands in one round trip, and return the replies; each command is atomic, together they are not."""
    if len(commands) < 2:
        return [command.run(client) for command in commands]
    pipe = client.pipeline() if clustered else client.pipeline(transaction=False)
    for command in commands:
        command.add_to(pipe)
    return list(pipe.execute())


def client_key(key: Any) -> Any:
    """Return the key as the client takes it: text that is not UTF-8 as bytes."""
    if isinstance(key, str) and not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            return key.encode("utf-8", "surrogatepass")
    return key


def milliseconds(seconds: float) -> int:
    """Return a time as the server counts it."""
    return max(1, round(min(float(seconds), _LONGEST) * 1000))


class Guard(BaseFillGuard):
    """The right to store one value that is being created.

    :ivar lock: the lock under which it is created; None: the mutex is of another kind, which the server does not know.
    :ivar epoch: the generation in which the creation begins; at a server it is what an epoch is in a segment.
    """

    def __init__(self, lock: HeldLock | None, epoch: int | None) -> None:
        super().__init__()
        self.lock, self.epoch = lock, epoch

    def end(self, key: KeyType, reply: Any) -> None:
        """Note what became of the fill.

        :param reply: 1: stored; -1: the lock was lost; 0: the key was changed; None: no answer came.
        """
        self.finish(reply == 1)
        if reply == -1:
            log.warning("the value created for key %r was not stored: its mutex was lost meanwhile", key)
        elif reply == 0:
            log.debug("the value created for key %r was not stored: the key was changed meanwhile", key)
