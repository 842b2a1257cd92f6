"""The generation of a namespace at memcached servers, under one key::

mpcache:generation:<namespace>    the number, in digits
"""

from __future__ import annotations

from mpcache._servers.generation import Generation, draw
from mpcache._servers.memcached import plain_name
from mpcache._servers.memcached.pool import Pool
from mpcache._servers.outage import OutagePolicy


class MemcachedGeneration(Generation):
    """The generation of one namespace."""

    def __init__(self, namespace: str, outage: OutagePolicy, pool: Pool) -> None:
        super().__init__(namespace, outage)
        self.key = plain_name(self.key)
        self._pool = pool

    def _read(self) -> bytes | None:
        return self._pool.get_many([self.key]).get(self.key)

    def _number(self, found: bytes | None) -> int:
        while found is None:
            first = b"%d" % (draw() << 32)
            found = first if self._pool.add(self.key, first, 0) else self._read()
        if found.isdigit():
            return int(found)
        self._draw(hard=True)
        return self._number(self._read())  # another process may have drawn one, too: the last one counts

    def _draw(self, hard: bool) -> int:
        if hard:
            number = draw() << 32
            self._pool.set(self.key, b"%d" % number, 0)
            return number
        while True:
            self._number(self._read())
            found = self._pool.gets(self.key)
            if found is not None and found[0].isdigit():
                number = int(found[0]) >> 32 << 32 | draw()
                if self._pool.cas(self.key, b"%d" % number, 0, found[1]):
                    return number
