"""A real gunicorn with four workers: one creation of each page, whoever is killed, recycled or reloaded.

Leans on the webapp, and on gunicorn.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from mpcache.shm import segment
from tests.conftest import needs_mount
from tests.processes.support import PATIENCE, environment, notes, state_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

WORKERS, CLIENTS, NOBODY = 4, 8, 65534
PAGES = [f"page-{i}" for i in range(60)]


class Answer(NamedTuple):
    status: int
    worker: int
    text: str


class Creation(NamedTuple):
    """Of which page, by whom, when, and how long the creator was in the queue for a core until then (ns)."""

    page: str
    pid: int
    when: int
    queued: int


class Connection(http.client.HTTPConnection):
    """To a server on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Server:
    """gunicorn with the webapp."""

    def __init__(
        self, folder: Path, name: str, shm: str | None = None, size: str = "8MB", imports: str = "", **settings: Any
    ) -> None:
        self._ids = itertools.count(1)
        self.folder = folder
        self.log = folder / "log"
        self.socket = str(folder / "socket")
        settings = {"bind": f"unix:{self.socket}", "workers": WORKERS, "graceful_timeout": 5} | settings
        if settings["worker_class"] == "gthread":
            settings["threads"] = 4 * CLIENTS  # whatever a worker accepts it begins at once
        settings |= {"control_socket_disable": True}  # of those versions that have one
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        (folder / "conf.py").write_text("".join([imports, *lines]))
        told = {"MPCACHE_TEST_SEGMENT": name, "MPCACHE_TEST_LOG": str(self.log), "MPCACHE_TEST_SIZE": size}
        command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "tests.processes.webapp:application"]
        with open(folder / "errors", "w") as self.errors:
            self.master = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(**told) | ({"MPCACHE_SHM": shm} if shm else {}),
                start_new_session=True,
                stderr=self.errors,
            )

    def ask(self, path: str) -> Answer:
        connection = Connection(self.socket)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return Answer(answer.status, int(answer.headers.get("Worker", 0)), answer.read().decode())
        finally:
            connection.close()

    def page(self, name: str) -> Answer:
        return self.ask(f"/page/{name}?{next(self._ids)}")

    def stats(self) -> dict[str, int]:
        stats: dict[str, int] = json.loads(self.ask("/stats").text)
        return stats

    def workers(self) -> set[int]:
        """The pids of the master's living children."""
        children = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text()
        return {int(pid) for pid in children.split() if state_of(int(pid)) not in ("", "Z")}

    def wait_for_workers(self) -> set[int]:
        """Until so many as there shall be have answered, and no more than these are left."""
        seen: set[int] = set()

        def all_answer() -> bool:
            with ThreadPoolExecutor(CLIENTS) as clients:
                seen.update(answer.worker for answer in clients.map(self.ask, ["/stats"] * CLIENTS))
            return len(self.workers()) == WORKERS and self.workers() <= seen

        wait_until(self._listens, "server that listens")
        wait_until(all_answer, f"answer of each of {WORKERS} workers")
        return self.workers()

    def _listens(self) -> bool:
        """Its socket has a name some time before that."""
        assert self.master.poll() is None, (self.folder / "errors").read_text()
        try:
            return self.ask("/stats").status == 200
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def end(self) -> int:
        """In good order, or else by force; the master's exit code."""
        try:
            self.master.terminate()
            return self.master.wait(PATIENCE)
        finally:
            for pid in in_session(self.master.pid):
                os.kill(pid, signal.SIGKILL)
            self.master.wait()

    def creations(self) -> list[Creation]:
        found = [line.split() for line in notes(self.log) if line.startswith("create")]
        return [Creation(page, int(pid), int(when), int(queued)) for _, page, pid, when, queued in found]

    def creators(self, page: str) -> list[Creation]:
        return [creation for creation in self.creations() if creation.page == page]

    def begun(self) -> dict[int, int]:
        """The worker's pid of each request, by its id."""
        found = [line.split() for line in notes(self.log) if line.startswith("begin")]
        return {int(which): int(pid) for _, which, pid in found}


def in_session(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.fixture
def serve(name: str) -> Iterator[Callable[..., Server]]:
    """``serve(name, **settings)``: a server that answers; it is gone after the test, with all its children.

    And before its segment is removed: workers that live on would make themselves a new one.
    """
    folders: list[Path] = []
    servers: list[Server] = []

    def serve(name: str, **how: Any) -> Server:
        folders.append(Path(tempfile.mkdtemp(prefix="mpc-")))  # a socket's path may have 107 bytes only
        folders[-1].chmod(0o777)  # workers may be another user's
        servers.append(Server(folders[-1], name, **how))
        servers[-1].wait_for_workers()
        return servers[-1]

    try:
        yield serve
    finally:
        for server in servers:
            server.end()
        for folder in folders:
            print((folder / "errors").read_text())  # pytest shows it when the test fails
            shutil.rmtree(folder)


KINDS = pytest.mark.parametrize(
    ("worker_class", "preload"),
    [("sync", False), ("sync", True), ("gthread", False), ("gthread", True)],
    ids=["sync", "sync-preload", "gthread", "gthread-preload"],
)


class Load:
    """Clients that ask for one page after the other, each page once in each round, until told to end.

    The order is chance's, but that every page is asked for is not.
    """

    def __init__(self, server: Server, rounds: int = 10**9) -> None:
        self.answers: list[tuple[str, Answer]] = []
        self.errors: list[str] = []
        self._server = server
        self._pages = itertools.chain.from_iterable(random.sample(PAGES, len(PAGES)) for _ in range(rounds))
        self._over, self._one_at_a_time = threading.Event(), threading.Lock()
        self._clients = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()

    def _ask(self) -> None:
        while not self._over.is_set() and (name := self._next()):
            try:
                self.answers.append((name, self._server.page(name)))
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{name}: {error!r}")

    def _next(self) -> str | None:
        with self._one_at_a_time:
            return next(self._pages, None)

    def join(self) -> None:
        for client in self._clients:
            client.join(60)
            assert not client.is_alive()

    def end(self) -> None:
        self._over.set()
        self.join()


def assert_one_creation_each(server: Server, load: Load) -> None:
    assert load.errors == []
    assert {answer.status for _, answer in load.answers} == {200}
    assert Counter(creation.page for creation in server.creations()) == Counter(PAGES)
    texts = {(name, answer.text) for name, answer in load.answers}
    assert len(texts) == len(PAGES), "a page had two texts"


@KINDS
def test_each_page_is_created_once(serve: Any, name: str, worker_class: str, preload: bool) -> None:
    server = serve(name, worker_class=worker_class, preload_app=preload)
    load = Load(server, rounds=10)
    load.join()
    assert_one_creation_each(server, load)
    assert len({answer.worker for _, answer in load.answers}) == WORKERS
    assert len({creation.pid for creation in server.creations()}) > 1


@KINDS
def test_when_the_creating_worker_is_killed_another_takes_over(
    serve: Any, name: str, worker_class: str, preload: bool
) -> None:
    server = serve(name, worker_class=worker_class, preload_app=preload)
    busy = WORKERS if worker_class == "sync" else CLIENTS  # the rest waits in the socket's queue
    takeovers = []
    for which in range(4):
        takeovers.append(kill_a_creator(server, f"slow-{which}", busy))
        server.wait_for_workers()
    print("take-overs, and with the queue for a core left out:", takeovers)
    assert median(by_the_clock for by_the_clock, _ in takeovers) < 0.100
    assert max(queue_left_out for _, queue_left_out in takeovers) < 0.100


def kill_a_creator(server: Server, name: str, busy: int) -> tuple[float, float]:
    """Seconds until another began to create: by the clock, and with his time in the queue for a core left out.

    All but the killed one's requests are answered with what he made.
    """
    before = set(server.begun())
    with ThreadPoolExecutor(4 * CLIENTS) as clients:

        def begun() -> dict[int, int]:
            return {which: pid for which, pid in server.begun().items() if which not in before}

        asked = [clients.submit(server.page, name) for _ in range(CLIENTS)]
        wait_until(lambda: len(begun()) >= busy, "request in work on each worker")
        while len(set(begun().values())) == 1:  # the kernel gave them all to one worker: nobody would take over
            asked.append(clients.submit(server.page, name))
            wait_until(lambda: len(begun()) >= len(asked), "further request in work")
        (creator,) = wait_until(lambda: server.creators(name), "creator at work")
        lost = [which for which, pid in begun().items() if pid == creator.pid]

        killed = time.monotonic_ns()
        os.kill(creator.pid, signal.SIGKILL)
        wait_until(lambda: len(server.creators(name)) == 2, "second creator")
        Path(f"{server.log}.{name}").touch()
        failed = [one.exception(PATIENCE) for one in asked]
    assert len([error for error in failed if error]) == len(lost), failed
    answers = [one.result() for one, error in zip(asked, failed, strict=True) if not error]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    _, heir = server.creators(name)
    assert heir.pid != creator.pid
    return (heir.when - killed) / 1e9, (heir.when - killed - heir.queued) / 1e9


@KINDS
def test_recycled_and_reloaded_workers_leak_nothing(serve: Any, name: str, worker_class: str, preload: bool) -> None:
    server = serve(name, worker_class=worker_class, preload_app=preload, max_requests=50)
    first = server.workers()
    load = Load(server)
    try:
        wait_until(lambda: len({answer.worker for _, answer in load.answers}) > 3 * WORKERS, "recycled worker")
        before = server.workers()
        server.master.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & server.workers(), "reload")
        wait_until(lambda: set(PAGES) == {name for name, _ in load.answers}, "page")
    finally:
        load.end()
    assert_one_creation_each(server, load)
    assert not first & server.workers()
    assert_slots(server, WORKERS + preload)
    assert [left for left in os.listdir(segment.directory()) if name in left] == [segment.file_name(name)]


def assert_slots(server: Server, most: int) -> None:
    """One for each worker that was asked for something, and one for a master that attached before it forked."""

    def only_theirs() -> bool:
        server.wait_for_workers()
        return server.stats()["processes"] <= most

    wait_until(only_theirs, f"fall of the number of attached processes to {most}")


@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_of_an_anonymous_segment_nothing_is_left(serve: Any, tmp_path: Path, worker_class: str) -> None:
    server = serve("", worker_class=worker_class, preload_app=True, shm=str(tmp_path))
    load = Load(server)
    try:
        wait_until(lambda: set(PAGES) == {name for name, _ in load.answers}, "page")
        before = server.workers()
        server.master.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & server.workers(), "reload")
    finally:
        load.end()
    assert_one_creation_each(server, load)
    kill_a_creator(server, "slow", WORKERS if worker_class == "sync" else CLIENTS)
    assert_slots(server, WORKERS + 1)

    memory = anonymous_memory(server.master.pid)
    assert memory, "the master has no anonymous segment: this test looks for the wrong thing"
    assert server.end() == 0
    assert in_session(server.master.pid) == []
    everybody = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    assert [pid for pid in everybody if memory & anonymous_memory(pid)] == []
    assert os.listdir(tmp_path) == []


@needs_mount
@pytest.mark.parametrize("worker_class", ["sync", "gthread"])
def test_removed_under_load_where_two_do_not_fit(
    small_tmpfs: Callable[[str], None], serve: Any, name: str, worker_class: str
) -> None:
    """The master of a preloading server is idle, and keeps the old segment mapped for ever."""
    small_tmpfs("20m")
    server = serve(name, worker_class=worker_class, preload_app=True, size="12MB")
    path = Path(segment.path_of(name))
    load = Load(server)
    try:
        for _ in range(2):
            count = len(load.answers)
            wait_until(lambda count=count: len(load.answers) > count + 300, "answer")  # type: ignore[misc]
            before = path.stat().st_ino
            removed = subprocess.run([sys.executable, "-m", "mpcache.cli", "rm", "--force", name], env=environment())
            began = time.monotonic()
            assert removed.returncode == 0
            wait_until(lambda before=before: path.exists() and path.stat().st_ino != before, "successor")  # type: ignore[misc]
            assert time.monotonic() - began < 1.0
            assert os.listdir(segment.directory()) == [segment.file_name(name)]
    finally:
        load.end()
    assert load.errors == []
    assert {answer.status for _, answer in load.answers} == {200}
    assert server.stats()["items"] > 0


LATE_IMPORTS = """
import importlib, inspect, difflib, pickle, traceback, encodings.idna
for _name in ("backends.shm", "mutexes.shm", "_region.decorators", "_wire._wire"):
    importlib.import_module("mpcache." + _name)
"""
"""What the workers need, from a Python that the other user may not be able to read."""


@needs_mount
@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
def test_workers_of_another_user(serve: Any, name: str, worker_class: str) -> None:
    """With --user and --preload: the segment is root's, and the workers use it as what they have inherited."""
    if worker_class == "gevent":
        pytest.importorskip("gevent")
    imports = LATE_IMPORTS + ("import gevent, gunicorn.workers.ggevent\n" if worker_class == "gevent" else "")
    server = serve(name, worker_class=worker_class, preload_app=True, user=NOBODY, group=NOBODY, imports=imports)
    load = Load(server, rounds=6)
    load.join()
    assert_one_creation_each(server, load)
    assert len({answer.worker for _, answer in load.answers}) == WORKERS
    assert_slots(server, WORKERS + 1)


def anonymous_memory(pid: int) -> set[int]:
    """The inodes of the anonymous segments that a process has open."""
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(entry).startswith("/memfd:mpcache"):
                found.add(entry.stat().st_ino)
    except OSError:
        pass  # it is gone, or another user's
    return found
