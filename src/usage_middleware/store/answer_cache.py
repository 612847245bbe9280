"""Answers cached in Redis for a minute, so that the same question has the same answer in every process."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from usage_middleware.store.admission import stored
from usage_middleware.store.driver_errors import redis_errors
from usage_middleware.store.schema import Schema
from usage_middleware.store.script import Script

logger = logging.getLogger(__name__)

#: Of one viewer, and of all viewers of an organisation.
MAX_ENTRIES, MAX_ENTRIES_IN_ALL = 64, 1024
#: Of one entry, as it is stored.
MAX_BYTES = 256 * 1024
#: Of one answer.
MAX_ANSWER = 8_000_000
#: So often it is logged that answers can't be kept or read, seconds.
WARN_EVERY = 60.0

#: Longer answers are stored compressed, to less than a tenth.
PLAIN_BYTES = 16 * 1024
#: What an entry begins with; then come four bytes that tell whether the rest is whole.
_PLAIN, _COMPRESSED = b"\1", b"\2"
_HEADER = 5

#: Keeps an answer, unless another process was quicker: then it returns that one's. Prunes; a viewer's new answer takes the
#: place of its own that ends first. Returns whether it was kept.
_KEEP = Script("""
local body, ttl, name, prefix, replaces = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5] == '1'
local cached = redis.pcall('GET', KEYS[1])
if type(cached) == 'string' and not replaces then return cached end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, 3 do redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now) end
redis.call('ZREM', KEYS[2], name)
redis.call('ZREM', KEYS[3], name)
local surplus = redis.call('ZCARD', KEYS[3]) + 1 - tonumber(ARGV[6])
if surplus > 0 then
  local evicted = redis.call('ZPOPMIN', KEYS[3], surplus)
  for i = 1, #evicted, 2 do
    redis.call('DEL', prefix .. evicted[i])
    redis.call('ZREM', KEYS[2], evicted[i])
  end
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], body, 'PX', ttl)
for i = 2, 3 do
  redis.call('ZADD', KEYS[i], now + ttl, name)
  if redis.call('PTTL', KEYS[i]) < ttl then redis.call('PEXPIRE', KEYS[i], ttl) end
end
return 1
""")


class Entry(NamedTuple):
    """Where an answer is kept: in whose tree, for which viewer, under which name. The name tells viewers apart, too."""

    org: str
    viewer: str
    name: str


class AnswerCache:
    """At most 64 answers a viewer and 1,024 an organisation, none over 256 kB as it is stored; for `seconds`, 0: none.

    `client` gives the Redis client of this process: after a fork there is a new one.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema, seconds: int) -> None:
        self._client = client
        self._schema = schema
        self._ttl = seconds * 1000
        self._warned_at = float("-inf")

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return bool(self._ttl)

    def answer(self, entry: Entry, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The cached answer, else a new one, and whether it was cached. Two that miss together get the same one."""
        found = stored(self._client(), self._schema.cache(entry.org, entry.name)) if self.is_on else None
        return self.answer_with(entry, found, make)

    def answer_with(self, entry: Entry, found: Any, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """As `answer`, where somebody has looked already: `found` is what is stored, None for nothing.

        A stored answer that is damaged is none.
        """
        if not self.is_on:
            return make(), False
        kept = None if found is None else self._unpacked(found)
        if kept is not None:
            return kept, True
        made = make()
        winner = self._keep(entry, made, replaces=found is not None)
        return (made, False) if winner is None else (winner, True)

    def _keep(self, entry: Entry, body: bytes, *, replaces: bool) -> bytes | None:
        """The answer of a process that was quicker; None if there is none."""
        packed = _packed(body)
        if len(packed) > MAX_BYTES:
            return None
        org, viewer, name = entry
        keys = [self._schema.cache(org, name), self._schema.cache_index(org), self._schema.cache_index(org, viewer)]
        prefix = self._schema.cache(org, "")
        arguments = packed, self._ttl, name, prefix, int(replaces), MAX_ENTRIES, MAX_ENTRIES_IN_ALL
        try:
            winner = _KEEP.run(self._client(), keys, arguments)
        except redis_errors() as error:
            # The answer is here already: a Redis that is full, read-only or away by now must not take it away.
            self._warn("an answer could not be cached: %s", error)
            return None
        return self._unpacked(winner) if isinstance(winner, bytes) else None

    def _unpacked(self, packed: bytes) -> bytes | None:
        """The answer; None if it is damaged."""
        body = _unpacked(packed)
        if body is None:
            self._warn("a cached answer was damaged, and is made again (%d bytes)", len(packed))
        return body

    def _warn(self, message: str, detail: object) -> None:
        if time.monotonic() >= self._warned_at + WARN_EVERY:
            self._warned_at = time.monotonic()
            logger.warning(message, detail)


def _packed(body: bytes) -> bytes:
    check = zlib.crc32(body).to_bytes(4, "big")
    if len(body) <= PLAIN_BYTES:
        return _PLAIN + check + body
    return _COMPRESSED + check + zlib.compress(body)


def _unpacked(packed: bytes) -> bytes | None:
    kind, check, rest = packed[:1], packed[1:_HEADER], packed[_HEADER:]
    body = rest if kind == _PLAIN else _inflated(rest) if kind == _COMPRESSED else None
    return body if body is not None and zlib.crc32(body).to_bytes(4, "big") == check else None


def _inflated(packed: bytes) -> bytes | None:
    """At most `MAX_ANSWER` bytes; None for more, and for what was never compressed."""
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(packed, MAX_ANSWER + 1)
    except zlib.error:
        return None
    return body if unpacking.eof and not unpacking.unused_data else None
