"""Two layouts of the segment side by side, as during a rolling deploy: two caches, and never one lock held twice."""

from __future__ import annotations

import os
import re
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpcache.shm import _engine, files, handle, other_layouts, segment
from tests.shm.two_versions import PACKAGE, Version, build

PAIRS = [(old, new) for old, new in ((2, 3), (3, 4)) if _engine.LAYOUT in (old, new)]
"""The layout that has one file for stores and mutexes, before those that have two; and two of the latter."""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return the folder of each version, by its layout."""
    others = {layout for pair in PAIRS for layout in pair} - {_engine.LAYOUT}
    folder = tmp_path_factory.mktemp("versions")
    return {_engine.LAYOUT: PACKAGE.parent} | {layout: build(folder / str(layout), layout) for layout in others}


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a directory of segments of its own; return that of this user."""
    place = Path("/dev/shm") / f"mpcache-test-{uuid.uuid4().hex[:8]}"
    place.mkdir()
    monkeypatch.setenv("MPCACHE_SHM", str(place))
    yield place / f"mpcache-{os.geteuid()}"
    import shutil

    shutil.rmtree(place)


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]} and {pair[1]}")
def versions(request: pytest.FixtureRequest, builds: dict[int, Path], shm: Path) -> Iterator[tuple[Version, Version]]:
    """Return the old and the new version."""
    old, new = (Version(builds[layout], layout) for layout in request.param)
    yield old, new
    old.end()
    new.end()


STORE = "cache = mpcache.shared('app', size='4MB'); cache.set('k', _engine.LAYOUT)"
MUTEX = "mutex = ShmMutex('k', segment='app'); mutex.acquire()"
GET = "cache.get('k')"


def made(shm: Path) -> list[str]:
    return sorted(os.listdir(shm))


def ls(version: Version) -> dict[str, list[str]]:
    """Return the rows of `mpcache ls` by their last column."""
    listed = version.command("ls")
    assert (listed.returncode, listed.stderr) == (0, "")
    _, *rows = [re.split(r" {2,}", line) for line in listed.stdout.splitlines()]
    return {row[-1]: row for row in rows}


# -- stores ---------------------------------------------------------------------------------------------------------


