"""Run the models of this folder: each property over all states, and each seeded fault, which must be found.

Needs spin and a C compiler.

    python proofs/check.py [--short]        exit status 0: all is as the table says it must be
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MEGABYTES = 1500
"""What one search may use; one that needs more has failed."""
SECONDS = 150.0

SAFE = ["-DSAFETY", "-DNOCLAIM"]
FAIR = ["-DNFAIR=6"]
NO_TWO, NOT_ROBBED, STALE = "!(two_inside)", "!(robbed_the_living)", "!(stale_value)"


@dataclass(frozen=True)
class Search:
    """One run of spin.  `finds` is what it must complain of; empty: it must find nothing, and have seen everything."""

    what: str
    model: str
    defines: str = ""
    finds: str = ""
    live: bool = False

    @property
    def name(self) -> str:
        return " ".join([self.model, *self.defines.split(), *(["fair"] if self.live else [])])


PROPERTIES = [
    Search("word lock: exclusive, no living owner is robbed", "wordlock"),
    Search("word lock: what a dead owner has is taken from it", "wordlock", live=True),
    Search("lease: exclusive, no living owner is robbed, no deadlock", "lease"),
    Search("fill: what a change forbade is never there, a death included", "fill"),
    Search("fill: nor is it left by a filler that was stopped", "fill", "STOP"),
]

LONG_PROPERTIES = [
    Search("lease: fences only grow, an old token frees nothing", "lease", "TOKENS"),
    Search("lease: all living processes end, whichever process died as its holder", "lease", live=True),
    Search("lease: the same with old tokens about", "lease", "TOKENS", live=True),
]

FAULTS = [
    Search("a word is stolen that changed since it was judged", "wordlock", "FAULT_STEAL_INEXACT", NOT_ROBBED),
    Search("the commit word goes in first", "lease", "FAULT_OWNER_FIRST TOKENS", NO_TWO),
    Search("a verdict on a dead holder is applied to a later one", "lease", "FAULT_STALE_VERDICT", NOT_ROBBED),
    Search("a fill does not look whether it was voided", "fill", "FAULT_FILL_UNCHECKED", STALE),
    Search("a late void takes back that of a later hold", "fill", "FAULT_VOID_OVERWRITES", STALE),
]

LONG_FAULTS = [
    Search("a delete does not let a fill end", "fill", "FAULT_NO_SETTLE", STALE),
    Search("a fill does not look a second time", "fill", "FAULT_NO_SECOND_LOOK STOP", STALE),
    Search("a release does not ask whose the lease is", "lease", "FAULT_RELEASE_UNCHECKED TOKENS", NO_TWO),
    Search("a word names the slot and no incarnation", "wordlock", "FAULT_SLOT_ONLY", NOT_ROBBED),
    Search("the slot's id is stored before its byte is locked", "wordlock", "FAULT_ID_BEFORE_BYTE", NOT_ROBBED),
    Search("a release asks for the owner but not for the fence", "lease", "FAULT_RELEASE_WITHOUT_FENCE TOKENS", NO_TWO),
    Search("a fence is read and then written", "lease", "FAULT_FENCE_IN_TWO_STEPS TOKENS", "!(fence_came_again)"),
    Search("that nothing was stored is told by a flag", "lease", "FAULT_UNSTORED_IS_A_FLAG", "!(wrongly_told)"),
    Search("a detach unlocks the byte before the leases", "lease", "FAULT_BYTE_BEFORE_LEASES", "(bucket==self)"),
    Search("waiters do not judge", "lease", "FAULT_NEVER_JUDGED", "acceptance cycle", live=True),
    Search("a delete voids after it has cleared the slot", "fill", "FAULT_VOID_LAST", STALE),
    Search("a set voids nothing", "fill", "FAULT_SET_WITHOUT_VOID", STALE),
    Search("known: a filler is stopped for long and then killed", "fill", "STOP BOTH", STALE),
]


@dataclass(frozen=True)
class Verdict:
    search: Search
    states: int
    depth: int
    seconds: float
    trouble: str

    def row(self) -> str:
        said = self.trouble or ("found" if self.search.finds else "holds")
        found = f"{self.states:>10,} {self.depth:>6,} {self.seconds:>5.1f} s"
        return f"{self.search.what:64} {self.search.name:44} {found}  {said}"


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        raise SystemExit("proofs: no C compiler; install gcc")
    return found


def run(search: Search) -> Verdict:
    """Generate, compile and run one verifier, in a folder of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mpcache-proofs-") as folder:
        defines = [f"-D{name}" for name in search.defines.split()]
        flags = [*(FAIR if search.live else SAFE), f"-DMEMLIM={MEGABYTES}", "-O1", "-w"]
        generating = ["spin", "-a", *defines, HERE / f"{search.model}.pml"]
        subprocess.run(generating, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([compiler(), *flags, "-o", "pan", "pan.c"], cwd=folder, check=True)
        searching = ["./pan", "-m100000", *(["-a", "-f"] if search.live else [])]
        try:
            said = subprocess.run(searching, cwd=folder, capture_output=True, text=True, timeout=SECONDS).stdout
        except subprocess.TimeoutExpired:
            said = ""
    return judge(search, said, time.monotonic() - began)


def judge(search: Search, said: str, seconds: float) -> Verdict:
    """Anything but a whole search without a complaint, or the complaint that was asked for, is trouble."""

    def number(pattern: str) -> int:
        found = re.search(pattern, said)
        return int(found[1]) if found else 0

    complaint = re.search(r"^pan:\d+: (.*) \(at depth", said, re.MULTILINE)
    if "errors: " not in said:
        trouble = "DID NOT END"
    elif search.finds:
        trouble = "" if complaint and search.finds in complaint[1] else f"NOT FOUND: {complaint and complaint[1]}"
    elif complaint:
        trouble = f"FAILS: {complaint[1]}"
    elif "errors: 0" not in said or "not completed" in said or "too small" in said:
        trouble = "NOT ALL WAS SEEN"
    else:
        trouble = ""
    return Verdict(search, number(r"(\d+) states, stored"), number(r"depth reached (\d+)"), seconds, trouble)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="those that take no time, for each test run")
    short = parser.parse_args().short
    if shutil.which("spin") is None:
        raise SystemExit("proofs: there is no spin; tools/need.sh proofs installs it")
    failed = 0
    print(f"{'':64} {'search':44} {'states':>10} {'depth':>6} {'time':>7}  verdict", flush=True)
    with ThreadPoolExecutor(2) as pool:
        for title, searches in (
            ("must hold", PROPERTIES + ([] if short else LONG_PROPERTIES)),
            ("must be found", FAULTS + ([] if short else LONG_FAULTS)),
        ):
            print(f"-- {title}", flush=True)
            for verdict in pool.map(run, searches):
                print(verdict.row(), flush=True)
                failed += bool(verdict.trouble)
    print(f"{failed} of them are not as they must be" if failed else "all are as they must be")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
