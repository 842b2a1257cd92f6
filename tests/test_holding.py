"""The operations of the protocol on a mutex: what they ask of it, and what they log."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

import mpcache
from mpcache._region.holding import HandedOver, adapt, owned, release_quietly
from mpcache.api import NO_VALUE, Guarantees, Outcome
from mpcache.exception import LockTimeout
from mpcache.lock import Create, Steps, renew, run

LEASED = Guarantees(processes=True, hosts=True, survives_death=True, fair=False, leased=True)


class Mutex:
    """A leased mutex that answers as it is told, and notes what it was asked."""

    guarantees = LEASED
    key = "the key"
    unconfirmed = False

    def __init__(self, mine: Any = True, outcome: Outcome = Outcome.TIMEOUT) -> None:
        self.asked: list[Any] = []
        self._mine, self._outcome = mine, outcome

    def owned(self) -> bool:
        if isinstance(self._mine, Exception):
            raise self._mine
        return bool(self._mine)

    def contend(self, timeout: float | None) -> Outcome:
        return self._outcome

    def release(self, stored: bool = True) -> None:
        raise OSError("no answer")

    def abandon(self, handed_over: bool = False) -> None:
        self.asked.append(("abandon", handed_over))

    def __repr__(self) -> str:
        return "<Mutex>"


# -- what is logged -------------------------------------------------------------------------------------------------


def test_a_lease_that_cannot_be_released_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    release_quietly(Mutex())
    assert caplog.messages == ["<Mutex> could not be released, and lapses by itself: no answer"]


def test_a_mutex_that_cannot_be_asked_is_not_owned(caplog: pytest.LogCaptureFixture) -> None:
    assert not owned(Mutex(OSError("no answer")))
    text = "<Mutex> may be lost, since it cannot be asked: no answer; the value is returned and not stored"
    assert caplog.messages == [text]


@pytest.mark.parametrize(("unconfirmed", "level"), [(False, logging.WARNING), (True, logging.DEBUG)])
def test_a_lost_mutex_is_logged_louder_than_one_in_an_outage(
    unconfirmed: bool, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mutex = Mutex(False)
    mutex.unconfirmed = unconfirmed
    assert not owned(mutex)
    text = "<Mutex> was lost while its value was created; the value is returned and not stored"
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, text)]


def test_a_lost_mutex_that_knows_no_outage_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    mutex = SimpleNamespace(guarantees=LEASED, owned=lambda: False)
    assert not owned(mutex)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_refresh_that_waited_too_long_names_its_mutex() -> None:
    class Work:
        def create(self) -> Steps:
            return (yield Create(lambda: 1))

    mutex = Mutex()
    with pytest.raises(LockTimeout, match=r"<Mutex> was not released within 5 s") as caught:
        run(renew(Work(), mutex, 5), mutex)  # type: ignore[arg-type]
    assert caught.value.key == "the key"


# -- mutexes of dogpile.cache's kind ----------------------------------------------------------------------------------


class Theirs:
    """A mutex whose acquire has a time limit of its own."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        self.asked.append((wait, timeout))
        return timeout is None

    def release(self) -> None:
        pass


class WithoutLimit(Theirs):
    def acquire(self, wait: bool = True) -> bool:  # type: ignore[override]
        self.asked.append(wait)
        return True


def test_the_time_limit_is_passed_to_a_mutex_that_takes_one() -> None:
    theirs = Theirs()
    assert adapt(theirs).contend(2.5) is Outcome.TIMEOUT
    assert adapt(theirs).contend(None) is Outcome.ACQUIRED
    assert theirs.asked == [(True, 2.5), (True, None)]


def test_and_not_to_one_that_takes_none() -> None:
    theirs = WithoutLimit()
    assert adapt(theirs).contend(2.5) is Outcome.ACQUIRED
    assert theirs.asked == [True]


def test_nor_to_one_without_a_signature() -> None:
    class Unsigned:
        """A callable of which inspect learns nothing, as one written in C."""

        __signature__ = "none"

        def __init__(self) -> None:
            self.asked: list[Any] = []

        def __call__(self, wait: bool, **more: Any) -> bool:
            self.asked.append((wait, more))
            return True

    acquire = Unsigned()
    assert adapt(SimpleNamespace(acquire=acquire)).contend(2.5) is Outcome.ACQUIRED
    assert acquire.asked == [(True, {})]


# -- mutexes that were handed over ------------------------------------------------------------------------------------


def test_a_runner_that_was_interrupted_abandons_what_it_was_handed() -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    mutex = Mutex()
    handed = HandedOver(mutex, interrupted)
    with pytest.raises(KeyboardInterrupt):
        handed.release()
    assert mutex.asked == [("abandon", True)]


# -- many keys --------------------------------------------------------------------------------------------------------


def test_values_that_were_created_without_their_mutex_are_counted() -> None:
    class Unstored(Mutex):
        """A mutex that another task holds, who stores nothing."""

        guarantees = LEASED._replace(leased=False)

        def __init__(self, key: str) -> None:
            super().__init__(outcome=Outcome.UNSTORED)

        def acquire(self, wait: bool = True) -> bool:
            return False

    region = mpcache.make_region().configure("mpcache.memory", mutex=Unstored)
    assert region.get_or_create_multi(["a"], lambda *keys: [1]) == [1]
    assert region.counters.counts == {"created_alone": 1}


def test_what_does_not_live_at_all_is_not_written() -> None:
    written: list[Any] = []

    class Telling(mpcache.ProxyBackend):
        def set_multi(self, mapping: Any) -> None:
            written.append(list(mapping))
            super().set_multi(mapping)

    region = mpcache.make_region().configure("mpcache.memory", wrap=[Telling])
    values = region.get_or_create_multi(["a", "b"], lambda *keys: list(keys), ttl=lambda key: 0 if key == "a" else 9)
    assert (values, written) == (["a", "b"], [["b"]])
    assert region.get_multi(["a", "b"]) == [NO_VALUE, "b"]
