"""Builds a C program of this folder with the engine's sources, compiling each source once.

Programs with a seeded fault differ from those without in the sources alone that name the fault.  Depends on a C
compiler.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "mpcache" / "shm" / "core"
COMMON = ("-std=c11", "-D_GNU_SOURCE", "-pthread", f"-I{CORE}")


def compiler() -> str:
    """Return the path of the C compiler."""
    found = shutil.which("cc") or shutil.which("gcc")
    assert found is not None, "no C compiler is on the path"
    return found


def build(folder: Path, name: str, flags: Sequence[str], fault: str = "") -> Path:
    """Return the path of a program that is built from ``name.c`` and the engine.

    :param folder: keeps the objects and the programs; tests may share one.
    :param fault: of the macros MPC_FAULT_*, without that prefix; empty: none.
    """
    sources = [HERE / f"{name}.c", *sorted(CORE.glob("*.c"))]
    everywhere = any(_names(header, fault) for header in CORE.glob("*.h"))
    faults = [fault if everywhere or _names(source, fault) else "" for source in sources]
    assert not fault or any(faults), f"no source names MPC_FAULT_{fault}"
    objects = [_compiled(folder, source, flags, own) for source, own in zip(sources, faults, strict=True)]
    program = folder / "-".join(filter(None, [name, _digest(flags), fault]))
    if not program.exists():
        subprocess.run([compiler(), *flags, "-pthread", *objects, "-o", program], check=True)
    return program


def _names(source: Path, fault: str) -> bool:
    return bool(fault) and f"MPC_FAULT_{fault}" in source.read_text()


def _compiled(folder: Path, source: Path, flags: Sequence[str], fault: str) -> Path:
    made = folder / "-".join(filter(None, [source.stem, _digest(flags), fault + ".o"]))
    if not made.exists():
        macro = [f"-DMPC_FAULT_{fault}"] if fault else []
        subprocess.run([compiler(), *COMMON, *flags, *macro, "-c", source, "-o", made], check=True)
    return made


def _digest(flags: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(flags).encode()).hexdigest()[:8]
