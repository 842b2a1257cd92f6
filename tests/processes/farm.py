"""A user's program that has its work done by other processes, in each way that Python offers.

Depends on jobs.  A program: ``python -m tests.processes.farm WAY METHOD``; its report is a line of JSON.  It is a
program so that multiprocessing treats its main module as it treats a user's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import mpcache
from tests.processes.jobs import CROWD, answers

Answers = tuple[int, dict[int, str]]


def by_process(context: BaseContext) -> list[Answers]:
    queue = context.Queue()
    crowd = [context.Process(target=_put_answers, args=(queue, seed)) for seed in range(CROWD)]
    for process in crowd:
        process.start()
    found = [queue.get() for _ in crowd]
    for process in crowd:
        process.join()
    return found


def _put_answers(queue: Any, seed: int) -> None:
    queue.put(answers(seed))


def by_pool(context: BaseContext) -> list[Answers]:
    with context.Pool(CROWD) as pool:
        return pool.map(answers, range(CROWD), chunksize=1)


def by_executor(context: BaseContext) -> list[Answers]:
    with ProcessPoolExecutor(CROWD, mp_context=context) as executor:
        return list(executor.map(answers, range(CROWD)))


def by_joblib(backend: str) -> list[Answers]:
    import joblib

    found: list[Answers] = joblib.Parallel(n_jobs=CROWD, batch_size=1, backend=backend)(
        joblib.delayed(answers)(seed) for seed in range(CROWD)
    )
    return found


# -- regions that travel ---------------------------------------------------------------------------------------------


def handed_over(context: BaseContext) -> dict[str, Any]:
    """A region that the child can know from its argument alone."""
    region = mpcache.shared(os.environ["MPCACHE_TEST_SEGMENT"], "8MB", namespace="handed over", expiration_time=300)
    return _visited(region, context.Process(target=_visit, args=(region,)))


def anonymous(context: BaseContext) -> dict[str, Any]:
    """One whose segment has no name: its descriptor travels to a process that is being started."""
    region = mpcache.shared(None, "4MB")
    return _visited(region, context.Process(target=_visit, args=(region,)))


def anonymous_to_a_pool(context: BaseContext) -> dict[str, Any]:
    """An initializer's arguments travel with the processes, a task's do not."""
    region = mpcache.shared(None, "4MB")
    region.set("from the parent", os.getpid())
    with context.Pool(1, initializer=_visit, initargs=(region,)) as pool:
        pool.apply(os.getpid)
        try:
            pool.apply(_visit, (region,))
            refusal = "none"
        except TypeError as error:
            refusal = str(error)
        pool.close()
        pool.join()
    return _visited(region, None) | {"refusal": refusal}


def _visited(region: mpcache.CacheRegion, visitor: Any) -> dict[str, Any]:
    region.set("from the parent", os.getpid())
    if visitor is not None:
        visitor.start()
        visitor.join()
    return {"parent": os.getpid(), "processes": region.actual_backend.stats()["processes"]} | region.get("seen")


def _visit(region: mpcache.CacheRegion) -> None:
    seen = {"child": os.getpid(), "saw": region.get_or_create("from the parent", lambda: None)}
    region.set("seen", seen | {"expiration_time": region.expiration_time})


WAYS: dict[str, Any] = {way.__name__: way for way in (by_process, by_pool, by_executor)}
WAYS |= {way.__name__: way for way in (handed_over, anonymous, anonymous_to_a_pool)}


def main() -> None:
    way, method = sys.argv[1:]
    done = by_joblib(method) if way == "by_joblib" else WAYS[way](multiprocessing.get_context(method))
    print(json.dumps(done))


if __name__ == "__main__":
    main()