def test_stores_live_beside_each_other(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    first, second = old.start(STORE), new.start(STORE)
    assert made(shm) == sorted([old.file("app"), new.file("app")])
    assert (first.ask(GET), second.ask(GET)) == (str(old.layout), str(new.layout))
    second.ask("cache.invalidate()")
    assert first.ask(GET) == str(old.layout)
    assert second.ask("segment.names()") == "['app']"
    assert old.start(STORE).ask("cache.actual_backend.segment.engine.stats()['processes']") == "2"


def test_what_the_old_version_left_goes_at_the_next_attach(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    first = old.start(STORE)
    second = new.start(STORE)
    first.kill()
    assert old.file("app") in made(shm)
    new.start(STORE)
    assert made(shm) == [new.file("app")]
    assert second.ask(GET) == str(new.layout)


def test_a_roll_back_removes_the_new_one(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    new.start(STORE).kill()
    old.start(STORE)
    assert made(shm) == [old.file("app")]


def test_a_process_that_has_done_nothing_yet_goes_on_in_a_successor(
    versions: tuple[Version, Version], shm: Path
) -> None:
    """It is not registered, so its segment counts as abandoned."""
    old, new = versions
    idle = old.start("found = segment.attach('app', '4MB')")
    inode = (shm / old.file("app")).stat().st_ino
    new.start(STORE)
    assert made(shm) == [new.file("app")]
    assert idle.ask("found.engine.retired") == "True"
    assert idle.ask("mpcache.shared('app', size='4MB').set('k', 5)") == "None"
    assert (shm / old.file("app")).stat().st_ino != inode


def test_other_names_are_left_alone(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    old.start(STORE.replace("'app'", "'other'")).kill()
    new.start(STORE)
    assert made(shm) == sorted([old.file("other"), new.file("app")])


# -- mutexes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True], ids=["old first", "new first"])
def test_a_mutex_is_refused_while_the_other_layouts_is_alive(
    versions: tuple[Version, Version], shm: Path, reverse: bool
) -> None:
    first, second = versions[::-1] if reverse else versions
    holder, asker = first.start(MUTEX), second.start("")
    told = asker.ask("ShmMutex('k', segment='app')")
    assert told.startswith(f"SegmentRefused {shm / 'app'}: made by another layout version of mpcache")
    assert f"(its layout is {first.layout}, this version's {second.layout})" in told
    assert "end the processes of that version, or take another name" in told
    assert holder.ask("mutex.release()") == "None"
    assert asker.ask("ShmMutex('k', segment='app')").startswith("SegmentRefused"), "it may take the mutex again"
    holder.kill()
    assert asker.ask("ShmMutex('k', segment='app').acquire()") == "True"
    assert made(shm) == ["app"]


FORKED = """
mutex = ShmMutex('k', segment='app')
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    pass
"""


def test_a_child_that_has_not_taken_its_mutex_yet_is_refused(versions: tuple[Version, Version]) -> None:
    """It is not registered, and its parent is gone.  At its first call it must not go on in the removed segment."""
    old, new = versions
    child = old.start(FORKED)
    new.start(MUTEX)
    assert child.ask("mutex.acquire()").startswith("SegmentRefused")


def test_a_mutex_and_the_other_layouts_store(versions: tuple[Version, Version], shm: Path) -> None:
    """The bare name of layout 2 has a store's segment, in which there may be mutexes.  Later ones are two files."""
    old, new = versions
    store = old.start(STORE)
    told = new.start("").ask("ShmMutex('k', segment='app').acquire()")
    if old.layout == 2:
        assert told.startswith("SegmentRefused")
        store.kill()
        assert new.start("").ask("ShmMutex('k', segment='app').acquire()") == "True"
    else:
        assert told == "True"
        assert made(shm) == sorted(["app", old.file("app")])


def test_a_store_and_mutexes_of_one_name(versions: tuple[Version, Version], shm: Path) -> None:
    _, new = versions
    both = new.start(f"{STORE}; {MUTEX}")
    assert made(shm) == [new.file("app"), "app"]
    assert both.ask("cache.actual_backend.segment.for_mutexes, mutex._place.segment.for_mutexes") == "(False, True)"
    again = "(lambda it: it.path == {0}.path)(__import__('pickle').loads(__import__('pickle').dumps({0})))"
    assert both.ask(again.format("mutex._place.segment")) == "True"
    assert both.ask(again.format("cache.actual_backend.segment")) == "True"
    new.start(STORE)
    assert made(shm) == [new.file("app"), "app"], "an unused segment of mutexes of this layout stays"
    assert both.ask("mutex.release(), segment.unlink('app'), mutex.acquire(), mutex._place.segment.for_mutexes") == (
        "(None, True, True, True)"
    )


# -- the command ----------------------------------------------------------------------------------------------------


def test_ls_tells_the_other_layout(versions: tuple[Version, Version]) -> None:
    old, new = versions
    new.start(f"{STORE}; {MUTEX}")
    own = ls(new)
    assert own["stores"][2] == "1"
    assert own["mutexes"][2] == "0"
    seen = ls(old)
    assert seen[f"stores, layout {new.layout}"][:5] == ["app", "4 MiB", "-", "-", "some"]
    assert seen[f"mutexes, layout {new.layout}"][4] == "some"
    new.end()
    assert ls(old)[f"mutexes, layout {new.layout}"][4] == "0"
    assert f"made by another version of mpcache (its layout is {new.layout}" in old.command("stats", "app").stderr


def test_rm_asks_for_force_while_the_other_version_lives(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    process = old.start(STORE)
    new.start("cache = mpcache.shared('app', size='4MB')")
    refused = new.command("rm", "app")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"processes of another version, of layout {old.layout}, may hold keys" in refused.stderr
    assert refused.stderr.endswith("add --force\n")
    assert len(made(shm)) == 2
    assert new.command("rm", "--force", "app").stdout == "removed app\n"
    assert made(shm) == []
    assert process.ask("cache.set('k', 7), cache.get('k')") == "(None, 7)"
    assert made(shm) == [old.file("app")]


def test_rm_removes_the_layout_that_is_named(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    old.start(STORE)
    kept = new.start(f"{STORE}; mutex = old = None")
    removed = new.command("rm", "--force", "--layout", str(old.layout), "app")
    assert (removed.returncode, removed.stdout) == (0, f"removed app of layout {old.layout}\n")
    assert made(shm) == [new.file("app")]
    missing = new.command("rm", "--layout", "77", "app")
    assert (missing.returncode, "there is no segment 'app' of layout 77" in missing.stderr) == (1, True)
    assert kept.ask(GET) == str(new.layout)
    for wrong in (["--layout", "x", "app"], ["--layout", "3"], ["--layout", "0", "app"]):
        assert new.command("rm", *wrong).returncode == 2
    assert new.command("rm", "--layout", "3", "--size", "4MB", "app").returncode == 2


def test_rm_makes_another_size_of_its_own_layout_only(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    process = old.start(STORE)
    new.start(MUTEX.replace("app", "locks")).ask("mutex.release()")
    new.start(STORE)
    assert new.command("rm", "--size", "5MB", "app").stdout == "replaced app: 5 MiB\n"
    assert (shm / new.file("app")).stat().st_size == 5 << 20
    assert process.ask(GET) == str(old.layout)
    assert new.command("rm", "--size", "5MB", "locks").stdout == "replaced locks: 5 MiB\n"
    assert made(shm) == sorted([old.file("app"), new.file("app"), "locks"])


def test_doctor_tells_the_other_layout(versions: tuple[Version, Version], shm: Path) -> None:
    old, new = versions
    process = new.start(STORE)
    told = old.command("doctor").stdout
    assert (
        f"{shm / new.file('app')} has layout {new.layout} of another version of mpcache, and living processes" in told
    )
    assert "each version has a cache of its own" in told
    process.kill()
    told = old.command("doctor")
    assert f"mpcache rm --layout {new.layout} app" in told.stdout
    assert told.returncode == 0


# -- what is no such file -------------------------------------------------------------------------------------------


def test_names_of_files() -> None:
    assert files.parsed(".3@app") == ("app", 3)
    assert files.parsed(".12@a@b\n") == ("a@b\n", 12)
    assert files.parsed("3@app") == ("3@app", None)
    for no_segment in (
        ".locks",
        ".removed-7-app",
        ".removed-7-.3@app",
        ".2@app",
        ".03@app",
        ".3@.app",
        ".3@",
        ".x@app",
    ):
        assert files.parsed(no_segment) is None


def put(path: Path, layout: int, size: int = 4096) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(struct.pack("=QI", _engine.MAGIC, layout).ljust(size, b"\0"))
    return path


def test_only_what_is_certainly_a_segment_of_another_layout_is_swept(shm: Path, tmp_path: Path) -> None:
    shm.mkdir(mode=0o700)
    text = shm / ".98@app"
    text.write_text("a text of a user")
    short = put(shm / ".97@app", 97, 200)
    link = shm / ".96@app"
    link.symlink_to(put(tmp_path / "elsewhere", 96))
    (shm / ".95@app").mkdir()
    own = put(shm / ".94@app", _engine.LAYOUT)
    gone = put(shm / ".99@app", 99)
    segment.attach("app", "4MB")
    assert not gone.exists()
    assert all(path.exists() for path in (text, short, link, shm / ".95@app", own, tmp_path / "elsewhere"))
    assert segment.names() == ["app"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_another_users_file_is_not_swept(shm: Path) -> None:
    theirs = put(shm / ".99@app", 99)
    os.chown(theirs, 65534, -1)
    segment.attach("app", "4MB")
    assert theirs.exists()


def test_a_process_that_registers_while_its_segment_is_removed_keeps_it(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(shm / ".99@app", 99)
    answers = iter([False, True])
    monkeypatch.setattr(_engine, "anyone_alive", lambda fd: next(answers))
    fd = os.open(path, os.O_RDWR)
    assert other_layouts.remove_abandoned(str(path), fd) is False
    assert path.exists()
    assert os.pread(fd, 4, _engine.RETIRED_AT) == bytes(4)
    os.close(fd)


def test_a_store_whose_new_segment_is_removed_at_once_attaches_the_next(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process of another layout, to which it looked abandoned."""

    def attach(**how: Any) -> segment.Segment:
        monkeypatch.undo()
        monkeypatch.setenv("MPCACHE_SHM", str(shm.parent))
        found = segment.attach(**how)
        found.unlink()
        return found

    monkeypatch.setattr(handle, "attach", attach)
    store = handle.NamespaceHandle("some", name="app", size="4MB")
    assert not store.segment.engine.retired
    assert store.namespace.set("k", b"v")


def test_one_of_another_layout_is_retired_before_it_is_removed(shm: Path) -> None:
    path = put(shm / ".99@app", 99)
    fd = os.open(path, os.O_RDONLY)
    assert segment.unlink("app", 98) is False
    assert segment.unlink("app", 99) is True
    assert not path.exists()
    assert os.pread(fd, 4, _engine.RETIRED_AT) == struct.pack("=I", 1)
    os.close(fd)


def test_where_retired_is_for_every_layout() -> None:
    """Other versions write there."""
    assert (_engine.MAGIC, _engine.RETIRED_AT) == (0x656863616370D6, 256)
