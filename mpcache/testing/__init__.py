"""Test tools for authors of stores and mutexes: assertions here, whole suites in modules of their own.

Depends on nothing of mpcache; the suites depend on its public names, and on pytest.  The suite of mutexes is loaded at
its first use, the suites of stores are in :mod:`mpcache.testing.fixtures`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpcache.testing.assertions import assert_raises_message, eq_, is_, ne_, winsleep

if TYPE_CHECKING:
    from mpcache.testing.mutexes import MutexConformance

__all__ = ["MutexConformance", "assert_raises_message", "eq_", "is_", "ne_", "winsleep"]


def __getattr__(name: str) -> Any:
    if name != "MutexConformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mpcache.testing import mutexes

    return mutexes.MutexConformance
