"""Check that the machine has room for a segment: in the file system, in the memory cgroup, in memory.

Depends on exception.
"""

from __future__ import annotations

import os

from mpcache.exception import NoRoom

INODES = "the file system has no inodes left: remove files from it, or mount -o remount,nr_inodes=... it"
REMEDY = "make the segment smaller or the file system larger (mount -o remount,size=..., docker run --shm-size=...)"


def _number(path: str) -> int | None:
    try:
        with open(path) as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _left(limit: int | None, used: int | None) -> int | None:
    return None if limit is None or used is None else max(0, limit - used)


def _in_cgroup() -> int | None:
    """Return the bytes that this process's memory cgroup leaves; None: there is no limit, or none can be read."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    lefts = []
    for _, controllers, path in lines:
        if controllers == "":
            lefts.append(_left_in(f"/sys/fs/cgroup{path}", "memory.max", "memory.current"))
        elif "memory" in controllers.split(","):
            base = f"/sys/fs/cgroup/memory{path}"
            lefts.append(_left_in(base, "memory.limit_in_bytes", "memory.usage_in_bytes"))
    return min((left for left in lefts if left is not None), default=None)


def _left_in(base: str, limit: str, usage: str) -> int | None:
    """Return the bytes that are left below a limit.

    Inactive file pages count as used in the cgroup, but the kernel frees them when memory is needed.
    """
    used = _number(f"{base}/{usage}")
    idle = _field(f"{base}/memory.stat", "inactive_file") or 0
    return _left(_number(f"{base}/{limit}"), None if used is None else max(0, used - idle))


def _field(path: str, name: str) -> int | None:
    """Return a number from a file of lines ``name number [kB]``; None if it is not there."""
    try:
        with open(path) as file:
            for line in file:
                words = line.replace(":", " ").split()
                if len(words) > 1 and words[0] == name:
                    return int(words[1]) * (1024 if words[-1] == "kB" else 1)
    except (OSError, ValueError):
        pass
    return None


def lacks_inodes(path: str) -> bool:
    """Return whether the file system of a path has no inode for another file; tmpfs takes two for one file."""
    try:
        there = os.statvfs(path)
    except OSError:
        return False
    return there.f_files > 0 and there.f_favail < 3


def require(folder: str | None, size: int) -> None:
    """Raise NoRoom unless `size` bytes fit into the file system of `folder` (None: memory alone) and the cgroup."""
    if folder is not None and (there := os.statvfs(folder)).f_blocks:  # else it has no limit of its own
        _compare(f"the file system of {folder}", there.f_bavail * there.f_frsize, size)
    for where, left in (
        ("this process's memory cgroup", _in_cgroup()),
        ("this machine's memory", _field("/proc/meminfo", "MemAvailable")),
    ):
        if left is not None:
            _compare(where, left, size)


def _compare(where: str, available: int, size: int) -> None:
    if available < size:
        raise NoRoom(
            f"{where} has {available} bytes available and the segment wants {size}; {REMEDY}",
            available=available,
            wanted=size,
        )
