"""docs/architecture.rst lists each part, and calls take the steps that it names, in their order."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import mpcache
from mpcache.testing.servers import Redis

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.rst").read_text()


def journeys() -> dict[str, list[str]]:
    """Return the steps of each journey of the page."""
    blocks = re.findall(r"^\.\. journey: (.+)\n\n::\n\n((?:    .*\n)+)", PAGE, re.M)
    return {name: [line.split()[0] for line in block.splitlines()] for name, block in blocks}


def entered(call: Callable[[], Any]) -> list[str]:
    """Return the functions of mpcache, and of this module, that a call enters, each as the page writes it."""
    names: list[str] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("mpcache."):
            names.append(f"{module.removeprefix('mpcache.')}:{frame.f_code.co_name}")
        elif event == "call" and module == __name__:
            names.append(f"user:{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return names


def missing(steps: list[str], names: list[str]) -> str | None:
    """Return the first step that is not entered after the steps before it."""
    left: Iterator[str] = iter(names)
    return next((step for step in steps if step not in left), None)


def creator() -> int:
    return 7


@pytest.fixture
def redis() -> Iterator[mpcache.CacheRegion]:
    with Redis() as server:
        region = mpcache.make_region().configure("mpcache.redis", arguments={"url": server.url})
        region.set("k", 1)  # connects, and brings the script to the server
        yield region


def test_the_page_has_its_journeys() -> None:
    assert list(journeys()) == ["get", "get by the reference path", "get_or_create", "redis write"]


def test_a_hit_in_shared_memory_is_one_call() -> None:
    region = mpcache.shared(None, size="4MB")
    region.set("k", 1)
    assert entered(lambda: region.get("k"))[1:] == journeys()["get"]  # the lambda is the first


def test_a_hit_by_the_reference_path() -> None:
    region = mpcache.make_region().configure("mpcache.memory")
    region.set("k", 1)
    names = entered(lambda: region.get("k"))
    assert missing(journeys()["get by the reference path"], names) is None, names


def test_a_creation() -> None:
    region = mpcache.shared(None, size="4MB")
    names = entered(lambda: region.get_or_create("k", creator))
    assert missing(journeys()["get_or_create"], names) is None, names


def test_a_write_to_redis(redis: mpcache.CacheRegion) -> None:
    names = entered(lambda: redis.set("k", 2))
    assert missing(journeys()["redis write"], names) is None, names
    once = [step for step in journeys()["redis write"] if names.count(step) != 1]
    assert once == [], "the bytes go down once"


def test_each_part_is_listed() -> None:
    table = PAGE[PAGE.index("\n===") : PAGE.index("Imports go down")]
    listed = set(re.findall(r"^``(\w+)``(?:, ``(\w+)``)?", table, re.M))
    names = {name for pair in listed for name in pair if name}
    package = ROOT / "mpcache"
    there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names == there - {"__init__"}
