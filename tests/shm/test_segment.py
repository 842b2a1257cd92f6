"""Segments: birth, attachment, refusal, removal; and that nothing is left behind."""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import re
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache.exception import (
    NoRoom,
    SegmentDamaged,
    SegmentError,
    SegmentRefused,
    SegmentRetired,
    SegmentTooSmall,
    TooManyProcesses,
)
from mpcache.shm import _engine, capacity, handle, segment
from tests.conftest import in_time, needs_mount
from tests.processes.support import Anatomy, wait_until

pytestmark = pytest.mark.engine

MB = 1 << 20
Fork = Callable[..., Any]


def path_of(name: str) -> Path:
    return Path(segment.path_of(name))


# -- names and sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["a/b", "", ".", "..", ".hidden", "a\0b", "/", 7, b"bytes"])
def test_bad_names(bad: Any) -> None:
    with pytest.raises(ValueError, match="segment name"):
        segment.attach(bad, "4MB")


def test_a_name_too_long() -> None:
    with pytest.raises(ValueError, match="201 bytes"):
        segment.attach("x" * 201, "4MB")


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 64 * MB), ("64 MiB", 64 * MB), ("1.5g", 1536 * MB), ("4096", 4096), ("8k", 8192), (12345, 12345)],
)
def test_sizes(text: int | str, size: int) -> None:
    assert segment.parse_size(text) == size


@pytest.mark.parametrize("bad", ["", "MB", "64XB", "-1", "1e9", 1.5, True])
def test_bad_sizes(bad: Any, name: str) -> None:
    with pytest.raises(ValueError, match="size"):
        segment.attach(name, bad)


@pytest.mark.parametrize("size", [0, 1, 4096, MB, segment.smallest() - 1, -5])
def test_too_small_says_what_is_enough(size: int, name: str) -> None:
    with pytest.raises(SegmentTooSmall, match=f"smallest segment has {segment.smallest()} bytes") as told:
        segment.attach(name, size)
    assert told.value.least == segment.smallest()
    assert not path_of(name).exists()


@pytest.mark.parametrize("shards", [1, 2, 8, 64])
def test_the_smallest_that_is_named_works(name: str, shards: int) -> None:
    found = segment.attach(name, segment.smallest(shards), shards=shards)
    assert found.engine.shards == shards
    assert found.engine.namespace("").set("a", b"v")
    found.engine.check()
    segment.unlink(name)
    with pytest.raises(SegmentTooSmall):
        segment.attach(name, segment.smallest(shards) - 64 * 1024, shards=shards)


