"""Reads live counters that are to be packed: the names and numbers of Redis keys, many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from usage_middleware.periods import Slot
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.driver_errors import is_wrong_type
from usage_middleware.store.replies import LATEST_MS, columns, numbers, text
from usage_middleware.store.schema import LAST


class LiveKey(NamedTuple):
    """A Redis key.

    Attributes:
        name: the key.
        what: what the section is about that its numbers go to.
        entity: whose series or board it is; None: its members are entities.
        measure: what a board of many entities counts.
        slot: the slot of a board; None of a series.
    """

    name: str
    what: str
    entity: str | None
    measure: str = ""
    slot: Slot | None = None

    @property
    def command(self) -> tuple[object, ...]:
        """What reads it."""
        return ("HGETALL", self.name) if self.slot is None else ("ZRANGE", self.name, 0, -1, "WITHSCORES")


class LiveCounts(NamedTuple):
    """The numbers of a Redis key.

    Attributes:
        key: the Redis key.
        names: fields or members, as Redis has them.
        numbers: the number of each.
        is_whole: all that the key has belongs to the day; else `names` alone.
    """

    key: LiveKey
    names: Sequence[Any]
    numbers: Sequence[int]
    is_whole: bool


class SlotsOfFields(dict[Any, Slot | None]):
    """The slots of a series' fields, by what Redis calls these."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots

    def __missing__(self, raw: Any) -> Slot | None:
        found = self[raw] = self._slots.get(text(raw).partition(" ")[0])
        return found


class LiveReader:
    """Reads the live counters of a day.

    Args:
        client: reads them.
        slots: the slots of the day, by what the fields of series call them.
        damage: told what is damaged.
        of_a_month: series have the fields of a month, not of the day alone.

    Attributes:
        slots_of: field -> its slot; None if it is not of the day.
    """

    def __init__(self, client: Any, slots: Mapping[str, Slot], damage: DamageLog, *, of_a_month: bool) -> None:
        self._client = client
        self._damage = damage
        self._of_a_month = of_a_month
        self.slots_of = SlotsOfFields(slots)

    def read(self, keys: Sequence[LiveKey]) -> list[LiveCounts]:
        """The keys that are there. One of another type counts as missing, and stays.

        Raises:
            redis_errors(): as the client does.
        """
        if not keys:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.execute_command(*key.command)
            return self.counts(keys, pipe.execute(raise_on_error=False))

    def counts(self, keys: Sequence[LiveKey], replies: Sequence[Any]) -> list[LiveCounts]:
        """What Redis replied to the keys' commands."""
        return [self._counts(key, reply) for key, reply in zip(keys, replies, strict=True) if self._is_there(key, reply)]

    def _is_there(self, key: LiveKey, reply: Any) -> bool:
        if isinstance(reply, Exception):
            if not (is_wrong_type(reply) and self._damage.explains(reply, key.name)):
                raise reply
            return False
        return bool(reply)

    def _counts(self, key: LiveKey, reply: Any) -> LiveCounts:
        names, values = columns(reply)
        is_whole = key.slot is not None or not self._of_a_month
        if not is_whole:
            names, values = self._of_the_day(names, values)
        found = list(numbers(values))
        if key.slot is None and not all(one is not None and 0 <= one <= LATEST_MS for one in found):
            found = [None if _is_no_time(name, one) else one for name, one in zip(names, found, strict=True)]
        if not all(found):
            names, found = self._without_zeros(key, names, found)
        return LiveCounts(key, names, cast(Sequence[int], found), is_whole)

    def _of_the_day(self, names: Sequence[Any], values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        there = [(name, value) for name, value in zip(names, values, strict=True) if self.slots_of[name] is not None]
        return [name for name, _ in there], [value for _, value in there]

    def _without_zeros(
        self, key: LiveKey, names: Sequence[Any], found: Sequence[int | None]
    ) -> tuple[list[Any], list[int | None]]:
        """Without numbers that are 0, and without damaged ones, which are noted."""
        for name, counted in zip(names, found, strict=True):
            if counted is None:
                self._damage.note(key.name, f"the number of {text(name):.100}")
        there = [(name, counted) for name, counted in zip(names, found, strict=True) if counted]
        return [name for name, _ in there], [counted for _, counted in there]


def _is_no_time(name: Any, number: int | None) -> bool:
    """Whether this is the field of a time, and the number none."""
    return number is not None and not 0 <= number <= LATEST_MS and text(name).endswith(f" {LAST}")
