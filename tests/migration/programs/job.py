"""A job in several processes: what the parent has computed is there in its children; the rest each computes once."""

import hashlib
import multiprocessing
import os
import threading
import time

from dogpile.cache import CacheRegion
from dogpile.cache.api import CachedValue
from dogpile.cache.exception import DogpileCacheException, RegionNotConfigured
from dogpile.lock import Lock, NeedRegenerationException
from dogpile.util import NameRegistry, ReadWriteMutex

BACKEND = os.environ.get("JOB_BACKEND", "dogpile.cache.memory")
REFRESHED = threading.Event()


def in_background(region, key, creator, mutex):
    def work():
        try:
            region.set(key, creator())
        finally:
            mutex.release()
            REFRESHED.set()

    threading.Thread(target=work).start()


region = CacheRegion(async_creation_runner=in_background)
made = []


@region.cache_on_arguments(namespace="job")
def digest(number):
    made.append(number)
    return hashlib.sha256(b"%d" % number).hexdigest()[:8]


@region.cache_multi_on_arguments(namespace="squares")
def squares(*numbers):
    made.extend(numbers)
    return [number * number for number in numbers]


def work(numbers, results):
    made.clear()
    results.send(([digest(number) for number in numbers], squares(*numbers), len(made)))


def fan_out(chunks):
    forked = multiprocessing.get_context("fork")
    pipes, workers = [], []
    for chunk in chunks:
        receive, send = forked.Pipe(duplex=False)
        workers.append(forked.Process(target=work, args=(chunk, send)))
        pipes.append(receive)
        workers[-1].start()
    answers = [pipe.recv() for pipe in pipes]
    for worker in workers:
        worker.join()
    return answers, [worker.exitcode for worker in workers]


def stale_while_refreshed():
    region.set("report", "old")
    region.invalidate(hard=False)
    first = region.get_or_create("report", lambda: "new", expiration_time=60)
    if first == "old":
        REFRESHED.wait(30)
    return first, region.get_or_create("report", lambda: "newest", expiration_time=60)


def lock_by_itself():
    mutexes = NameRegistry(lambda name: threading.Lock())
    values = {}

    def look():
        if "x" not in values:
            raise NeedRegenerationException()
        return values["x"]

    def create():
        values["x"] = ("value", time.time())
        return values["x"]

    with Lock(mutexes.get("x"), create, look, 60) as first, Lock(mutexes.get("x"), create, look, 60) as second:
        return first, second, mutexes.get("x").locked()


def main():
    try:
        region.get("anything")
    except RegionNotConfigured as error:
        print(type(error).__name__, isinstance(error, DogpileCacheException))
    region.configure(BACKEND)
    print([digest(number) for number in range(4)], squares(3, 1, 2), len(made))
    answers, exits = fan_out([range(8), range(8), range(2, 6)])
    for digests, numbers, _ in answers:
        print(digests, numbers)
    print("exits", exits)
    print("created in children", sum(created for *_, created in answers))
    print(stale_while_refreshed())
    print(lock_by_itself())
    value = region.get_value_metadata("report")
    print(isinstance(value, CachedValue), value.payload, value.metadata["v"], value.age < 60)
    mutex = ReadWriteMutex()
    print(mutex.acquire_read_lock(), mutex.acquire_write_lock(False))


if __name__ == "__main__":
    main()
