"""Cost of each operation of a store: get, set, get_or_create and decorated calls, with values of five sizes.

Depends on harness, stores, values and targets.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.environment import Environment
from bench.harness import CANARY, Benchmark, Contender, Way
from bench.mutexes import nothing
from bench.pace import Sample, looped
from bench.stores import STORES, Act, Row, Store
from bench.targets import TARGETS
from bench.values import VALUES

MANY = 64
"""Keys of one get_multi."""


def _hit(store: Store, key: str, value: Any) -> Act:
    store.set(key, value)()
    act = store.get(key)
    _same(act(), value)
    return act


def _same(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise AssertionError(f"wrong value: {found!r:.80}")


def _miss(store: Store, key: str, value: Any) -> Act:
    act = store.get(f"{key}-not-there")
    if act():
        raise AssertionError("the key is present, where a miss is to be measured")
    return act


def _get_multi(store: Store, key: str, value: Any) -> Act:
    assert store.get_multi is not None
    keys = [f"{key}-{number}" for number in range(MANY)]
    for one in keys:
        store.set(one, value)()
    act = store.get_multi(keys)
    found: Any = act()
    _same(list(found.values() if isinstance(found, dict) else found), [value] * MANY)
    return act


def _set(store: Store, key: str, value: Any) -> Act:
    act = store.set(key, value)
    act()
    _same(store.get(key)(), value)
    return act


def _get_or_create(store: Store, key: str, value: Any) -> Act:
    assert store.get_or_create is not None
    store.get_or_create(key, lambda: value)()
    act = store.get_or_create(key, _never)
    _same(act(), value)
    return act


def _never() -> Any:
    raise AssertionError("the creator was called although the value is present")


def _decorated(keywords: bool) -> Callable[[Store, str, Any], Act]:
    def made(store: Store, key: str, value: Any) -> Act:
        assert store.decorated is not None

        def answer(question: int, context: int) -> Any:
            return value

        function = store.decorated(answer, key, keywords)
        act: Act = (lambda: function(42, context=7)) if keywords else (lambda: function(42, 7))
        act()
        _same(act(), value)
        return act

    return made


class Operation(NamedTuple):
    """An operation that is measured.

    :param verb: its name in the verbs of :class:`~bench.stores.Row`.
    """

    verb: str
    make: Callable[[Store, str, Any], Act]
    title: str


OPERATIONS = {
    "get": Operation("get", _hit, "get of {} that is present"),
    "miss": Operation("miss", _miss, "get of a missing key"),
    "get-multi": Operation("get_multi", _get_multi, f"get_multi of {MANY} keys, {{}} each"),
    "set": Operation("set", _set, "set of {}"),
    "get-or-create": Operation("get_or_create", _get_or_create, "get_or_create of {} that is present"),
    "decorated": Operation("decorated", _decorated(False), "call of a decorated function, two arguments, {} present"),
    "decorated-keyword": Operation("decorated", _decorated(True), "the same, one of them by keyword, {} present"),
}

SAID = {"100B": "100 B", "1KiB": "1 KiB", "object": "an object", "10KiB": "10 KiB", "1MiB": "1 MiB"}

OF_ALL_SIZES = ("get", "set", "get-or-create", "decorated")
"""Operations that are measured with all sizes; the others with 1 KiB only."""


def _way(row: Row, key: str, make: Callable[[Store, str, Any], Act], value: Any) -> Way:
    def way(environment: Environment) -> Iterator[Sample]:
        for store in row.open(environment):
            yield looped(make(store, key, value), environment.pace)

    return way


def _key(benchmark: str, store: str) -> str:
    """Return a key that no other contender uses: they share servers and segments."""
    return f"user:{zlib.crc32(f'{benchmark} {store}'.encode()):010}"


def _benchmark(name: str, operation: Operation, size: str) -> Benchmark:
    value = VALUES[size]
    contenders = [
        Contender(row.name, _way(row, _key(name, row.name), operation.make, value), row.against, row.server)
        for row in STORES
        if operation.verb in row.verbs.split() and (isinstance(value, bytes) or row.kinds == "any")
    ]
    canary = Contender(CANARY, nothing)
    return Benchmark(operation.title.format(SAID[size]), (canary, *contenders), TARGETS.get(name, ()))


def _benchmarks() -> Iterator[tuple[str, Benchmark]]:
    for name, operation in OPERATIONS.items():
        yield name, _benchmark(name, operation, "1KiB")
    for name in OF_ALL_SIZES:
        for size in VALUES:
            if size != "1KiB":
                yield f"{name}-{size}", _benchmark(f"{name}-{size}", OPERATIONS[name], size)


BENCHMARKS = dict(_benchmarks())
"""By name: ``get``, ``miss`` and so on with 1 KiB; ``get-object``, ``set-10KiB`` and so on."""
