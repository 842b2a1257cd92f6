"""The benchmarks run, report their figures, and never report a missed bound as kept.

Depends on the command line only: tests and bench do not import each other.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCH = [sys.executable, "-m", "bench", "--quick"]


def bench(*arguments: str, shm: Path | None = None) -> subprocess.CompletedProcess[str]:
    where = os.environ | ({} if shm is None else {"MPCACHE_SHM": str(shm)})
    return subprocess.run([*BENCH, *arguments], cwd=ROOT, env=where, capture_output=True, text=True, timeout=60)


def table(text: str) -> dict[str, list[str]]:
    """Return the cells of a markdown table by the first cell of their line."""
    lines = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in lines}


def test_a_table_and_json_of_the_same_figures(tmp_path: Path) -> None:
    ran = bench("get", "--json", str(tmp_path / "found.json"), "--only", "memory", "mpcache.shm")
    assert ran.returncode == 0, ran.stderr
    assert re.match(r"\d{4}-\d\d-\d\d, .+ \d+ cores .*Python \d", ran.stdout)
    assert "## get: get of 1 KiB" in ran.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    contenders = found["benchmarks"]["get"]["contenders"]
    assert {"nothing", "mpcache.shm", "mpcache.memory", "dogpile.cache.memory"} <= set(contenders)
    assert set(contenders) <= set(table(ran.stdout))
    peer = contenders["dogpile.cache.memory"]
    for figures in contenders.values():
        assert 0 < figures["least"] <= figures["median"]
        if figures["against"] == "dogpile.cache.memory":
            assert figures["ratio"] == pytest.approx(figures["least"] / peer["least"])
    assert {"mpcache", "dogpile.cache"} <= set(found["machine"]["versions"])


def test_a_bound_that_is_missed_is_said_and_ends_it_with_1_if_that_was_asked_for() -> None:
    strict, lenient = bench("acquire", "--check", "--allow", "0"), bench("acquire", "--check", "--allow", "10000")
    assert strict.returncode == 1, strict.stderr
    assert re.search(r"MISSED: shm: least at most 0 ns, and it is \d", strict.stdout)
    assert lenient.returncode == 0, lenient.stdout
    assert "kept: shm: least at most" in lenient.stdout
    assert {"thread", "shm", "file", "threading.Lock"} <= set(table(lenient.stdout))


def test_who_is_absent_is_named_and_what_was_not_measured_was_not_kept(tmp_path: Path) -> None:
    """Simulate an installation without peers, without servers, and without the engine."""
    for absent in ("filelock", "dogpile", "redis", "valkey", "pymemcache", "posix_ipc"):
        (tmp_path / f"{absent}.py").write_text(f"raise ModuleNotFoundError({'No module named ' + absent!r})")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mpcache.shm._engine'] = None\n")
    poor = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([*BENCH, "acquire", "--check"], cwd=ROOT, env=poor, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1, ran.stderr
    assert re.search(r"^filelock\.FileLock is skipped: No module named filelock$", ran.stdout, re.M)
    assert re.search(r"^shm is skipped: ", ran.stdout, re.M)
    assert "MISSED: shm: least at most 1.5 µs, and it was not measured" in ran.stdout
    assert "thread" in table(ran.stdout)


def test_a_waiter_in_another_process_is_met() -> None:
    ran = bench("handoff", "--only", "shm", "redis", "multiprocessing")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {"shm", "redis", "multiprocessing.Lock"} <= set(table(ran.stdout))


def test_every_operation_of_ours_and_of_another() -> None:
    """Check that each benchmark verifies, before it is timed, that it does what it measures."""
    names = "miss", "set", "get-multi", "decorated", "decorated-keyword"
    ran = bench(*names, "--only", "mpcache.shm", "cache.memory")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(re.findall(r"^\| dogpile\.cache\.memory \|", ran.stdout, re.M)) == len(names)
    promised = r"^(kept|MISSED): mpcache\.shm: least at most 0\.\d+ x dogpile\.cache\.memory, and it is \d"
    assert len(re.findall(promised, ran.stdout, re.M)) == len(names)


def test_what_is_large_next_to_one_copy_of_it() -> None:
    ran = bench("set-large")
    assert (ran.returncode, ran.stderr) == (0, "")
    kinds = [f"mpcache.shm, {what}" for what in ("an array", "bytes in a dict", "bytes")]
    assert {*kinds, "pickle, an array", "one copy"} <= set(table(ran.stdout))
    assert len(re.findall(r"^(kept|MISSED): mpcache\.shm, .* at most 1\.5 x one copy, and", ran.stdout, re.M)) == 3


def test_many_processes_and_a_full_store(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    names = "scaling", "mix", "stampede", "misses", "entry", "idle", "lost", "evict"
    ran = bench(*names, "--json", str(file), "--only", "mpcache.shm", "call", "get", "median", "p99")
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(file.read_text())["benchmarks"]
    assert set(found) == set(names)
    assert [found[name]["unit"] for name in names] == ["ns", "ns", "ns", "%", "B", "%", "%", "ns"]
    scaling, evict, idle, lost = (found[name]["contenders"] for name in ("scaling", "evict", "idle", "lost"))
    assert scaling["get, 2 processes"]["against"] == "get, 1 process"
    assert evict["median"]["least"] <= evict["p99.9"]["least"]
    bounds = {bound["contender"]: bound for bound in found["scaling"]["bounds"]}
    ratios = [scaling[f"{act}, 2 processes"]["ratio"] for act in ("get", "a call")]
    assert bounds["get, 2 processes"]["found"] == pytest.approx(ratios[0] / ratios[1])
    assert bounds["set, 2 processes"] | {"found": None, "kept": False} == bounds["set, 2 processes"]
    entry = found["entry"]["contenders"]["mpcache.shm"]["least"]
    assert 1024 + 13 < entry < 1300
    assert idle["mpcache.shm"]["least"] == pytest.approx(100 * (1 - (1024 + 13) / entry), abs=0.1)
    assert lost["mpcache.shm"]["most"] == 0


def test_a_picture_of_each(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = bench("entry", "idle", "--only", "mpcache.shm", "--plots", str(tmp_path / "pictures"))
    assert ran.returncode == 0, ran.stderr
    drawn = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in drawn] == ["entry.png", "idle.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in drawn)


def test_without_matplotlib_nothing_is_measured_for_pictures(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['matplotlib'] = None\n")
    poor = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    draw = [*BENCH, "get", "--plots", str(tmp_path)]
    ran = subprocess.run(draw, cwd=ROOT, env=poor, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "--plots needs matplotlib: pip install 'mpcache[bench]'" in ran.stderr


def test_its_folder_is_made_where_segments_are_to_be_and_is_gone_afterwards(tmp_path: Path) -> None:
    ran = bench("get-or-create", "--only", "mpcache.shm", shm=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "mpcache.shm" in table(ran.stdout)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_there() -> None:
    ran = bench("gte")
    assert ran.returncode == 2
    assert "there is no benchmark gte; there are acquire, handoff, get" in ran.stderr


def test_a_terminal_gets_no_markdown() -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    words = [*BENCH, "get", "--only", "mpcache.shm"]
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
        except OSError:  # the terminal's other end is closed: EIO
            pass
        os.close(ours)
    assert running.returncode == 0, said
    assert b"mpcache.shm" in said
    assert b"| ---" not in said
