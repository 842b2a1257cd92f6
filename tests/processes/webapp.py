"""A user's web application: pages that are cached for all workers, and notes of what was done where.

Depends on support.  MPCACHE_TEST_SEGMENT names the segment, empty for an anonymous one; MPCACHE_TEST_SIZE is its size,
if that is not 8MB; MPCACHE_TEST_LOG the file for the notes: ``begin ID PID`` of requests, ``create PAGE PID NS QUEUED``
of creations: when, on the monotonic clock, and how much of the request's time until then the thread had spent in the
queue for a core.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mpcache
from tests.processes.support import note, queued, wait_until

LOG = os.environ["MPCACHE_TEST_LOG"]

SIZE = os.environ.get("MPCACHE_TEST_SIZE", "8MB")

cache = mpcache.shared(os.environ["MPCACHE_TEST_SEGMENT"] or None, size=SIZE, expiration_time=600)

request = threading.local()


@cache.cache_on_arguments()
def page(name: str) -> str:
    """A slow one is not done before the file ``LOG.NAME`` is there."""
    when, after = time.monotonic_ns(), queued()
    note(LOG, f"create {name} {os.getpid()} {when} {after - request.queued}")
    if name.startswith("slow"):
        wait_until(Path(f"{LOG}.{name}").exists, "leave to end")
    time.sleep(0.002)
    return f"{name} {secrets.token_hex(8)}"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/page/NAME?ID`` and ``/stats``."""
    what, _, name = environ["PATH_INFO"].strip("/").partition("/")
    if what == "page":
        request.queued = queued()
        note(LOG, f"begin {environ['QUERY_STRING']} {os.getpid()}")
        text = page(name)
    else:
        text = json.dumps(cache.actual_backend.stats())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Worker", str(os.getpid()))])
    return [text.encode()]
