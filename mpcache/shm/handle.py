"""Keep a namespace by its name: a handle follows the name from a removed segment to its successor.

Depends on exception, segment and the engine.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from mpcache.exception import NoRoom, SegmentError, SegmentRetired
from mpcache.shm import _engine
from mpcache.shm.segment import BORN_ELSEWHERE, Segment, attach

RETRY_S = 0.25
"""Seconds for which a handle that has found no successor does not look for one again."""


class _Nowhere:
    """Stands for the namespace of a handle that has no segment: each call raises SegmentRetired, after which the handle
    looks for a successor again."""

    name, retired = None, True

    @property
    def engine(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        def sends_away(*args: Any) -> Any:
            raise SegmentRetired("the segment was unlinked, and there is no room yet for its successor")

        return sends_away


_nowhere: Any = _Nowhere()


class NamespaceHandle(_engine.HandleBase):
    """A namespace, found by the segment's name: the handle outlives the segment that has the name now.

    :ivar namespace: the namespace in the segment that is attached now.
    :ivar segment: that segment.
    :ivar identity: equal for two handles of the same namespace.
    """

    _tries_again = 0.0
    _why: Callable[[], SegmentError]

    def __init__(self, namespace: str = "", segment: Segment | None = None, **how: Any) -> None:
        self._namespace_name = namespace
        self._how = how
        if segment is None:
            self._attach()
        else:
            self._settle(segment)
        self._how = how | {"name": self.segment.name, "for_mutexes": self.segment.for_mutexes}
        self.identity = (self.segment.path or id(self.segment), namespace)

    def _attach(self) -> None:
        """Attach the segment that has the name now, and the next one if it is removed before this process is at work in
        it: until then, a process of another layout may take it for abandoned."""
        for _ in range(BORN_ELSEWHERE):
            segment = attach(**self._how)
            try:
                return self._settle(segment)
            except SegmentRetired:
                pass
        self._settle(segment)

    def _settle(self, segment: Segment) -> None:
        self.namespace = segment.engine.namespace(self._namespace_name)
        self.segment = segment

    def move(self) -> None:
        """Attach the successor of a segment that was retired; two threads that do so at once get the same one.

        :raises SegmentRetired: the segment was anonymous and has no successor.
        :raises SegmentError: there is no successor, and none can be created.  For RETRY_S seconds no call tries again.
        """
        if not self.namespace.engine.retired:
            return
        if self._how.get("name") is None:
            raise SegmentRetired("this anonymous segment was unlinked; make a new cache")
        if time.monotonic() < self._tries_again:
            raise self._why()
        try:
            self._move()
        except SegmentError as error:
            self._why = functools.partial(type(error), *error.args, **error.__dict__)
            self._tries_again = time.monotonic() + RETRY_S
            raise

    def _move(self) -> None:
        try:
            return self._attach()
        except NoRoom:
            pass
        self.segment = self.namespace = _nowhere  # release the old segment: this process's mapping keeps its memory
        self._attach()
