"""Every primitive against what it promises.

Leans on the suite for authors, as they do.
"""

from __future__ import annotations

import os
import uuid

from mpcache.shm import segment
from mpcache.testing import MutexConformance


class TestNull(MutexConformance):
    mutex = "null"


class TestThread(MutexConformance):
    mutex = "thread"


class TestShm(MutexConformance):
    mutex = "shm"
    arguments = {"segment": f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"}
    tells_processes = True

    @classmethod
    def teardown_class(cls) -> None:
        segment.unlink(cls.arguments["segment"])
