"""Reads packed time for a batch of reads.

What is packed was taken out of the live counters in the same moment. So a batch reads the months, then the live counters, then
the versions of the months: if one has changed meanwhile, it reads all again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from usage_middleware.periods import DAY, Slot
from usage_middleware.store import deadline
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.month import Month, fields
from usage_middleware.store.history.names import VERSION, bucketed, month_of, place
from usage_middleware.store.replies import number
from usage_middleware.store.schema import Schema

#: So long after the end of its day a slot may be packed, seconds: half of what packers wait, as clocks differ.
MAY_BE_PACKED = DAY
#: What a section costs, in Redis commands.
SECTION_COST = 50

#: Place in a section -> the slot that is wanted.
Wanted: TypeAlias = Mapping[int, Slot]
#: Measure -> place in the section -> number, of one entity.
Columns: TypeAlias = Mapping[str, Mapping[int, int]]
#: Takes what a section has of an entity.
Take: TypeAlias = Callable[[str, Columns, Wanted], object]


class Question(NamedTuple):
    """What is wanted of one section. `only` are the entities, None for all; `bucket_of` a key whose bucket it is."""

    section: str
    bucket_of: str | None
    only: Sequence[str] | None
    slots: Wanted
    take: Take

    def name(self, buckets: int) -> str:
        """The section in a month with so many buckets."""
        return self.section if self.bucket_of is None else bucketed(self.section, self.bucket_of, buckets)


class PackedReads:
    """What a batch wants of packed time."""

    def __init__(self, schema: Schema, org: str, now: int, damage: DamageLog) -> None:
        self._schema = schema
        self._org = org
        self._now = now
        self._before = now - MAY_BE_PACKED
        self._damage = damage
        self._is_on = schema.settings.history
        self._questions: dict[str, list[Question]] = {}
        self._months: dict[str, Month] = {}
        self._buckets: dict[str, int] = {}
        self._sections: set[tuple[str, str]] = set()

    def __bool__(self) -> bool:
        return bool(self._questions)

    def renewed(self) -> PackedReads:
        """The same with nothing asked for yet."""
        return PackedReads(self._schema, self._org, self._now, self._damage)

    @property
    def cost(self) -> int:
        """What it costs to read, in Redis commands."""
        return SECTION_COST * len(self._sections)

    def ask(
        self, slots: Iterable[Slot], what: str, take: Take, only: Sequence[str] | None = None, bucket_of: str | None = None
    ) -> None:
        """Ask for those of the slots that may be packed; `take` gets what there is of each entity, or `only` of some."""
        found: dict[tuple[str, str], dict[int, Slot]] = {}
        for slot in slots if self._is_on else ():
            if slot.resolution.rank and slot.start - slot.start % DAY + DAY <= self._before:
                section, at = place(slot, what)
                found.setdefault((month_of(slot.start), section), {})[at] = slot
        self._sections |= found.keys()
        for (month, section), wanted in found.items():
            self._questions.setdefault(month, []).append(Question(section, bucket_of, only, wanted, take))

    def fetch(self, client: Any) -> None:
        """Read the months: first how keys are spread there, if that is not known, then the sections.

        Raises:
            redis_errors(): as the client does.
        """
        while not self.accept(_answers(client, self.commands())):
            pass

    def commands(self) -> list[tuple[object, ...]]:
        """What reads each month, at one moment each."""
        return [("HMGET", self._schema.history(self._org, month), *fields(self._names(month))) for month in self._questions]

    def accept(self, replies: Sequence[Any]) -> bool:
        """Take the replies to `commands`; whether they have all that is wanted. Else ask again."""
        self._months = {}
        is_all = True
        for month, reply in zip(self._questions, replies, strict=True):
            names, where = self._names(month), self._schema.history(self._org, month)
            if isinstance(reply, Exception):
                if not self._damage.explains(reply, where):
                    raise reply
                reply = ()
            found = self._months[month] = Month(names, reply or [None] * len(fields(names)), where, self._damage.note)
            is_all = is_all and self._names(month) == self._names_if(month, found.head.buckets)
            self._buckets[month] = found.head.buckets
        return is_all

    def _names(self, month: str) -> list[str]:
        return self._names_if(month, self._buckets.get(month, 0))

    def _names_if(self, month: str, buckets: int) -> list[str]:
        return list(dict.fromkeys(question.name(buckets) for question in self._questions[month]))

    def is_unchanged(self, client: Any) -> bool:
        """Whether the months are as they were read.

        Raises:
            redis_errors(): as the client does.
        """
        commands = [("HGET", self._schema.history(self._org, month), VERSION) for month in self._questions]
        replies = _answers(client, commands)
        return all(
            isinstance(reply, Exception) or (number(reply or 0) or 0) == self._months[month].head.version
            for month, reply in zip(self._questions, replies, strict=True)
        )

    @property
    def versions(self) -> list[tuple[str, int]]:
        """The months that were read, by their Redis keys, and which version each had."""
        return [(self._schema.history(self._org, month), found.head.version) for month, found in self._months.items()]

    def hand_out(self) -> None:
        """Give every `take` what there is.

        Raises:
            TimeoutError: the time of this thread's operation is over before all was added up.
        """
        for month, questions in self._questions.items():
            by_section: dict[str, list[Question]] = {}
            for question in questions:
                by_section.setdefault(question.name(self._buckets[month]), []).append(question)
            for name, some in by_section.items():
                self._hand_out(self._months[month], name, some)

    def _hand_out(self, month: Month, name: str, questions: Sequence[Question]) -> None:
        deadline.check()
        everyone = any(question.only is None for question in questions)
        only = None if everyone else {entity for question in questions for entity in question.only or ()}
        numbers = month.numbers(name, only)
        for question in questions if numbers else ():
            for entity in numbers if question.only is None else question.only:
                if entity in numbers:
                    question.take(entity, numbers[entity], question.slots)


def _answers(client: Any, commands: Sequence[tuple[object, ...]]) -> list[Any]:
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        found: list[Any] = pipe.execute(raise_on_error=False)
    return found
