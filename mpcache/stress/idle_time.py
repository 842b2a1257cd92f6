"""Idle time of a process: tells a worker that hangs from one that a busy machine keeps waiting.

Depends on history's clock only.  Linux counts, for each thread, the time on a core and the time in the queue for one
(``/proc/PID/task/*/schedstat``, see the kernel's Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

from pathlib import Path

from mpcache.stress.history import now


class IdleTime:
    """The time since this object was made in which a process neither ran nor waited for a core.

    :param pid: the process.  Of a process with many threads the busiest decides.  Without the kernel's counts all time
     is idle time.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._began, self._busy = pid, now(), _busy(pid)

    def ns(self) -> int:
        """Return the idle time so far."""
        return now() - self._began - max(0, _busy(self._pid) - self._busy)


def _busy(pid: int) -> int:
    """Return the ns of the busiest thread on a core or in the queue for one; 0 if the kernel does not say."""
    return max(map(_busy_thread, Path(f"/proc/{pid}/task").glob("*/schedstat")), default=0)


def _busy_thread(schedstat: Path) -> int:
    try:
        running, queued, _ = schedstat.read_text().split()
    except (OSError, ValueError):  # the thread has ended, or the kernel does not count
        return 0
    return int(running) + int(queued)
