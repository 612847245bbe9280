"""What many API keys used in some slots, added up by Redis: a key then takes a row of a reply, not all fields of its hash."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from usage_middleware.store.block_reads import Block
from usage_middleware.store.reads import Read
from usage_middleware.store.replies import Measures, Note, number

#: So many keys are added up by one command, which keeps other clients waiting.
KEYS_A_COMMAND = 100

#: KEYS: the hashes. ARGV: how many measures, then the fields, one of each measure for each slot. What is damaged, or too large
#: for a double, is an error: it is read one by one then.
_ADD_UP = """
local measures, found = tonumber(ARGV[1]), {}
for place, key in ipairs(KEYS) do
  local values, row = redis.call('HMGET', key, unpack(ARGV, 2)), {}
  for at = 1, measures do row[at] = 0 end
  for field, value in ipairs(values) do
    if value then
      if not string.find(value, '^%-?%d+$') then return redis.error_reply('ERR it holds no number') end
      local at = (field - 1) % measures + 1
      row[at] = row[at] + tonumber(value)
      if math.abs(row[at]) >= 9007199254740992 then return redis.error_reply('ERR it is too large') end
    end
  end
  found[place] = row
end
return found
"""


def sum_read(
    block: Block, names: Sequence[str], keys: Sequence[str], measures: Sequence[str], found: dict[str, Measures]
) -> Read:
    """What adds up the measures of keys over a block, whose Redis keys are `names`: in no MULTI, which would fail with it."""
    fields = tuple(f"{slot} {measure}".encode() for slot in block.slots for measure in measures)
    command = ("EVAL_RO", _ADD_UP, len(names), *names, len(measures), *fields)
    instead = partial(_one_by_one, fields, names, keys, measures, found)
    return Read(command, False, partial(_add, keys, measures, found), instead)


def _add(keys: Sequence[str], measures: Sequence[str], found: dict[str, Measures], note: Note, reply: Any) -> None:
    for key, row in zip(keys, reply, strict=True):
        if any(row):
            sums = found.setdefault(key, {})
            for measure, counted in zip(measures, row, strict=True):
                sums[measure] = sums.get(measure, 0) + int(counted)


def _one_by_one(
    fields: Sequence[bytes],
    names: Sequence[str],
    keys: Sequence[str],
    measures: Sequence[str],
    found: dict[str, Measures],
) -> list[Read]:
    """The same without a script, which a server of before Redis 7 can't run so."""
    return [
        Read(("HMGET", name, *fields), False, AddSums(key, tuple(measures), found))
        for name, key in zip(names, keys, strict=True)
    ]


class AddSums(msgspec.Struct, frozen=True, gc=False):
    """Adds an HMGET of a key: each of these measures, of one slot after the other."""

    key: str
    measures: tuple[str, ...]
    found: dict[str, Measures]

    def __call__(self, note: Note, reply: Any) -> None:
        """Add a reply."""
        for place, value in enumerate(reply):
            if value is None:
                continue
            measure, counted = self.measures[place % len(self.measures)], number(value)
            if counted is None:
                note(measure)
                continue
            sums = self.found.setdefault(self.key, {})
            sums[measure] = sums.get(measure, 0) + counted
