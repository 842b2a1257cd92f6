"""For those who write a store or a mutex: small assertions here, whole suites in :mod:`mpcache.testing.fixtures`.

Leans on nothing of mpcache; the suites lean on its public names, and on pytest.
"""

from __future__ import annotations

from mpcache.testing.assertions import assert_raises_message, eq_, is_, ne_, winsleep

__all__ = ["assert_raises_message", "eq_", "is_", "ne_", "winsleep"]
