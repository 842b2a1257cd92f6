"""The stampede: eight processes that ask for one missing key at once, and a conductor that stamps what happens.

Depends on support.  A program: ``python -m tests.processes.stampede NAME --seed 7``; its report is a line of
JSON with an entry for each round.  All stamps are of the monotonic clock, which is one for all processes.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import select
import signal
import struct
import time
from typing import Any, NamedTuple

import mpcache
from tests.processes.support import PATIENCE, Child, Sign, prove, proven, queued, wait_until

ASKERS = 8
WORK = 0.010
"""Seconds that a creator works, from when all have asked."""
DOOMED_AFTER = (0.030, 0.050)
"""Seconds into its work after which every second round's creator is killed: from, to."""

READY, ASKS, CREATES, HAS = range(4)


class Word(NamedTuple):
    """What an asker reports: what happened, its number, when; and of a value, the number of its creator.

    ``queued``: ns for which the asker could have run and had no core, see support.
    """

    what: int
    who: int
    maker: int
    when: int
    queued: int


class Signals:
    """Words from the askers, in one pipe; and to the creators the number of the round that may come to its end."""

    _WORD = struct.Struct("<BBBQQ")  # see Word; so short a write to a pipe is never torn

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._ending = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("I")

    def say(self, what: int, who: int, maker: int = 0, when: int = 0, queued: int = 0) -> None:
        os.write(self._writer, self._WORD.pack(what, who, maker, when or time.monotonic_ns(), queued))

    def hear(self) -> Word:
        ready, _, _ = select.select([self._reader], [], [], PATIENCE)
        if not ready:
            raise TimeoutError(f"within {PATIENCE:g} s no asker said anything")
        return Word(*self._WORD.unpack(os.read(self._reader, self._WORD.size)))

    def may_end(self, which: int) -> bool:
        return self._ending[0] >= which

    def let_end(self, which: int) -> None:
        self._ending[0] = which


class Asker:
    """A process that waits for the number of a round and asks for its key."""

    def __init__(self, who: int, region: mpcache.CacheRegion, signals: Signals) -> None:
        self._who, self._region, self._signals = who, region, signals
        self._told, self._telling = os.pipe()
        self.child = Child(self._live)

    def start(self, which: int) -> None:
        os.write(self._telling, struct.pack("<I", which))

    def bury(self) -> None:
        self.child.end()
        os.close(self._told)
        os.close(self._telling)

    def _live(self) -> None:
        self._region.get_or_create(f"warm-{os.getpid()}", lambda: b"")
        self._signals.say(READY, self._who)
        while True:
            (which,) = struct.unpack("<I", os.read(self._told, 4))
            self._ask(which, f"round-{which}")

    def _ask(self, which: int, key: str) -> None:
        before = queued()
        self._signals.say(ASKS, self._who)
        value = self._region.get_or_create(key, lambda: self._create(which, key, before))
        when, after = time.monotonic_ns(), queued()  # in this order: no wait before `when` may be missing
        self._signals.say(HAS, self._who, proven(key, value).writer, when, after - before)

    def _create(self, which: int, key: str, before: int) -> bytes:
        when, after = time.monotonic_ns(), queued()
        self._signals.say(CREATES, self._who, 0, when, after - before)
        wait_until(lambda: self._signals.may_end(which), "leave to end")
        time.sleep(WORK)
        return prove(key, Sign(self._who, which), 1000)


class Round:
    """One key, asked for by all."""

    def __init__(self, which: int) -> None:
        self.which = which
        self.asking: set[int] = set()
        self.creations: list[Word] = []
        self.returns: dict[int, Word] = {}
        self.killed: tuple[int, int] | None = None

    def note(self, word: Word) -> None:
        if word.what == ASKS:
            self.asking.add(word.who)
        elif word.what == CREATES:
            self.creations.append(word)
        elif word.what == HAS:
            self.returns[word.who] = word

    def over(self) -> bool:
        return len(self.returns) == ASKERS - bool(self.killed)

    def report(self) -> dict[str, Any]:
        """Take-over counts from the kill, waits from the creator's return; see since()."""
        creation = self.creations[-1]
        end = self.returns[creation.who].when
        return {
            "round": self.which,
            "killed": bool(self.killed),
            "creators": len(self.creations),
            "makers": len({word.maker for word in self.returns.values()} | {creation.who}),
            "takeover": since(self.killed[1], creation) if self.killed else None,
            "waits": [since(end, word) for word in self.returns.values() if word.who != creation.who],
        }


def since(start: int, word: Word) -> tuple[float, float]:
    """Seconds until the word was said: by the clock; and with its sayer's time in the queue for a core left out."""
    return (word.when - start) / 1e9, (word.when - start - word.queued) / 1e9


class Conductor:
    """Starts the rounds, kills, buries, and keeps eight of them alive."""

    def __init__(self, told: argparse.Namespace) -> None:
        how = {"serializer": bytes, "deserializer": bytes, "mutex": told.mutex}
        if told.backend:
            self._region = mpcache.make_region(serializer=bytes, deserializer=bytes)
            self._region.configure(told.backend, arguments=json.loads(told.name))
        else:
            self._region = mpcache.shared(told.name, "8MB", **how)
        self._random = random.Random(told.seed)
        self._signals = Signals()
        self._askers = {who: self._bear(who) for who in range(ASKERS)}

    def _bear(self, who: int) -> Asker:
        asker = Asker(who, self._region, self._signals)
        assert self._signals.hear().what == READY
        return asker

    def play(self, which: int, deadly: bool) -> dict[str, Any]:
        it = Round(which)
        for asker in self._askers.values():
            asker.start(which)
        while len(it.asking) < ASKERS or not it.creations:
            it.note(self._signals.hear())
        if deadly:
            self._kill_creator(it)
        self._signals.let_end(which)
        while not it.over():
            it.note(self._signals.hear())
        if it.killed:
            self._askers[it.killed[0]].bury()
            self._askers[it.killed[0]] = self._bear(it.killed[0])
        return it.report()

    def _kill_creator(self, it: Round) -> None:
        who, began = it.creations[0].who, it.creations[0].when
        doom = began + self._random.uniform(*DOOMED_AFTER) * 1e9
        wait_until(lambda: time.monotonic_ns() >= doom, "passing of time")
        it.killed = who, time.monotonic_ns()
        self._askers[who].child.kill(signal.SIGKILL)

    def end(self) -> None:
        for asker in self._askers.values():
            asker.bury()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", help="of the segment; with --backend, the arguments of that store as JSON")
    parser.add_argument("--backend")
    parser.add_argument("--spare", action="store_true", help="kill no process")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--mutex", help="instead of the store's own")
    parser.add_argument("--seed", required=True)
    told = parser.parse_args()
    conductor = Conductor(told)
    try:
        rounds = [conductor.play(which, not told.spare and which % 2 == 0) for which in range(1, told.rounds + 1)]
    finally:
        conductor.end()
    print(json.dumps({"rounds": rounds}))


if __name__ == "__main__":
    main()
