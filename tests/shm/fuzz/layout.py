"""The fields of core/layout.h: names by reading it, offsets and constants by asking the compiler.

Depends on a C compiler.  A field that the reading misses leaves a gap in its struct, which is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

CORE = Path(__file__).resolve().parents[3] / "mpcache" / "shm" / "core"
BIRTH = Path(__file__).with_name("birth.c")


class Field(NamedTuple):
    """Where a field stands in its struct: offset, bytes in all, bytes of one element."""

    at: int
    size: int
    width: int


class Layout(NamedTuple):
    """What layout.h declares: structs by name without ``mpc_``, their fields by name, and the numeric macros."""

    sizes: dict[str, int]
    fields: dict[str, dict[str, Field]]
    constants: dict[str, int]


def _compile(source: str, target: Path, *more: Path) -> None:
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-w", f"-I{CORE}", "-x", "c", "-", *map(str, more), "-o", str(target)]
    subprocess.run(command, input=source, text=True, check=True, env=plain_environment())


def plain_environment() -> dict[str, str]:
    """Return the environment without a sanitizer's runtime, which would be loaded into the compiler, too."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def _declared(text: str) -> dict[str, list[tuple[str, bool]]]:
    """Read the names in each struct, and whether each is an array.

    :raises ValueError: a declaration is of a form that this function cannot read.
    """
    structs: dict[str, list[tuple[str, bool]]] = {}
    for name, body in re.findall(r"struct mpc_(\w+) \{(.*?)\n\};", text, re.S):
        declarations = re.sub(r"_Alignas\(\w+\)|struct \w+", "T", body).split(";")
        names = [part for one in declarations if one.strip() for part in one.split(",")]
        found = [re.fullmatch(r"(?:\w+\s+)*(\w+)\s*(\[[^]]*\])?", part.strip()) for part in names]
        if None in found or not found:
            raise ValueError(f"struct mpc_{name}: cannot read one of {names}")
        structs[name] = [(one[1], one[2] is not None) for one in found if one]
    return structs


def _printing(structs: dict[str, list[tuple[str, bool]]], constants: list[str]) -> str:
    lines = ['#include "layout.h"', "#include <stdio.h>", "int main(void) {"]
    for struct, fields in structs.items():
        lines.append(f'printf("{struct} - 0 %zu 0\\n", sizeof(struct mpc_{struct}));')
        for name, many in fields:
            it = f"((struct mpc_{struct} *)0)->{name}"
            one = f"{it}[0]" if many else it
            offset = f"offsetof(struct mpc_{struct}, {name})"
            lines.append(f'printf("{struct} {name} %zu %zu %zu\\n", {offset}, sizeof({it}), sizeof({one}));')
    lines += [f'printf("{name} %llu\\n", (unsigned long long)({name}));' for name in constants]
    return "\n".join([*lines, "}"])


def _check_whole(layout: Layout, aligned: set[str]) -> None:
    """Raise ValueError if a struct has bytes beside its fields and what aligns them: a field was missed."""
    for struct, fields in layout.fields.items():
        longest, end = 64 if struct in aligned else 8, 0
        for at, size, _ in [*sorted(fields.values()), (layout.sizes[struct], 0, 0)]:
            if not 0 <= at - end < longest:
                raise ValueError(f"struct mpc_{struct}: no known field has the bytes from {end} to {at}")
            end = at + size


def read_layout(folder: Path) -> Layout:
    """Read layout.h and compile what it says; `folder` takes the program."""
    text = re.sub(r"/\*.*?\*/", "", (CORE / "layout.h").read_text(), flags=re.S)
    constants = re.findall(r"^#define (MPC_\w+) +[\w(]", text, re.M)
    _compile(_printing(_declared(text), constants), folder / "layout")
    layout = Layout({}, {}, {})
    for line in subprocess.check_output([folder / "layout"], text=True, env=plain_environment()).splitlines():
        name, *numbers = line.split()
        if len(numbers) == 1:
            layout.constants[name] = int(numbers[0])
        elif numbers[0] == "-":
            layout.sizes[name] = int(numbers[2])
        else:
            layout.fields.setdefault(name, {})[numbers[0]] = Field(*map(int, numbers[1:]))
    _check_whole(layout, set(re.findall(r"struct mpc_(\w+) \{[^}]*_Alignas", text)))
    return layout


def compile_birth(folder: Path) -> Path:
    """Compile the program that formats segments from a seed; return its path."""
    _compile(BIRTH.read_text(), folder / "birth", CORE / "format.c", CORE / "hash.c")
    return folder / "birth"
