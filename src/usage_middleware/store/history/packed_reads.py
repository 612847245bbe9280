"""Reads packed time for a batch of reads.

What is packed was taken out of the live counters in the same moment. So a batch reads the versions of the months, then the live
counters, then the months: if one has another version by then, or is there at last, it reads all again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple, TypeAlias

from usage_middleware.errors import QueryError
from usage_middleware.periods import DAY, Slot, month_start, rfc3339
from usage_middleware.store import deadline
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.known_months import KnownMonths
from usage_middleware.store.history.month import Head, Month, fields
from usage_middleware.store.history.names import (
    VERSION,
    bucket,
    day_of,
    is_day_of_board,
    is_merged,
    merged,
    month_of,
    months,
    place,
)
from usage_middleware.store.history.questions import Beginning, Question, Take, TakeSums, Wanted, hand_out
from usage_middleware.store.replies import number
from usage_middleware.store.schema import Schema

#: So long after the end of its day a slot may be packed, seconds: half of what packers wait, as clocks differ.
MAY_BE_PACKED = DAY
#: What a section costs, in Redis commands; and how many of its bytes cost one more.
SECTION_COST, BYTES_A_COMMAND = 10, 200
#: More is not read for one answer: it would take half of the time that an answer has.
MOST_COST = 40_000

#: Month -> section -> what is wanted of it. The sections of keys are without their bucket.
Places: TypeAlias = Mapping[str, Mapping[str, Wanted]]
#: A command, as it is sent.
Command: TypeAlias = tuple[object, ...]


class Group(NamedTuple):
    """Questions about the same slots; `bucket_of` is a key whose bucket it is."""

    slots: Sequence[Slot]
    what: str
    bucket_of: str | None
    questions: list[Question]


class PackedReads:
    """What a batch wants of packed time.

    Args:
        known: what is known of months.
    """

    def __init__(self, schema: Schema, org: str, now: int, damage: DamageLog, known: KnownMonths | None = None) -> None:
        self._schema = schema
        self._org = org
        self._now = now
        self._before = now - MAY_BE_PACKED
        self._damage = damage
        self._known = known or KnownMonths()
        self._is_on = schema.settings.history
        self._groups: dict[tuple[int, str, str | None], Group] = {}
        #: The months of slots, and where these stand, by their identity: many endpoints are read over the same slots.
        self._spans: dict[int, tuple[Sequence[Slot], Sequence[str]]] = {}
        self._places: dict[tuple[int, str], Places] = {}
        #: The sections of a group in a month, with those of the same bucket.
        self._named: dict[tuple[int, str, str, int | None], Sequence[tuple[str, Wanted]]] = {}
        #: Month -> its Redis key.
        self._keys: dict[str, str] = {}
        self._months: dict[str, Month] = {}
        #: The sections that were asked for last.
        self._asked: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def renewed(self) -> PackedReads:
        """The same with nothing asked for yet."""
        return PackedReads(self._schema, self._org, self._now, self._damage, self._known)

    def cost(self) -> int:
        """What it costs to read, in Redis commands: more is known when it was fetched. What is not there is free.

        Raises:
            QueryError: `window_too_wide`, with the nearest window that can be read in the time that an answer has. Programs
                may take their time.
        """
        costs = self._costs()
        found = sum(costs.values())
        if found > MOST_COST and deadline.left() < inf:
            until = min(self._now, max(slots[-1].end for slots, _ in self._spans.values() if slots))
            raise _too_wide(costs, until)
        return found

    def _costs(self) -> Counter[int]:
        """The cost by the days that sections are about; of those of a month by its first day."""
        found: Counter[int] = Counter()
        for month, key in self._keys.items():
            head, start, there = self._known.head(key), month_start(month), self._months.get(month)
            for name in self._expected(month, head):
                size = 0 if there is None else there.size(name)
                found[day_of(start, name)] += (1 if head.together else SECTION_COST) + size // BYTES_A_COMMAND
        return found

    def _expected(self, month: str, head: Head) -> list[str]:
        """Sections that may be there: the days of boards are merged, or are not."""
        absent = is_day_of_board if head.merged else is_merged
        return [name for name in self._all_sections(month, head.buckets) if not absent(name)] if head.version else []

    def _all_sections(self, month: str, buckets: int) -> list[str]:
        """The sections of a month that anybody asks for; keys of the same bucket share theirs."""
        many = (self._sections(group, month, buckets) for group in self._groups.values())
        found = {id(sections): sections for sections in many}
        return list(dict.fromkeys(name for sections in found.values() for name, _ in sections))

    def ask(
        self,
        slots: Sequence[Slot],
        what: str,
        take: Take,
        only: Sequence[str] | None = None,
        *,
        measures: Sequence[str] | Beginning | None = None,
        bucket_of: str | None = None,
    ) -> None:
        """Ask for those of the slots that may be packed; `take` gets what there is of each entity, or `only` of some."""
        self._ask(slots, what, Question(only, measures, take, None), bucket_of)

    def ask_sums(
        self,
        slots: Sequence[Slot],
        what: str,
        take: TakeSums,
        only: Sequence[str] | None = None,
        *,
        measures: Sequence[str] | Beginning | None = None,
        bucket_of: str | None = None,
    ) -> None:
        """As `ask`, of what adds up: `take` may be called several times for an entity."""
        self._ask(slots, what, Question(only, measures, None, take), bucket_of)

    def _ask(self, slots: Sequence[Slot], what: str, question: Question, bucket_of: str | None) -> None:
        if self._is_on and self._span(slots):
            group = self._groups.setdefault((id(slots), what, bucket_of), Group(slots, what, bucket_of, []))
            group.questions.append(question)

    def _span(self, slots: Sequence[Slot]) -> Sequence[str]:
        """The months from the first slot that may be packed to the last."""
        found = self._spans.get(id(slots))
        if found is None:
            end = self._before - self._before % DAY
            starts = [slot.start for slot in slots if slot.resolution.rank and slot.start < end]
            found = self._spans[id(slots)] = slots, list(months(min(starts), max(starts))) if starts else ()
            for month in found[1]:
                self._keys.setdefault(month, self._schema.history(self._org, month))
        return found[1]

    def _of(self, group: Group, month: str) -> Mapping[str, Wanted]:
        """The sections of a month that a group is about, without buckets."""
        name = id(group.slots), group.what
        if name not in self._places:
            self._places[name] = self._place(group.slots, group.what)
        return self._places[name].get(month, {})

    def _place(self, slots: Iterable[Slot], what: str) -> Places:
        found: dict[str, dict[str, dict[int, Slot]]] = {}
        for slot in slots:
            if slot.resolution.rank and slot.start - slot.start % DAY + DAY <= self._before:
                first = place(slot, what)
                sections = found.setdefault(month_of(slot.start), {})
                for section, at in filter(None, (first, merged(first))):
                    sections.setdefault(section, {})[at] = slot
        return found

    def _sections(self, group: Group, month: str, buckets: int) -> Sequence[tuple[str, Wanted]]:
        """The sections of a month with so many buckets that a group is about."""
        number = None if group.bucket_of is None else bucket(group.bucket_of, buckets)
        name = id(group.slots), group.what, month, number
        if name not in self._named:
            ending = "" if number is None else f" {number}"
            self._named[name] = [(f"{section}{ending}", wanted) for section, wanted in self._of(group, month).items()]
        return self._named[name]

    def fetch(self, client: Any) -> None:
        """Read the months.

        Raises:
            redis_errors(): as the client does.
        """
        while not self.accept(_answers(client, self.commands())):
            pass

    def version_commands(self) -> list[Command]:
        """What reads the version of each month that is known to be there. One that is there later was not there before."""
        return [("HGET", key, VERSION) for key in self._keys.values() if self._known.head(key).version]

    def commands(self) -> list[Command]:
        """What reads each month, at one moment each."""
        self._asked = {month: self._names(month, self._known.head(key)) for month, key in self._keys.items()}
        return [("HMGET", key, *fields(self._asked[month])) for month, key in self._keys.items()]

    def accept(self, replies: Sequence[Any]) -> bool:
        """Take the replies to `commands`; whether they have all that is wanted. Else ask again."""
        self._months = {}
        is_all = True
        for (month, key), reply in zip(self._keys.items(), replies, strict=True):
            names = self._asked[month]  # Other threads may know more of the month by now.
            if isinstance(reply, Exception):
                if not self._damage.explains(reply, key):
                    raise reply
                reply = ()
            found = self._months[month] = Month(names, reply or [None] * len(fields(names)), key, self._damage.note)
            self._known.keep(key, found.head)
            is_all = is_all and (found.head.together or self._names(month, found.head) == names)
        return is_all

    def _names(self, month: str, head: Head) -> list[str]:
        """The sections to read of a month that is so: none of one that is not there."""
        if not head.version or head.together:
            return []
        return self._all_sections(month, head.buckets)

    @property
    def versions(self) -> list[tuple[str, int]]:
        """The months that were read, by their Redis keys, and which version each had."""
        return [(self._keys[month], found.head.version) for month, found in self._months.items()]

    def are_still(self, commands: Sequence[Command], replies: Sequence[Any]) -> bool:
        """Whether the months have the versions that are the replies to `version_commands`, or are not there."""
        was = {command[1]: number(reply or 0) for command, reply in zip(commands, replies, strict=True)}
        return all(version == (was.get(key) or 0) for key, version in self.versions)

    def hand_out(self) -> None:
        """Give every `take` what there is.

        Raises:
            TimeoutError: the time of this thread's operation is over before all was added up.
        """
        for month, found in self._months.items():
            by_section: dict[str, list[tuple[Wanted, Question]]] = {}
            for group in self._groups.values() if found.head.version else ():
                for name, wanted in self._sections(group, month, found.head.buckets):
                    by_section.setdefault(name, []).extend((wanted, question) for question in group.questions)
            for name, questions in by_section.items():
                if name in found:
                    deadline.check()
                    hand_out(found, name, questions)


def _too_wide(costs: Mapping[int, int], until: int) -> QueryError:
    left, start = MOST_COST * 9 // 10, None
    for day in sorted(costs, reverse=True):
        left -= costs[day]
        if left < 0:
            break
        start = day
    message = (
        "The window is too wide: more is packed there than can be read at once. Ask for a shorter one, or for wider buckets."
    )
    nearest = None if start is None or start >= until else [(rfc3339(start), rfc3339(until))]
    return QueryError("window_too_wide", message, "start", nearest=nearest)


def _answers(client: Any, commands: Sequence[Command]) -> list[Any]:
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        found: list[Any] = pipe.execute(raise_on_error=False)
    return found
