"""Mutate the modules that make decisions, line by line, and print each mutant that no test detects.

    python tools/mutants.py [MODULE ...]        default: lock, invalidation, _region.holding, ...

A module is named relative to mpcache, such as ``stress.checker``.  mutmut runs in a copy of the checkout below build/,
so the checkout is not changed.  A surviving mutant is accepted if RECORD explains its line; any other is printed, and
the exit status is 1.
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
RECORD = ROOT / "docs" / "decisions" / "0006-undetected-mutants-are-explained.rst"
MODULES = ("lock", "invalidation", "_region.holding", "_region.creation_multi")

# Only fast tests that never wait for time to pass: each mutant runs all of them that touch its function.
TESTS = ("test_lock.py", "test_invalidation.py", "test_creation_multi.py", "test_region.py", "test_ttl.py")
TESTS += ("test_binding.py", "test_values.py", "test_fills.py", "test_holding.py")

# What these modules decide does not depend on the store; two kinds are enough, and servers are slow.
STORES = "not dbm and not redis and not pymemcache and not memory_pickle"

SETTINGS = """
[tool.mutmut]
source_paths = ["mpcache"]
only_mutate = {modules}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-q", "-x", "-k", "{stores}"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
timeout_multiplier = 5.0
timeout_constant = 5.0
"""


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE")
    asked.add_argument("--minutes", type=float, default=15, help="give up after so many minutes (%(default)s)")
    options = asked.parse_args()
    prepare(options.modules)
    mutmut("run", "--max-children", str(os.cpu_count() or 1), timeout=options.minutes * 60)
    explained = set(re.findall("``(.+?)``", RECORD.read_text()))
    unexplained = [diff for diff in survivors() if not added(diff) <= explained]
    print(*unexplained, f"{len(unexplained)} mutants that no test detects and {RECORD.name} does not explain", sep="\n")
    return bool(unexplained)


def prepare(modules: list[str]) -> None:
    """Copy the checkout, with the settings of mutmut for these modules."""
    changed = [f"mpcache/{module.replace('.', '/')}.py" for module in modules]
    if missing := [path for path in changed if not (ROOT / path).exists()]:
        sys.exit(f"there is no {', '.join(missing)}: name modules relative to mpcache, such as stress.checker")
    shutil.rmtree(COPY, ignore_errors=True)
    for folder in ("mpcache", "tests"):
        shutil.copytree(ROOT / folder, COPY / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", COPY)
    settings = SETTINGS.format(stores=STORES, modules=changed, tests=[f"tests/{name}" for name in TESTS])
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
    """Return the lines that a mutant adds to the source, without their comments."""
    return {line.partition("  # ")[0].strip() for line in re.findall(r"^\+(?!\+)(.*)$", diff, re.MULTILINE)}


if __name__ == "__main__":
    sys.exit(main())
