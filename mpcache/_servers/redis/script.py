"""Scripts in Lua, each one step at a redis server.

Depends on nothing of mpcache.
"""

from __future__ import annotations

import hashlib
from typing import Any


class Script:
    """A script.  The server gets its digest, and the text only if it does not know the digest."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

    def __call__(self, client: Any, keys: list[Any], *arguments: Any) -> Any:
        try:
            return client.evalsha(self.digest, len(keys), *keys, *arguments)
        except Exception as error:
            if not is_unknown(error):
                raise
        return client.eval(self.text, len(keys), *keys, *arguments)


def is_unknown(error: BaseException) -> bool:
    """Return whether the server says that it does not know a script; each driver has its own class for that."""
    return type(error).__name__ == "NoScriptError"


def reply_bytes(reply: Any) -> bytes:
    """Return a reply as bytes, whether the client decodes replies or not."""
    return reply.encode() if isinstance(reply, str) else bytes(reply)
