"""The dbm store: the suites for authors, its neighbours, killed writers, and files that are not what they should be."""

from __future__ import annotations

import dbm
import dbm.dumb
import json
import os
import random
import shutil
import signal
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mpcache
from mpcache.api import NO_VALUE
from mpcache.backends import dbm as room
from mpcache.backends.file import AbstractFileLock, DBMBackend, FileLock
from mpcache.exception import ValidationError
from mpcache.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite, _GenericSerializerTestSuite
from mpcache.util import ReadWriteMutex
from tests.conftest import Clock
from tests.mutexes.local import Board, in_a_small_file_system
from tests.processes.support import PATIENCE, Child, Sign, prove, proven, wait_until

theirs = pytest.importorskip("dogpile.cache.backends.file")
their_region = pytest.importorskip("dogpile.cache").make_region

# The suites pass arguments that no store knows.
pytestmark = pytest.mark.filterwarnings("ignore:mpcache.dbm takes no argument 'arbitrary_arg_")


class Brittle:
    """Stands for gnu and ndbm, which most Pythons are built without: one file, rewritten piece by piece.

    A writer that is killed leaves half a file, and a process that opens it notices that, or does not.
    """

    magic = struct.pack("=l", 0x13579ACE)

    def __init__(self, filename: str, flag: str, mode: int = 0o666) -> None:
        self._path, self._values, self._writes = filename, {}, flag != "r"
        if flag != "c" or (os.path.exists(filename) and os.path.getsize(filename)):
            with open(filename, "rb") as file:
                assert file.read(4) == self.magic
                text = file.read()
            try:
                self._values = {bytes.fromhex(k): bytes.fromhex(v) for k, v in json.loads(text or b"{}").items()}
            except ValueError as error:
                raise OSError(None, f"malformed: {error}") from error
        else:
            self._write()

    def _write(self) -> None:
        text = json.dumps({key.hex(): value.hex() for key, value in self._values.items()}).encode()
        with open(self._path, "wb", 0) as file:
            file.write(self.magic)
            for start in range(0, len(text), 97):
                file.write(text[start : start + 97])

    def __getitem__(self, key: bytes) -> bytes:
        return self._values[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._values[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def __enter__(self) -> Brittle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._writes:
            self._write()


KINDS = ["dbm.sqlite3", "dbm.gnu", "dbm.ndbm", "dbm.dumb"]
HERE = [name for name in KINDS if room.module(name) is not None]


@pytest.fixture(params=[*HERE, "brittle"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """New files are of this module.  ``brittle`` stands in for dbm.gnu, whose file format it borrows the magic of."""
    name = str(request.param)
    if name == "brittle":
        real = room.module
        stand_in = SimpleNamespace(open=Brittle)
        monkeypatch.setattr(room, "module", lambda name: stand_in if name == "dbm.gnu" else real(name))
        name = "dbm.gnu"
    monkeypatch.setattr(room, "MODULES", (name,))
    return name


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A directory that is not there yet."""
    return str(tmp_path / "small")


@pytest.fixture
def filename(tmp_path: Path) -> str:
    return str(tmp_path / "values.dbm")


@pytest.fixture
def dumb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MODULES", ("dbm.dumb",))


def store(filename: str, **more: Any) -> DBMBackend:
    return DBMBackend({"filename": filename, **more})


def region(filename: str, **how: Any) -> mpcache.CacheRegion:
    return mpcache.make_region().configure("mpcache.dbm", arguments={"filename": filename}, **how)


# -- the suites ------------------------------------------------------------------------------------------


class TestDbm(_GenericBackendTestSuite, _GenericMutexTestSuite):
    backend = "mpcache.dbm"

    @classmethod
    def setup_class(cls) -> None:
        cls.folder = tempfile.mkdtemp()
        cls.config_args = {"arguments": {"filename": f"{cls.folder}/values.dbm"}}
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        shutil.rmtree(cls.folder)


class TestDbmSerialized(_GenericSerializerTestSuite, TestDbm):
    pass


def test_both_names_lead_to_it(filename: str) -> None:
    for name in "mpcache.dbm", "dogpile.cache.dbm":
        assert type(mpcache.make_region().configure(name, arguments={"filename": filename}).backend) is DBMBackend


# -- arguments -------------------------------------------------------------------------------------------


def test_a_filename_is_needed() -> None:
    with pytest.raises(ValidationError, match="needs the argument 'filename'"):
        DBMBackend({})


def test_an_unknown_argument_is_said_with_its_nearest(filename: str) -> None:
    with pytest.warns(UserWarning, match=r"ignores .* 'rw_lock_file' \(did you mean 'rw_lockfile'\?\)"):
        store(filename, rw_lock_file="x")


def test_the_locks_lie_beside_the_file(filename: str) -> None:
    one = store(filename)
    with one.get_mutex("key"):  # type: ignore[union-attr]
        assert len(os.listdir(f"{filename}.dogpile.locks")) == 1
    assert os.listdir(f"{filename}.dogpile.locks") == []
    assert os.path.exists(f"{filename}.rw.lock")


def test_the_locks_lie_where_they_are_told_to(filename: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    one = store(filename, rw_lockfile=str(other / "rw"), dogpile_lockfile=str(other / "creators"))
    with one.get_mutex("key"):  # type: ignore[union-attr]
        assert sorted(path.name for path in other.iterdir()) == ["creatorss", "rw"]
    assert not [name for name in os.listdir(tmp_path) if "lock" in name]


def test_no_locks_at_all(filename: str, kind: str) -> None:
    one = store(filename, rw_lockfile=False, dogpile_lockfile=False)
    one.set_serialized("key", b"value")
    assert one.get_serialized("key") == b"value"
    assert one.get_mutex("key") is None
    assert not [name for name in os.listdir(os.path.dirname(filename)) if "lock" in name or "writing" in name]


def test_a_lock_of_the_users_own(filename: str) -> None:
    """As dogpile.cache's documentation shows it: the base class is theirs by name, and its __init__ is not called."""
    log: list[str] = []

    class MutexLock(AbstractFileLock):
        def __init__(self, filename: str) -> None:
            self.mutex = ReadWriteMutex()
            log.append(filename)

        def acquire_read_lock(self, wait: bool) -> bool:
            log.append("read")
            got = self.mutex.acquire_read_lock(wait)
            return wait or bool(got)

        def acquire_write_lock(self, wait: bool) -> bool:
            log.append("write")
            got = self.mutex.acquire_write_lock(wait)
            return wait or bool(got)

        def release_read_lock(self) -> None:
            self.mutex.release_read_lock()

        def release_write_lock(self) -> None:
            self.mutex.release_write_lock()

    one = store(filename, lock_factory=MutexLock)
    one.set_serialized("key", b"value")
    assert one.get_serialized("key") == b"value"
    assert log == [f"{filename}.rw.lock", "write", "write", "read"]
    assert not os.path.exists(f"{filename}.rw.lock")
    lock = MutexLock("x")
    assert lock.acquire(False)
    assert not lock.acquire(False)
    lock.release()
    with lock.read(), pytest.raises(NotImplementedError):
        lock.is_open


def test_the_module_is_said(filename: str, kind: str) -> None:
    one = store(filename)
    one.set_serialized("key", b"value")
    assert repr(one) == f"<DBMBackend {filename!r} {kind}>"
    stats = one.stats()
    assert (stats["module"], stats["items"]) == (kind, 1)
    assert stats["bytes"] > 0


# -- locks -----------------------------------------------------------------------------------------------


def test_readers_and_writers(filename: str) -> None:
    def ask(what: str) -> bool:
        lock = FileLock(filename)
        return Child(lambda: os._exit(bool(getattr(lock, what)(False)))).wait() == 1

    lock = FileLock(filename)
    assert not lock.is_open
    with lock.read():
        assert lock.is_open
        assert (ask("acquire_read_lock"), ask("acquire_write_lock")) == (True, False)
    with lock.write():
        assert (ask("acquire_read_lock"), ask("acquire_write_lock"), ask("acquire")) == (False, False, False)
        assert Child(lambda: os._exit(lock.is_open)).wait() == 0
        their = theirs.FileLock(filename)
        assert not their.acquire_read_lock(False)
    assert ask("acquire")
    lock.release()  # of what it does not hold


def test_a_child_does_not_keep_a_dead_writers_lock(filename: str, board: Board) -> None:
    def write_and_fork() -> None:
        FileLock(filename).acquire()
        lock = FileLock(filename + "2")
        lock.acquire()
        Child(lambda: board.wait_for(1))
        board[0] = 1
        signal.pause()

    writer = Child(write_and_fork)
    board.wait_for(0)
    assert not FileLock(filename + "2").acquire(False)
    writer.end()
    reader = FileLock(filename + "2")
    assert reader.acquire_read_lock(True)
    reader.release_read_lock()
    board[1] = 1


def test_each_key_has_its_own_creator(filename: str, board: Board) -> None:
    def create() -> None:
        def creator() -> str:
            board[0] = 1
            board.wait_for(1)
            return "one"

        region(filename).get_or_create("one", creator)

    child = Child(create)
    try:
        board.wait_for(0)
        mine = region(filename)
        assert mine.key_is_locked("one")
        assert mine.get_or_create("two", lambda: "two") == "two"
        board[1] = 1
        assert mine.get_or_create("one", lambda: pytest.fail("the other one makes it")) == "one"
    finally:
        board[1] = 1
        assert child.wait() == 0


def test_a_background_creation_lets_go(filename: str) -> None:
    done = threading.Event()

    def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
        def work() -> None:
            try:
                region.set(key, creator())
            finally:
                mutex.release()
                done.set()

        threading.Thread(target=work).start()

    background = mpcache.make_region(async_creation_runner=runner)
    background.configure("mpcache.dbm", arguments={"filename": filename}, expiration_time=100)
    background.set("key", "old")
    background.invalidate(hard=False)
    assert background.get_or_create("key", lambda: "new") == "old"
    assert done.wait(PATIENCE)
    assert background.get("key") == "new"
    assert not background.key_is_locked("key")


# -- neighbours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_dogpile_cache_reads_and_writes_the_same_file(filename: str, first: str) -> None:
    def mine() -> mpcache.CacheRegion:
        return region(filename, expiration_time=100)

    def their() -> Any:
        return their_region().configure("dogpile.cache.dbm", expiration_time=100, arguments={"filename": filename})

    made = [make() for make in ((mine, their) if first == "ours" else (their, mine))]
    values = {f"schlüssel {number} '\"\\": {"n": [number] * number} for number in range(40)}
    for _ in range(3):
        for writer, reader in (made, made[::-1]):
            writer.set_multi(values)
            assert reader.get_multi(list(values)) == list(values.values())
            for key in list(values)[::3]:
                writer.set(key, key * 50)
                assert reader.get(key) == key * 50
            writer.delete_multi(list(values)[:5])
            assert [not found for found in reader.get_multi(list(values))] == [True] * 5 + [False] * 35
    ours, theirs_ = made if first == "ours" else made[::-1]
    ours.invalidate()
    ours.set("after", 1)  # carries an epoch from here on
    assert theirs_.get("after") == 1
    theirs_.set("from there", 2)
    assert ours.get_or_create("from there", lambda: 3) == 3  # it cannot say when it was begun
    assert theirs_.get("from there") == 3


def test_the_bytes_are_theirs(filename: str) -> None:
    region(filename).set("key", [1])
    with dbm.open(filename, "r") as file:
        metadata, _, payload = file[b"key"].partition(b"|")
    assert json.loads(metadata).keys() == {"ct", "v"}
    assert mpcache.make_region().configure("mpcache.memory_pickle").deserializer(payload) == [1]


# -- time ------------------------------------------------------------------------------------------------


def test_a_time_to_live_ends(filename: str, clock: Clock) -> None:
    here = region(filename)
    here.set("short", 1, ttl=10)
    here.set("long", 2)
    clock.forward(11)
    assert (here.get("short"), here.get("long")) == (NO_VALUE, 2)


def test_invalidation_reaches_every_process(filename: str) -> None:
    here = region(filename, expiration_time=100)
    here.set_multi({"a": 1, "b": 2})
    assert Child(lambda: region(filename, expiration_time=100).invalidate()).wait() == 0
    assert here.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
    here.set("a", 3)
    assert Child(lambda: os._exit(region(filename).get("a") != 3)).wait() == 0
    assert Child(lambda: region(filename, expiration_time=100).invalidate(hard=False)).wait() == 0
    assert here.get("a") is NO_VALUE
    assert here.get("a", ignore_expiration=True) == 3
    assert here.get_or_create("a", lambda: 4) == 4
    assert here.get("a") == 4


def test_what_was_begun_before_an_invalidation_is_hidden_by_it(filename: str) -> None:
    here, elsewhere = region(filename), region(filename)

    def creator() -> str:
        elsewhere.invalidate()
        return "of old data"

    assert here.get_or_create("key", creator) == "of old data"
    assert elsewhere.get("key") is NO_VALUE
    assert here.get_or_create("key", lambda: "new") == "new"
    assert here.get_or_create_multi(["key", "more"], lambda *keys: [elsewhere.invalidate(), "x"][1:]) == ["new", "x"]
    assert here.get_multi(["key", "more"]) == [NO_VALUE, NO_VALUE]


@pytest.mark.parametrize("damage", ["unlink", "garbage"])
def test_epochs_that_vanish_hide_everything(filename: str, damage: str) -> None:
    here = region(filename)
    here.invalidate()
    here.set("key", 1)
    assert here.get("key") == 1
    if damage == "unlink":
        os.unlink(f"{filename}.epochs")
    else:
        Path(f"{filename}.epochs").write_bytes(os.urandom(20))
    assert here.get("key") is NO_VALUE
    here.set("key", 2)
    assert (here.get("key"), region(filename).get("key")) == (2, 2)


# -- fills ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, "stale"])
@pytest.mark.parametrize("mutex", [None, "file"])
def test_a_change_while_it_is_created_refuses_the_fill(filename: str, before: Any, mutex: Any) -> None:
    here, elsewhere = region(filename, expiration_time=-0.5, mutex=mutex), region(filename)
    for change, then in (
        (lambda: elsewhere.set("key", "newer"), "newer"),
        (lambda: elsewhere.delete("key"), NO_VALUE),
        (lambda: elsewhere.set_multi({"key": "newer", "other": 1}), "newer"),
        (lambda: elsewhere.delete_multi(["other", "key"]), NO_VALUE),
        (lambda: here.set("key", "newer"), "newer"),
        (lambda: elsewhere.set("other", "newer"), "made"),
        (lambda: elsewhere.delete("other"), "made"),
    ):
        here.delete("key")
        if before is not None:
            here.set("key", before)
        assert here.get_or_create("key", lambda: [change(), "made"][1]) == "made"  # noqa: B023
        assert elsewhere.get("key") == then
        assert not here.key_is_locked("key")


def test_of_many_only_that_one_is_refused(filename: str) -> None:
    here = region(filename)
    made = here.get_or_create_multi(["a", "b", "c"], lambda *keys: [here.delete("b"), *keys][1:])
    assert made == ["a", "b", "c"]
    assert here.get_multi(["a", "b", "c"]) == ["a", NO_VALUE, "c"]


def test_a_change_by_another_process(filename: str) -> None:
    def creator() -> str:
        assert Child(lambda: region(filename).delete("key")).wait() == 0
        return "of old data"

    assert region(filename).get_or_create("key", creator) == "of old data"
    assert region(filename).get("key") is NO_VALUE


def test_what_a_killed_creator_left_is_in_nobodys_way(filename: str) -> None:
    def create() -> None:
        region(filename).get_or_create("key", lambda: os.kill(os.getpid(), signal.SIGKILL))

    assert Child(create).wait() == -signal.SIGKILL
    assert sorted(name[-5:] for name in os.listdir(f"{filename}.dogpile.locks")) == [".fill", ".lock"]
    here = region(filename)
    assert here.get_or_create("key", lambda: "new") == "new"
    assert here.get("key") == "new"
    assert os.listdir(f"{filename}.dogpile.locks") == []


def test_of_two_creators_the_later_one_stores(filename: str) -> None:
    """Where the mutex excludes no process, or the first creator took too long."""
    here = region(filename, mutex="null")

    def slow() -> str:
        assert here.get_or_create("key", lambda: "later") == "later"
        return "sooner"

    assert here.get_or_create("key", slow) == "sooner"
    assert here.get("key") == "later"


def test_a_child_that_was_forked_while_one_creates_does_not_store_it(filename: str) -> None:
    here = region(filename)
    guard: Any = here.actual_backend.begin_fill("key")  # type: ignore[attr-defined]

    def store_it() -> None:
        assert not guard.wanted
        guard.close()

    assert Child(store_it).wait() == 0
    assert guard.wanted
    guard.close()
    assert os.listdir(f"{filename}.dogpile.locks") == []


def test_a_change_that_its_creator_cannot_be_told_of_is_refused(filename: str) -> None:
    here = region(filename, mutex="null")

    def creator() -> str:
        (fill,) = Path(f"{filename}.dogpile.locks").iterdir()
        fill.unlink()
        fill.mkdir()  # stands for a directory of another user
        for change in (lambda: here.set("key", "newer"), lambda: here.delete("key")):
            with pytest.raises(OSError, match=f"cannot tell a creator that its key is being changed: .*{fill.name}"):
                change()
        fill.rmdir()
        return "made"

    here.set("key", "old")
    assert here.get_or_create("key", creator, expiration_time=-0.5) == "made"
    assert here.get("key") == "old"


@pytest.mark.parametrize("mutex", [None, "null"])
def test_a_directory_that_somebody_tidied_away_is_made_again(filename: str, mutex: Any) -> None:
    here = region(filename, mutex=mutex)
    for number in range(2):
        assert here.get_or_create(f"key {number}", lambda: "made") == "made"
        assert here.get(f"key {number}") == "made"
        os.rmdir(f"{filename}.dogpile.locks")


def test_without_lock_files_fills_go_by_epochs_alone(filename: str) -> None:
    here = mpcache.make_region().configure(
        "mpcache.dbm", arguments={"filename": filename, "dogpile_lockfile": False}, mutex="file"
    )
    assert here.get_or_create("key", lambda: [here.delete("key"), "made"][1]) == "made"
    assert here.get("key") == "made"
    assert not os.path.exists(f"{filename}.dogpile.locks")


# -- many at once ----------------------------------------------------------------------------------------


def test_eight_processes_make_the_file_at_once(filename: str, kind: str, board: Board) -> None:
    def work(number: int) -> None:
        board.wait_for(0)
        for _ in range(3):
            store(filename).set_serialized(str(number), b"%d" % number)

    for _ in range(3):
        board[0] = 0
        children = [Child(lambda n=number: work(n)) for number in range(8)]
        board[0] = 1
        assert [child.wait() for child in children] == [0] * 8
        one = store(filename)
        assert one.get_serialized_multi([str(number) for number in range(8)]) == [b"%d" % n for n in range(8)]
        for path in Path(filename).parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_threads_and_a_fork_in_their_midst(filename: str, kind: str) -> None:
    one, failures = store(filename), []

    def work(writer: int) -> None:
        try:
            for sequence in range(12):
                key = str(sequence % 3)
                one.set_serialized(key, prove(key, Sign(writer, sequence), 100 + 400 * writer))
                found = one.get_serialized(key)
                if found is not NO_VALUE:
                    proven(key, found)
                if sequence % 4 == 0:
                    one.delete(key)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()

    def in_a_child(number: int) -> None:
        work(number)
        assert failures == []

    children = [Child(lambda n=number: in_a_child(n)) for number in range(4, 8)]
    for thread in threads:
        thread.join()
    assert [child.wait() for child in children] == [0] * 4
    assert failures == []


def test_a_pickled_region_finds_its_file(filename: str) -> None:
    import pickle

    here = region(filename)
    here.set("key", 1)
    assert pickle.loads(pickle.dumps(here)).get("key") == 1


# -- killed writers --------------------------------------------------------------------------------------


def test_writers_are_killed(filename: str, kind: str, board: Board, caplog: pytest.LogCaptureFixture) -> None:
    """Each value proves itself; and with the modules that can promise it, no value is lost that no process changed."""
    moments = random.Random(9)
    kept = {f"kept {number}": prove(f"kept {number}", Sign(99, number), 700) for number in range(20)}
    keys = [f"key {number}" for number in range(10)]
    one = store(filename)
    one.set_serialized_multi(kept)

    def write(writer: int) -> None:
        mine = store(filename)
        dice = random.Random(writer)
        for sequence in range(100_000):
            some = dice.sample(keys, 3)
            mine.set_serialized_multi({k: prove(k, Sign(writer, sequence), dice.choice((50, 500, 3000))) for k in some})
            mine.delete(dice.choice(keys))
            board[0] += 1

    lives = kind in ("dbm.dumb", "dbm.sqlite3")
    for writer in range(40):
        board[0] = 0
        child = Child(lambda: write(writer))  # noqa: B023
        wanted = moments.randrange(1, 6)
        wait_until(lambda: board[0] >= wanted, "writer")  # noqa: B023
        for _ in range(moments.randrange(2000)):
            pass
        child.kill()
        child.wait()
        for key, found in zip(keys, one.get_serialized_multi(keys), strict=True):
            if found is not NO_VALUE:
                proven(key, found)
        if lives:
            assert one.get_serialized_multi(list(kept)) == list(kept.values())
    replaced = [message for message in caplog.messages if "a new file replaces it" in message]
    print(f"replaced {len(replaced)} times")
    assert not (lives and replaced)
    one.set_serialized("key", b"value")
    assert store(filename).get_serialized("key") == b"value"


def test_a_marker_without_a_writer_ends_the_file(
    filename: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MODULES", ("dbm.gnu",))
    monkeypatch.setattr(room, "module", lambda name: SimpleNamespace(open=Brittle))
    one, other = store(filename), store(filename)
    one.set_serialized("key", b"value")
    assert not os.path.exists(f"{filename}.writing")
    Path(f"{filename}.writing").touch()
    assert one.get_serialized("key") is NO_VALUE
    assert other.get_serialized("key") is NO_VALUE
    (said,) = [message for message in caplog.messages if "a new file replaces it" in message]
    assert "a writer was killed while it wrote" in said
    other.set_serialized("key", b"again")
    assert one.get_serialized("key") == b"again"


def test_space_is_used_again(filename: str, dumb: None) -> None:
    one = store(filename)
    for number in range(300):
        one.set_serialized_multi({str(key): os.urandom(100 + 600 * ((number + key) % 4)) for key in range(8)})
    assert one.stats()["bytes"] < 60_000


def test_dumb_is_what_it_was(filename: str, dumb: None) -> None:
    """Python's own module and ours write in turn; a plain dict knows what must be there."""
    dice, truth, one = random.Random(3), {}, store(filename)
    for _ in range(150):
        key, value = f"k{dice.randrange(12)}é'\"", os.urandom(dice.choice((0, 1, 511, 512, 513, 2000)))
        if dice.random() < 0.2:
            truth.pop(key, None)
            one.delete(key)
        elif dice.random() < 0.5:
            truth[key] = value
            one.set_serialized(key, value)
        else:
            truth[key] = value
            with dbm.dumb.open(filename, "w") as file:
                file[key] = value
        with dbm.dumb.open(filename, "r") as file:
            assert {key.decode(): file[key] for key in file} == truth
        found = one.get_serialized_multi(list(truth))
        assert found == list(truth.values())


# -- files that are not what they should be -----------------------------------------------------------------


def test_a_torn_line_is_left_out(filename: str, dumb: None, caplog: pytest.LogCaptureFixture) -> None:
    one = store(filename)
    one.set_serialized_multi({"a": b"1", "b": b"2"})
    with open(f"{filename}.dir", "a") as file:
        file.write("'c', (10")
    assert one.get_serialized_multi(["a", "b", "c"]) == [b"1", b"2", NO_VALUE]
    one.set_serialized("c", b"3")
    assert one.get_serialized_multi(["a", "b", "c"]) == [b"1", b"2", b"3"]
    assert caplog.messages == []


@pytest.mark.parametrize(
    "line",
    ["'c', (10", "'c', (512, 1000000)", "'c', (-512, 1)", "'c', (7, 1)", "'c', 'd'", "'c'", "(((", "'\\x'", "''"],
)
def test_a_line_that_cannot_be_ends_the_file(
    filename: str, dumb: None, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = store(filename)
    one.set_serialized("a", b"1")
    with open(f"{filename}.dir", "a") as file:
        file.write(line + "\n")
    assert one.get_serialized("a") is NO_VALUE
    assert "is damaged, and a new file replaces it" in caplog.text
    one.set_serialized("a", b"2")
    assert one.get_serialized("a") == b"2"


def test_two_values_in_one_place_end_the_file(filename: str, dumb: None, caplog: pytest.LogCaptureFixture) -> None:
    one = store(filename)
    one.set_serialized_multi({"a": b"1" * 600, "b": b"2"})
    with open(f"{filename}.dir", "a") as file:
        file.write("'c', (512, 1)\n")
    one.set_serialized("d", b"4")
    assert "two values overlap at 512" in caplog.text
    assert one.get_serialized_multi(["a", "d"]) == [NO_VALUE, b"4"]


def test_a_directory_lost_by_their_writer_ends_the_file(
    filename: str, dumb: None, caplog: pytest.LogCaptureFixture
) -> None:
    one = store(filename)
    one.set_serialized("a", b"1")
    os.rename(f"{filename}.dir", f"{filename}.bak")  # Python's module does so before it writes the new one
    assert one.get_serialized("a") is NO_VALUE
    assert "killed while it replaced the directory" in caplog.text
    one.set_serialized("a", b"2")
    assert one.get_serialized("a") == b"2"


def test_values_cut_off_behind_our_back_end_the_file(
    filename: str, dumb: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The directory is known already, and has not changed."""
    one = store(filename)
    one.set_serialized("key", b"value")
    os.utime(filename + ".dir", (1, 1))  # old enough to be trusted
    assert one.get_serialized("key") == b"value"
    os.truncate(filename + ".dat", 3)
    assert one.get_serialized("key") is NO_VALUE
    assert "ends within a value" in caplog.text


def test_a_key_that_is_no_text(filename: str) -> None:
    with pytest.raises(TypeError, match="key 5 is of type int; a dbm file takes str or bytes"):
        store(filename).set_serialized(5, b"value")  # type: ignore[arg-type]


@pytest.mark.parametrize("locks", [None, False])
def test_a_key_that_is_no_text_leaves_its_neighbours_alone(filename: str, kind: str, locks: Any) -> None:
    ours = store(filename, dogpile_lockfile=locks)
    ours.set_serialized("b", b"old")
    keys: list[Any] = ["a", "b", 5, "c"]
    with pytest.raises(TypeError, match="key 5 is of type int"):
        ours.set_serialized_multi(dict.fromkeys(keys, b"new"))
    with pytest.raises(TypeError, match="key 5 is of type int"):
        ours.delete_multi(keys)
    assert ours.get_serialized_multi(["a", "b", "c"]) == [NO_VALUE, b"old", NO_VALUE]


def test_random_damage_is_an_end_or_a_miss(filename: str, kind: str) -> None:
    """Whatever single stretch of the file is overwritten: no error but one that says to remove it, and a new start."""
    dice = random.Random(5)
    for round_ in range(15):
        one = store(filename)
        one.set_serialized_multi({str(number): b"v" * 300 for number in range(10)})
        files = [
            path for path in Path(filename).parent.iterdir() if path.name.rpartition(".")[2] in ("dir", "dbm", "db")
        ]
        path = files[round_ % len(files)]
        with open(path, "r+b") as file:
            file.seek(dice.randrange(8, path.stat().st_size))
            file.write(dice.randbytes(dice.randrange(1, 40)))
        for _ in range(3):
            try:
                one.get_serialized_multi([str(number) for number in range(10)])
                one.set_serialized("5", b"new")
                assert one.get_serialized("5") == b"new"
            except ValidationError:
                break  # it does not look like a dbm file any more
        for path in Path(filename).parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", ["", ".dat", ".dir", ".db"])
def test_a_foreign_file_is_refused_and_left_alone(filename: str, name: str) -> None:
    Path(filename + name).write_text("Dear diary,")
    with pytest.raises(ValidationError, match=r"is not a dbm file.*: remove it, or name another file"):
        store(filename)
    assert Path(filename + name).read_text() == "Dear diary,"


def test_the_file_of_another_module_is_refused(filename: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(filename).write_bytes(Brittle.magic + bytes(1000))
    monkeypatch.setattr(room, "module", lambda name: dbm.dumb if name == "dbm.dumb" else None)
    with pytest.raises(ValidationError, match=r"made by dbm\.gnu, which this Python does not have"):
        store(filename)


def test_an_empty_file_is_none(filename: str, kind: str) -> None:
    Path(filename).touch()
    one = store(filename)
    one.set_serialized("key", b"value")
    assert one.get_serialized("key") == b"value"


def test_a_file_that_vanishes_is_made_again(filename: str, kind: str) -> None:
    one = store(filename)
    for _ in range(3):
        one.set_serialized("key", b"value")
        assert one.get_serialized("key") == b"value"
        for path in Path(filename).parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert one.get_serialized("key") is NO_VALUE
        one.delete("key")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="rw_lockfile names another place"):
        store(str(tmp_path / "nowhere" / "values.dbm"))


SCRIPT = """
import os, subprocess, sys
from mpcache.backends.file import DBMBackend
def attempt(act):
    try: print(act())
    except Exception as error: print(type(error).__name__, error)
one = DBMBackend({"filename": sys.argv[1] + "/values.dbm"})
one.set_serialized("key", b"value")
print(one.stats()["module"])
"""


def test_a_full_disk(folder: str) -> None:
    module, *said = in_a_small_file_system(
        folder,
        SCRIPT + "attempt(lambda: one.set_serialized('large', bytes(100_000)))\n"
        "attempt(lambda: one.get_serialized('key'))\n"
        "attempt(lambda: one.get_serialized('large') in (None, bytes(100_000)))\n"
        "attempt(lambda: one.set_serialized('key', b'small'))\n"
        "attempt(lambda: one.get_serialized('key'))\n",
    )
    if module == "dbm.ndbm":  # says nothing when it is closed, and has lost what it could not write
        assert said[1] in ("b'value'", "NoValue.NO_VALUE")
        return
    assert "mpcache.dbm cannot write the file: " in said[0]
    assert "values.dbm" in said[0]
    lost = said[1] == "NoValue.NO_VALUE"  # of a module that leaves half a file behind
    assert said[1:] == ["NoValue.NO_VALUE" if lost else "b'value'", "False", "None", "b'small'"]


BALLAST = """
with open(sys.argv[1] + "/ballast", "wb", 0) as ballast:
    try:
        while ballast.write(bytes(4096)): pass
    except OSError: pass
"""


def test_an_invalidation_on_a_full_disk(folder: str) -> None:
    _, *said = in_a_small_file_system(
        folder,
        SCRIPT + BALLAST + "attempt(one.invalidate)\n"
        "attempt(lambda: [name for name in os.listdir(sys.argv[1]) if 'epochs' in name])\n"
        "attempt(lambda: one.get_serialized('key'))\n"
        "os.unlink(sys.argv[1] + '/ballast')\n"
        "attempt(one.invalidate)\n",
    )
    assert "mpcache.dbm cannot note an invalidation: No space left on device" in said[0]
    assert "values.dbm.epochs" in said[0]
    assert said[1:] == ["[]", "b'value'", "None"]


def test_a_creation_on_a_full_disk(folder: str) -> None:
    _, *said = in_a_small_file_system(
        folder,
        SCRIPT + BALLAST + "attempt(lambda: one.begin_fill('key'))\n"
        "attempt(lambda: os.listdir(sys.argv[1] + '/values.dbm.dogpile.locks'))\n"
        "os.unlink(sys.argv[1] + '/ballast')\n"
        "attempt(lambda: one.begin_fill('key').wanted)\n",
    )
    assert "mpcache.dbm cannot note that a key is being created: No space left on device" in said[0]
    assert "values.dbm.dogpile.locks" in said[0]
    assert said[1:] == ["[]", "True"]


def test_locks_that_become_read_only_while_one_creates(folder: str) -> None:
    """The value that it created is stored and returned; the file that stays does no harm."""
    said = in_a_small_file_system(
        folder,
        "import mpcache, os, subprocess, sys\n"
        "def mount(how): subprocess.run(['mount', '-o', 'remount,' + how, sys.argv[1]], check=True)\n"
        "arguments = {'filename': sys.argv[1] + '.dbm', 'dogpile_lockfile': sys.argv[1] + '/lock'}\n"
        "here = mpcache.make_region().configure('mpcache.dbm', arguments=arguments, mutex='null')\n"
        "print(here.get_or_create('key', lambda: [mount('ro'), 'made'][1]), here.get('key'))\n"
        "print(len(os.listdir(sys.argv[1] + '/locks')))\n"
        "mount('rw')\n"
        "here.delete('key')\n"
        "print(here.get_or_create('key', lambda: 'again'), os.listdir(sys.argv[1] + '/locks'))\n",
    )
    assert said == ["made made", "1", "again []"]


def test_a_read_only_file_system(folder: str) -> None:
    remount = "subprocess.run(['mount', '-o', 'remount,ro', sys.argv[1]], check=True)\n"
    module, *said = in_a_small_file_system(
        folder,
        SCRIPT + remount + "attempt(lambda: one.get_serialized('key'))\n"
        "attempt(lambda: one.set_serialized('key', b'new'))\n"
        "there = DBMBackend({'filename': sys.argv[1] + '/values.dbm', 'rw_lockfile': False})\n"
        "attempt(lambda: there.get_serialized('key'))\n"
        "attempt(lambda: there.set_serialized('key', b'new'))\n",
    )
    assert "the lock file cannot be opened: Read-only file system; rw_lockfile names another place" in said[0]
    assert "the lock file cannot be opened" in said[1]
    assert said[2] == "b'value'" or (module == "dbm.sqlite3" and "unable to open database file" in said[2])
    assert "mpcache.dbm cannot write the file: " in said[3]
