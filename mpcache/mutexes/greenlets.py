"""How a greenlet sleeps, so that the hub of its thread and the other greenlets run.

Depends on nothing; gevent and eventlet are looked for among the loaded modules, whatever they have patched::

    no hub in this thread                          wait in C: no other greenlet has to go on
    a hub, threading patched, a mutex in Python    wait as usual: the patched locks switch to the hub themselves
    a hub, anything else                           poll, with the hub's own sleep
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Sleep = Callable[[float], Any]

_loaded = sys.modules.get


def sleep_of_hub(cooperates: bool) -> Sleep | None:
    """Return the sleep for polling in the greenlet that runs; None: it may wait as a thread does.

    :param cooperates: whether the mutex waits by ``threading`` and ``time`` alone, which may be patched.
    """
    for find, patched in ((_gevent, _gevent_patched), (_eventlet, _eventlet_patched)):
        sleep = find()
        if sleep is not None:
            return None if cooperates and patched() else sleep
    return None


def _gevent() -> Sleep | None:
    hubs, current = _loaded("gevent._hub_local"), _loaded("greenlet")
    hub = hubs.get_hub_if_exists() if hubs is not None else None
    if hub is None or current is None or current.getcurrent() is hub:  # the hub itself has nothing to switch to
        return None
    sleep: Sleep = sys.modules["gevent"].sleep
    return sleep


def _gevent_patched() -> bool:
    monkey = _loaded("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _eventlet() -> Sleep | None:
    hubs, current = _loaded("eventlet.hubs"), _loaded("greenlet")
    hub = getattr(getattr(hubs, "_threadlocal", None), "hub", None)
    if hub is None or current is None or current.getcurrent() is hub.greenlet:
        return None
    sleep: Sleep = sys.modules["eventlet"].sleep
    return sleep


def _eventlet_patched() -> bool:
    patcher = _loaded("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread") and patcher.is_monkey_patched("time"))
