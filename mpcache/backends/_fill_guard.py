"""The guard of one fill: the right to store one value that is being created.

Depends on nothing.  Each store adds how it learns that the key was changed since the creation began.
"""

from __future__ import annotations


class BaseFillGuard:
    """A FillGuard that has an outcome once it was used, and is live until it was used or closed."""

    def __init__(self) -> None:
        self.outcome: bool | None = None
        self.live = True

    def finish(self, outcome: bool) -> None:
        """Note what became of the fill: stored, or refused."""
        self.outcome, self.live = outcome, False

    def close(self) -> None:
        """End the creation, filled or not.  May be called again."""
        self.live = False
