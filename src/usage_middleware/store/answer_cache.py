"""Answers cached in Redis for a minute, so that the same question has the same answer in every process."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from typing import Any

from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.schema import Schema

logger = logging.getLogger(__name__)

MAX_ENTRIES = 64
MAX_BYTES = 256 * 1024

#: Longer answers are stored compressed, to less than a tenth.
PLAIN_BYTES = 16 * 1024
#: What a compressed answer begins with, and no answer does.
_COMPRESSED = b"\0"

#: Keeps an answer, unless another process was quicker: then it returns that one's. Prunes, and evicts what ends first.
_KEEP = """
local cached = redis.call('GET', KEYS[1])
if cached then return cached end
local body, ttl, name, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('SET', KEYS[1], body, 'PX', ttl)
redis.call('ZADD', KEYS[2], now + ttl, name)
local surplus = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4])
if surplus > 0 then
  local evicted = redis.call('ZPOPMIN', KEYS[2], surplus)
  for i = 1, #evicted, 2 do redis.call('DEL', prefix .. evicted[i]) end
end
if redis.call('PTTL', KEYS[2]) < ttl then redis.call('PEXPIRE', KEYS[2], ttl) end
return false
"""


class AnswerCache:
    """At most 64 answers an organisation, none over 256 kB as it is stored; for `seconds`, 0 for not at all.

    `client` gives the Redis client of this process: after a fork there is a new one.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema, seconds: int) -> None:
        self._client = client
        self._schema = schema
        self._ttl = seconds * 1000

    def answer(self, org: str, name: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The cached answer, else a new one, and whether it was cached. Two that miss together get the same one."""
        if not self._ttl:
            return make(), False
        cached = self._client().get(self._schema.cache(org, name))
        if cached is not None:
            return _unpacked(cached), True
        made = make()
        winner = self._keep(org, name, made)
        return (made, False) if winner is None else (winner, True)

    def _keep(self, org: str, name: str, body: bytes) -> bytes | None:
        packed = _packed(body)
        if len(packed) > MAX_BYTES:
            return None
        keys = self._schema.cache(org, name), self._schema.cache_index(org)
        prefix = self._schema.cache(org, "")
        try:
            winner: bytes | None = self._client().eval(_KEEP, 2, *keys, packed, self._ttl, name, MAX_ENTRIES, prefix)
        except redis_errors() as error:
            # The answer is here already: a Redis that is full, read-only or away by now must not take it away.
            logger.warning("an answer could not be cached: %s", error)
            return None
        return None if winner is None else _unpacked(winner)


def _packed(body: bytes) -> bytes:
    return body if len(body) <= PLAIN_BYTES else _COMPRESSED + zlib.compress(body)


def _unpacked(body: bytes) -> bytes:
    return zlib.decompress(body[1:]) if body.startswith(_COMPRESSED) else bytes(body)
