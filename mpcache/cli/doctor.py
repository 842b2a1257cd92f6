"""The doctor: checks what would keep mpcache from working on this machine, and says what to do about it.

Depends on shm, and on files of Linux.  Each function checks one thing; tests pass it other paths.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import resource
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mpcache._console import Console
from mpcache.cli.temp_segment import ANY_MODE, temp_segment, user_name
from mpcache.exception import DogpileCacheException, NoRoom, SegmentError
from mpcache.shm import capacity, segment
from mpcache.shm.segment import SegmentFile

DEFAULT_SIZE = 64 << 20
DESCRIPTORS = 512 + 128
"""Descriptors that a process needs: mpcache's are above 512, because programs close or replace low numbers."""


class Level(Enum):
    """The level of a finding; its value is the sign and the style of the sign."""

    GOOD = (" ✓ ", "green")
    DOUBTFUL = (" ! ", "yellow")
    BAD = (" ✗ ", "bold red")


GOOD, DOUBTFUL, BAD = Level.GOOD, Level.DOUBTFUL, Level.BAD


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do about it."""

    level: Level
    what: str
    remedy: str = ""


def run(console: Console) -> int:
    """Print all findings; return the exit status."""
    worst = 0
    for finding in examine():
        worst |= finding.level is BAD
        console.line(finding.level.value, finding.what)
        if finding.remedy:
            console.line("   ", (finding.remedy, "dim"))
    return worst


def examine() -> Iterator[Finding]:
    """Yield all findings for this process."""
    yield system(platform.system(), platform.python_implementation(), platform.python_version())
    try:
        folder = os.path.dirname(segment.directory())
    except SegmentError as error:
        yield Finding(BAD, *_remedied(str(error)))
        return
    yield memory_file_system(folder)
    yield mounted(folder)
    yield space(folder)
    yield inodes(folder)
    yield proc()
    yield pages(segment.gives_large_pages())
    yield own_directory(segment.directory(), os.geteuid())
    yield logout(os.geteuid(), user_name(os.geteuid()))
    yield descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield from segments()
    yield trial()


def system(name: str, python: str, version: str) -> Finding:
    """Check that this is Linux and CPython, for which the engine is written."""
    what = f"{name}, {python} {version}"
    if name == "Linux" and python == "CPython":
        return Finding(GOOD, what)
    return Finding(BAD, what, "mpcache's shared memory needs Linux and CPython; other stores work anywhere")


def memory_file_system(folder: str) -> Finding:
    """Check the directory of segments."""
    if not os.path.isdir(folder):
        return Finding(BAD, f"{folder} does not exist", f"mount -t tmpfs tmpfs {folder}, or set MPCACHE_SHM to a tmpfs")
    there = os.statvfs(folder)
    if there.f_flag & os.ST_RDONLY:
        return Finding(BAD, f"{folder} is read-only", f"mount -o remount,rw {folder}, or set MPCACHE_SHM to a tmpfs")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(BAD, f"{folder} cannot be written to", f"chmod 1777 {folder}, or set MPCACHE_SHM to a tmpfs")
    if there.f_blocks == 0:
        return Finding(GOOD, f"{folder}: without a size limit")
    total, free = (blocks * there.f_frsize >> 20 for blocks in (there.f_blocks, there.f_bavail))
    return Finding(GOOD, f"{folder}: {total:,} MiB, {free:,} MiB of them free")


def mounted(folder: str, mounts: str = "/proc/self/mounts") -> Finding:
    """Check that the file system is in memory and writable."""
    found = _mount_of(os.path.realpath(folder), mounts)
    if found is None:
        return Finding(DOUBTFUL, f"{mounts} does not say how {folder} is mounted", "check that it is a tmpfs")
    kind, options = found
    what = f"{folder} is a {kind} ({options})"
    if "ro" in options.split(","):
        return Finding(BAD, what, f"mount -o remount,rw {folder}")
    if kind not in ("tmpfs", "ramfs", "hugetlbfs"):
        return Finding(DOUBTFUL, what, "the kernel writes every change of the cache back to the disk: use a tmpfs")
    return Finding(GOOD, what)


def _mount_of(folder: str, mounts: str) -> tuple[str, str] | None:
    """Return type and options of the file system of a folder: the last mount over its longest prefix."""
    best, found = "", None
    try:
        with open(mounts) as file:
            for _, point, kind, options, *_ in map(str.split, file):
                inside = folder == point or folder.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, found = point, (kind, options)
    except OSError:
        pass
    return found


def space(folder: str) -> Finding:
    """Check that segments fit into the file system and the memory cgroup of this process."""
    if not os.path.isdir(folder):
        return Finding(BAD, "there is no room for a segment", "see above")
    for size, level in ((segment.smallest(), BAD), (DEFAULT_SIZE, DOUBTFUL)):
        try:
            capacity.require(folder, size)
        except NoRoom as error:
            return Finding(level, *_remedied(str(error)))
    there = os.statvfs(folder)
    total = there.f_blocks * there.f_frsize
    if 0 < total < 2 * DEFAULT_SIZE:
        return Finding(
            DOUBTFUL,
            f"a segment of the default size, {DEFAULT_SIZE >> 20} MiB, takes most of {folder} ({total >> 20} MiB)",
            "give size=, half of that at most, so that a new one fits beside an old one; or docker run --shm-size=1g",
        )
    return Finding(GOOD, f"there is room for a segment of {DEFAULT_SIZE >> 20} MiB, the default")


def inodes(folder: str) -> Finding:
    """Check that the file system has room for another file."""
    if capacity.lacks_inodes(folder):
        return Finding(BAD, *_remedied(f"{folder}: {capacity.INODES}".replace(": remove", "; remove")))
    return Finding(GOOD, "there is room for another file")


def proc(path: str = "/proc/self/fd") -> Finding:
    """Check /proc, through which segments get their names."""
    if os.path.exists(path):
        return Finding(GOOD, "/proc is mounted")
    return Finding(BAD, "/proc is not mounted: no segment can be created", "mount -t proc proc /proc")


def _remedied(text: str) -> tuple[str, str]:
    what, _, remedy = text.partition("; ")
    return what, remedy


def pages(large: bool) -> Finding:
    """Check the page size of segments; mpcache works with either."""
    if large:
        return Finding(GOOD, "segments get pages of 2 MiB")
    return Finding(
        DOUBTFUL,
        "segments get small pages: looking up cold keys takes longer",
        "Linux 6.1 and later have large ones, unless /sys/kernel/mm/transparent_hugepage/shmem_enabled is 'deny'",
    )


def own_directory(path: str, user: int) -> Finding:
    """Check that the directory of this user's segments belongs to this user alone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return Finding(GOOD, f"{path} is not there yet; it will be made with the first segment")
    except OSError as error:
        return Finding(BAD, f"{path}: {error.strerror}", "check the permissions of the directory above it")
    mode = stat.filemode(found.st_mode)
    what = f"{path}: {mode}, owned by uid {found.st_uid}"
    if not stat.S_ISDIR(found.st_mode):
        return Finding(BAD, f"{what}, is not a directory", "remove it")
    if found.st_uid != user:
        return Finding(BAD, f"{what}, and this is uid {user}", "have its owner remove it, or set MPCACHE_SHM")
    if found.st_mode & 0o077:
        return Finding(BAD, f"{what}: other users may use it", f"find out who opened it and why; then chmod 700 {path}")
    return Finding(GOOD, what)


