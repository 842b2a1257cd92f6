"""How the C extensions (the engine, and _wire) are compiled; what needs no code stands in setup.cfg.

Read from the environment, by the Makefile and the tests only:

MPCACHE_WERROR=1         a warning is an error
MPCACHE_SANITIZE=a,b     -fsanitize=a,b, at -O1, ending the process at the first finding
MPCACHE_FAULT=NAME,...   -DMPC_FAULT_NAME: a known protocol bug, for tests that must find it
MPCACHE_DELAYS=1         -DMPC_DELAYS: pauses at the shared stores
MPCACHE_LAYOUT=N         -DMPC_LAYOUT=N: an engine that refuses the segments of all others, for tests of two versions
"""

from __future__ import annotations

import os
import shutil
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

C11 = ["-std=c11", "-D_GNU_SOURCE", "-pthread", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra"]


def chosen() -> tuple[list[str], list[str]]:
    """The compiler's and the linker's flags that the environment adds."""
    compiling: list[str] = []
    linking = ["-pthread"]
    if os.environ.get("MPCACHE_WERROR") == "1":
        compiling.append("-Werror")
    if sanitizers := os.environ.get("MPCACHE_SANITIZE"):
        linking.append(f"-fsanitize={sanitizers}")
        compiling += [linking[-1], "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        compiling += ["-g", "-O1", "-UNDEBUG"]
    for fault in filter(None, os.environ.get("MPCACHE_FAULT", "").split(",")):
        compiling.append(f"-DMPC_FAULT_{fault}")
    if os.environ.get("MPCACHE_DELAYS") == "1":
        compiling.append("-DMPC_DELAYS")
    if layout := os.environ.get("MPCACHE_LAYOUT"):
        compiling.append(f"-DMPC_LAYOUT={int(layout)}u")
    return compiling, linking


class WholeBuild(build_ext):
    """Compiles whenever asked, and all files as one.

    setuptools compares times and not flags: it would take a sanitizer's or a seeded fault's build for a fresh
    one, and ship it.  The whole engine compiles in seconds.  Of one unit the compiler makes one function of a hit,
    from the call to the copy, which is what -flto is for; but not every linker can do that.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.force = True

    def build_extension(self, ext: Extension) -> None:
        whole = Path(self.build_temp) / f"{ext.name}.c"
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text("".join(f'#include "{Path(source).resolve()}"\n' for source in ext.sources))
        ext.sources = [str(whole)]
        try:
            super().build_extension(ext)
        except (CompileError, PlatformError, FileNotFoundError) as error:
            compiler = self.compiler.compiler_so[0]
            if shutil.which(compiler) is not None:
                raise
            text = f"mpcache is compiled when it is installed, and there is no compiler {compiler!r}"
            raise SystemExit(f"{text}: install one (apt-get install gcc libc6-dev python3-dev), or set CC") from error


compiling, linking = chosen()
engine = Extension(
    "mpcache.shm._engine",
    sources=sorted(glob("mpcache/shm/*.c") + glob("mpcache/shm/core/*.c")),
    depends=sorted(glob("mpcache/*.h") + glob("mpcache/shm/*.h") + glob("mpcache/shm/core/*.h")),
    include_dirs=["mpcache/shm"],
    extra_compile_args=C11 + compiling,
    extra_link_args=linking,
)

wire = Extension(
    "mpcache._wire._wire",
    sources=["mpcache/_wire/_wire.c"],
    depends=["mpcache/_foreign.h"],
    extra_compile_args=C11 + compiling,
    extra_link_args=linking,
)

setup(ext_modules=[engine, wire], cmdclass={"build_ext": WholeBuild})
