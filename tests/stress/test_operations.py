"""What workers write down of what they do, at the moment at which they may be killed.

Depends on operations; the region lets each caller create by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpcache._region.counters import Counters
from mpcache.stress import actor_log
from mpcache.stress.actor import Actor
from mpcache.stress.actor_log import ActorLog
from mpcache.stress.history import Kind, Outcome
from mpcache.stress.operations import get_or_create, get_or_create_multi

ME = 1 << 8


class Lone:
    """A region whose last creator has stored nothing, if that is said."""

    def __init__(self, alone: bool) -> None:
        self.counters, self.alone = Counters(), alone

    def get_or_create(self, name: str, create: Callable[[], Any]) -> Any:
        return self.get_or_create_multi([name], lambda name: [create()])[0]

    def get_or_create_multi(self, names: list[str], create: Callable[..., Any]) -> list[Any]:
        if self.alone:
            self.counters.created_unlocked()
        return [*create(*names)]


@pytest.mark.parametrize(("alone", "outcome"), [(True, Outcome.ALONE), (False, Outcome.DONE)])
@pytest.mark.parametrize("ask", [lambda me: get_or_create(me, 7, "k"), lambda me: get_or_create_multi(me, {"k": 7})])
def test_who_creates_alone_says_so_before_he_creates(
    ask: Callable[[Any], Any], alone: bool, outcome: Outcome, tmp_path: Path
) -> None:
    def written() -> list[tuple[int, int]]:
        entries = actor_log.read(tmp_path / f"log-{ME}", None)
        return [(entry.outcome, entry.ended) for entry in entries if entry.kind == Kind.CREATE]

    me: Any = Actor.__new__(Actor)
    me.number, me._values, me.random, me.region = ME, 0, random.Random(1), Lone(alone)
    me.log, me.row = ActorLog(tmp_path, ME), [0] * 8
    while_it_creates: list[Any] = []
    me.work = lambda most: while_it_creates.extend(written())
    ask(me)
    assert while_it_creates == [(outcome, 0)]
    ((after, ended),) = written()
    assert (after, ended > 0) == (outcome, True)