def logout(user: int, name: str, root: str = "/") -> Finding:
    """Check whether systemd removes the user's shared memory when the user's last session ends."""
    if not os.path.isdir(os.path.join(root, "run/systemd/seats")):
        return Finding(GOOD, "no systemd-logind runs here, which could remove segments at logout")
    if user < 1000:
        return Finding(GOOD, f"systemd-logind leaves the shared memory of uid {user} alone: a system user")
    if os.path.exists(os.path.join(root, "var/lib/systemd/linger", name)):
        return Finding(GOOD, f"systemd-logind leaves the shared memory of {name} alone: lingering is enabled")
    if not _remove_ipc(root):
        return Finding(GOOD, "systemd-logind leaves shared memory alone (RemoveIPC=no)")
    return Finding(
        DOUBTFUL,
        f"systemd-logind removes the segments of {name} when that user's last session ends",
        f"loginctl enable-linger {name}, or RemoveIPC=no in /etc/systemd/logind.conf, or run as a system user",
    )


def _remove_ipc(root: str) -> bool:
    """Return logind's RemoveIPC: the last setting counts, and the default is yes."""
    main = glob.glob(os.path.join(root, "etc/systemd/logind.conf"))
    folders = [os.path.join(root, place, "systemd/logind.conf.d/*.conf") for place in ("usr/lib", "run", "etc")]
    drop_ins = [path for folder in folders for path in glob.glob(folder)]
    said = "yes"
    for path in [*main, *sorted(drop_ins, key=os.path.basename)]:
        with open(path, errors="replace") as file:
            for value in re.findall(r"^\s*RemoveIPC\s*=\s*(\w+)", file.read(), re.M):
                said = value.lower()
    return said in ("yes", "true", "on", "1")


