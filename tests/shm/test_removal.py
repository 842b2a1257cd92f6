"""Removal: most memory is free at once, even with processes attached; a remover may be killed after any step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache.exception import SegmentError, SegmentRetired
from mpcache.shm import removal, segment
from tests.conftest import needs_mount
from tests.processes.support import wait_until

pytestmark = pytest.mark.engine

MB = 1 << 20
NOBODY = 65534
Fork = Callable[..., Any]


def free() -> int:
    """Bytes that the file system of the segments has left."""
    there = os.statvfs(segment.directory())
    return there.f_bavail * there.f_frsize


def path_of(name: str) -> Path:
    return Path(segment.path_of(name))


def idle(cache: mpcache.CacheRegion, fork: Fork) -> Any:
    """A process that has used the segment and keeps it mapped, as the master of a preloading server does."""
    child = fork(lambda send: (cache.set("of the idle one", 1), send("there"), signal.pause()))
    assert child.next() == "there"
    return child


@needs_mount
def test_most_of_the_memory_is_free_while_an_idle_process_is_attached(
    small_tmpfs: Callable[[str], None], name: str, fork: Fork
) -> None:
    small_tmpfs("64m")
    cache = mpcache.shared(name, size="60MB")
    cache.set("a", 1)
    idle(cache, fork)
    before = free()
    assert cache.actual_backend.segment.unlink() == 0
    assert free() - before > 57 * MB
    cache.set("a", 2)
    assert cache.get("a") == 2
    assert mpcache.shared(name, size="60MB").actual_backend.segment is cache.actual_backend.segment


def test_nothing_can_be_read_or_written_afterwards(name: str) -> None:
    found = segment.attach(name, "8MB", shards=2)
    space = found.engine.namespace("")
    space.set("a", b"v" * 5000)
    found.unlink()
    for act in (space.get, space.delete, lambda key: space.set(key, b"w"), lambda key: space.get_multi([key])):
        with pytest.raises(SegmentRetired):
            act("a")  # type: ignore[operator]
    for scan in (space.keys, found.engine.check):
        with pytest.raises(SegmentRetired):
            scan()
    assert found.engine.stats()["items"] == 0
    assert found.engine.stats()["sets"] == 1


def test_an_anonymous_one_gives_its_memory_back_too(fork: Fork) -> None:
    cache = mpcache.shared(None, size="8MB")
    idle(cache, fork)
    fd = cache.actual_backend.segment.engine.fd
    cache.actual_backend.unlink()
    assert os.fstat(fd).st_blocks * 512 < 2 * MB


def test_what_a_living_process_holds_can_be_given_back(name: str, fork: Fork) -> None:
    space = segment.attach(name, "4MB").engine.namespace("")

    def hold(send: Any) -> Any:
        lease = space.lease("k", True)
        lease.acquire(0, False, ())
        send("held")
        signal.signal(signal.SIGUSR1, lambda *args: send(lease.release(True)))
        signal.pause()

    holder = fork(hold)
    holder.next()
    assert segment.attach(name, "4MB").engine.leases_of_others() == 1
    assert segment.unlink(name)
    holder.signal(signal.SIGUSR1)
    assert holder.next() is True


# -- killed on the way ----------------------------------------------------------------------------------------------


def stops_at(step: str, send: Callable[[Any], None], go_on: int) -> None:
    """Let this process's removal stop there."""
    there, name = {
        "retired": (os, "rename"),
        "set aside": (removal, "_give_back"),
        "memory given back": (removal, "_unlink"),
    }[step]
    genuine = getattr(there, name)

    def stop(*args: Any, **named: Any) -> Any:
        send("stopped")
        os.read(go_on, 1)
        return genuine(*args, **named)

    setattr(there, name, stop)


STEPS = pytest.mark.parametrize("step", ["retired", "set aside", "memory given back"])


@needs_mount
@STEPS
def test_what_a_killed_remover_has_begun_is_finished(
    small_tmpfs: Callable[[str], None], name: str, fork: Fork, step: str
) -> None:
    small_tmpfs("20m")
    cache = mpcache.shared(name, size="12MB")
    cache.set("a", 1)
    idle(cache, fork)
    read, _ = os.pipe()
    remover = fork(lambda send: (stops_at(step, send, read), segment.unlink(name)))
    assert remover.next() == "stopped"
    remover.kill()
    began = time.monotonic()
    wait_until(lambda: _works(cache), "successor")
    assert time.monotonic() - began < 1.0
    assert os.listdir(segment.directory()) == [segment.file_name(name)]
    assert free() > 5 * MB


def _works(cache: mpcache.CacheRegion) -> bool:
    assert cache.get_or_create("created", lambda: 7) == 7
    cache.set("b", 2)
    return bool(cache.get("b") == 2)


@needs_mount
def test_a_remover_that_lives_is_left_alone(small_tmpfs: Callable[[str], None], name: str, fork: Fork) -> None:
    """Meanwhile there is no room, and functions answer all the same."""
    small_tmpfs("20m")
    cache = mpcache.shared(name, size="12MB")
    idle(cache, fork)
    read, write = os.pipe()
    remover = fork(lambda send: (stops_at("set aside", send, read), segment.unlink(name)))
    assert remover.next() == "stopped"
    for _ in range(20):
        assert not _works(cache)
    os.write(write, b"x")
    assert remover.next()[-1] is True
    wait_until(lambda: _works(cache), "successor")
    assert os.listdir(segment.directory()) == [segment.file_name(name)]


