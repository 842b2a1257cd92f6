"""The table of known bugs, each of which a scenario must find: a stress test that finds no seeded bug proves nothing.

Depends on builds, settings and python_faults.  A bug of the engine is compiled into a build of its own; a bug of a
mutex or of the dogpile lock is patched into the processes of a round, before they use anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mpcache.stress.builds import Build
from mpcache.stress.faults import python_faults
from mpcache.stress.settings import Settings, plain_number

SECONDS = 40.0
"""Maximum seconds of a run, so that it takes a minute with all that comes before and after."""

ENGINE, MUTEX, DOGPILE, THIRD_PARTY = "engine", "mutex", "dogpile lock", "third party"


@dataclass(frozen=True)
class Fault:
    """A known bug; or a third-party lock or store with weaker guarantees than its user may expect.

    :ivar name: of a bug, the value of ``--fault``; of a third-party lock or store, its own.
    :ivar where: ENGINE, MUTEX, DOGPILE or THIRD_PARTY.
    :ivar text: what is wrong.
    :ivar settings: a run that finds it.
    :ivar flag: of the engine's build, see :class:`.Build`.
    :ivar install: patches the bug into a process; None: nothing is patched.
    """

    name: str
    where: str
    text: str
    settings: Settings
    flag: str = ""
    install: Callable[[], None] | None = None

    @property
    def build(self) -> Build:
        """Return the build of the engine."""
        return Build(self.flag, self.settings.delays)

    @property
    def control(self) -> Settings:
        """Return the settings of the same run without the bug, which must hold."""
        return self.settings.but(fault="")


def _engine(flag: str, text: str, settings: Settings) -> Fault:
    name = flag.lower().replace("_", "-")
    return Fault(name, ENGINE, text, settings.but(fault=name), flag=flag)


def _in(where: str, install: Callable[[], None], text: str, settings: Settings) -> Fault:
    name = install.__name__.replace("_", "-")
    return Fault(name, where, text, settings.but(fault=name), install=install)


def _mutex(name: str, text: str, **options: Any) -> Fault:
    return Fault(name, THIRD_PARTY, text, _run("exclusion", mutex=name, **options))


def _run(scenario: str, **options: Any) -> Settings:
    return Settings(scenario, seconds=SECONDS, **options)


_SMALL = {"size": "2600KB"}
"""A segment whose rings wrap around within moments."""

_FAULTS: tuple[Fault, ...] = (
    _engine(
        "HEAD_FIRST",
        "a writer advances the head of a ring past a record before the record is written",
        _run("whole_values", kills=30.0, backend_arguments=_SMALL, delays=True),
    ),
    _engine(
        "NO_RECHECK",
        "readers do not check whether the bytes that they copied were overwritten meanwhile",
        _run("whole_values", backend_arguments=_SMALL, delays=True),
    ),
    _engine(
        "MOVE_SUPERSEDED",
        "eviction moves a superseded record like a current one, so the old value reappears",
        _run("whole_values", backend_arguments=_SMALL, delays=True),
    ),
    _engine(
        "STALE_VERDICT",
        "a holder was found dead; a lease that another worker has taken over meanwhile is taken from that worker",
        _run("survives_kill", workers=8, kills=120.0, delays=True),
    ),
    _engine(
        "NO_VOID",
        "a created value is stored although its key was set or deleted meanwhile",
        _run("invalidate"),
    ),
    _engine(
        "DEAD_BY_AGE",
        "a waiter takes a holder for dead after a tenth of a second",
        _run("exclusion", stops=5.0),
    ),
    _in(
        MUTEX,
        python_faults.redis_deletes,
        "a release deletes the lock at the server, even if it has a new holder",
        _run("exclusion", mutex="redis", stops=3.0),
    ),
    _in(
        MUTEX,
        python_faults.memcached_deletes,
        "a release deletes the lock at the server, even if it has a new holder",
        _run("exclusion", mutex="memcached", stops=3.0),
    ),
    _in(
        MUTEX,
        python_faults.never_renewed,
        "a lease is not renewed, and lapses while a slow holder lives",
        _run("exclusion", mutex="redis"),
    ),
    _in(
        MUTEX,
        python_faults.loss_untold,
        "a holder whose lease has lapsed gets no error",
        _run("exclusion", mutex="redis", stops=3.0),
    ),
    _in(
        MUTEX,
        python_faults.waits_for_the_word_alone,
        "a waiter waits for the announcement of a release, which a dead holder never sends",
        _run("exclusion", mutex="redis", workers=4, kills=0.5),
    ),
    _in(
        MUTEX,
        python_faults.counts_for_itself,
        "each process counts its fences separately",
        _run("exclusion", mutex="redis"),
    ),
    _in(
        MUTEX,
        python_faults.name_unchecked,
        "a process that has locked a file does not check that the file still has its name",
        _run("exclusion", mutex="file"),
    ),
    _in(
        MUTEX,
        python_faults.broken_by_age,
        "a lock file that is a tenth of a second old is taken for a dead holder's",
        _run("exclusion", mutex="file", stops=5.0),
    ),
    _in(
        MUTEX,
        python_faults.rung_is_taken,
        "a waiter that the semaphore wakes takes the key for its own without acquiring it",
        _run("exclusion", mutex="semaphore"),
    ),
    _in(
        MUTEX,
        python_faults.threads_unasked,
        "threads of a process share one open file, whose lock does not exclude them from each other",
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
        "a forked child is taken for the holder of its parent's keys",
        _run("fork_and_exec", mutex="redis"),
    ),
    _in(
        MUTEX,
        python_faults.waits_for_itself,
        "no mutex detects a deadlock",
        _run("nested"),
    ),
    _in(
        DOGPILE,
        python_faults.never_looks_again,
        "the process that has acquired the mutex creates without looking for the value again",
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
        "keys are replaced by a checksum of six bits",
        _run("one_creator"),
    ),
    _in(
        DOGPILE,
        python_faults.many_let_go_early,
        "the mutexes of many keys are released before the values are stored",
        _run("many_keys"),
    ),
    _in(
        DOGPILE,
        python_faults.fills_unguarded,
        "a created value is stored without a guard, even if its key was set or deleted meanwhile",
        _run("invalidate"),
    ),
    _in(
        DOGPILE,
        python_faults.refresh_unguarded,
        "a refreshed value is stored without a guard, even if its key was set or deleted meanwhile",
        _run("invalidate"),
    ),
    _in(
        DOGPILE,
        python_faults.invalidates_at_home,
        "an invalidation reaches only the process that called it",
        _run("invalidate"),
    ),
)

TABLE: dict[str, Fault] = {fault.name: fault for fault in _FAULTS}
"""The seeded bugs, by their names."""

_THIRD_PARTY: tuple[Fault, ...] = (
    _mutex(
        "multiprocessing.Lock", "it has no owner: after the death of its holder it stays locked for ever", kills=5.0
    ),
    _mutex("posix_ipc.Semaphore", "it has no owner: after the death of its holder it stays locked for ever", kills=5.0),
    _mutex("fcntl.flock", "all processes that have inherited the open file are one holder"),
    _mutex("fcntl.lockf", "it does not exclude threads, and any close of the file releases it", threads=2),
    _mutex("pidfile", "a holder that is killed before it has written its pid is never found dead", kills=20.0),
    Fault(
        "dogpile.cache.memory",
        THIRD_PARTY,
        "each process creates its own value",
        _run("one_creator", backend="dogpile.cache.memory"),
    ),
    Fault(
        "dogpile.cache.dbm",
        THIRD_PARTY,
        "a process that is killed while it writes destroys values of others",
        _run("one_creator", backend="dogpile.cache.dbm", kills=60.0),
    ),
)

ALL: dict[str, Fault] = TABLE | {fault.name: fault for fault in _THIRD_PARTY}
"""The seeded bugs and the third-party locks and stores."""


def seed(name: str) -> None:
    """Patch a bug into this process.  Raises KeyError: there is no bug of that name."""
    install = TABLE[name].install
    if install is not None:
        install()


def build(settings: Settings) -> Build:
    """Return the build of the engine for a run.  Raises KeyError: there is no bug of that name."""
    return Build(TABLE[settings.fault].flag if settings.fault else "", settings.delays)


def words(settings: Settings) -> list[str]:
    """Return the arguments of ``stress run`` that differ from the defaults, without the duration."""
    usual, words = Settings(settings.scenario), [settings.scenario]
    for option in ("backend", "mutex", "workers", "threads", "kills", "stops"):
        if (given := getattr(settings, option)) != getattr(usual, option):
            words += [f"--{option}", plain_number(given) if isinstance(given, (int, float)) else given]
    if settings.backend_arguments:
        words += ["--backend-arguments", json.dumps(dict(settings.backend_arguments))]
    return [*words, "--delays"] if settings.delays else words


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield, for tables, of each fault: its name, where it is, what is wrong, and the run that finds it."""
    for fault in ALL.values():
        yield fault.name, fault.where, fault.text, " ".join(words(fault.settings))
