"""Clients of redis and valkey servers: how they are made, and what keeps their answers apart.

Leans on nothing of mpcache; the driver is imported when a client is made.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import Any

TIMEOUT = 3.0
"""Seconds for which a server may leave a bare mutex without an answer."""

MANY = 2**31
"""Connections: as many as there are threads.  The drivers' own bound, where there is one, is a hundred."""


def driver(name: str) -> Any:
    """The driver's module.  Raises ImportError, with the remedy."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise ImportError(f"{missing}; the {name} store and mutex need it: pip install 'mpcache[{name}]'") from missing


def retry_once(name: str) -> Any:
    """The policy for a server that was restarted: what it closed is noticed by the first command after it.

    Never after a timeout: whoever did not answer is not waited for a second time.
    """
    retry, backoff = (importlib.import_module(f"{name}.{part}") for part in ("retry", "backoff"))
    return retry.Retry(backoff.NoBackoff(), 1, supported_errors=(driver(name).ConnectionError,))


def careful(client: Any) -> Any:
    """The client, no command of which is given the answer to another one, whatever ends that: see _careful."""
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        kind: Any = type(pool)
        pool.__class__ = _careful(kind)
        return client
    nodes = client.nodes_manager  # of a cluster, which makes a client for each node when it hears of it
    for verb in ("create_redis_node", "create_valkey_node"):
        if hasattr(nodes, verb):
            setattr(nodes, verb, functools.partial(_made_careful, getattr(nodes, verb)))
    for node in client.get_nodes():
        own = getattr(node, "redis_connection", None) or getattr(node, "valkey_connection", None)
        if own is not None:
            careful(own)
    return client


def _made_careful(make: Any, *args: Any, **kw: Any) -> Any:
    return careful(make(*args, **kw))


@functools.cache
def _careful(kind: Any) -> Any:
    # By their names in this function: each command passes here, and super() and sys are looked up anew each time.
    get_connection, release, exc_info = kind.get_connection, kind.release, sys.exc_info

    class CarefulPool(kind):  # type: ignore[misc]
        """Closes a connection whose command was cut short by an exception.

        If that came from a signal's handler, between the question and its answer, the drivers put the connection back
        as it is, and the answer goes to whoever asks next: another key's value.
        """

        def get_connection(self, *args: Any, **kw: Any) -> Any:
            connection = get_connection(self, *args, **kw)
            connection.lent_amid = exc_info()[1]  # who asks may be handling an exception; that is none of ours
            return connection

        def release(self, connection: Any) -> None:
            amid = exc_info()[1]
            if amid is not None and amid is not connection.__dict__.pop("lent_amid", None) and not _is_an_answer(amid):
                connection.disconnect()
            release(self, connection)

    return CarefulPool


def _is_an_answer(error: BaseException | None) -> bool:
    """Whether a driver raised it for what the server said, all of which it has read then."""
    return any(kind.__name__ == "ResponseError" for kind in type(error).__mro__)


_clients: dict[tuple[str, str], Any] = {}
os.register_at_fork(after_in_child=_clients.clear)  # what a parent has connected is never used by its child


def client_of(name: str, url: str) -> Any:
    """This process's client of a server; threads share it."""
    if (name, url) not in _clients:
        made = driver(name).from_url(
            url,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=retry_once(name),
            max_connections=MANY,
        )
        _clients.setdefault((name, url), careful(made))
    return _clients[name, url]
