"""Several interpreters in a process: the first that imports the engine has it, the others are told why they cannot."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.engine

RUN = """
import mpcache  # and with it datetime: Python 3.12.1 aborts if another interpreter imports that first

try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    import _xxsubinterpreters as interpreters


def in_another(code):
    other = interpreters.create()
    failed = interpreters.run_string(other, code)
    interpreters.destroy(other)
    assert failed is None, failed


def in_one_that_shares_the_gil(code):
    # as mod_wsgi makes them
    import _testcapi

    assert _testcapi.run_in_subinterp(code) == 0
"""

USE = """
import mpcache

cache = mpcache.shared(None, size="8MB")
cache.set_multi({"a": b"a", "b": [2]})
assert cache.get_or_create("a", lambda: 1 / 0) == b"a"
assert cache.get_multi(["a", "b"]) == [b"a", [2]]
"""

REFUSED = """
import mpcache
from mpcache._wire import _wire, codec  # which has no state

region = mpcache.make_region().configure("mpcache.memory_pickle")
region.set("k", [1])
assert region.get_multi(["k"]) == [[1]]
for attempt in 1, 2:
    try:
        mpcache.make_region().configure("mpcache.shm")
    except ImportError as error:
        assert "another interpreter of this process" in str(error), error
        assert "WSGIApplicationGroup %{GLOBAL}" in str(error), error
    else:
        raise AssertionError("it was not refused")
"""


def run(program: str) -> None:
    program = f"{RUN}\nUSE, REFUSED = {USE!r}, {REFUSED!r}\n{textwrap.dedent(program)}"
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


WAYS = pytest.mark.parametrize("way", ["in_another", "in_one_that_shares_the_gil"])


@WAYS
def test_the_first_has_the_engine_and_keeps_it(way: str) -> None:
    run(
        f"""
        exec(USE)
        for _ in range(3):
            {way}(REFUSED)
            exec(USE)
        print("over")
        """
    )


@WAYS
def test_the_first_may_be_any_of_them(way: str) -> None:
    """When it is gone its objects are, too, and the process is left without an engine."""
    run(
        f"""
        {way}(USE)
        exec(REFUSED)
        {way}(REFUSED)
        print("over")
        """
    )


def test_to_import_it_again_is_no_other_interpreter() -> None:
    run(
        """
        import sys
        from mpcache.shm import _engine, segment

        found = segment.attach(None, "4MB")
        space = found.engine.namespace("")
        guard = space.guard("k")
        del sys.modules["mpcache.shm._engine"]
        from mpcache.shm import _engine as again

        import importlib

        again = importlib.import_module("mpcache.shm._engine")
        assert again is not _engine and again.Namespace is _engine.Namespace
        assert space.fill(guard, "k", b"v", 0.0, 0.0, 2) and space.get("k")[0] == b"v"
        exec(USE)
        print("over")
        """
    )
