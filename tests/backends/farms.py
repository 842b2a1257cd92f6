"""More than one redis server: two that three sentinels guard, and a cluster of three."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from mpcache.testing.helpers import PATIENCE
from mpcache.testing.servers import Redis, _free_port


def come_about(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _holds(what):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


def _holds(what: Callable[[], Any]) -> bool:
    try:
        return bool(what())
    except redis.RedisError:
        return False


class Sentinel(Redis):
    """A redis-server that watches others.

    :param master: the port of the one that it begins with.
    """

    def __init__(self, master: int) -> None:
        self._master = master
        super().__init__("--sentinel")

    def _words(self) -> list[str]:
        rules = [
            f"monitor mymaster 127.0.0.1 {self._master} 2",
            "down-after-milliseconds mymaster 400",
            "failover-timeout mymaster 4000",
        ]
        (self.directory / "conf").write_text("".join(f"sentinel {rule}\n" for rule in rules))
        return [str(self.directory / "conf"), *super()._words()[:6]]


class Guarded:
    """A master, its replica, and three sentinels that know each other."""

    def __init__(self, end: ExitStack) -> None:
        fast = ["--repl-diskless-sync-delay", "0", "--repl-timeout", "5"]
        self.master = end.enter_context(Redis(*fast))
        self.replica = end.enter_context(Redis(*fast, "--replicaof", f"127.0.0.1 {self.master.port}"))
        come_about(lambda: raw(self.replica).info("replication")["master_link_status"] == "up")
        self.sentinels = [end.enter_context(Sentinel(self.master.port)) for _ in range(3)]
        for sentinel in self.sentinels:
            come_about(lambda: self._sees(sentinel) == (2, 1))  # noqa: B023

    def _sees(self, sentinel: Sentinel) -> tuple[int, int]:
        seen = raw(sentinel).sentinel_master("mymaster")
        return seen["num-other-sentinels"], seen["num-slaves"]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    def fail_over(self) -> None:
        """Kill the master, and wait until the replica is one."""
        self.master.kill()
        come_about(lambda: raw(self.replica).info("replication")["role"] == "master")


class Node(Redis):
    """One of a cluster."""

    def __init__(self) -> None:
        self.bus = _free_port()
        super().__init__()

    def _words(self) -> list[str]:
        own = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", "2000"]
        return [*super()._words(), *own]


def raw(server: Redis) -> Any:
    """A client of that server alone."""
    return redis.Redis(host="127.0.0.1", port=server.port, decode_responses=True)


@contextmanager
def guarded() -> Iterator[Guarded]:
    with ExitStack() as end:
        yield Guarded(end)


@contextmanager
def cluster() -> Iterator[list[Node]]:
    """Three nodes, each with a third of the slots, and no replica."""
    with ExitStack() as end:
        nodes = [end.enter_context(Node()) for _ in range(3)]
        for number, node in enumerate(nodes):
            first, after = (16384 * at // 3 for at in (number, number + 1))
            raw(node).execute_command("CLUSTER ADDSLOTSRANGE", first, after - 1)
            raw(node).execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            raw(nodes[0]).execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
        for node in nodes:
            come_about(lambda: _whole(node))  # noqa: B023
        yield nodes


def _whole(node: Node) -> bool:
    said = raw(node).execute_command("CLUSTER INFO")
    return "cluster_state:ok" in str(said) or (isinstance(said, dict) and said["cluster_state"] == "ok")
