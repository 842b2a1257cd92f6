"""The generation of a namespace at a redis server, under one key::

mpcache:generation:<namespace>    "<hard> <soft>", two numbers
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpcache._servers.generation import Generation, draw
from mpcache._servers.outage import OutagePolicy
from mpcache._servers.redis.script import Script

_BEGIN = Script("""
if not string.match(redis.call('GET', KEYS[1]) or '', '^%d+ %d+$') then
    redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('GET', KEYS[1])
""")

_SOFTEN = Script("""
local hard = string.match(redis.call('GET', KEYS[1]) or '', '^%d+') or ARGV[1]
redis.call('SET', KEYS[1], hard .. ' ' .. ARGV[2])
return hard .. ' ' .. ARGV[2]
""")


class RedisGeneration(Generation):
    """The generation of one namespace.

    :param client: returns the present client of the server that decides.
    """

    def __init__(self, namespace: str, outage: OutagePolicy, client: Callable[[], Any]) -> None:
        super().__init__(namespace, outage)
        self._client = client

    def _read(self) -> Any:
        return self._client().get(self.key)

    def _number(self, found: Any) -> int:
        numbers = () if found is None else found.split()
        if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            numbers = _BEGIN(self._client(), [self.key], f"{draw()} 0").split()
        hard, soft = map(int, numbers)
        return hard << 32 | soft

    def _draw(self, hard: bool) -> int:
        if not hard:
            return self._number(_SOFTEN(self._client(), [self.key], draw(), draw()))
        new = f"{draw()} 0"
        self._client().set(self.key, new)
        return self._number(new)
