"""What workers of several scenarios do to a store, and how it is written down.

Leans on worker.
"""

from __future__ import annotations

from collections.abc import Callable

from mpcache.stress.history import Kind, Outcome
from mpcache.stress.scoreboard import GENERATION, HOLDING, KEYS
from mpcache.stress.worker import SMALLEST, Actor, prove


def numbered(key: int, generation: int) -> int:
    """The number of one generation of a key, as if it were a key of its own."""
    return key + generation * KEYS


def move_on(actor: Actor, key: int, generation: int) -> None:
    """Ask for the next generation from now on, unless somebody has said so already."""
    word = actor.board.key(key)
    if word[GENERATION] == generation:
        word[GENERATION] = generation + 1


def ask_for(actor: Actor, number: int, name: str, work: float = 0.002) -> int:
    """Ask for a key, by get_or_create, and write down who created it."""
    create = _creator(actor, number, name, work)
    return actor.read(Kind.ASK, number, name, lambda: actor.region.get_or_create(name, create))


def refresh(actor: Actor, number: int, name: str, work: float = 0.002) -> None:
    """Refresh a key, and write down that its value was created."""
    decorate = actor.region.cache_on_arguments(function_key_generator=lambda namespace, fn: lambda: name)
    decorate(_creator(actor, number, name, work)).refresh()


def _creator(actor: Actor, number: int, name: str, work: float) -> Callable[[], bytes]:
    before = alone(actor)

    def create() -> bytes:
        at = _begun(actor, number, before)
        value = actor.new()
        actor.diary.got(at, value)
        actor.row[HOLDING] = 1
        actor.work(work)
        actor.row[HOLDING] = 0
        actor.diary.end(at)
        return prove(name, value, actor.random.randrange(40, 400))

    return create


def ask_for_all(actor: Actor, numbers: dict[str, int]) -> None:
    """Ask for keys by one get_or_create_multi, and write down who created which.

    :param numbers: of the keys, by their names.
    """
    made: list[int] = []

    def create(*names: str) -> list[bytes]:
        made[:] = [_begun(actor, numbers[name], before) for name in names]
        values = [actor.new() for _ in names]
        for at, value in zip(made, values, strict=True):
            actor.diary.got(at, value)
        actor.row[HOLDING] = 1
        actor.work(0.003)
        actor.row[HOLDING] = 0
        for at in made:
            actor.diary.end(at)
        return [prove(name, value, actor.random.randrange(40, 400)) for name, value in zip(names, values, strict=True)]

    before = alone(actor)
    asked = {name: actor.diary.begin(Kind.ASK, number) for name, number in numbers.items()}
    values = actor.region.get_or_create_multi(list(numbers), create)
    for (name, at), value in zip(asked.items(), values, strict=True):
        actor.note(at, name, numbers[name], value)


def _begun(actor: Actor, number: int, before: int) -> int:
    """Write down that one creates, and first of all whether it does so alone: it may be killed at it.

    :param before: what :func:`alone` said when the value was asked for.
    """
    at = actor.diary.begin(Kind.CREATE, number)
    if alone(actor) > before:  # of many keys it is not told which
        actor.diary.amend(at, Outcome.ALONE)
    return at


def alone(actor: Actor) -> int:
    """How many values this process has created without a mutex, as it is allowed to."""
    mishaps = getattr(actor.region, "mishaps", None)
    return 0 if mishaps is None else int(mishaps.counts["created_alone"])


def write(actor: Actor, key: int, name: str, largest: int) -> None:
    """Set a key to a new value, of any size up to ``largest``; small ones are the most."""
    number = actor.new()
    value = prove(name, number, int(SMALLEST * (largest / SMALLEST) ** actor.random.random()))
    at = actor.diary.begin(Kind.WRITE, key)
    actor.diary.got(at, number)
    actor.region.set(name, value)
    actor.diary.end(at)


def delete(actor: Actor, key: int, name: str) -> None:
    """Delete a key's value."""
    at = actor.diary.begin(Kind.WRITE, key)
    actor.region.delete(name)
    actor.diary.end(at)
