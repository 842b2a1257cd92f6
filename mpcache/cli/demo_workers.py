"""The demo's worker processes, as the demo sees them: they read orders from one pipe and write events to another.

Depends on _support.durations.  The workers are started as programs: they inherit no memory and no region.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from mpcache._support.durations import plain

Event = dict[str, Any]

MODULE = "mpcache.cli.demo_worker"


class WorkerFailed(Exception):
    """A worker ended, or did not answer; the text says which worker and how."""


class Worker:
    """One process, and the events from it that are not taken yet."""

    def __init__(self, number: int, arguments: list[str]) -> None:
        self.number = number
        self.inbox: deque[Event] = deque()
        self.doomed = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        self._half_line = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            cwd="/",  # -m looks into the current directory first, where another mpcache may lie
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends its workers
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, do: str, **how: Any) -> None:
        """Send an order.  A worker that is dead already is found when its event does not come."""
        assert self.process.stdin is not None
        try:
            os.write(self.process.stdin.fileno(), json.dumps({"do": do, **how}).encode() + b"\n")
        except BrokenPipeError:
            pass

    @property
    def output(self) -> int:
        """Return the descriptor of its events."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> list[Event] | None:
        """Read the events that have come; None: the worker has closed its output."""
        said = os.read(self.output, 1 << 16)
        if not said:
            return None
        *lines, self._half_line = (self._half_line + said).split(b"\n")
        return [json.loads(line) for line in lines]

    def take(self, event: str) -> Event | None:
        """Remove the first event of that name from the inbox and return it; None: there is none."""
        for said in self.inbox:
            if said["event"] == event:
                self.inbox.remove(said)
                return said
        return None

    def post_mortem(self) -> str:
        """Describe how it ended."""
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return f"worker {self.number} (pid {self.pid}) closed its output and is still running"
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"worker {self.number} (pid {self.pid}) {how}{': ' if last else ''}{last}"

    def end(self) -> None:
        """Kill it if it lives, and reap it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            assert pipe is not None
            pipe.close()


def _environment() -> dict[str, str]:
    """WorkerPool find the modules where this process found them."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return os.environ | {"PYTHONPATH": path}


class WorkerPool:
    """All workers of one demo; none of them outlives the ``with``.

    :param arguments: of each worker's command line.
    """

    def __init__(self, *arguments: str) -> None:
        self.members: list[Worker] = []
        self._arguments = [*arguments]
        self._all: list[Worker] = []
        self._ears = selectors.DefaultSelector()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._all:
            worker.end()
        self._ears.close()

    def start(self, number: int) -> Worker:
        """Start a worker, which sends ``ready``."""
        worker = Worker(number, self._arguments)
        self._all.append(worker)
        self.members.append(worker)
        self._ears.register(worker.output, selectors.EVENT_READ, worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """Send SIGKILL to a worker, whose death then is no failure."""
        worker.doomed = True
        self.members.remove(worker)
        worker.process.kill()

    def wait_for(
        self,
        event: str,
        workers: Iterable[Worker],
        within: float,
        progress: Callable[[Worker, Event], None] | None = None,
    ) -> list[Event]:
        """Wait for an event from each worker; return the events in the order of the workers.

        :param within: seconds.
        :param progress: called with each ``progress`` event meanwhile.
        :raises WorkerFailed: a worker failed, died, or did not send the event in time.
        """
        deadline, due = time.monotonic() + within, list(workers)
        heard: dict[int, Event] = {}
        while True:
            for worker in due:
                if worker.pid not in heard and (said := worker.take(event)) is not None:
                    heard[worker.pid] = said
            if len(heard) == len(due):
                return [heard[worker.pid] for worker in due]
            if not self._hear(deadline - time.monotonic(), progress):
                silent = ", ".join(str(worker.pid) for worker in due if worker.pid not in heard)
                raise WorkerFailed(f"pid {silent} did not send {event!r} within {plain(within)} s")

    def pause(self, seconds: float) -> None:
        """Wait, and take in the workers' events meanwhile."""
        deadline = time.monotonic() + seconds
        while self._hear(deadline - time.monotonic(), None):
            pass

    def end_all(self) -> list[str]:
        """Tell all workers to end; return the failures."""
        for worker in self.members:
            worker.tell("end")
        failures = []
        for worker in self.members:
            try:
                if worker.process.wait(5):
                    failures.append(worker.post_mortem())
            except subprocess.TimeoutExpired:
                failures.append(f"worker {worker.number} (pid {worker.pid}) did not end when it was told to")
        return failures

    def _hear(self, timeout: float, progress: Callable[[Worker, Event], None] | None) -> bool:
        """Take in events; return False if the time is up."""
        if timeout <= 0:
            return False
        for key, _ in self._ears.select(timeout):
            worker: Worker = key.data
            said = worker.read()
            if said is None:
                self._ears.unregister(key.fd)
                if not worker.doomed:
                    raise WorkerFailed(worker.post_mortem())
            for event in said or ():
                self._sort(worker, event, progress)
        return True

    @staticmethod
    def _sort(worker: Worker, event: Event, progress: Callable[[Worker, Event], None] | None) -> None:
        kind = event["event"]
        if kind == "failed":
            raise WorkerFailed(f"worker {worker.number} (pid {worker.pid}): {event['what']}")
        if kind != "progress":
            worker.inbox.append(event)
        elif progress is not None:
            progress(worker, event)
