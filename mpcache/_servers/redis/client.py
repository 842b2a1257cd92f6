"""Clients of redis and valkey servers: how they are made, and what keeps their answers apart.

Depends on nothing of mpcache; the driver is imported when a client is made.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import Any

TIMEOUT = 3.0
"""Seconds after which a server that has not answered a client of ours counts as down."""

MANY = 2**31
"""The most connections: as many as there are threads.  Some drivers would stop at a hundred."""


def driver(name: str) -> Any:
    """Return the driver's module.  Raises ImportError, with the remedy."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise ImportError(f"{missing}; the {name} store and mutex need it: pip install 'mpcache[{name}]'") from missing


def retry_once(name: str) -> Any:
    """Return the retry policy for a server that was restarted: the first command after that finds a closed connection.

    It does not retry after a timeout: a server that did not answer is not waited for twice.
    """
    retry, backoff = (importlib.import_module(f"{name}.{part}") for part in ("retry", "backoff"))
    return retry.Retry(backoff.NoBackoff(), 1, supported_errors=(driver(name).ConnectionError,))


def careful(client: Any) -> Any:
    """Return the client, changed so that no command gets the answer to an interrupted one: see CarefulPool."""
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        kind: Any = type(pool)
        pool.__class__ = _careful(kind)
        return client
    nodes = client.nodes_manager  # of a cluster, which makes a client for each node that it learns of
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
    # Local names, since each command passes here: super() and sys would be looked up each time.
    get_connection, release, exc_info = kind.get_connection, kind.release, sys.exc_info

    class CarefulPool(kind):  # type: ignore[misc]
        """Closes a connection whose command was interrupted by an exception.

        If a signal handler raises between the question and its answer, the drivers put the connection back as it is,
        and the next command on it gets the answer: another key's value.
        """

        def get_connection(self, *args: Any, **kw: Any) -> Any:
            connection = get_connection(self, *args, **kw)
            connection.lent_amid = exc_info()[1]  # the caller may be handling an exception, which does not count
            return connection

        def release(self, connection: Any) -> None:
            amid = exc_info()[1]
            if amid is not None and amid is not connection.__dict__.pop("lent_amid", None) and not _is_an_answer(amid):
                connection.disconnect()
            release(self, connection)

    return CarefulPool


def _is_an_answer(error: BaseException | None) -> bool:
    """Return whether a driver raised it for an answer of the server, which it has read completely then."""
    return any(kind.__name__ == "ResponseError" for kind in type(error).__mro__)


_clients: dict[tuple[str, str], Any] = {}
os.register_at_fork(after_in_child=_clients.clear)  # a child never uses its parent's connections


def client_of(name: str, url: str) -> Any:
    """Return this process's client of a server; its threads share it."""
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