@pytest.mark.parametrize("shards", [0, 3, 65, 128, -1])
def test_bad_shards(name: str, shards: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        segment.attach(name, "8MB", shards=shards)
    assert not path_of(name).exists()


def test_shards_by_size() -> None:
    assert segment.default_shards(8 * MB) == 1
    assert segment.default_shards(32 * MB) <= 2
    assert segment.default_shards(1 << 40) <= 64


# -- no room ------------------------------------------------------------------------------------------------------


@needs_mount
def test_a_file_system_too_small(small_tmpfs: Callable[[str], None], name: str) -> None:
    small_tmpfs("1m")
    with pytest.raises(NoRoom, match=r"has \d+ bytes available and the segment wants 8388608.*--shm-size") as told:
        segment.attach(name, "8MB")
    assert told.value.wanted == 8 * MB
    assert told.value.available <= MB
    assert not path_of(name).exists()


@needs_mount
def test_a_file_system_that_fills_up_while_one_allocates(
    small_tmpfs: Callable[[str], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tmpfs("4m")
    monkeypatch.setattr(capacity, "require", lambda folder, size: None)  # another process took it after that question
    with pytest.raises(NoRoom, match="could not hold 8388608 bytes"):
        segment.attach(name, "8MB")
    assert not path_of(name).exists()
    there = os.statvfs(segment.directory())
    assert there.f_bavail * there.f_frsize > 3 * MB  # nothing of it is left


@needs_mount
def test_eight_creators_where_one_fits(small_tmpfs: Callable[[str], None], name: str, fork: Fork) -> None:
    small_tmpfs("6m")
    read, write = os.pipe()

    def act(send: Any) -> bool:
        os.read(read, 1)
        return segment.attach(name, "4MB").engine.namespace("").set(str(os.getpid()), b"v")

    children = [fork(act) for _ in range(8)]
    os.write(write, b"x" * 8)
    assert [child.next() for child in children] == [True] * 8
    assert len(segment.attach(name, "4MB").engine.namespace("").keys()) == 8


def test_the_cgroups_word_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_in_cgroup", lambda: MB)
    with pytest.raises(NoRoom, match="cgroup"):
        segment.attach(name, "8MB")
    with pytest.raises(NoRoom, match="cgroup"):
        segment.attach(None, "8MB")


# -- refusals ------------------------------------------------------------------------------------------------------


def test_mode_and_owner_of_a_new_one(name: str) -> None:
    segment.attach(name, "4MB")
    found = path_of(name).stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()
    assert stat.S_IMODE(path_of(name).parent.stat().st_mode) == 0o700


def test_a_mode_that_was_asked_for_is_given_in_spite_of_the_umask(name: str) -> None:
    before = os.umask(0o077)
    try:
        segment.attach(name, "4MB", mode=0o660)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path_of(name).stat().st_mode) == 0o660
    assert segment.attach(name, "4MB", mode=0o660)
    with pytest.raises(SegmentRefused, match="lets other users in"):
        segment.attach(name, "4MB")


def in_another_process(name: str) -> str:
    """What a process that is not attached yet says of the segment of that name."""
    code = (
        "import sys; from mpcache.shm import segment\n"
        "try: print(segment.attach(sys.argv[1], '4MB').engine.namespace('').get('a'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, timeout=60)
    assert not done.stderr, done.stderr
    return done.stdout


def put_file(name: str, content: bytes) -> Path:
    segment.attach(name + "-x", "4MB").unlink()  # makes the directory
    path = path_of(name)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def image(name: str) -> bytes:
    found = segment.attach(name + "-image", "4MB")
    content = path_of(name + "-image").read_bytes()
    found.unlink()
    return content


def test_world_writable_is_refused(name: str) -> None:
    segment.attach(name, "4MB")
    path_of(name).chmod(0o606)
    assert re.match(r"SegmentRefused .*mode -rw----rw- lets other users in.*mpcache rm", in_another_process(name))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_foreign_owner_is_refused(name: str) -> None:
    segment.attach(name, "4MB")
    os.chown(path_of(name), 12345, -1)
    assert re.match(r"SegmentRefused .*owned by uid 12345", in_another_process(name))


def test_a_symbolic_link_is_refused(name: str, tmp_path: Path) -> None:
    put_file(name, b"").unlink()
    path_of(name).symlink_to(tmp_path / "elsewhere")
    assert re.match(r"SegmentRefused .*symbolic link", in_another_process(name))


def test_two_names_are_refused(name: str) -> None:
    segment.attach(name, "4MB")
    second = path_of(name + "-second")
    os.link(path_of(name), second)
    try:
        assert re.match(r"SegmentRefused .*2 names", in_another_process(name))
    finally:
        second.unlink()


def test_a_fifo_is_refused_and_does_not_block(name: str) -> None:
    put_file(name, b"").unlink()
    os.mkfifo(path_of(name), 0o600)
    assert re.match(r"SegmentRefused .*not a regular file", in_another_process(name))


def test_a_directory_open_to_others_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCACHE_SHM", str(tmp_path))
    folder = Path(segment.directory())
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(SegmentRefused, match="only uid"):
        segment.attach(name, "4MB")


def test_random_bytes_are_refused(name: str) -> None:
    put_file(name, os.urandom(4 * MB))
    assert re.match(r"SegmentRefused .*not an mpcache segment.*mpcache rm", in_another_process(name))


def test_an_empty_file_is_refused(name: str) -> None:
    put_file(name, b"")
    assert re.match(r"SegmentRefused .*shorter", in_another_process(name))


@pytest.mark.parametrize("length", [100, 4096, 4 * MB - 1])
def test_truncated_is_refused(name: str, length: int) -> None:
    put_file(name, image(name)[:length])
    assert re.match(r"SegmentRefused .*shorter than its header says", in_another_process(name))


def test_longer_than_its_header_says_is_refused(name: str) -> None:
    put_file(name, image(name) + bytes(4096))
    assert re.match(r"SegmentRefused .*does not agree", in_another_process(name))


def test_every_flipped_bit_of_the_header_is_seen(name: str) -> None:
    """Sizes, offsets and seeds are what everything else rests on."""
    content = bytearray(image(name))
    fd = os.memfd_create("flipped")
    os.truncate(fd, len(content))
    os.pwrite(fd, content, 0)
    _engine.Engine(fd)
    checked = [*range(256), *range(320, 512)]  # magic, layout, seeds, birth, born; geometry and checksum
    for bit in (8 * byte + bit for byte in checked for bit in range(8)):
        byte = content[bit // 8] ^ 1 << bit % 8
        os.pwrite(fd, bytes([byte]), bit // 8)
        with pytest.raises(SegmentError):
            _engine.Engine(fd)
        os.pwrite(fd, content[bit // 8 : bit // 8 + 1], bit // 8)
    _engine.Engine(fd)
    os.close(fd)


def other_layout(name: str) -> Path:
    content = bytearray(image(name))
    struct.pack_into("<I", content, 8, 999)
    return put_file(name, bytes(content))


def test_another_layout_in_use_is_refused(name: str) -> None:
    path = other_layout(name)
    fd = os.open(path, os.O_RDWR)
    import fcntl

    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 60) + 3, 1, 0)
    fcntl.fcntl(fd, getattr(fcntl, "F_OFD_SETLK", 37), lock)
    assert re.match(r"SegmentRefused .*another layout version", in_another_process(name))
    os.close(fd)


def test_another_layout_that_nobody_uses_is_replaced(name: str) -> None:
    other_layout(name)
    assert in_another_process(name) == "None\n"


# -- one segment, many attachments --------------------------------------------------------------------------------


def test_attached_twice_is_one_object(name: str) -> None:
    one, two = segment.attach(name, "4MB"), segment.attach(name, "4MB")
    assert one is two
    one.engine.namespace("").set("a", b"v")
    assert one.engine.stats()["processes"] == 1


def test_another_size_warns_once(name: str) -> None:
    segment.attach(name, "4MB")
    with pytest.warns(UserWarning, match=rf"'{name}' has 4 MiB and was asked for with 8 MiB.*mpcache rm"):
        assert segment.attach(name, "8MB").size == 4 * MB
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment.attach(name, "8MB")


def test_strict_size(name: str) -> None:
    segment.attach(name, "4MB")
    with pytest.raises(SegmentRefused, match="was asked for with") as told:
        segment.attach(name, "8MB", strict_size=True)
    assert (told.value.size, told.value.wanted) == (4 * MB, 8 * MB)
    segment.attach(name, "4MB", strict_size=True)


def test_an_unrelated_process_finds_what_was_set(name: str) -> None:
    segment.attach(name, "4MB").engine.namespace("").set("a", b"value", 5.0)
    assert in_another_process(name).startswith("(b'value', 5.0, 0, 0, ")


def test_ten_processes_come_and_go_and_leave_no_slot(name: str, fork: Fork) -> None:
    found = segment.attach(name, "4MB")
    space = found.engine.namespace("")
    space.set("a", b"v")
    for _ in range(10):
        leaves = fork(lambda send: space.set("a", b"w"))
        assert leaves.next() is True
        leaves.reap()
        fork(lambda send: (space.set("a", b"w"), send("there"), signal.pause())).kill()
    assert found.engine.stats()["processes"] == 1
    assert found.engine.owner & 0xFFFF == 0


def test_a_process_too_many_may_read(fork: Fork) -> None:
    fd = os.memfd_create("few")
    os.posix_fallocate(fd, 0, 4 * MB)
    _engine.format(fd, 4 * MB, 1, 2)
    space = _engine.Engine(fd).namespace("")
    space.set("a", b"v")
    second = fork(lambda send: (space.set("b", b"w"), send("there"), signal.pause()))
    second.next()

    def third(send: Any) -> Any:
        with pytest.raises(TooManyProcesses):
            space.set("c", b"x")
        with pytest.raises(TooManyProcesses):
            space.lease("c", True).acquire(0, False, ())
        return space.get("a")[0], space.get("b")[0], space.get("c")  # type: ignore[index]

    assert fork(third).next() == (b"v", b"w", None)
    second.kill()
    assert fork(lambda send: space.set("c", b"x")).next() is True
    os.close(fd)


def test_a_daemon_that_closes_all_descriptors_goes_on(name: str, fork: Fork) -> None:
    """It comes back by the segment's name, and is alive in the eyes of the others."""
    space = segment.attach(name, "4MB").engine.namespace("")
    space.set("a", b"v")

    def act(send: Any) -> Any:
        fds = [int(fd) for fd in os.listdir("/proc/self/fd")]
        for fd in fds:
            if fd > 2 and fd != send.__closure__[0].cell_contents:  # but for the pipe that it answers through
                try:
                    os.close(fd)
                except OSError:
                    pass
        lease = space.lease("k", True)
        send((space.get("a") is not None, space.set("b", b"w"), lease.acquire(0, False, ())))
        signal.pause()

    child = fork(act)
    assert child.next() == (True, True, 0)
    assert space.lease("k", True).acquire(0.05, False, ()) == 3  # held by a living process
    child.kill()
    assert space.lease("k", True).acquire(5, False, ()) == 0


@pytest.mark.parametrize("named", [True, False])
def test_a_process_whose_descriptor_is_closed_keeps_what_it_holds(name: str, fork: Fork, named: bool) -> None:
    """Its proof of life does not depend on the descriptor: no process takes it for dead, also not meanwhile."""
    found = segment.attach(name if named else None, "4MB")
    space = found.engine.namespace("")
    held = space.lease("held", True)
    held.acquire(0, False, ())
    owner = found.engine.owner
    os.close(found.engine.fd)
    with open(os.devnull) as other:
        os.dup2(other.fileno(), found.engine.fd)  # and the number stands for another file by now
    if named:
        assert fork(lambda send: space.lease("held", True).acquire(0.05, False, ())).next() == 3
    assert space.lease("next", True).acquire(0, False, ()) == 0
    assert found.engine.owner == owner
    if named:
        assert fork(lambda send: space.lease("held", True).acquire(0.05, False, ())).next() == 3
    assert held.release(True)


def test_a_child_that_was_forked_does_not_keep_its_parent_alive(name: str, fork: Fork) -> None:
    """Neither by the descriptors that it inherits, nor by the mappings."""

    def holder(send: Any) -> Any:
        space = segment.attach(name, "4MB").engine.namespace("")
        lease = space.lease("k", True)
        lease.acquire(0, False, ())
        child = os.fork()
        if not child:
            signal.pause()
        send(child)
        signal.pause()

    parent = fork(holder)
    child = parent.next()
    space = segment.attach(name, "4MB").engine.namespace("")
    assert space.lease("k", True).acquire(0.05, False, ()) == 3
    parent.kill()
    try:
        assert space.lease("k", True).acquire(5, False, ()) == 0
    finally:
        os.kill(child, signal.SIGKILL)


def close_all_of(file: os.stat_result) -> None:
    """Close each descriptor of a file, as a daemon does that closes whatever it finds."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            same = os.path.samestat(os.fstat(fd), file)
        except OSError:  # it was the one of the directory
            continue
        if same:
            os.close(fd)


def test_an_anonymous_one_whose_descriptor_is_closed_says_so(fork: Fork) -> None:
    found = segment.attach(None, "4MB")
    space = found.engine.namespace("")
    space.set("a", b"v")

    def act(send: Any) -> Any:
        close_all_of(os.fstat(found.engine.fd))
        with pytest.raises(SegmentError, match=r"no descriptor of the segment: it closed it.*give the segment a name"):
            space.set("a", b"w")
        with pytest.raises(SegmentError, match="descriptor"):
            space.lease("k", True).acquire(0, False, ())
        return space.get("a")[0] == b"v"  # type: ignore[index]  # to read one need not be known

    assert fork(act).next() is True


# -- removal ----------------------------------------------------------------------------------------------------------


def test_unlink_sends_everybody_to_a_new_one(name: str) -> None:
    here = mpcache.shared(name, size="4MB")
    here.set("a", 1)
    code = (
        "import sys, mpcache; cache = mpcache.shared(sys.argv[1], size='4MB'); print(cache.get('a'), flush=True)\n"
        "sys.stdin.readline(); cache.set('b', 2); print(cache.get('a'), cache.get('b'), flush=True)\n"
        "sys.stdin.readline()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "1\n"
        before = path_of(name).stat().st_ino
        segment.unlink(name)
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline().split()[-1] == "2"
        assert path_of(name).stat().st_ino != before
        assert here.get("b") == 2
        assert here.get("a") is mpcache.NO_VALUE
    finally:
        other.communicate("\n", timeout=20)


def test_a_raw_rm_is_noticed(name: str) -> None:
    cache = mpcache.shared(name, size="4MB")
    cache.set("a", 1)
    path_of(name).unlink()
    deadline = time.monotonic() + 5
    while not path_of(name).exists():
        cache.set("a", 2)
        assert time.monotonic() < deadline, "no process noticed"
    cache.set("a", 3)
    assert in_another_process(name).startswith("(b")


ACTS: dict[str, Callable[[_engine.Namespace], object]] = {
    "get": lambda space: space.get("a"),
    "get_multi": lambda space: space.get_multi(["a"]),
    "contains": lambda space: "a" in space,
    "keys": lambda space: space.keys(),
    "holder": lambda space: space.holder("a", True),
    "invalidate": lambda space: space.invalidate(True),
    "clear": lambda space: space.clear(),
    "touch": lambda space: space.touch("b", 0.0),
    "delete_multi": lambda space: space.delete_multi(["a"]),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("by_hand", [False, True], ids=["unlinked", "by hand"])
def test_a_process_that_does_nothing_else_notices_a_removal(name: str, act: Any, by_hand: bool) -> None:
    found = segment.attach(name, "4MB")
    space = found.engine.namespace("")
    space.set("a", b"v")
    if by_hand:
        path_of(name).unlink()
    else:
        found.engine.retire()
    deadline = time.monotonic() + 5
    with pytest.raises(SegmentRetired):
        while time.monotonic() < deadline:
            act(space)


def test_keys_and_locks_are_those_of_the_next_segment(name: str) -> None:
    cache = mpcache.shared(name, size="4MB")
    lock = cache.actual_backend.get_mutex("a")
    cache.set("a", 1)
    with lock:
        segment.find(name).engine.retire()  # type: ignore[union-attr]
        assert cache.actual_backend.keys() == []
        assert not cache.key_is_locked("a")


@pytest.mark.parametrize("ask", ["stats", "check"])
def test_a_store_describes_the_successor_of_a_removed_segment(name: str, ask: str) -> None:
    store = mpcache.shared(name, size="4MB").actual_backend
    store.set_serialized("a", b"v")
    segment.find(name).engine.retire()  # type: ignore[union-attr]
    answer = getattr(store, ask)()
    assert answer is None or answer["items"] == 0


def test_a_store_describes_the_segment_that_another_thread_is_just_attaching(name: str) -> None:
    store: Any = mpcache.shared(name, size="4MB").actual_backend
    store._place.segment = store._place.namespace = handle._nowhere  # as while there is no room beside the removed one
    assert store.stats()["items"] == 0


def test_a_retired_segment_that_was_left_is_replaced(name: str) -> None:
    found = segment.attach(name, "4MB")
    found.engine.namespace("").set("a", b"v")
    found.engine.retire()  # and the process that did it died before it removed it
    with pytest.raises(SegmentRetired):
        found.engine.namespace("").set("a", b"w")
    assert segment.attach(name, "4MB").engine.namespace("").get("a") is None


def test_a_lease_of_a_retired_segment_can_be_given_back(name: str) -> None:
    found = segment.attach(name, "4MB")
    lease = found.engine.namespace("").lease("k", True)
    lease.acquire(0, False, ())
    found.unlink()
    assert lease.release(True) is True


def test_unlink_of_nothing_and_of_anything(name: str) -> None:
    assert segment.unlink(name) is False
    put_file(name, b"rubbish")
    assert segment.unlink(name) is True
    assert not path_of(name).exists()


def test_unlink_retires_one_with_a_wider_mode_too(name: str) -> None:
    found = segment.attach(name, "4MB", mode=0o660)
    assert segment.unlink(name) is True
    assert found.engine.retired


def test_to_find_is_not_to_remove(name: str) -> None:
    path = other_layout(name)
    with pytest.raises(SegmentRefused):
        segment.find(name)
    assert path.exists()


def test_names_lists_them(name: str) -> None:
    assert name not in segment.names()
    segment.attach(name, "4MB")
    assert name in segment.names()


def test_a_creator_killed_anywhere_leaves_nothing(name: str, fork: Fork) -> None:
    """Stopped before each system call of the birth, then killed: the next one finds no trace and makes it."""
    for step in ("require", "fill", "link"):

        def act(send: Any, step: str = step) -> None:
            def stop(*args: Any, **named: Any) -> Any:
                send("there")
                signal.pause()

            if step == "require":
                capacity.require = stop
            elif step == "fill":
                _engine.format = stop
            else:
                os.link = stop
            segment.attach(name, "4MB")

        child = fork(act)
        child.next()
        child.kill()
        assert not path_of(name).exists()
    segment.attach(name, "4MB").engine.check()


# -- anonymous ---------------------------------------------------------------------------------------------------------


def test_anonymous_is_shared_with_children_and_leaves_nothing(fork: Fork) -> None:
    cache = mpcache.shared(None, size="4MB")
    fork(lambda send: cache.set("a", "from the child")).next()
    assert cache.get("a") == "from the child"
    assert os.fstat(cache.actual_backend.segment.engine.fd).st_nlink == 0, "it has a name"


def test_two_anonymous_ones_are_two(fork: Fork) -> None:
    one, two = mpcache.shared(None, size="4MB"), mpcache.shared(None, size="4MB")
    one.set("a", 1)
    assert two.get("a") is mpcache.NO_VALUE


def test_anonymous_does_not_travel_just_anywhere() -> None:
    with pytest.raises(TypeError, match="give the cache a name"):
        pickle.dumps(mpcache.shared(None, size="4MB"))


def test_an_unlinked_anonymous_one_says_so() -> None:
    cache = mpcache.shared(None, size="4MB")
    cache.actual_backend.unlink()
    with pytest.raises(SegmentRetired, match="make a new cache"):
        cache.set("a", 1)


def test_a_segment_that_nobody_uses_is_unmapped(name: str) -> None:
    def mapped() -> bool:
        return name in Path("/proc/self/maps").read_text()

    cache = mpcache.shared(name, size="4MB")
    cache.set("a", 1)
    assert mapped()
    del cache
    gc.collect()
    assert not mapped()
    assert segment.attach(name, "4MB").engine.stats()["processes"] == 0


# -- pages ----------------------------------------------------------------------------------------------------------


def mapping_of(name: str) -> tuple[int, dict[str, int]]:
    """Where the segment of that name is mapped, and what the kernel says of it, in KiB."""
    found = re.search(rf"^(\w+)-\w+ .*/{name}$\n((?:^\w+: .*$\n)*)", Path("/proc/self/smaps").read_text(), re.MULTILINE)
    assert found
    return int(found[1], 16), {key: int(kib) for key, kib in re.findall(r"^(\w+): +(\d+) kB", found[2], re.MULTILINE)}


@pytest.mark.parametrize("name_of", ["named", "anonymous"])
def test_large_pages_are_mapped_as_such(name: str, name_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_large, given = _engine.make_large, list[bool]()
    monkeypatch.setattr(_engine, "make_large", lambda *where: given.append(make_large(*where)) or given[-1])
    cache = mpcache.shared(name if name_of == "named" else None, size="9MB", shards=1)
    for number in range(400):
        cache.set(f"key {number}", b"x" * 20_000)
    address, kib = mapping_of(
        re.escape(segment.file_name(name)) if name_of == "named" else r"memfd:mpcache \(deleted\)"
    )
    assert address % (2 * MB) == 0
    assert len(given) == 1
    if given[0]:  # this kernel has some to give; the last megabyte is no large one
        assert kib["ShmemPmdMapped"] == 8 * 1024


def test_large_pages_are_asked_for_piece_by_piece_and_in_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[int, int]]()

    def gives(fd: int, start: int, end: int) -> bool:
        asked.append((start, end))
        return start < 4 * MB

    monkeypatch.setattr(_engine, "make_large", gives)
    monkeypatch.setattr(segment, "LARGE_CHUNK", 4 * MB)
    segment.attach(name, "15MB").unlink()
    assert asked == [(0, 4 * MB), (4 * MB, 8 * MB)]  # who has none once is not asked again
    asked.clear()
    monkeypatch.setattr(segment, "LARGE_PATIENCE", -1.0)
    segment.attach(name, "15MB")
    assert asked == []


@pytest.mark.parametrize("gives", [True, False])
def test_every_page_is_there_from_the_start(name: str, gives: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not gives:
        monkeypatch.setattr(_engine, "make_large", lambda fd, start, end: False)
    segment.attach(name, "5MB")
    told = path_of(name).stat()
    assert told.st_blocks * 512 >= told.st_size == 5 * MB


def test_what_cannot_be_made_large_is_said_and_nothing_else(name: str) -> None:
    segment.attach(name, "4MB")
    with open(path_of(name), "rb") as file:
        assert not _engine.make_large(file.fileno(), 0, 4 * MB)  # it may not be written to
        assert _engine.make_large(file.fileno(), 1, 4 * MB - 1)  # no large page lies in between
    assert not _engine.make_large(-1, 0, 4 * MB)


def test_a_child_that_is_forked_meanwhile_keeps_none_of_it() -> None:
    """Else the memory of a segment that no process uses any more would be taken until the child ends."""
    over = threading.Event()

    def ask() -> None:
        with open(os.memfd_create("mpcache-asked"), "wb+") as file:
            os.ftruncate(file.fileno(), 64 * MB)
            while not over.is_set():
                _engine.make_large(file.fileno(), 0, 64 * MB)

    def flags() -> list[str]:
        smaps = Path("/proc/self/smaps").read_text()
        return re.findall(r" /memfd:mpcache-asked \(deleted\)\n(?:.*\n)*?VmFlags: (.*)", smaps)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert in_time(lambda: any("dc" in found.split() for found in flags()))
    finally:
        over.set()
        thread.join()


def test_a_mapping_that_cannot_be_had_is_an_error(name: str) -> None:
    """Of the address space that was reserved for it nothing is left."""
    segment.attach(name, "4MB")

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE

    before = mapped()
    with open(path_of(name), "rb") as file:
        for _ in range(32):
            with pytest.raises(PermissionError):
                _engine.Engine(file.fileno())
    assert mapped() - before < 32 * MB  # of others' memory some may have come


# -- threads --------------------------------------------------------------------------------------------------------


def test_threads_share_one_slot(name: str) -> None:
    space = segment.attach(name, "4MB").engine.namespace("")
    wrong: list[Any] = []

    def work(number: int) -> None:
        for i in range(2000):
            space.set(f"{number}-{i % 50}", b"%d" % number * 300)
            got = space.get(f"{number}-{i % 50}")
            if got is not None and got[0] != b"%d" % number * 300:
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert space.engine.stats()["processes"] == 1
    space.engine.check()


def test_check_names_what_is_wrong(name: str) -> None:
    found = segment.attach(name, "4MB")
    space = found.engine.namespace("")
    for i in range(100):
        space.set(f"k{i}", b"needle" * 10)
    found.engine.check()
    with open(path_of(name), "r+b") as file:
        content = file.read()
        at = content.index(b"needle") - 100
        file.seek(at)
        file.write(bytes(80))
    with pytest.raises(SegmentDamaged, match=r"shard 0, small ring: .*record"):
        found.engine.check()


# -- what an attack has found ------------------------------------------------------------------------------------------


def test_a_fork_in_the_midst_of_a_birth_locks_nobody_out(
    name: str, fork: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child shares the description that the directory's lock stands on, and may live for hours."""
    children = []
    really = _engine.format

    def forking(*args: Any) -> None:
        children.append(fork(lambda send: (send(os.listdir("/proc/self/fd")), signal.pause())))
        children[-1].next()
        really(*args)

    monkeypatch.setattr(_engine, "format", forking)
    segment.attach(name, "4MB")
    monkeypatch.setattr(_engine, "format", really)
    assert in_another_process(name + "-next") == "None\n"
    segment.unlink(name + "-next")
    deleted = [os.readlink(path) for path in Path(f"/proc/{children[0].pid}/fd").iterdir() if path.is_symlink()]
    assert not [path for path in deleted if "mpcache" in path and "/#" in path]  # one without a name


@needs_mount
def test_a_segment_over_half_of_the_file_system_can_be_replaced(small_tmpfs: Callable[[str], None], name: str) -> None:
    """Its successor needs the room that this process's own mapping of the old one takes."""
    small_tmpfs("6m")
    cache = mpcache.shared(name, size="4MB")
    cache.set("a", 1)
    segment.unlink(name)
    cache.set("a", 2)
    assert cache.get("a") == 2


def no_room_beside(name: str) -> int:
    """Take all memory that the file system of a segment has left; the descriptor that keeps it."""
    fd = os.open(path_of(name).parent, os.O_TMPFILE | os.O_RDWR, 0o600)
    there = os.statvfs(path_of(name).parent)
    os.posix_fallocate(fd, 0, there.f_bavail * there.f_frsize)
    return fd


@needs_mount
def test_without_room_for_a_successor_it_is_looked_for_again(small_tmpfs: Callable[[str], None], name: str) -> None:
    small_tmpfs("6m")
    cache = mpcache.shared(name, size="4MB", on_error="raise")
    cache.set("a", 1)
    segment.unlink(name)
    taken = no_room_beside(name)
    with pytest.raises(NoRoom, match="bytes available"):
        cache.set("a", 2)
    with pytest.raises(NoRoom, match="bytes available"):
        cache.get("a")
    os.close(taken)
    wait_until(lambda: _stores(cache), "another attempt")


def _stores(cache: mpcache.CacheRegion) -> bool:
    try:
        cache.set("a", 3)
    except NoRoom:
        return False
    return bool(cache.get("a") == 3)


def test_a_lease_that_outlives_its_segment_keeps_the_process_one(name: str) -> None:
    lease = segment.attach(name, "4MB").engine.namespace("").lease("k", True)
    lease.acquire(0, False, ())
    gc.collect()
    again = segment.attach(name, "4MB")
    again.engine.namespace("").set("a", b"v")
    assert again.engine.stats()["processes"] == 1
    assert again.engine.namespace("").guard("k").live  # this process's own hold


def test_a_process_too_many_reads_no_slower() -> None:
    """It asks for a slot four times a second, and not at every look."""
    fd = os.memfd_create("crowded")
    os.posix_fallocate(fd, 0, 4 * MB)
    _engine.format(fd, 4 * MB, 1, 1024)
    space = _engine.Engine(fd).namespace("")
    space.set("a", b"v")
    import fcntl

    crowd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)  # who holds all other bytes
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 60) + 1, 1023, 0)
    fcntl.fcntl(crowd, getattr(fcntl, "F_OFD_SETLK", 37), lock)
    other = _engine.Engine(fd).namespace("")
    start = time.monotonic()
    for _ in range(1000):
        assert other.get("a") is not None
    assert time.monotonic() - start < 1.0  # it took four seconds
    with pytest.raises(TooManyProcesses):
        other.set("a", b"w")
    os.close(crowd)
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_worker_that_changes_its_user_works_on_and_its_children_read(name: str, fork: Fork) -> None:
    space = segment.attach(name, "4MB").engine.namespace("")
    space.set("a", b"v")

    def worker(send: Any) -> Any:
        os.setuid(65534)
        wrote = space.set("b", b"w")
        read, write = os.pipe()
        if os.fork() == 0:
            found = space.get("a")
            os.write(write, found[0] if found else b"?")
            os._exit(0)
        return wrote, os.read(read, 10)

    assert fork(worker).next() == (True, b"v")


def test_a_set_that_was_stopped_brings_nothing_old_back(name: str, fork: Fork) -> None:
    """While its process was stopped inside, a newer one had to give up: the older may not appear after it."""
    found = segment.attach(name, "16MB", shards=1)
    space = found.engine.namespace("")
    old, new = b"old" * 500_000, b"new"
    with open(path_of(name), "rb") as file:
        words = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    shard = Anatomy(path_of(name)).shards_at
    caught = 0
    for _ in range(300):
        child = fork(lambda send: (space.get("k"), send("ready"), space.set("k", old))[-1])
        child.next()
        while words[shard : shard + 4] == bytes(4) and not os.waitid(
            os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            pass
        child.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        inside = words[shard : shard + 4] != bytes(4)
        if inside:
            caught += 1
            assert space.set("k", new) is False
            assert space.get("k") is None
        child.signal(signal.SIGCONT)
        stored = child.next()
        child.reap()
        if inside:
            assert (stored, space.get("k")) == (False, None)
        if caught == 3:
            break
    words.close()
    assert caught, "never stopped inside a set"


def test_who_was_stopped_while_he_waited_for_a_shard_looks_once_more(name: str, fork: Fork) -> None:
    """Its time is over when it goes on, and the shard has long been free."""
    found = segment.attach(name, "4MB", shards=1)
    space = found.engine.namespace("")
    space.set("k", b"old")
    with open(path_of(name), "r+b") as file:
        words = mmap.mmap(file.fileno(), 0)
    anatomy = Anatomy(path_of(name))
    shard = anatomy.shards_at
    ids = [struct.unpack_from("<QQQ", words, anatomy.slots_at + Anatomy.SLOT * slot) for slot in range(8)]
    (me,) = (id for id, _, pid in ids if pid == os.getpid() and id)
    words[shard : shard + 4] = struct.pack("<I", (me >> 16 & 0xFFFFF) << 11 | (me & 0xFFFF) + 1)  # by a living process
    child = fork(lambda send: (space.get("k"), send("ready"), space.set("k", b"new"))[-1])
    child.next()
    wait_until(lambda: words[shard + 3] & 0x80 != 0, "waiter")
    child.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    words[shard : shard + 4] = bytes(4)
    over = time.monotonic() + 0.11
    wait_until(lambda: time.monotonic() > over, "end of its time")
    child.signal(signal.SIGCONT)
    assert child.next() is True
    assert space.get("k")[0] == b"new"
    words.close()


def test_F2_values_and_creators_are_shared_by_processes(name: str, fork: Fork) -> None:
    """What the memory store cannot give: a child's value, and a child that creates, are seen by the parent."""
    cache = mpcache.shared(name, size="4MB")
    read, write = os.pipe()

    def act(send: Any) -> Any:
        def creator() -> str:
            send("creating")
            os.read(read, 1)
            return f"by {os.getpid()}"

        return cache.get_or_create("k", creator)

    child = fork(act)
    assert child.next() == "creating"
    assert cache.key_is_locked("k")
    os.write(write, b"x")
    assert cache.get_or_create("k", lambda: "by the parent") == child.next() == f"by {child.pid}"
