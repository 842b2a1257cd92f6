"""The types of decorated functions for type checkers: the signature, and that of each attribute."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mpcache

PROGRAM = """
import asyncio
from datetime import timedelta
from typing import TypeVar
import mpcache
from mpcache.api import NoValueType

cache = mpcache.make_region().configure("mpcache.memory", expiration_time=timedelta(seconds=5))

# -- one value

@cache.cache_on_arguments()
def f(a: int, b: str = "") -> float: return 1.0

class T:
    @cache.cache_on_arguments(expiration_time=lambda: 5)
    def m(self, a: int) -> bytes: return b""

fine: float = f(1) + f.refresh(1, b="x") + f.original(2)
f.set(2.0, 1)
found: float | NoValueType = f.get(1)
also_fine: bytes = T().m(1) + T().m.refresh(a=1) + T.m(T(), 1)
T().m.set(b"", 1)
f("x")  # wrong
f.set("x", 1)  # wrong
f.invalidate(1, 2)  # wrong
value: float = f.get(1)  # wrong
T().m("x")  # wrong
T().m.get()  # wrong
T.m.invalidate(None, 1)
T.m.set(b"", None, a=1)
T.m.invalidate(T(), 1)
T.m.invalidate("x", 1)  # wrong
T.m.invalidate(None, "x")  # wrong
key: str = f.key(1) + T().m.key(1) + T.m.key(None, 1)

# -- class methods

class C:
    @classmethod
    @cache.cache_on_arguments()
    def c(cls, a: int) -> str: return ""

    @cache.cache_on_arguments("inside")
    @classmethod
    def inside(cls, a: int) -> str: return ""

    @classmethod
    @cache.cache_multi_on_arguments()
    def many(cls, *ids: int) -> list[str]: return []

of_class: str = C.c(1) + C().c(1)
C.c.invalidate(1)
C().c.invalidate(1)
C.c.set("", 1)
C.c("x")  # wrong
C.c.invalidate("x")  # wrong
many_of_class: list[str] = C.many(1, 2)
C.many.invalidate(1)

# -- generic functions

X = TypeVar("X")

@cache.cache_on_arguments("generic")
def same(x: X) -> X: return x

@cache.cache_on_arguments("list")
def all_of(x: X, n: int = 1) -> list[X]: return [x] * n

number: int = same(5) + all_of(5)[0] + same.refresh(5)
text: str = same("x") + all_of("x", n=2)[0]
same.invalidate(5)
same.set(5, 5)
all_of.get("x")
other: int = same("x")  # wrong
others: list[int] = all_of("x")  # wrong
all_of()  # wrong

# -- key= and ignore=

@cache.cache_on_arguments(key=lambda user, page: (user, page))
def profile(user: str, page: int) -> str: return ""

@cache.cache_on_arguments("left out", ignore=("session",))
def row(session: object, id: int) -> str: return ""

said: str = profile("u", 1) + row(object(), 1)
profile("u")  # wrong
cache.cache_on_arguments(key="user")  # wrong
cache.cache_on_arguments(ignore=5)  # wrong

# -- many values

@cache.cache_multi_on_arguments()
def load(*ids: int) -> tuple[str, ...]: return ()

@cache.cache_multi_on_arguments("some", asdict=True)
def some(*ids: int) -> dict[int, str]: return {}

class M:
    @cache.cache_multi_on_arguments()
    def load(self, *ids: int) -> list[str]: return []

loaded: list[str] = load(1, 2) + load.refresh(1) + M().load(1) + M.load(M(), 1)
left: dict[int, str] = some(1, 2) or some.refresh(3)
perhaps: list[str | NoValueType] = load.get(1) + some.get(1) + M().load.get(1)
load.set({1: "one"})
M().load.set({1: "one"})
M().load.invalidate(1, 2)
M.load.invalidate(None, 1)
M.load.invalidate(None, "x")  # wrong
load("x")  # wrong
load.invalidate("x")  # wrong
load.set({1: 1})  # wrong
M().load("x")  # wrong
values: list[int] = load(1)  # wrong
listed: list[str] = some(1)  # wrong

# -- async

@cache.cache_on_arguments()
async def g(a: int) -> float: return 1.0

@cache.cache_on_arguments("generic")
async def asame(x: X) -> X: return x

class A:
    @cache.cache_on_arguments()
    async def m(self, a: int) -> bytes: return b""

    @classmethod
    @cache.cache_on_arguments()
    async def c(cls, a: int) -> bytes: return b""

async def main() -> None:
    made: float = await g(1) + await g.refresh(1) + await g.original(1)
    there: float | NoValueType = g.get(1)
    g.set(2.0, 1)
    g.invalidate(1)
    bound: bytes = await A().m(1) + await A().m.refresh(1) + await A.m(A(), 1)
    A().m.set(b"", 1)
    A.m.invalidate(None, 1)
    of_class: bytes = await A.c(1)
    A.c.invalidate(1)
    as_it_was: int = await asame(5)
    A.m.invalidate(None, "x")  # wrong
    await A.c("x")  # wrong
    by_hand: object = await cache.aget_or_create("k", g.original, creator_args=((1,), {}))
    await g("x")  # wrong
    g.set("x", 1)  # wrong
    not_awaited: float = g(1)  # wrong
    await g.get(1)  # wrong
    await A().m("x")  # wrong

asyncio.run(main())

# -- the region

cache.set("k", 1, ttl=timedelta(seconds=1))
cache.set_multi({"k": 1}, ttl=1.5)
cache.get_or_create_multi((key for key in "ab"), lambda *keys: [1 for _ in keys])
subclass: mpcache.CacheRegion = mpcache.CacheRegion("n").configure("mpcache.memory")
cache.set("k", 1, ttl="5m")
cache.set("k", 1, ttl=[1])  # wrong
cache.get_multi(1)  # wrong
"""

WRONG = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.slow
def test_mypy_sees_all_that_is_wrong_and_nothing_else(program: Path) -> None:
    mypy = pytest.importorskip("mypy.api")
    report, errors, _ = mypy.run(["--strict", "--no-error-summary", f"--cache-dir={program.parent}", str(program)])
    found = re.findall(r"program\.py:(\d+): error:", report)
    assert sorted({int(number) for number in found}) == WRONG, report + errors


@pytest.mark.slow
def test_pyright_does_too(program: Path) -> None:
    """Run basedpyright, whose package contains the node that it needs."""
    config = {"extraPaths": [str(Path(mpcache.__file__).parent.parent)], "typeCheckingMode": "standard"}
    (program.parent / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(program.parent)]
    report: Any = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    wrong = [one for one in report["generalDiagnostics"] if one["severity"] == "error"]
    assert sorted({one["range"]["start"]["line"] + 1 for one in wrong}) == WRONG, wrong


def test_the_program_is_one_that_runs(program: Path) -> None:
    """Run the lines that type checkers accept; the wrong lines are left out."""
    lines = [line for line in PROGRAM.splitlines() if not line.endswith("# wrong")]
    runnable = "\n".join(lines).replace("-> tuple[str, ...]: return ()", "-> tuple[str, ...]: return ('s',) * len(ids)")
    runnable = runnable.replace("-> dict[int, str]: return {}", "-> dict[int, str]: return dict.fromkeys(ids, 's')")
    program.write_text(runnable.replace("-> list[str]: return []", "-> list[str]: return ['s'] * len(ids)"))
    runpy.run_path(str(program))
