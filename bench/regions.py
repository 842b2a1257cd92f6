"""What a hit costs: region.get and get_or_create of 1 KiB, on each store, here and in dogpile.cache.

Leans on measure; on dogpile.cache, where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bench.measure import CANARY, Benchmark, Contender, Sample, Way, looped
from bench.mutexes import nothing
from bench.stage import Stage

VALUE = b"." * 1024


def _hit(make_region: Callable[[], Any], store: str, arguments: dict[str, Any], ask: Callable[..., Any]) -> Way:
    def way(stage: Stage) -> Iterator[Sample]:
        region = make_region().configure(store, arguments=dict(arguments))
        region.set("key", VALUE)
        yield looped(ask(region), stage.pace)

    return way


def _here() -> Any:
    import mpcache

    return mpcache.make_region()


def _there() -> Any:
    import dogpile.cache

    return dogpile.cache.make_region()


def _get(region: Any) -> Callable[[], object]:
    return lambda: region.get("key")


def _get_or_create(region: Any) -> Callable[[], object]:
    return lambda: region.get_or_create("key", lambda: VALUE, 3600)


def _contenders(ask: Callable[..., Any]) -> tuple[Contender, ...]:
    peer = "dogpile.cache.memory"
    return (
        Contender(CANARY, nothing),
        Contender("mpcache.shm", _hit(_here, "mpcache.shm", {"name": "hit", "size": "4MB"}, ask), peer),
        Contender("mpcache.memory", _hit(_here, "mpcache.memory", {}, ask), peer),
        Contender("mpcache.memory_pickle", _hit(_here, "mpcache.memory_pickle", {}, ask), peer),
        Contender(peer, _hit(_there, "dogpile.cache.memory", {}, ask)),
        Contender("dogpile.cache.memory_pickle", _hit(_there, "dogpile.cache.memory_pickle", {}, ask), peer),
    )


GET = Benchmark("region.get of 1 KiB that is there", _contenders(_get))
GET_OR_CREATE = Benchmark("region.get_or_create of 1 KiB that is there", _contenders(_get_or_create))
