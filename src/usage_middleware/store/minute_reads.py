"""How one measure is read minute by minute over many hours: some half-hours with each command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple

from usage_middleware.periods import MINUTE, Slot, slot_names
from usage_middleware.store.reads import Read
from usage_middleware.store.replies import Note, number
from usage_middleware.store.schema import Schema

#: So many half-hours are read by one command, which keeps other clients waiting.
_AT_ONCE = 50
#: KEYS: the hashes. ARGV: the measure; of each hash the first minute, and how many.
_READ = """
local found, fields = {}, {}
for place, key in ipairs(KEYS) do
  local first, count = ARGV[2 * place], tonumber(ARGV[2 * place + 1])
  local name = first .. ' ' .. count
  if not fields[name] then
    fields[name] = {}
    for minute = 1, count do fields[name][minute] = string.format('%02d %s', first + minute - 1, ARGV[1]) end
  end
  found[place] = redis.call('HMGET', key, unpack(fields[name]))
end
return found
"""


class _HalfHour(NamedTuple):
    """What is read of a half-hour: so many minutes from `start` on, which have these fields of a Redis key."""

    key: str
    start: int
    first: int
    minutes: int


def minute_reads(
    schema: Schema, org: str, key: str | None, measure: str, start: int, end: int, found: dict[int, int]
) -> Iterator[Read]:
    """Reads that fill `found` with what is counted in each minute of `[start, end)`, of a key or of the organisation (None).

    Minutes without are absent. `start` and `end` are whole minutes.
    """
    minute, middle, _ = schema.layers
    half_hours = []
    for block in range(middle.floor(start), end, middle.seconds):
        first, last = max(start, block), min(end, block + middle.seconds)
        name = slot_names(Slot(minute, block), middle.seconds).block
        of = schema.series(org, minute.name, name) if key is None else schema.series_of(org, minute.name, name, "key", key)
        half_hours.append(_HalfHour(of, first, first // MINUTE % 60, (last - first) // MINUTE))
    for begin in range(0, len(half_hours), _AT_ONCE):
        yield _together(half_hours[begin : begin + _AT_ONCE], measure, found)


def _together(some: Sequence[_HalfHour], measure: str, found: dict[int, int]) -> Read:
    if len(some) == 1:
        return _alone(some[0], measure, found)
    which = chain.from_iterable((one.first, one.minutes) for one in some)
    command = ("EVAL_RO", _READ, len(some), *(one.key for one in some), measure, *which)
    return Read(command, False, partial(_add, some, found), lambda: [_alone(one, measure, found) for one in some])


def _alone(one: _HalfHour, measure: str, found: dict[int, int]) -> Read:
    """The same without a script, which a server of before Redis 7 can't run so."""
    command = ("HMGET", one.key, *_fields(one.first, one.minutes, measure))
    return Read(command, False, lambda note, reply: _add([one], found, note, [reply]))


@lru_cache(maxsize=1024)
def _fields(first: int, count: int, measure: str) -> tuple[bytes, ...]:
    """The fields of so many minutes of an hour."""
    return tuple(f"{minute:02d} {measure}".encode() for minute in range(first, first + count))


def _add(some: Sequence[_HalfHour], found: dict[int, int], note: Note, reply: Any) -> None:
    for one, row in zip(some, reply, strict=True):
        for at, value in enumerate(row):
            if value is not None:
                counted = number(value)
                if counted is None:
                    note("a minute")
                else:
                    found[one.start + at * MINUTE] = counted
