"""Greenlets of one thread that wait for each other do not block their hub, whatever was patched."""

from __future__ import annotations

import subprocess
import sys

import pytest

PATCHED = {
    "gevent, all": "import gevent as lib\nfrom gevent import monkey\nmonkey.patch_all()",
    "gevent, not thread": "import gevent as lib\nfrom gevent import monkey\nmonkey.patch_all(thread=False)",
    "gevent, nothing": "import gevent as lib",
    "eventlet, all": "import eventlet as lib\nlib.monkey_patch()",
    "eventlet, nothing": "import eventlet as lib",
}

PROGRAM = """
import os, tempfile, time
import mpcache

folder = tempfile.TemporaryDirectory()
arguments = {"memory": {}, "memory_pickle": {"max_entries": 9}, "shm": {"name": None, "size": "4MB"},
             "dbm": {"filename": os.path.join(folder.name, "cache")}}
mutexes = {"semaphore": {"mutex": "semaphore"}, "file": {"mutex": "file"}}

def join(greenlets):
    for greenlet in greenlets:
        greenlet.join() if hasattr(greenlet, "join") else greenlet.wait()

def of(region):
    @region.cache_on_arguments()
    def slow(number):
        ticks.append("begins")
        lib.sleep(0.05)
        return number

    def ask(call):
        try:
            answers.append(call())
        except Exception as error:
            answers.append(repr(error))

    answers, ticks, began = [], [], time.monotonic()
    many = lambda: region.get_or_create_multi(["x", "y"], lambda *keys: (lib.sleep(0.05), [1, 1])[1])[0]
    for call in (lambda: slow(1), lambda: slow.refresh(1), many):
        greenlets = [lib.spawn(ask, call) for _ in range(3)]
        lib.sleep(0.01)
        ask(call)  # in the main greenlet
        join(greenlets)
    assert answers == [1] * 12, (region, answers)
    assert time.monotonic() - began < 4, region
    assert ticks.count("begins") <= 5, (region, ticks)

for store in arguments:
    of(mpcache.make_region().configure("mpcache." + store, arguments=arguments[store], creation_wait=5))
for mutex in mutexes:
    of(mpcache.make_region().configure("mpcache.memory", creation_wait=5, **mutexes[mutex]))
"""


@pytest.mark.parametrize("patched", PATCHED)
def test_they_wait_for_each_other(patched: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PATCHED[patched] + PROGRAM], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_hub_a_greenlet_waits_as_its_thread_does() -> None:
    program = """
import greenlet, threading, mpcache
region = mpcache.make_region().configure("mpcache.memory", creation_wait=0.1)
holder = region._mutex("k")
thread = threading.Thread(target=holder.acquire)
thread.start(), thread.join()
def ask():
    try:
        region.get_or_create("k", int)
    except mpcache.exception.LockTimeout:
        return "told"
assert greenlet.greenlet(ask).switch() == "told"
holder.release()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