def descriptors(limit: int) -> Finding:
    """Check the limit of descriptors: daemons close low numbers."""
    if limit == resource.RLIM_INFINITY or limit >= DESCRIPTORS:
        return Finding(GOOD, f"{limit:,} descriptors a process" if limit >= 0 else "descriptors without limit")
    return Finding(
        DOUBTFUL,
        f"{limit} descriptors a process: too few to keep mpcache's apart from those that programs close by number",
        "ulimit -n 1024, or LimitNOFILE=1024 in the unit",
    )


def segments() -> Iterator[Finding]:
    """Check that this user's segments can be used."""
    try:
        files = segment.files_of()
    except OSError as error:
        yield Finding(BAD, f"{segment.directory()} cannot be listed: {error.strerror}", "see above")
        return
    good = 0
    for file in files:
        if file.other:
            yield other_layout(file)
            continue
        try:
            good += segment.find(file.name, ANY_MODE, for_mutexes=file.bare) is not None
        except SegmentError as error:
            yield Finding(DOUBTFUL, *_remedied(str(error)))
    yield Finding(GOOD, f"segments of yours that can be used: {good}")


def other_layout(file: SegmentFile) -> Finding:
    """Describe a segment that another version of mpcache made."""
    what = f"{file.path} has layout {file.layout} of another version of mpcache"
    if not segment.in_use(file):
        return Finding(DOUBTFUL, f"{what}, and no process uses it", f"mpcache rm --layout {file.layout} {file.name}")
    if file.use == "stores":
        remedy = "until its processes end, each version has a cache of its own, which the other does not invalidate"
    else:
        remedy = "until its processes end, mutexes of this version that name this segment are refused"
    return Finding(DOUBTFUL, f"{what}, and living processes use it", remedy)


def trial() -> Finding:
    """Make a segment, use it, check it and remove it."""
    name, began = f"doctor-{os.getpid()}", time.perf_counter()
    try:
        with temp_segment(name, segment.smallest()) as tried:
            here = tried.engine.namespace("")
            if not here.set("key", b"value") or (here.get("key") or [b""])[0] != b"value":
                return Finding(
                    BAD, "a segment was made, but it does not return the value that was stored", "please report this"
                )
            tried.engine.check()
    except (DogpileCacheException, OSError) as error:
        what, remedy = _remedied(str(error))
        return Finding(BAD, f"no segment could be made and used: {what}", remedy or "the findings above may say why")
    took = (time.perf_counter() - began) * 1000
    return Finding(GOOD, f"a segment was made, used, checked and removed in {took:.1f} ms")
