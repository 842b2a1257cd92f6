"""Known bugs, each of which a scenario must find: a stress test that finds no seeded bug proves nothing.

Leans on builds, settings and spoiled.  A bug of the engine is compiled into a build of its own; one of a mutex or of
the dogpile lock is put into the processes of the play, before they use anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpcache.stress import spoiled
from mpcache.stress.builds import Build
from mpcache.stress.settings import Settings

ENGINE, MUTEX, DOGPILE = "engine", "mutex", "dogpile lock"


@dataclass(frozen=True)
class Fault:
    """A known bug.

    :ivar name: what ``--fault`` takes.
    :ivar where: ENGINE, MUTEX or DOGPILE.
    :ivar text: what is wrong, in a sentence.
    :ivar settings: a run that finds it.
    :ivar flag: of the engine's build.
    :ivar spoil: what brings it into a process.
    """

    name: str
    where: str
    text: str
    settings: Settings
    flag: str = ""
    spoil: Callable[[], None] = lambda: None


def _engine(name: str, text: str, settings: Settings) -> Fault:
    return Fault(name, ENGINE, text, settings, flag=name.upper().replace("-", "_"))


def _in(where: str, spoil: Callable[[], None], text: str, settings: Settings) -> Fault:
    return Fault(spoil.__name__.replace("_", "-"), where, text, settings, spoil=spoil)


def _run(scenario: str, **options: Any) -> Settings:
    """Twelve times what it takes on two cores, and no more than a minute."""
    return Settings(scenario, seconds=options.pop("seconds", 50.0), **options)


_SMALL = {"size": "1800KB"}
"""A segment whose rings are lapped within moments."""

_FAULTS: tuple[Fault, ...] = (
    _engine("head-first", "the head passes a record before it is written", _run("whole_values", kills=30.0, backend_arguments=_SMALL, delays=True)),
    _engine("no-recheck", "readers do not look at the tail again", _run("whole_values", backend_arguments=_SMALL, delays=True)),
    _engine("slot-before-copy", "a moved record is published before it is copied", _run("whole_values", backend_arguments=_SMALL, delays=True)),
    _engine("tail-late", "", _run("whole_values", backend_arguments=_SMALL, delays=True)),
    _engine("tail-before-slot", "", _run("whole_values", backend_arguments=_SMALL, delays=True)),
    _engine("move-superseded", "", _run("whole_values", backend_arguments=_SMALL, delays=True)),
    _engine("no-bounds", "", _run("whole_values", backend_arguments=_SMALL, delays=True)),
    _engine("owner-first", "", _run("exclusion", kills=100.0, delays=True)),
    _engine("stale-verdict", "", _run("exclusion", kills=50.0, delays=True)),
    _in(MUTEX, spoiled.redis_deletes, "", _run("exclusion", mutex="redis", stops=3.0)),
    _in(MUTEX, spoiled.memcached_deletes, "", _run("exclusion", mutex="memcached", stops=3.0)),
    _in(MUTEX, spoiled.never_renewed, "", _run("exclusion", mutex="redis")),
    _in(MUTEX, spoiled.loss_untold, "", _run("exclusion", mutex="redis", stops=3.0)),
    _in(MUTEX, spoiled.waits_for_the_word_alone, "", _run("exclusion", mutex="redis", kills=5.0)),
    _in(MUTEX, spoiled.counts_for_itself, "", _run("exclusion", mutex="redis")),
    _in(MUTEX, spoiled.name_unchecked, "", _run("exclusion", mutex="file")),
    _in(MUTEX, spoiled.broken_by_age, "", _run("exclusion", mutex="file", stops=5.0)),
    _in(MUTEX, spoiled.rung_is_taken, "", _run("exclusion", mutex="semaphore")),
    _in(MUTEX, spoiled.threads_unasked, "", _run("exclusion", mutex="semaphore", workers=3, threads=3)),
    _in(MUTEX, spoiled.inherited, "", _run("exclusion", mutex="semaphore", kills=5.0)),
    _in(MUTEX, spoiled.child_lets_go, "", _run("fork_and_exec")),
    _in(MUTEX, spoiled.waits_for_itself, "", _run("nested")),
    _in(DOGPILE, spoiled.no_second_look, "", _run("one_creator")),
    _in(DOGPILE, spoiled.kept_after_release, "", _run("one_creator")),
    _in(DOGPILE, spoiled.keys_collide, "", _run("one_creator")),
    _in(DOGPILE, spoiled.many_let_go_early, "", _run("many_keys")),
    _in(DOGPILE, spoiled.fills_unguarded, "", _run("invalidate")),
    _in(DOGPILE, spoiled.invalidates_at_home, "", _run("invalidate")),
    _in(DOGPILE, spoiled.striped, "", _run("nested")),
)

TABLE: dict[str, Fault] = {fault.name: fault for fault in _FAULTS}


def seed(name: str) -> None:
    """Bring a bug into this process.  Raises KeyError: there is none of that name."""
    TABLE[name].spoil()


def build(settings: Settings) -> Build:
    """The engine that a run asks for.  Raises KeyError: there is no bug of that name."""
    return Build(TABLE[settings.fault].flag if settings.fault else "", settings.delays)
