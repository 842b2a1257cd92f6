"""Builds of the engine beside the installed one: with a seeded bug, or with pauses before stores to shared memory.

Depends on environment.  A build is a copy of the whole package, so that a process that finds it first on its path
imports nothing of the installed one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mpcache
from mpcache.stress.errors import CannotRun

PACKAGE = Path(mpcache.__file__).parent
_BESIDE = ("setup.py", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE")
_NOT_COPIED = ("*.so", "__pycache__")


class Build(NamedTuple):
    """How a build differs from the ordinary one.

    :ivar flag: the seeded bug, MPC_FAULT_flag in the sources; empty: none.
    :ivar delays: whether it pauses before it stores to shared memory.
    """

    flag: str = ""
    delays: bool = False

    @property
    def ordinary(self) -> bool:
        """Return whether it is the installed one."""
        return self == Build()

    def __str__(self) -> str:
        return "-".join(filter(None, (self.flag.lower(), "delays" if self.delays else ""))) or "plain"


def engine(build: Build, folder: Path) -> Path:
    """Compile a build, which takes seconds; return the path to put first on PYTHONPATH.

    :param folder: empty.
    :raises CannotRun: the sources are missing, or cannot be compiled.
    """
    root = PACKAGE.parent
    if not (root / "setup.py").exists() or not list(PACKAGE.glob("shm/core/*.c")):
        raise CannotRun(
            f"{PACKAGE} has no C sources, which an engine with {'a known bug' if build.flag else 'delays'} is built"
            " from; run it from a checkout, or an unpacked sdist"
        )
    for name in _BESIDE:
        shutil.copy(root / name, folder)
    shutil.copytree(PACKAGE, folder / "mpcache", ignore=shutil.ignore_patterns(*_NOT_COPIED))
    wanted = os.environ | {"MPCACHE_FAULT": build.flag, "MPCACHE_DELAYS": "1" if build.delays else ""}
    for meant_for_others in ("MPCACHE_SANITIZE", "LD_PRELOAD", "PYTHONPATH"):
        wanted.pop(meant_for_others, None)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=wanted, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise CannotRun(
            f"the engine {build} cannot be built; it takes a C compiler, Python's headers and setuptools:\n{said}"
        )
    return folder


def engines(builds: Iterable[Build], folder: Path) -> dict[Build, Path]:
    """Compile builds, each in a folder of its own, as many at a time as there are cores.

    :raises CannotRun: as :func:`engine`.
    """

    def one(build: Build) -> Path:
        here = folder / str(build)
        here.mkdir()
        return engine(build, here)

    wanted = sorted({build for build in builds if not build.ordinary})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))
