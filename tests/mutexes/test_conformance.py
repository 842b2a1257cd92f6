"""Every primitive against what it promises.

Depends on the suite for authors of mutexes, and uses it as they do.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid

import pytest

from mpcache.mutexes.semaphore import SemaphoreMutex
from mpcache.shm import segment
from mpcache.testing import MutexConformance
from mpcache.testing.servers import Memcached, Redis


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


class _InAFolder(MutexConformance):
    __test__ = False

    @classmethod
    def setup_class(cls) -> None:
        cls.arguments = {"directory": tempfile.mkdtemp()}

    @classmethod
    def teardown_class(cls) -> None:
        assert SemaphoreMutex.unlink(**cls.arguments)
        shutil.rmtree(cls.arguments["directory"])


class TestFile(_InAFolder):
    __test__ = True
    mutex = "file"


class TestSemaphore(_InAFolder):
    __test__ = True
    mutex = "semaphore"


class TestRedis(MutexConformance):
    mutex = "redis"

    @pytest.fixture(autouse=True)
    def server(self, redis_server: Redis) -> None:
        type(self).arguments = {"url": redis_server.url, "lease": 1.0}


class TestValkey(TestRedis):
    mutex = "valkey"


class TestMemcached(MutexConformance):
    mutex = "memcached"

    @pytest.fixture(autouse=True)
    def server(self, memcached_server: Memcached) -> None:
        type(self).arguments = {"url": memcached_server.url, "lease": 1.0}
