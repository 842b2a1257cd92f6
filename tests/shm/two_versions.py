"""Versions of mpcache with other layouts: this one, whose engine is built with another layout number.

Depends on a C compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mpcache

PACKAGE = Path(mpcache.__file__).parent


def build(folder: Path, layout: int) -> Path:
    """Build a version with that layout in an empty folder; return the folder, from which its processes run."""
    folder.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.rst"):
        shutil.copy(PACKAGE.parent / name, folder)
    shutil.copytree(PACKAGE, folder / "mpcache", ignore=shutil.ignore_patterns("_engine*.so", "__pycache__"))
    chosen = os.environ | {"MPCACHE_LAYOUT": str(layout), "CFLAGS": "-O1"}
    for meant_for_others in ("MPCACHE_SANITIZE", "LD_PRELOAD", "PYTHONPATH"):
        chosen.pop(meant_for_others, None)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, env=chosen, check=True, capture_output=True)
    return folder


class Version:
    """A version of mpcache, and the processes of it that a test starts."""

    def __init__(self, folder: Path, layout: int) -> None:
        self.layout = layout
        self._folder = folder
        self._processes: list[Process] = []

    def file(self, name: str) -> str:
        """Return the file name that a store's segment has in this layout."""
        return name if self.layout == 2 else f".{self.layout}@{name}"

    def start(self, code: str) -> Process:
        """Start a process that runs code and then lines of it, as they are sent."""
        self._processes.append(Process(self._folder, code))
        return self._processes[-1]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run this version's `mpcache` command."""
        command = [sys.executable, "-m", "mpcache.cli", *arguments]
        return subprocess.run(
            command, cwd=self._folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def end(self) -> None:
        """Kill all processes."""
        for process in self._processes:
            process.kill()


PRELUDE = """
import sys, os, mpcache
from mpcache.mutexes.shm import ShmMutex
from mpcache.shm import segment, _engine
def answer(code):
    try:
        print(repr(eval(code)), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


class Process:
    """A process that evaluates expressions, one after another."""

    def __init__(self, folder: Path, code: str) -> None:
        lines = f"{PRELUDE}\n{code}\nprint('ready', flush=True)\nfor line in sys.stdin: answer(line.strip())"
        self._child = subprocess.Popen(
            [sys.executable, "-c", lines], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().rstrip("\n")

    def ask(self, expression: str) -> str:
        """Return the value of an expression, or the exception, as text."""
        assert self._child.stdin is not None
        self._child.stdin.write(expression + "\n")
        self._child.stdin.flush()
        return self._line()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._child.kill()
        self._child.communicate()

    def end(self) -> None:
        """Let it end as a program does."""
        self._child.communicate(timeout=60)