def test_a_second_removal_of_what_is_retired_ends_it(name: str) -> None:
    found = segment.attach(name, "8MB")
    found.engine.retire()
    assert segment.unlink(name)
    assert os.fstat(found.engine.fd).st_blocks * 512 < 2 * MB
    assert not path_of(name).exists()


def test_one_that_was_removed_by_hand_gives_its_memory_back(name: str) -> None:
    found = segment.attach(name, "8MB")
    path_of(name).unlink()
    assert found.unlink() == 0
    assert os.fstat(found.engine.fd).st_blocks * 512 < 2 * MB


# -- who may not ------------------------------------------------------------------------------------------------------


def as_nobody(act: Callable[[], Any]) -> Callable[[Any], Any]:
    def become_and_act(send: Any) -> Any:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            return act()
        except SegmentError as error:
            return type(error).__name__, str(error)

    return become_and_act


@needs_mount
def test_a_process_that_may_not_remove_it_changes_nothing(name: str, fork: Fork) -> None:
    cache = mpcache.shared(name, size="4MB")
    cache.set("a", 1)
    kind, text = fork(as_nobody(cache.actual_backend.unlink)).next()
    assert kind == "SegmentError"
    assert name in text
    assert f"uid {NOBODY} may not" in text
    assert not cache.actual_backend.segment.engine.retired
    assert cache.get("a") == 1


@needs_mount
def test_a_process_that_cannot_see_the_file_changes_nothing(name: str, tmp_path: Path, fork: Fork) -> None:
    cache = mpcache.shared(name, size="4MB")
    cache.set("a", 1)

    def in_a_chroot(send: Any) -> Any:
        os.chroot(tmp_path)
        try:
            cache.actual_backend.unlink()
        except SegmentError as error:
            return str(error)

    assert "chroot" in fork(in_a_chroot).next()
    assert cache.get("a") == 1


# -- another size -----------------------------------------------------------------------------------------------------


def test_replaced_by_another_size_that_stays(name: str) -> None:
    """A process that asks for the old size gets the new one, with a warning."""
    cache = mpcache.shared(name, size="4MB", mode=0o660)
    cache.set("a", 1)
    assert segment.replace(name, "6MB").size == 6 * MB
    assert path_of(name).stat().st_mode & 0o777 == 0o660
    with pytest.warns(UserWarning, match="has 6 MiB and was asked for with 4 MiB"):
        assert cache.get("a") is mpcache.NO_VALUE
    cache.set("a", 2)
    assert cache.actual_backend.segment.size == 6 * MB


@needs_mount
def test_a_size_for_which_there_will_be_no_room_changes_nothing(small_tmpfs: Callable[[str], None], name: str) -> None:
    small_tmpfs("12m")
    cache = mpcache.shared(name, size="6MB")
    cache.set("a", 1)
    with pytest.raises(SegmentError, match="bytes available"):
        segment.replace(name, "16MB")
    assert cache.get("a") == 1
    assert segment.replace(name, "8MB").size == 8 * MB  # for which there is no room beside the old one


def test_replace_makes_one_where_there_was_none(name: str) -> None:
    assert segment.replace(name, "4MB").size == 4 * MB


# -- the place ------------------------------------------------------------------------------------------------------


def test_an_empty_place_is_none_and_a_relative_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCACHE_SHM", "")
    assert segment.directory() == f"/dev/shm/mpcache-{os.geteuid()}"
    monkeypatch.setenv("MPCACHE_SHM", "here")
    with pytest.raises(SegmentError, match=r"MPCACHE_SHM='here' is a relative path.*set it to an absolute one"):
        segment.attach("x", "4MB")


def test_a_place_on_a_disk_is_warned_of(tmp_path: Path) -> None:
    code = (
        "import warnings, mpcache\nwith warnings.catch_warnings(record=True) as said:\n"
        " mpcache.shared('x', size='4MB'); mpcache.shared('y', size='4MB')\nprint([str(one.message) for one in said])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPCACHE_SHM": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    in_memory = "tmpfs" in subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True).stdout
    assert done.stdout.count("is on a disk") == (0 if in_memory else 1)


@needs_mount
@pytest.mark.parametrize(
    ("mounts", "kind", "remedy"),
    [
        ("mount -t tmpfs -o ro tmpfs /dev/shm", "SegmentError", "mount -o remount,rw /dev/shm"),
        ("mount -t tmpfs -o mode=1777,nr_inodes=2 tmpfs /dev/shm", "NoRoom", "mount -o remount,nr_inodes="),
        ("mount -t tmpfs -o size=1m,mode=1777 tmpfs /dev/shm", "NoRoom", "--shm-size"),
        ("mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /proc", "SegmentError", "mount -t proc proc /proc"),
        ("mount -t ramfs ramfs /dev/shm", "created", ""),
        ("mount -t tmpfs -o size=0,mode=1777 tmpfs /dev/shm", "created", ""),
    ],
)
def test_what_the_system_refuses_is_said_with_its_remedy(mounts: str, kind: str, remedy: str) -> None:
    assert attempt(mounts).split()[0] == kind
    assert remedy in attempt(mounts)


def test_too_many_open_files_are_said_as_such() -> None:
    said = attempt("true", "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))")
    assert said.startswith("SegmentError")
    assert "ulimit -n" in said


def attempt(mounts: str, before: str = "") -> str:
    """What comes of a new segment where these are mounted."""
    code = (
        f"import difflib, inspect, resource, mpcache, mpcache.backends.shm\n{before}\n"
        "try: mpcache.shared('other', size='4MB', mode=0o600).actual_backend.unlink(); print('created')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    script = f'{mounts}; exec "$0" -c "$1"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, sys.executable, code], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout
