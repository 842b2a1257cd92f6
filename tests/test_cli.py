"""The command: its output, its exit status; the demo reports faults, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import pty
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mpcache
from mpcache import _console
from mpcache.cli import commands, doctor
from mpcache.cli.demo_checks import (
    TAKE_OVER_WITHIN,
    Facts,
    Invalidation,
    Kill,
    Load,
    Moment,
    Watch,
    in_us,
    verdicts,
)
from mpcache.cli.demo_workers import WorkerFailed, WorkerPool
from mpcache.mutexes.file import FileMutex
from mpcache.mutexes.semaphore import SemaphoreMutex
from mpcache.shm import segment

PATIENCE = 30.0
SMALL = "3MB"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mpcache.cli", *arguments]


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60)


@pytest.fixture
def shm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set a directory of segments for this test, for its process and child processes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="mpcache-test-") as path:
        monkeypatch.setenv("MPCACHE_SHM", path)
        yield Path(path)


@pytest.fixture
def region(shm: Path) -> mpcache.CacheRegion:
    region = mpcache.shared("pages", size=SMALL)
    region.set("news", {"title": "all quiet"})
    return region


# -- the demo -----------------------------------------------------------------------------------------------


def test_the_demo_shows_that_all_of_it_holds_and_leaves_nothing(shm: Path) -> None:
    played = cli("demo", "--workers", "3", "--seconds", "1.2")
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stderr == ""
    assert re.findall(r"^ (\S+) ", played.stdout, re.M).count("✓") == 6
    assert re.search(r"^  60 keys, 60 creations: exactly one each$", played.stdout, re.M)
    assert re.search(r"after [\d.]+ µs$|after [\d,]+ µs$|after [\d.]+ ms$", played.stdout, re.M)
    assert max(map(len, played.stdout.splitlines()[1:])) <= 80
    assert os.listdir(shm) == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dbm", "redis", "memcached"])
def test_the_demo_is_played_on_other_stores(shm: Path, backend: str) -> None:
    played = cli("demo", "--backend", backend, "--workers", "2", "--seconds", "0.3")
    assert played.returncode == 0, played.stdout + played.stderr
    assert re.findall(r"^ (\S+) ", played.stdout, re.M).count("✓") == 6


def test_the_demo_moves_on_a_terminal(shm: Path) -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    playing = subprocess.Popen(
        command("demo", "--workers", "2", "--seconds", "0.5"), stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = _read_all(ours).decode()
    assert playing.wait(PATIENCE) == 0, shown
    assert "\x1b[1A" in shown  # each table is drawn over the last
    assert "\x1b[32m ✓ " in shown
    assert shown.rstrip().endswith("the store is gone")


def _read_all(fd: int) -> bytes:
    said = b""
    while True:
        try:
            more = os.read(fd, 1 << 16)
        except OSError:  # EIO: the other side of a terminal was closed
            more = b""
        if not more:
            os.close(fd)
            return said
        said += more


class Playing:
    """Start a demo, and yield it in the middle of its first act."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            command("demo", "--workers", "2", "--seconds", "20"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "requests; " in line:
                break
        self.workers = [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        assert len(self.workers) == 2

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> tuple[int, str]:
        """Return the exit status and all output."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out + err


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(shm: Path, number: signal.Signals) -> None:
    playing = Playing()
    playing.process.send_signal(number)
    status, said = playing.end()
    assert status == 128 + number, said
    assert "Traceback" not in said
    assert [pid for pid in playing.workers if _alive(pid)] == []
    assert os.listdir(shm) == []


def test_the_workers_of_a_killed_demo_clear_away_and_go(shm: Path) -> None:
    playing = Playing()
    playing.process.kill()
    playing.end()
    assert _until(lambda: not any(map(_alive, playing.workers)))
    assert segment.names() == []


def test_a_worker_that_dies_unasked_is_a_failure_of_the_demo(shm: Path) -> None:
    playing = Playing()
    os.kill(playing.workers[1], signal.SIGKILL)
    status, said = playing.end()
    assert status == 1
    assert f"worker 2 (pid {playing.workers[1]}) was killed by SIGKILL" in said
    assert "✗ one creation per key" in said
    assert os.listdir(shm) == []


FAULTS = {
    "one creation per key": """
        from mpcache.backends.shm import ShmBackend
        from mpcache.mutexes.null import NullMutex
        ShmBackend.get_mutex = lambda self, key: NullMutex(key)
        ShmBackend.begin_fill = lambda self, key: None
    """,
    "killed creators replaced": """
        import time
        from mpcache.mutexes.shm import ShmMutex
        contend = ShmMutex.contend
        def late(self, timeout=None):
            outcome = contend(self, timeout)
            time.sleep(0.1)
            return outcome
        ShmMutex.contend = late
    """,
    "invalidate() reaches all": """
        from mpcache.region import CacheRegion
        CacheRegion.invalidate = lambda self, hard=True: None
    """,
}


@pytest.mark.parametrize("promise", FAULTS)
def test_the_demo_sees_a_fault(shm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promise: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(FAULTS[promise]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    played = cli("demo", "--workers", "2", "--seconds", "0.3")
    assert played.returncode == 1, played.stdout
    assert f"✗ {promise} " in played.stdout
    assert "✓ nothing fails, nothing left " in played.stdout
    assert "promises did not hold." in played.stdout
    assert os.listdir(shm) == []


def test_there_is_nothing_to_play_in(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCACHE_SHM", str(shm / "nowhere"))
    said = cli("demo")
    assert (said.returncode, said.stdout) == (1, "")
    assert re.fullmatch(r"mpcache: cannot make .*; .*set MPCACHE_SHM to another tmpfs\n", said.stderr)


@pytest.mark.parametrize("wrong", ["--workers=1", "--seconds=0", "--seed=x", "--fast"])
def test_the_demo_refuses_what_it_cannot_show(shm: Path, wrong: str) -> None:
    assert cli("demo", wrong).returncode == 2


def test_a_worker_that_cannot_work_says_why(shm: Path) -> None:
    environment = {"backend": "mpcache.shm", "arguments": {"name": "a/b", "size": 3 << 20}, "clear": []}
    with (
        WorkerPool(json.dumps(environment)) as pool,
        pytest.raises(WorkerFailed, match=r"worker 7 .*ValueError: segment name"),
    ):
        pool.wait_for("ready", [pool.start(7)], PATIENCE)


def test_a_worker_that_keeps_silent_is_named(shm: Path) -> None:
    environment = {"backend": "mpcache.null", "arguments": {}, "clear": []}
    with WorkerPool(json.dumps(environment)) as pool:
        worker = pool.start(1)
        with pytest.raises(WorkerFailed, match=f"pid {worker.pid} did not send 'load' within 0 s"):
            pool.wait_for("load", [worker], 0)


# -- the judgement --------------------------------------------------------------------------------------------

MS = 1_000_000

LOADS = [
    Load(1, 11, 100, 97, 1, {"a": 1, "b": 1}, {"a": ["A"], "b": ["B"]}, 0, 1500, 3000, 40),
    Load(2, 12, 50, 48, 2, {}, {"a": ["A"], "b": ["B"]}, 0, 1500, 3000, 40),
]
KILL = Kill(
    victim=11,
    killed_at=100 * MS,
    asked=[12, 13],
    begun=[Moment(11, 50 * MS), Moment(13, 112 * MS)],
    ended=[Moment(13, 150 * MS, "S")],
    answers=[Moment(12, 151 * MS, "S"), Moment(13, 150 * MS, "S")],
)
CALL = Invalidation(by=12, began_at=1000, returned_at=3000, watches=[Watch(11, 2000, 5000), Watch(13, 500, 9000)])

ONE_CREATION, ONE_VALUE, REPLACED, STILL_ONE, REACHED, NOTHING_LEFT = range(6)


def good() -> Facts:
    return Facts(2, [*LOADS], [KILL], 1, [CALL], 1)


def load(**changes: Any) -> Facts:
    return dataclasses.replace(good(), loads=[LOADS[0], dataclasses.replace(LOADS[1], **changes)])


def kill(**changes: Any) -> Facts:
    return dataclasses.replace(good(), kills=[dataclasses.replace(KILL, **changes)])


def call(**changes: Any) -> Facts:
    return dataclasses.replace(good(), invalidations=[dataclasses.replace(CALL, **changes)])


def test_good_facts_are_good() -> None:
    judged = verdicts(good())
    assert [verdict.held for verdict in judged] == [True] * 6
    assert [verdict.figures for verdict in judged] == [
        "2 keys, 2 creations, 150 requests",
        "150 answers compared, none differs",
        "12.0 ms, promised are < 100",
        "2 began, 1 ended; all 2 waiters got its value",
        "1 times; the last process knew after 8.00 µs",
        "all workers ended well, the store is gone",
    ]


BAD = [
    (load(creations={"b": 1}, hits=47), [ONE_CREATION], "b was created twice"),
    (load(serials={"c": ["C"]}), [ONE_CREATION], "c was created never"),
    (load(hits=40), [ONE_CREATION], "worker 2 asked 50 times, 8 of which are unaccounted for"),
    (load(serials={"a": ["A", "A2"], "b": ["B"]}), [ONE_VALUE], "a had 2 values"),
    (load(serials={"a": ["A2"], "b": ["B"]}), [ONE_VALUE], "a had 2 values"),
    (load(wrong=1), [ONE_VALUE], "worker 2 got the value of another key once"),
    (dataclasses.replace(good(), loads=LOADS[:1]), [ONE_CREATION, ONE_VALUE], "1 of 2 workers reporting"),
    (dataclasses.replace(good(), loads=[]), [ONE_CREATION, ONE_VALUE], "no key was requested"),
    (
        kill(begun=[Moment(11, 50 * MS), Moment(13, 100 * MS + TAKE_OVER_WITHIN)]),
        [REPLACED],
        "pid 11 was replaced after 100.0 ms",
    ),
    (
        kill(begun=[Moment(11, 50 * MS), Moment(13, 98 * MS)]),
        [REPLACED],
        "a second creator began 2.0 ms before pid 11 was killed",
    ),
    (kill(begun=[Moment(11, 50 * MS)]), [REPLACED, STILL_ONE], "no process took over from pid 11"),
    (kill(begun=[*KILL.begun, Moment(12, 113 * MS)]), [STILL_ONE], "3 creations began at the death of pid 11, not 2"),
    (kill(ended=[*KILL.ended, Moment(12, 160 * MS, "S")]), [STILL_ONE], "2 creations ended"),
    (kill(ended=[Moment(11, 99 * MS, "S")]), [STILL_ONE], "1 creations ended at the death of pid 11, not 1 of another"),
    (kill(answers=[KILL.answers[0], Moment(13, 150 * MS, "T")]), [STILL_ONE], "different values"),
    (kill(answers=[Moment(12, 1, "T"), Moment(13, 1, "T")]), [STILL_ONE], "different values"),
    (kill(answers=KILL.answers[:1]), [STILL_ONE], "no value for pid 13 after the death of pid 11"),
    (kill(asked=[], answers=[]), [STILL_ONE], "no value for any process"),
    (dataclasses.replace(good(), kills_planned=2), [REPLACED, STILL_ONE], "1 of 2 kills seen through"),
    (call(watches=[Watch(11, 2000, None)]), [REACHED], "pid 11 never saw that pid 12 had invalidated"),
    (call(watches=[Watch(11, 3001, 5000)]), [REACHED], "pid 11 got the old value 0.00 µs after pid 12"),
    (call(watches=[]), [REACHED], "no process watched pid 12"),
    (dataclasses.replace(good(), invalidations=[]), [REACHED], "none of 1 invalidations seen through"),
    (dataclasses.replace(good(), failures=["worker 2 fell"]), [NOTHING_LEFT], "worker 2 fell"),
    (dataclasses.replace(good(), leftovers=["/dev/shm/x"]), [NOTHING_LEFT], "/dev/shm/x is left"),
]


@pytest.mark.parametrize(("facts", "broken", "why"), BAD, ids=[why for _, _, why in BAD])
def test_bad_facts_are_found_out(facts: Facts, broken: list[int], why: str) -> None:
    judged = verdicts(facts)
    assert [i for i, verdict in enumerate(judged) if not verdict.held] == broken
    assert why in judged[broken[-1]].figures + judged[broken[0]].figures


def test_a_long_list_of_complaints_is_cut() -> None:
    (broken,) = [one for one in verdicts(load(serials={key: ["x"] for key in "cdefgh"})) if not one.held]
    assert broken.figures.endswith("; and 4 more")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(43, "0.04 µs"), (1850, "1.85 µs"), (28_540, "28.5 µs"), (1_285_000, "1,285 µs"), (22 * MS, "22.0 ms")],
)
def test_times_in_words(nanoseconds: int, text: str) -> None:
    assert in_us(nanoseconds) == text


@pytest.mark.parametrize(("size", "text"), [(2 << 20, "2 MiB"), (3 << 19, "1.5 MiB"), (10 << 30, "10,240 MiB")])
def test_sizes_have_no_exponent(size: int, text: str) -> None:
    assert commands._mib(size) == text


# -- commands for segments --------------------------------------------------------------------------------------


def test_ls_lists_the_segments(region: mpcache.CacheRegion) -> None:
    region.set("old", 1)
    listed = cli("ls")
    assert (listed.returncode, listed.stderr) == (0, "")
    head, row = listed.stdout.splitlines()
    assert head.split() == ["NAME", "SIZE", "ITEMS", "USED", "PROCESSES", "AGE"]
    assert re.fullmatch(r"pages +3 MiB +2 +0% +1 +\d+ s", row)


AGES = [(-3, "0 s"), (119, "119 s"), (121, "2 min"), (9000, "2 h"), (1e6, "12 d")]


@pytest.mark.parametrize(("seconds", "text"), AGES)
def test_ages(seconds: float, text: str) -> None:
    assert commands._age(seconds) == text


def test_to_look_into_a_namespace_is_not_to_make_it(region: mpcache.CacheRegion) -> None:
    asked = cli("keys", "pages", "--namespace", "typo")
    assert asked.returncode == 1
    assert asked.stderr == "mpcache: pages has no namespace 'typo'; it has ''\n"
    assert json.loads(cli("stats", "pages", "--json").stdout)["namespaces"] == 1


def test_ls_of_nothing_is_nothing(shm: Path) -> None:
    listed = cli("ls")
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "")


def test_stats_are_those_of_the_segment(region: mpcache.CacheRegion) -> None:
    for key in ("news", "news", "news", "none"):
        region.get(key)
    told = json.loads(cli("stats", "pages", "--json").stdout)
    assert (told["items"], told["hits"], told["misses"], told["sets"], told["processes"]) == (1, 3, 1, 1, 1)
    table = dict(re.findall(r"^(\w[\w ]*?)  +(\S+)$", cli("stats", "pages").stdout, re.M))
    assert (table["hit ratio"], table["items"], table["size"]) == ("75.0%", "1", f"{3 << 20:,}")


def test_check_of_a_sound_segment(region: mpcache.CacheRegion) -> None:
    checked = cli("check", "pages")
    assert (checked.returncode, checked.stdout) == (0, "pages: sound, 1 items in 1 shards\n")


def _scribble(path: Path, over: bytes, what: bytes) -> None:
    """Write into the segment as another program could."""
    with path.open("r+b") as file:
        at = file.read().index(over)
        file.seek(at)
        file.write(what)


def test_check_names_what_is_broken(region: mpcache.CacheRegion) -> None:
    _scribble(Path(segment.path_of("pages")), b"news", b"NEWS")
    checked = cli("check", "pages")
    assert (checked.returncode, checked.stdout) == (1, "")
    damage = r"mpcache: pages: .*shard 0, small ring: the key of the record at \d+ does not have its hash.*\n"
    assert re.fullmatch(damage, checked.stderr)


@pytest.fixture
def damaged(region: mpcache.CacheRegion) -> Path:
    """Make a file beside the sound segment that no process would attach."""
    path = Path(segment.path_of("damaged"))
    path.write_bytes(b"\x00" * 4096 + b"not a segment")
    path.chmod(0o600)
    return path


def test_a_damaged_segment_is_named_and_does_not_hide_the_others(damaged: Path) -> None:
    listed = cli("ls")
    assert listed.returncode == 1
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAME", "pages"]
    assert re.fullmatch(rf"mpcache: {damaged}: .*remove it with 'mpcache rm damaged'.*\n", listed.stderr)
    assert cli("check", "damaged").returncode == 1


def test_rm_removes_whatever_it_is(damaged: Path) -> None:
    removed = cli("rm", "damaged", "pages")
    assert (removed.returncode, removed.stdout) == (0, "removed damaged\nremoved pages\n")
    assert segment.names() == []


def test_rm_goes_on_and_says_what_was_not_there(region: mpcache.CacheRegion) -> None:
    (Path(segment.directory()) / "folder").mkdir()
    removed = cli("rm", "nothing", "folder", "pages")
    assert (removed.returncode, removed.stdout) == (1, "removed pages\n")
    missing, folder = removed.stderr.splitlines()
    assert missing.startswith("mpcache: there is no segment 'nothing' in ")
    assert folder.startswith("mpcache: 'folder' is not removed: ")


def holder_of(name: str) -> subprocess.Popen[str]:
    """Start another process, which holds a key of that segment."""
    code = (
        "import mpcache, sys; mutex = mpcache.shared(sys.argv[1], size='3MB').actual_backend.get_mutex('k')\n"
        "mutex.acquire(); print('held', flush=True); sys.stdin.readline()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_rm_does_not_end_an_exclusion_unasked(region: mpcache.CacheRegion) -> None:
    holder = holder_of("pages")
    try:
        refused = cli("rm", "pages")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert re.search(r"^mpcache: pages: 1 key is held by living processes; .* add --force$", refused.stderr)
        assert region.get("news") == {"title": "all quiet"}
        assert _answered(b"n\n") == (130, True)
        assert region.get("news") == {"title": "all quiet"}
        assert _answered(b"y\n") == (0, True)
        assert region.get("news") is mpcache.NO_VALUE
        assert cli("rm", "--force", "pages").returncode == 0
    finally:
        holder.communicate("\n", timeout=PATIENCE)


def _answered(answer: bytes) -> tuple[int, bool]:
    """Return the status of rm at a terminal where ``answer`` is typed, and whether it asked."""
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(command("rm", "pages"), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer)
    said = _read_all(ours)
    return asked.wait(PATIENCE), b"Remove it? [y/N]" in said


def test_rm_of_what_a_dead_process_held_does_not_ask(region: mpcache.CacheRegion) -> None:
    holder = holder_of("pages")
    holder.kill()
    holder.communicate()
    assert cli("rm", "pages").returncode == 0


def test_rm_makes_another_size(region: mpcache.CacheRegion) -> None:
    replaced = cli("rm", "--size", "5MB", "pages")
    assert (replaced.returncode, replaced.stdout) == (0, "replaced pages: 5 MiB\n")
    with pytest.warns(UserWarning, match="was asked for with"):
        assert region.get("news") is mpcache.NO_VALUE
    assert region.actual_backend.segment.size == 5 << 20
    too_small = cli("rm", "--size", "1KB", "pages")
    assert (too_small.returncode, "smallest segment" in too_small.stderr) == (1, True)
    assert region.actual_backend.segment.size == 5 << 20
    assert not region.actual_backend.segment.engine.retired
    assert cli("rm", "--size", "lots", "pages").returncode == 2
    assert cli("rm", "--size", "5MB").returncode == 2


def test_ls_names_other_users(region: mpcache.CacheRegion, shm: Path) -> None:
    (shm / "mpcache-4711").mkdir()
    (shm / "mpcache-1x").mkdir()
    listed = cli("ls")
    assert listed.stderr == "mpcache: others have: 4711\n"
    region.actual_backend.unlink()
    listed = cli("ls")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert listed.stderr.endswith(" has no segments here; others have: 4711\n")


def test_rm_removes_what_mutexes_have_left(region: mpcache.CacheRegion) -> None:
    locks = Path(segment.directory()) / ".locks"
    with SemaphoreMutex("key"):
        pass
    (locks / f"{7:032x}.lock").touch()
    with FileMutex("held"):
        assert cli("ls").stdout.count("\n") == 2
        removed = cli("rm", "--locks")
        assert (removed.returncode, removed.stderr) == (0, "")
        assert removed.stdout.startswith("removed 1 lock files")
        assert len(list(locks.iterdir())) == 1
    assert list(locks.iterdir()) == []
    with SemaphoreMutex("key"):
        in_use = cli("rm", "pages", "--locks")
    assert (in_use.returncode, in_use.stdout.splitlines()[-1]) == (1, "removed pages")
    assert "mpcache: the semaphore mutex is in use" in in_use.stderr
    assert cli("rm", "--locks").returncode == 0


def test_who_uses_a_removed_segment_goes_on_in_a_new_one(region: mpcache.CacheRegion) -> None:
    assert cli("rm", "pages").returncode == 0
    assert region.get("news") is mpcache.NO_VALUE
    region.set("news", "anew")
    assert cli("get", "pages", "news").stdout == "'anew'\n"


def test_keys_are_printed_such_that_a_terminal_survives_them(region: mpcache.CacheRegion) -> None:
    for key in ("ünïcode", "a\x1b[2J", b"\xff", "two\nlines"):
        region.set(key, 1)
    assert set(cli("keys", "pages").stdout.splitlines()) == {
        "news",
        "ünïcode",
        r"'a\x1b[2J'",
        r"b'\xff'",
        r"'two\nlines'",
    }


def test_namespaces_are_kept_apart(region: mpcache.CacheRegion) -> None:
    mpcache.shared("pages", size=SMALL, namespace="shop").set("cart", [1])
    assert cli("keys", "pages").stdout == "news\n"
    assert cli("keys", "pages", "--namespace", "shop").stdout == "cart\n"
    assert cli("get", "pages", "cart", "--namespace", "shop").stdout == "[1]\n"
    absent = cli("get", "pages", "news", "--namespace", "shop")
    assert (absent.returncode, absent.stderr) == (1, "mpcache: pages has no key 'news' in namespace 'shop'\n")


def test_get_prints_the_value(region: mpcache.CacheRegion) -> None:
    assert cli("get", "pages", "news").stdout == "{'title': 'all quiet'}\n"
    raw = subprocess.run(command("get", "--raw", "pages", "news"), capture_output=True, check=True)
    assert pickle.loads(raw.stdout) == {"title": "all quiet"}


def test_get_knows_what_was_invalidated(region: mpcache.CacheRegion) -> None:
    region.invalidate()
    found = cli("get", "pages", "news")
    assert (found.returncode, found.stderr) == (1, "mpcache: pages has no key 'news'\n")


class OfThisTest:
    """A class that the command cannot import."""


def test_get_says_what_it_cannot_unpickle(region: mpcache.CacheRegion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OfThisTest, "__module__", "module_of_the_program")
    monkeypatch.setitem(sys.modules, "module_of_the_program", sys.modules[__name__])
    region.set("thing", OfThisTest())
    found = cli("get", "pages", "thing")
    assert found.returncode == 1
    assert re.fullmatch(r"mpcache: pages: .*ModuleNotFoundError: .*print its bytes with --raw\n", found.stderr)


def test_nothing_is_unpickled_that_others_may_have_written(shm: Path) -> None:
    mpcache.shared("team", size=SMALL, mode=0o660).set("news", 1)
    assert cli("keys", "team").stdout == "news\n"
    found = cli("get", "team", "news")
    assert (found.returncode, found.stdout) == (1, "")
    assert "other users may write to it" in found.stderr


@pytest.mark.parametrize("look", ["stats", "check", "keys"])
def test_what_is_not_there_cannot_be_looked_into(shm: Path, look: str) -> None:
    looked = cli(look, "nothing")
    assert (looked.returncode, looked.stdout) == (1, "")
    assert re.fullmatch(r"mpcache: there is no segment 'nothing' in .*; 'mpcache ls' lists .*\n", looked.stderr)


@pytest.mark.parametrize("wrong", [["rm"], ["rm", "a/b"], ["stats", ".."], ["check"], ["dance"], ["ls", "--dance"]])
def test_wrong_usage_has_a_status_of_its_own(shm: Path, wrong: list[str]) -> None:
    said = cli(*wrong)
    assert (said.returncode, said.stdout) == (2, "")
    assert "Usage: mpcache" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_reader_may_have_enough(region: mpcache.CacheRegion) -> None:
    for number in range(5000):
        region.set(f"a key that fills pipes {number:>40}", 1)
    reading = subprocess.Popen(command("keys", "pages"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reading.stdout is not None
    reading.stdout.readline()
    reading.stdout.close()
    assert reading.stderr is not None
    assert reading.stderr.read() == ""
    assert reading.wait(PATIENCE) == 1


# -- the command itself -----------------------------------------------------------------------------------------


def test_version() -> None:
    assert cli("--version").stdout == f"mpcache {mpcache.__version__}\n"


def _python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_without_click_it_says_how_to_get_it() -> None:
    told = _python("import sys; sys.modules['click'] = None; import mpcache.cli as c; sys.exit(c.main(['ls']))")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == (
        "mpcache: the command needs click; pip install 'mpcache[cli]', or from a checkout: pip install '.[cli]'\n"
    )


def test_the_package_does_not_load_its_command() -> None:
    assert _python("import mpcache, sys; sys.exit('mpcache.cli' in sys.modules)").returncode == 0


class Terminal:
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


def test_colours_need_a_terminal_and_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(_console.open_console()) is _console.Console  # pytest's output is not a terminal
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert type(_console.open_console()) is _console.ColourConsole
    assert type(_console.open_console(plain=True)) is _console.Console
    monkeypatch.setenv("TERM", "dumb")
    assert type(_console.open_console()) is _console.Console
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("TERM", "xterm")
    assert type(_console.open_console()) is _console.Console


def test_a_terminal_without_the_signs_gets_letters(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+", encoding="ascii") as out:
        _console.Console(out).line((" ✓ ", "green"), "5 µs · ✗ ü")
        out.seek(0)
        assert out.read() == " ok 5 us . NO ?\n"


# -- the doctor ---------------------------------------------------------------------------------------------------


def test_the_doctor_finds_this_machine_fit(region: mpcache.CacheRegion, shm: Path) -> None:
    told = cli("doctor")
    assert told.returncode == 0, told.stdout
    assert "✗" not in told.stdout
    assert "segments of yours that can be used: 1" in told.stdout
    assert "a segment was made, used, checked and removed in " in told.stdout
    assert segment.names() == ["pages"]


def test_the_doctor_leaves_nothing(shm: Path) -> None:
    assert cli("doctor").returncode == 0
    assert os.listdir(shm) == []


def test_the_doctor_finds_that_there_is_no_shared_memory(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCACHE_SHM", str(shm / "nowhere"))
    told = cli("doctor")
    assert (told.returncode, told.stderr) == (1, "")
    assert f"✗ {shm}/nowhere does not exist\n   mount -t tmpfs" in told.stdout
    assert "✗ no segment could be made and used: " in told.stdout


def test_the_doctor_names_segments_that_are_damaged(damaged: Path) -> None:
    told = cli("doctor")
    assert told.returncode == 0
    assert re.search(rf"^ ! {damaged}: .*\n   remove it with 'mpcache rm damaged'", told.stdout, re.M)


def test_the_doctor_knows_what_a_mount_means(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\ntmpfs /a tmpfs rw,nosuid 0 0\ntmpfs /a/b tmpfs ro 0 0\n/dev/sda /c tmpfs rw 0 0\n"
        "/dev/sdb /c xfs rw 0 0\n"
    )
    levels = {folder: doctor.mounted(folder, str(mounts)).level for folder in ("/", "/a", "/a/b", "/a/bc", "/c")}
    assert levels == {
        "/": doctor.DOUBTFUL,
        "/a": doctor.GOOD,
        "/a/b": doctor.BAD,
        "/a/bc": doctor.GOOD,
        "/c": doctor.DOUBTFUL,
    }
    assert doctor.mounted("/a", str(tmp_path / "none")).level is doctor.DOUBTFUL


def test_the_doctor_tells_of_pages() -> None:
    told = cli("doctor").stdout
    assert ("segments get pages of 2 MiB" in told) == segment.gives_large_pages()
    assert doctor.pages(True).level is doctor.GOOD
    assert (doctor.pages(False).level, "Linux 6.1" in doctor.pages(False).remedy) == (doctor.DOUBTFUL, True)


def test_the_doctor_wants_a_directory_for_one_user(tmp_path: Path) -> None:
    own, file, missing = tmp_path / "own", tmp_path / "file", tmp_path / "missing"
    own.mkdir(mode=0o700)
    file.touch()
    me = os.geteuid()
    assert doctor.own_directory(str(own), me).level is doctor.GOOD
    assert doctor.own_directory(str(missing), me).level is doctor.GOOD
    assert "owned by uid" in doctor.own_directory(str(own), me + 1).what
    assert doctor.own_directory(str(own), me + 1).level is doctor.BAD
    assert doctor.own_directory(str(file), me).remedy == "remove it"
    own.chmod(0o770)
    assert "chmod 700" in doctor.own_directory(str(own), me).remedy


def test_the_doctor_knows_when_logging_out_removes_segments(tmp_path: Path) -> None:
    def level(user: int = 1000) -> doctor.Level:
        return doctor.logout(user, "ann", str(tmp_path)).level

    assert level() is doctor.GOOD  # no logind
    (tmp_path / "run/systemd/seats").mkdir(parents=True)
    assert level() is doctor.DOUBTFUL  # its default
    assert level(user=999) is doctor.GOOD
    drop_in = tmp_path / "etc/systemd/logind.conf.d"
    drop_in.mkdir(parents=True)
    (tmp_path / "etc/systemd/logind.conf").write_text("[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n")
    assert level() is doctor.GOOD
    (drop_in / "10-ours.conf").write_text("[Login]\nRemoveIPC = yes\n")
    assert level() is doctor.DOUBTFUL
    linger = tmp_path / "var/lib/systemd/linger"
    linger.mkdir(parents=True)
    (linger / "ann").touch()
    assert level() is doctor.GOOD


def test_the_doctor_counts_descriptors_and_knows_the_system() -> None:
    assert doctor.descriptors(256).level is doctor.DOUBTFUL
    assert doctor.descriptors(1024).level is doctor.GOOD
    assert doctor.descriptors(-1) == doctor.Finding(doctor.GOOD, "descriptors without limit")
    assert doctor.system("Linux", "CPython", "3.12.1").level is doctor.GOOD
    assert doctor.system("Darwin", "CPython", "3.12.1").level is doctor.BAD


def test_the_doctor_knows_that_the_default_takes_all_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_size(blocks: int, **more: int) -> os.statvfs_result:
        fields = {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": blocks, "f_bfree": blocks, "f_bavail": blocks}
        fields |= {"f_files": 1000, "f_ffree": 1000, "f_favail": 1000, "f_flag": 0, "f_namemax": 255} | more
        return os.statvfs_result([*fields.values(), 0])

    monkeypatch.setattr(os, "statvfs", lambda path: of_size(16384))  # Docker's 64 MiB
    assert doctor.space("/").level is doctor.DOUBTFUL
    assert "64 MiB, takes most of / (64 MiB)" in doctor.space("/").what
    monkeypatch.setattr(os, "statvfs", lambda path: of_size(1 << 20))
    assert doctor.space("/").level is doctor.GOOD
    assert doctor.inodes("/").level is doctor.GOOD
    monkeypatch.setattr(os, "statvfs", lambda path: of_size(1 << 20, f_favail=1))
    assert "nr_inodes" in doctor.inodes("/").remedy
    monkeypatch.setattr(os, "statvfs", lambda path: of_size(1 << 20, f_flag=os.ST_RDONLY))
    assert "remount,rw" in doctor.memory_file_system("/").remedy
    monkeypatch.setattr(os, "statvfs", lambda path: of_size(0))
    assert "without a size limit" in doctor.memory_file_system("/").what


def test_the_doctor_misses_proc_and_refuses_a_relative_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.proc().level is doctor.GOOD
    assert doctor.proc("/nowhere").remedy == "mount -t proc proc /proc"
    monkeypatch.setenv("MPCACHE_SHM", "here")
    told = cli("doctor")
    assert told.returncode == 1
    assert "MPCACHE_SHM='here' is a relative path" in told.stdout


def test_the_doctor_sees_that_there_is_no_room(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left(bytes_: int) -> doctor.Finding:
        there = os.statvfs_result((4096, 4096, bytes_ // 4096, bytes_ // 4096, bytes_ // 4096, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda folder: there)
        return doctor.space(str(shm))

    assert left(1 << 20).level is doctor.BAD
    assert left(8 << 20).level is doctor.DOUBTFUL
    assert "--shm-size" in left(8 << 20).remedy
    assert left(1 << 30).level is doctor.GOOD
