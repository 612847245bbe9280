"""May this viewer ask now, and is the answer there already? One trip to Redis before each view."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from usage_middleware.store.driver_errors import effect, redis_errors
from usage_middleware.store.schema import Schema
from usage_middleware.store.script import Script

logger = logging.getLogger(__name__)

#: So often it is logged that limits can't be kept, seconds.
WARN_EVERY = 60.0


class Rate(NamedTuple):
    """So many requests in so many seconds."""

    requests: int
    seconds: int


class RateState(NamedTuple):
    """How a viewer stands with one limit.

    Attributes:
        remaining: how many more requests are possible now.
        reset_us: microseconds until all of them are possible again.
    """

    rate: Rate
    remaining: int
    reset_us: int


class Admission(NamedTuple):
    """What one trip found.

    Attributes:
        wait_us: microseconds until the viewer may ask again; 0: it may ask now.
        now_us: the time of Redis, microseconds since the epoch; 0 where no limit was checked.
        states: one for each limit.
        cached: the stored answer, if there is one.
    """

    wait_us: int = 0
    now_us: int = 0
    states: Sequence[RateState] = ()
    cached: Any = None


#: GCRA: `tat` is when all that was asked so far is paid for, at one request each `step`. Fields of viewers that have not asked
#: for a while are removed, a few at a time.
_ADMIT = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wait, longest, asked, states = 0, 0, {}, {}
for i = 2, #ARGV, 2 do
  local window = tonumber(ARGV[i + 1]) * 1000000
  local step = window / tonumber(ARGV[i])
  local field = ARGV[1] .. ' ' .. ARGV[i + 1]
  local tat = tonumber(redis.call('HGET', KEYS[1], field))
  if not tat or not (tat > now) then tat = now elseif tat > now + window then tat = now + window end
  if tat + step - window - now > 1 then wait = math.max(wait, tat + step - window - now) end
  longest = math.max(longest, window)
  asked[#asked + 1] = {field, tat, step, window}
end
for i, one in ipairs(asked) do
  local tat = one[2]
  if wait == 0 then
    tat = tat + one[3]
    redis.call('HSET', KEYS[1], one[1], string.format('%.17g', tat))
  end
  states[i] = {math.floor((one[4] - (tat - now) + 1) / one[3]), math.ceil(tat - now)}
end
if wait == 0 and redis.call('PTTL', KEYS[1]) < longest / 1000 then redis.call('PEXPIRE', KEYS[1], longest / 1000) end
if redis.call('HLEN', KEYS[1]) > 256 then
  local some = redis.call('HRANDFIELD', KEYS[1], 8, 'WITHVALUES')
  for i = 1, #some, 2 do
    if not ((tonumber(some[i + 1]) or 0) > now) then redis.call('HDEL', KEYS[1], some[i]) end
  end
end
local cached = false
if wait == 0 and KEYS[2] then
  cached = redis.pcall('GET', KEYS[2])
  if type(cached) ~= 'string' then cached = false end
end
return {math.ceil(wait), now, cached, states}
""")


class Admissions:
    """Checks limits, and looks for stored answers.

    `client` gives the Redis client of this process: after a fork there is a new one.
    """

    def __init__(self, client: Callable[[], Any], schema: Schema) -> None:
        self._client = client
        self._schema = schema
        self._warned_at = float("-inf")

    def ask(self, org: str, who: str, rates: Sequence[Rate], name: str | None) -> Admission:
        """Count a request of `who` against its limits, all or none, and get the stored answer `name`.

        A Redis that can't count it, because it is full or a replica, refuses nobody.

        Raises:
            redis_errors(): Redis does not answer.
        """
        if rates:
            try:
                return self._counted(org, who, rates, name)
            except redis_errors() as error:
                if effect(error) == "silent":
                    raise
                self._warn(error)
        return Admission(cached=None if name is None else stored(self._client(), self._schema.cache(org, name)))

    def _counted(self, org: str, who: str, rates: Sequence[Rate], name: str | None) -> Admission:
        keys = [self._schema.limits(org), *(() if name is None else (self._schema.cache(org, name),))]
        numbers = [number for rate in rates for number in rate]
        wait, now, cached, states = _ADMIT.run(self._client(), keys, (who, *numbers))
        return Admission(wait, now, [RateState(rate, *state) for rate, state in zip(rates, states, strict=True)], cached)

    def _warn(self, error: Exception) -> None:
        if time.monotonic() >= self._warned_at + WARN_EVERY:
            self._warned_at = time.monotonic()
            logger.warning("limits on the usage API can't be counted, and nobody is refused: %s", error)


def stored(client: Any, key: str) -> Any:
    """The value of a key; None where there is none, or one of another type."""
    try:
        return client.get(key)
    except redis_errors() as error:
        if effect(error) != "fault":
            raise
        return None
