"""Which organisations that nobody knows have a tree of their own in Redis, of all that ever called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usage_middleware.store.schema import Schema

#: So many are asked about at once.
_PAGE = 1_000

#: Notes organisations while there is room. Answers the places in ARGV, from 1 on, of those for which there is none.
#: KEYS: the registry. ARGV: now, ms; how long one is kept after it was last seen, ms; the limit; organisations.
_ADMIT = """
local now, keep, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - keep))
local room = limit - redis.call('ZCARD', KEYS[1])
local refused = {}
for i = 4, #ARGV do
  local known = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not known then room = room - 1 end
  if known or room >= 0 then
    redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[i])
  else
    refused[#refused + 1] = i - 3
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return refused
"""


def admit(client: Any, schema: Schema, orgs: Sequence[str], now_ms: int, keep_ms: int) -> set[str]:
    """Note that these organisations have a tree; those for which there is no room.

    Raises:
        redis_errors(): as the client does.
    """
    refused: set[str] = set()
    limit = schema.settings.max_unknown_orgs
    for begin in range(0, len(orgs), _PAGE):
        some = orgs[begin : begin + _PAGE]
        found = client.execute_command("EVAL", _ADMIT, 1, schema.unknown_orgs, now_ms, keep_ms, limit, *some)
        refused.update(some[place - 1] for place in found)
    return refused


def admitted(client: Any, schema: Schema) -> int:
    """How many there are.

    Raises:
        redis_errors(): as the client does.
    """
    return int(client.zcard(schema.unknown_orgs))
