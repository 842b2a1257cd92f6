"""The error of the stress tool.

Depends on nothing of mpcache.
"""

from __future__ import annotations


class CannotRun(Exception):
    """A run is impossible here; the text says why, and what to do."""
