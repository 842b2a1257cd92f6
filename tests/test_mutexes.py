"""The table of mutexes: by name, by entry point, as classes; and the behaviour of base without a region."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib.metadata
import threading
from typing import Any

import pytest

import mpcache
from mpcache import mutexes
from mpcache.exception import DeadlockError, PluginNotFound
from mpcache.mutexes.base import current_holds, current_owner
from mpcache.mutexes.null import NullMutex
from mpcache.mutexes.thread import Scope, ThreadMutex


def test_by_their_names() -> None:
    assert mutexes.resolve("thread") is mutexes.ThreadMutex is ThreadMutex
    assert mutexes.resolve("null") is mutexes.NullMutex is NullMutex
    assert mutexes.resolve(NullMutex) is NullMutex
    assert {"null", "shm", "thread"} <= set(mutexes.names())


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(PluginNotFound, match=r"no mutex is named 'x'; there are .*null.*'mpcache\.mutexes'"):
        mutexes.resolve("x")
    with pytest.raises(AttributeError, match=r"'mpcache\.mutexes' has no attribute 'PadLock'"):
        mutexes.PadLock


def test_the_last_registration_of_a_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutexes, "_table", dict(mutexes._table))
    mutexes.register_mutex("mine", "no_such_module", "Nothing")  # imported when it is asked for
    mutexes.register_mutex("mine", "mpcache.mutexes.null", "NullMutex")
    region = mpcache.make_region().configure("mpcache.memory", mutex="mine")
    assert isinstance(region._mutex("k"), NullMutex)
    assert "mine" in mutexes.names()


def test_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> Any:
        assert group == "mpcache.mutexes"
        names = {"other": "no_such_module:Nothing", "theirs": "mpcache.mutexes.null:NullMutex"}
        return [importlib.metadata.EntryPoint(name, value, group) for name, value in names.items()]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert mutexes.resolve("theirs") is NullMutex


@pytest.mark.parametrize("kind", [NullMutex, ThreadMutex])
def test_a_mutex_is_a_context_manager(kind: Any) -> None:
    with kind("k") as mutex:
        assert repr(mutex).startswith(f"<{kind.__name__} 'k' held by pid ")
        assert kind("k").locked() is (kind is ThreadMutex)
    assert repr(mutex) == f"<{kind.__name__} 'k' free>"


# -- owners, and the keys they hold ---------------------------------------------------------------------------------


def test_what_i_hold_is_known_until_it_is_given_back_handed_over_or_dropped() -> None:
    scope, before = Scope(), {*current_holds()}  # remove what another test left if it failed
    one, two, three = (ThreadMutex(key, scope) for key in "abc")
    for mutex in (one, two, three):
        mutex.acquire()
    assert sorted(hold.key for hold in {*current_holds()} - before) == ["a", "b", "c"]
    elsewhere = threading.Thread(target=one.release)
    elsewhere.start()
    elsewhere.join()
    two.hand_over()
    assert [hold.key for hold in {*current_holds()} - before] == ["c"]
    with pytest.warns(ResourceWarning, match="'c'"):
        del mutex, three
    assert {*current_holds()} <= before
    two.release()


class Interrupting(set[Any]):
    """The holds of an owner; a signal handler raises before the last step of a release."""

    def discard(self, hold: Any) -> None:
        raise TimeoutError


def test_the_reference_that_an_interrupted_release_left_behind_is_removed() -> None:
    owner, scope = current_owner(), Scope()
    before = [weak for weak in owner.holds if weak() is not None]
    first, second = ThreadMutex("first", scope), ThreadMutex("second", scope)
    first.acquire()
    owner.holds = Interrupting(owner.holds)
    with pytest.raises(TimeoutError):
        first.release()
    del first
    gc.collect()
    owner.holds = set(owner.holds)
    assert len(owner.holds) > len(before)
    with second:
        assert len(owner.holds) == len(before) + 1


def test_one_thread_is_one_asker_and_another_one_with_its_context_is_not() -> None:
    me, others = current_owner(), []
    elsewhere = threading.Thread(target=contextvars.copy_context().run, args=(lambda: others.append(current_owner()),))
    elsewhere.start()
    elsewhere.join()
    assert current_owner() is me
    assert others[0] is not me


def test_each_task_is_an_asker_also_one_that_inherits_a_context() -> None:
    scope = Scope()

    async def child() -> bool:
        assert current_holds() == ()
        return ThreadMutex("k", scope).acquire(timeout=0)  # it would wait for its parent, not for itself

    async def parent() -> None:
        with ThreadMutex("k", scope):
            assert await asyncio.create_task(child()) is False
            with pytest.raises(DeadlockError):
                ThreadMutex("k", scope).acquire(timeout=0)
        assert current_holds() == ()

    asyncio.run(parent())
