"""Known bugs, each of which a scenario must find: a stress test that finds no seeded bug proves nothing.

Leans on builds, settings and python_faults.  A bug of the engine is compiled into a build of its own; one of a mutex
or of the dogpile lock is put into the processes of the play, before they use anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mpcache.stress.builds import Build
from mpcache.stress.faults import python_faults
from mpcache.stress.settings import Settings

SECONDS = 40.0
"""Of play, at most, so that with all that comes before and after it is a minute."""

ENGINE, MUTEX, DOGPILE, FOREIGN = "engine", "mutex", "dogpile lock", "foreign"


@dataclass(frozen=True)
class Fault:
    """A known bug, or a lock or a store that is not mpcache's and does not do what its user may think.

    :ivar name: what ``--fault`` takes; of a foreign one, its own.
    :ivar where: ENGINE, MUTEX, DOGPILE or FOREIGN.
    :ivar text: what is wrong, in a sentence.
    :ivar settings: a run that finds it.
    :ivar flag: of the engine's build.
    :ivar spoil: what brings it into a process; None: nothing has to.
    """

    name: str
    where: str
    text: str
    settings: Settings
    flag: str = ""
    spoil: Callable[[], None] | None = None

    @property
    def build(self) -> Build:
        """The engine that it is found in."""
        return Build(self.flag, self.settings.delays)

    @property
    def control(self) -> Settings:
        """The same run without it, which is to hold."""
        return self.settings.but(fault="")


def _engine(flag: str, text: str, settings: Settings) -> Fault:
    name = flag.lower().replace("_", "-")
    return Fault(name, ENGINE, text, settings.but(fault=name), flag=flag)


def _in(where: str, spoil: Callable[[], None], text: str, settings: Settings) -> Fault:
    name = spoil.__name__.replace("_", "-")
    return Fault(name, where, text, settings.but(fault=name), spoil=spoil)


def _mutex(name: str, text: str, **options: Any) -> Fault:
    return Fault(name, FOREIGN, text, _run("exclusion", mutex=name, **options))


def _run(scenario: str, **options: Any) -> Settings:
    return Settings(scenario, seconds=SECONDS, **options)


_SMALL = {"size": "1800KB"}
"""A segment whose rings are lapped within moments."""

_FAULTS: tuple[Fault, ...] = (
    _engine(
        "HEAD_FIRST",
        "a writer lets the head of a ring pass a record before it is written",
        _run("whole_values", kills=30.0, backend_arguments=_SMALL, delays=True),
    ),
    _engine(
        "NO_RECHECK",
        "readers do not ask whether what they have copied was overwritten meanwhile",
        _run("whole_values", backend_arguments=_SMALL, delays=True),
    ),
    _engine(
        "MOVE_SUPERSEDED",
        "a record that was overwritten is moved like one that was not, and is back",
        _run("whole_values", backend_arguments=_SMALL, delays=True),
    ),
    _engine(
        "STALE_VERDICT",
        "a holder was found dead, and what another has taken over meanwhile is taken from that one",
        _run("survives_kill", workers=8, kills=120.0, delays=True),
    ),
    _engine(
        "NO_VOID",
        "what is being created is stored though its key is set or deleted meanwhile",
        _run("invalidate"),
    ),
    _engine(
        "DEAD_BY_AGE",
        "a holder for whom another has waited a tenth of a second counts as dead",
        _run("exclusion", stops=5.0),
    ),
    _in(
        MUTEX,
        python_faults.redis_deletes,
        "a release deletes the lock at the server, whosever it is by then",
        _run("exclusion", mutex="redis", stops=3.0),
    ),
    _in(
        MUTEX,
        python_faults.memcached_deletes,
        "a release deletes the lock at the server, whosever it is by then",
        _run("exclusion", mutex="memcached", stops=3.0),
    ),
    _in(
        MUTEX,
        python_faults.never_renewed,
        "a lease lapses while its holder lives, who is slower than it is long",
        _run("exclusion", mutex="redis"),
    ),
    _in(
        MUTEX,
        python_faults.loss_untold,
        "a holder whose lease has lapsed is not told",
        _run("exclusion", mutex="redis", stops=3.0),
    ),
    _in(
        MUTEX,
        python_faults.waits_for_the_word_alone,
        "who waits does so until a release is announced, which a dead holder's is not",
        _run("exclusion", mutex="redis", workers=4, kills=0.5),
    ),
    _in(
        MUTEX,
        python_faults.counts_for_itself,
        "each process counts fences for itself",
        _run("exclusion", mutex="redis"),
    ),
    _in(
        MUTEX,
        python_faults.name_unchecked,
        "who has locked a file does not ask whether it still has its name",
        _run("exclusion", mutex="file"),
    ),
    _in(
        MUTEX,
        python_faults.broken_by_age,
        "a lock file that is a tenth of a second old counts as a dead holder's",
        _run("exclusion", mutex="file", stops=5.0),
    ),
    _in(
        MUTEX,
        python_faults.rung_is_taken,
        "whom the semaphore wakes believes that the key is his",
        _run("exclusion", mutex="semaphore"),
    ),
    _in(
        MUTEX,
        python_faults.threads_unasked,
        "threads of a process compete through one open file, to whose locks they are one",
        _run("exclusion", mutex="semaphore", workers=3, threads=3),
    ),
    _in(
        MUTEX,
        python_faults.inherited,
        "forked children keep their parent's open file, and its locks with it",
        _run("fork_and_exec", mutex="semaphore"),
    ),
    _in(
        MUTEX,
        python_faults.child_lets_go,
        "a forked child counts as the holder of what its parent holds",
        _run("fork_and_exec", mutex="redis"),
    ),
    _in(
        MUTEX,
        python_faults.waits_for_itself,
        "nobody looks for circles of those who wait",
        _run("nested"),
    ),
    _in(
        DOGPILE,
        python_faults.never_looks_again,
        "who has got the mutex creates without another look",
        _run("one_creator"),
    ),
    _in(
        DOGPILE,
        python_faults.kept_after_release,
        "the mutex is released before the value is stored",
        _run("one_creator"),
    ),
    _in(
        DOGPILE,
        python_faults.keys_collide,
        "keys go by a checksum of six bits",
        _run("one_creator"),
    ),
    _in(
        DOGPILE,
        python_faults.many_let_go_early,
        "of many keys the mutexes are released before the values are stored",
        _run("many_keys"),
    ),
    _in(
        DOGPILE,
        python_faults.fills_unguarded,
        "what was created is stored like what was set, whatever has happened to its key meanwhile",
        _run("invalidate"),
    ),
    _in(
        DOGPILE,
        python_faults.refresh_unguarded,
        "a refresh stores what it has read, whatever has happened to its key meanwhile",
        _run("invalidate"),
    ),
    _in(
        DOGPILE,
        python_faults.invalidates_at_home,
        "an invalidation reaches the process that it was made in",
        _run("invalidate"),
    ),
)

TABLE: dict[str, Fault] = {fault.name: fault for fault in _FAULTS}
"""Those that are seeded, by their names."""

_WANTING: tuple[Fault, ...] = (
    _mutex("multiprocessing.Lock", "it is nobody's: whose holder is killed stays taken for ever", kills=5.0),
    _mutex("posix_ipc.Semaphore", "it is nobody's: whose holder is killed stays taken for ever", kills=5.0),
    _mutex("fcntl.flock", "all who have inherited the open file are one holder"),
    _mutex("fcntl.lockf", "it does not know threads, and any close of the file lets go of it", threads=2),
    _mutex("pidfile", "who is killed before his pid stands there is never found dead", kills=20.0),
    Fault(
        "dogpile.cache.memory",
        FOREIGN,
        "each process creates for itself",
        _run("one_creator", backend="dogpile.cache.memory"),
    ),
    Fault(
        "dogpile.cache.dbm",
        FOREIGN,
        "a process that is killed while it writes takes values of others with it",
        _run("one_creator", backend="dogpile.cache.dbm", kills=60.0),
    ),
)

ALL: dict[str, Fault] = TABLE | {fault.name: fault for fault in _WANTING}
"""Those, and what is not mpcache's."""


def seed(name: str) -> None:
    """Bring a bug into this process.  Raises KeyError: there is none of that name."""
    spoil = TABLE[name].spoil
    if spoil is not None:
        spoil()


def build(settings: Settings) -> Build:
    """The engine that a run asks for.  Raises KeyError: there is no bug of that name."""
    return Build(TABLE[settings.fault].flag if settings.fault else "", settings.delays)


def words(settings: Settings) -> list[str]:
    """What stands after ``stress run``, as far as it is not as usual, of a run as long as one likes."""
    usual, words = Settings(settings.scenario), [settings.scenario]
    for option in ("backend", "mutex", "workers", "threads", "kills", "stops"):
        if (given := getattr(settings, option)) != getattr(usual, option):
            words += [f"--{option}", f"{given:g}" if isinstance(given, (int, float)) else given]
    if settings.backend_arguments:
        words += ["--backend-arguments", json.dumps(dict(settings.backend_arguments))]
    return [*words, "--delays"] if settings.delays else words


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Of each: its name, where it is, what is wrong, and the run that finds it.  For tables."""
    for fault in ALL.values():
        yield fault.name, fault.where, fault.text, " ".join(words(fault.settings))
