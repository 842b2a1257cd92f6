"""Operations of several scenarios on a store, each of which is recorded in the actor's log.

Depends on actor and checked_values.
"""

from __future__ import annotations

from collections.abc import Callable

from mpcache.stress.actor import Actor
from mpcache.stress.checked_values import SMALLEST, make_value
from mpcache.stress.history import Kind, Outcome
from mpcache.stress.scoreboard import GENERATION, HOLDING, KEYS


def key_number(key: int, generation: int) -> int:
    """Return the number of one generation of a key, which logs treat as a key of its own."""
    return key + generation * KEYS


def advance(actor: Actor, key: int, generation: int) -> None:
    """Have all actors ask for the next generation of a key, unless another actor has done so already."""
    word = actor.scoreboard.key(key)
    if word[GENERATION] == generation:
        word[GENERATION] = generation + 1


def get_or_create(actor: Actor, number: int, name: str, work: float = 0.002) -> int:
    """Call get_or_create; record the call, and the creation if the creator was called.

    :param number: of the key, for the log.
    :param work: seconds that the creator takes, at most.
    """
    create = _creator(actor, number, name, work)
    return actor.read(Kind.ASK, number, name, lambda: actor.region.get_or_create(name, create))


def refresh(actor: Actor, number: int, name: str, work: float = 0.002) -> None:
    """Refresh a key through a decorated function, and record the creation."""
    decorate = actor.region.cache_on_arguments(function_key_generator=lambda namespace, fn: lambda: name)
    decorate(_creator(actor, number, name, work)).refresh()


def _creator(actor: Actor, number: int, name: str, work: float) -> Callable[[], bytes]:
    before = _created_unlocked(actor)

    def create() -> bytes:
        at = _begin_creation(actor, number, before)
        value = actor.new_value()
        actor.log.got(at, value)
        actor.row[HOLDING] = 1
        actor.work(work)
        actor.row[HOLDING] = 0
        actor.log.end(at)
        return make_value(name, value, actor.random.randrange(40, 400))

    return create


def get_or_create_multi(actor: Actor, numbers: dict[str, int]) -> None:
    """Call get_or_create_multi once; record each key's call, and the creations.

    :param numbers: of the keys, by their names.
    """

    def create(*names: str) -> list[bytes]:
        entries = [_begin_creation(actor, numbers[name], before) for name in names]
        values = [actor.new_value() for _ in names]
        for at, value in zip(entries, values, strict=True):
            actor.log.got(at, value)
        actor.row[HOLDING] = 1
        actor.work(0.003)
        actor.row[HOLDING] = 0
        for at in entries:
            actor.log.end(at)
        sizes = (actor.random.randrange(40, 400) for _ in names)
        return [make_value(name, value, size) for name, value, size in zip(names, values, sizes, strict=True)]

    before = _created_unlocked(actor)
    asked = {name: actor.log.begin(Kind.ASK, number) for name, number in numbers.items()}
    values = actor.region.get_or_create_multi(list(numbers), create)
    for (name, at), value in zip(asked.items(), values, strict=True):
        actor.record_result(at, name, numbers[name], value)


def _begin_creation(actor: Actor, number: int, before: int) -> int:
    """Begin the entry of a creation, with the outcome ALONE if it runs without the mutex.

    The outcome is recorded first, since the worker may be killed in the creation.

    :param before: what :func:`_created_unlocked` returned when the value was asked for.
    """
    at = actor.log.begin(Kind.CREATE, number)
    if _created_unlocked(actor) > before:  # of several keys the region does not tell which
        actor.log.amend(at, Outcome.ALONE)
    return at


def _created_unlocked(actor: Actor) -> int:
    """Return how many values this process has created without a mutex, as the contract allows."""
    counters = getattr(actor.region, "counters", None)
    return 0 if counters is None else int(counters.counts["created_alone"])


def write(actor: Actor, key: int, name: str, largest: int) -> None:
    """Set a key to a new value of a random size up to ``largest``; small sizes are more frequent."""
    number = actor.new_value()
    value = make_value(name, number, int(SMALLEST * (largest / SMALLEST) ** actor.random.random()))
    at = actor.log.begin(Kind.WRITE, key)
    actor.log.got(at, number)
    actor.region.set(name, value)
    actor.log.end(at)


def delete(actor: Actor, key: int, name: str) -> None:
    """Delete a key."""
    at = actor.log.begin(Kind.WRITE, key)
    actor.region.delete(name)
    actor.log.end(at)
