"""Changes the rooms that decide, line by line, and names each change that no test notices.

    python tools/mutants.py [ROOM ...]        lock, invalidation, multi, unless others are named

Runs mutmut in a copy of the checkout below build/, so that nothing here is touched.  A survivor is fine if its line
stands in RECORD, where it is explained; any other one is printed, and ends this with 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "mutants"
RECORD = ROOT / "docs" / "decisions" / "0006-mutants.rst"
ROOMS = ("lock", "invalidation", "multi")

# Only those that are quick and never wait for the clock: each change runs all of them that touch its function.
TESTS = ("test_lock.py", "test_invalidation.py", "test_multi.py", "test_region.py", "test_ttl.py")

SETTINGS = """
[tool.mutmut]
source_paths = ["mpcache"]
only_mutate = {rooms}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-q", "-x"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
timeout_multiplier = 5.0
timeout_constant = 5.0
"""


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("rooms", nargs="*", default=ROOMS, metavar="ROOM")
    asked.add_argument("--minutes", type=float, default=15, help="give up after so long (%(default)s)")
    options = asked.parse_args()
    prepare(options.rooms)
    mutmut("run", "--max-children", str(os.cpu_count() or 1), timeout=options.minutes * 60)
    explained = set(re.findall("``(.+?)``", RECORD.read_text()))
    unexplained = [diff for diff in survivors() if not added(diff) <= explained]
    print(*unexplained, f"{len(unexplained)} changes that no test notices and {RECORD.name} does not explain", sep="\n")
    return bool(unexplained)


def prepare(rooms: list[str]) -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    for folder in ("mpcache", "tests"):
        shutil.copytree(ROOT / folder, COPY / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", COPY)
    changed = [f"mpcache/{room}.py" for room in rooms]
    settings = SETTINGS.format(rooms=changed, tests=[f"tests/{name}" for name in TESTS])
    (COPY / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)


def mutmut(*command: str, timeout: float | None = None, **options: bool) -> str:
    words = [sys.executable, "-m", "mutmut", *command]
    done = subprocess.run(words, cwd=COPY, check=True, timeout=timeout, text=True, **options)
    return done.stdout or ""


def survivors() -> Iterator[str]:
    for line in mutmut("results", capture_output=True).splitlines():
        name, _, outcome = line.strip().partition(": ")
        if outcome in ("survived", "no tests", "suspicious"):
            yield f"{name}: {outcome}\n{mutmut('show', name, capture_output=True)}"


def added(diff: str) -> set[str]:
    """The lines that the change put into the source, without their comments."""
    return {line.partition("  # ")[0].strip() for line in re.findall(r"^\+(?!\+)(.*)$", diff, re.MULTILINE)}


if __name__ == "__main__":
    sys.exit(main())
