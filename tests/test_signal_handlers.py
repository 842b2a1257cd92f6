"""An exception of a signal handler reaches the program, whatever foreign code it passes through."""

from __future__ import annotations

import functools
import logging
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mpcache
from mpcache._region import holding
from mpcache._region.fast_path import Access
from mpcache._region.value_io import unwire
from mpcache._servers.memcached import Link, pool
from mpcache._servers.outage import OutagePolicy
from mpcache._support.signal_handlers import raised_by_signal_handler
from mpcache._wire import codec
from mpcache.api import NO_VALUE
from mpcache.backends.dbm import DbmFile
from mpcache.exception import CantSerializeException
from mpcache.mutexes import two_level

SIGNAL = signal.SIGUSR1


class OverTime(Exception):
    """The exception of a handler."""


class OverTimeOfTheSystem(TimeoutError, ValueError):
    """A handler's exception that derives from built-in errors, which interrupted code may raise, too."""


def out_of_time(*ignored: Any) -> None:
    raise OverTime


def by_a_helper(*ignored: Any) -> None:
    out_of_time()


class Watch:
    def __init__(self, *ignored: Any) -> None:
        if ignored:
            raise OverTime

    def __call__(self, number: int, frame: Any) -> None:
        raise OverTime

    def method(self, number: int, frame: Any) -> None:
        by_a_helper()

    @classmethod
    def of_the_class(cls, number: int, frame: Any) -> None:
        raise OverTime


@functools.wraps(out_of_time)
def wrapped(*args: Any) -> None:
    out_of_time(*args)


HANDLERS: dict[str, Any] = {
    "function": out_of_time,
    "lambda": lambda number, frame: [out_of_time() for _ in "x"],
    "by a helper": by_a_helper,
    "object": Watch(),
    "method": Watch().method,
    "class method": Watch.of_the_class,
    "class": Watch,
    "partial": functools.partial(by_a_helper, 1),
    "partial of partials": functools.partial(functools.partial(Watch().method), 1, None),
    "wrapper": wrapped,
    "cached": functools.lru_cache(by_a_helper),
}


@pytest.fixture
def handle() -> Iterator[Callable[[Any], object]]:
    before = signal.getsignal(SIGNAL)
    yield lambda handler: signal.signal(SIGNAL, handler)
    signal.signal(SIGNAL, before)


@pytest.fixture(autouse=True)
def handled(handle: Callable[[Any], object]) -> None:
    handle(out_of_time)


def interrupt() -> None:
    signal.raise_signal(SIGNAL)
    for _ in range(100):
        pass


def raised(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", HANDLERS)
def test_handlers_of_every_kind_are_known(handle: Callable[[Any], object], name: str) -> None:
    handle(
        HANDLERS[name] if name != "partial of partials" else functools.partial(lambda f, *given: f(), HANDLERS[name])
    )
    error = raised(interrupt)
    assert type(error) is OverTime
    assert raised_by_signal_handler(error)


def test_what_the_program_raises_is_not_a_handlers() -> None:
    assert not raised_by_signal_handler(raised(lambda: 1 / 0))
    assert not raised_by_signal_handler(raised(lambda: pickle.loads(b"no pickle")))
    assert not raised_by_signal_handler(OverTime())

    def caught() -> None:
        try:
            interrupt()
        except OverTime as error:
            raise ValueError("my own word for it") from error

    assert not raised_by_signal_handler(raised(caught))


def test_nor_is_what_a_function_raises_that_is_no_handler(handle: Callable[[Any], object]) -> None:
    handle(signal.SIG_DFL)
    assert not raised_by_signal_handler(raised(by_a_helper))


# -- while values are pickled and unpickled ------------------------------------------------------------------------


class Slow:
    """A value that is interrupted while it is pickled, or unpickled, as the test chooses."""

    pickling = unpickling = False

    def __getstate__(self) -> Any:
        if Slow.pickling:
            interrupt()
        return {"a": 1}

    def __setstate__(self, state: Any) -> None:
        if Slow.unpickling:
            interrupt()


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], None]:
    """Return ``interrupted("pickling", act)``, which checks that the handler's exception comes out of ``act``."""

    def check(when: str, act: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Slow, when, True)
            assert type(raised(act)) is OverTime

    return check


@pytest.fixture(params=["mpcache.shm", "mpcache.memory_pickle", "mpcache.dbm", "mpcache.shm by the reference path"])
def region(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    name, _, long = request.param.partition(" ")
    arguments = {"mpcache.dbm": {"filename": str(tmp_path / "file")}, "mpcache.shm": {"size": "4MB"}}.get(name, {})
    region = mpcache.make_region().configure(name, arguments=arguments)
    if long:
        region.access = Access(region.access.binding, None)
    return region


def test_a_value_that_is_being_read_is_not_taken_for_one_that_cannot_be(region: Any, interrupted: Any) -> None:
    region.set_multi({"a": Slow(), "b": Slow()})
    for act in (
        lambda: region.get("a"),
        lambda: region.get("a", ignore_expiration=True),
        lambda: region.get_multi(["a", "b"]),
        lambda: region.get_or_create("a", Slow),
        lambda: region.get_or_create_multi(["a"], lambda *keys: keys),
        lambda: region.get_value_metadata("a"),
    ):
        interrupted("unpickling", act)
    assert type(region.get("a")) is Slow


def test_a_value_that_is_being_written_is_not_taken_for_one_that_cannot_be(region: Any, interrupted: Any) -> None:
    for act in (
        lambda: region.set("a", Slow()),
        lambda: region.set("a", Slow(), ttl=9),
        lambda: region.set_multi({"b": 1, "a": Slow()}),
        lambda: region.get_or_create("a", Slow),
        lambda: region.get_or_create_multi(["a"], lambda *keys: [Slow()]),
    ):
        interrupted("pickling", act)
        assert region.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
    assert type(region.get_or_create("a", Slow)) is Slow  # its mutex is free


def test_errors_of_values_are_what_they_were(region: Any) -> None:
    with pytest.raises(CantSerializeException):
        region.set("a", lambda: 1)


@pytest.mark.parametrize("look", [codec.unwire, unwire], ids=["python", "c"])
def test_the_quick_look_passes_it_on(look: Any) -> None:
    with pytest.raises(OverTime):
        look([codec.join(b"", 1e9)], 1e9, 60.0, lambda payload: interrupt(), NO_VALUE)


# -- during calls of servers ---------------------------------------------------------------------------------------


@pytest.fixture
def of_the_system(handle: Callable[[Any], object]) -> None:
    def handler(number: int, frame: Any) -> None:
        raise OverTimeOfTheSystem

    handle(handler)


@pytest.mark.usefixtures("of_the_system")
def test_it_is_no_outage_of_a_server() -> None:
    outage = OutagePolicy("a store", "miss", (OSError,), (OSError,))
    for act in (lambda: outage.or_default(interrupt, None), lambda: outage.best_effort(interrupt)):
        with pytest.raises(OverTimeOfTheSystem):
            act()
    assert outage.counts == {}
    assert outage.or_default(lambda: 1, 2) == 1  # the server is asked again at once


class Interrupted(Link):
    """A connection that answers once, and is then interrupted while it waits for the server."""

    def __init__(self, urls: Any, options: Any) -> None:
        super().__init__(urls, options)
        self.answers = ["answer"]

    def get(self, key: str) -> Any:
        if not self.answers:
            interrupt()
        return self.answers.pop()

    def close(self) -> None:
        self.answers.append("closed")


@pytest.mark.usefixtures("of_the_system")
@pytest.mark.parametrize("patient", [False, True])
def test_nor_a_connection_that_was_lost_while_it_lay_idle(monkeypatch: pytest.MonkeyPatch, patient: bool) -> None:
    monkeypatch.setattr(pool, "kind_of", lambda library: Interrupted)
    links = pool.Pool(["localhost"], "its own", {}, patient)
    assert links.get("key") == "answer"
    for _ in range(2):
        with pytest.raises(OverTimeOfTheSystem):
            links.get("key")  # and not the answer of a second connection
        assert links.get("key") == "answer"  # the interrupted connection is not used any more


@pytest.mark.usefixtures("of_the_system")
def test_nor_damage_of_a_file(tmp_path: Path) -> None:
    file = DbmFile(str(tmp_path / "file"), alone=True)
    for use in (file.write, file.read):
        use(lambda values: values.get(b"k", None))
        with pytest.raises(OverTimeOfTheSystem):
            use(lambda values: interrupt())


def test_a_mutex_passes_it_on_as_well(caplog: pytest.LogCaptureFixture) -> None:
    lapsing = SimpleNamespace(
        guarantees=SimpleNamespace(leased=True), owned=interrupt, release=lambda stored: interrupt()
    )
    entry: Any = SimpleNamespace(release=lambda stored: interrupt())
    with caplog.at_level(logging.DEBUG):
        for act in (
            lambda: holding.owned(lapsing),
            lambda: holding.release_quietly(lapsing),
            lambda: two_level._release_interrupted(entry),
        ):
            with pytest.raises(OverTime):
                act()
    assert caplog.records == []
