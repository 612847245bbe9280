"""Reads packed time for a batch of reads.

What is packed was taken out of the live counters in the same moment. So a batch reads the versions of the months, then the live
counters, then the months: if one has another version by then, or is there at last, it reads all again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from usage_middleware.periods import DAY, Slot
from usage_middleware.store import deadline
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.history.known_months import KnownMonths
from usage_middleware.store.history.month import Month, fields
from usage_middleware.store.history.names import VERSION, bucketed, month_of, months, place
from usage_middleware.store.history.section import Columns, Needed
from usage_middleware.store.replies import number
from usage_middleware.store.schema import Schema

#: So long after the end of its day a slot may be packed, seconds: half of what packers wait, as clocks differ.
MAY_BE_PACKED = DAY
#: What a section costs, in Redis commands.
SECTION_COST = 50

#: Place in a section -> the slot that is wanted.
Wanted: TypeAlias = Mapping[int, Slot]
#: Takes what a section has of an entity.
Take: TypeAlias = Callable[[str, Columns, Wanted], object]
#: Month -> section -> what is wanted of it. The sections of keys are without their bucket.
Places: TypeAlias = Mapping[str, Mapping[str, Wanted]]
#: A command, as it is sent.
Command: TypeAlias = tuple[object, ...]


class Beginning:
    """All measures whose names begin so."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(self._text)


class Question(NamedTuple):
    """`take` gets what there is of the entities `only` and of `measures`; None: of all."""

    only: Sequence[str] | None
    measures: Sequence[str] | Beginning | None
    take: Take


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
        #: Month -> its Redis key.
        self._keys: dict[str, str] = {}
        self._months: dict[str, Month] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def renewed(self) -> PackedReads:
        """The same with nothing asked for yet."""
        return PackedReads(self._schema, self._org, self._now, self._damage, self._known)

    @property
    def cost(self) -> int:
        """What it costs to read, in Redis commands. What is known to be not there costs nothing."""
        there = [month for month, key in self._keys.items() if self._known.head(key).version]
        found = {(month, section) for month in there for group in self._groups.values() for section in self._of(group, month)}
        return SECTION_COST * len(found)

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
        if self._is_on and self._span(slots):
            group = self._groups.setdefault((id(slots), what, bucket_of), Group(slots, what, bucket_of, []))
            group.questions.append(Question(only, measures, take))

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
                section, at = place(slot, what)
                found.setdefault(month_of(slot.start), {}).setdefault(section, {})[at] = slot
        return found

    def _sections(self, group: Group, month: str, buckets: int) -> Iterator[tuple[str, Wanted]]:
        """The sections of a month with so many buckets that a group is about."""
        for section, wanted in self._of(group, month).items():
            yield section if group.bucket_of is None else bucketed(section, group.bucket_of, buckets), wanted

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
        return [("HMGET", key, *fields(self._names(month))) for month, key in self._keys.items()]

    def accept(self, replies: Sequence[Any]) -> bool:
        """Take the replies to `commands`; whether they have all that is wanted. Else ask again."""
        self._months = {}
        is_all = True
        for (month, key), reply in zip(self._keys.items(), replies, strict=True):
            names = self._names(month)
            if isinstance(reply, Exception):
                if not self._damage.explains(reply, key):
                    raise reply
                reply = ()
            found = self._months[month] = Month(names, reply or [None] * len(fields(names)), key, self._damage.note)
            self._known.keep(key, found.head)
            is_all = is_all and (found.head.together or self._names(month) == names)
        return is_all

    def _names(self, month: str) -> list[str]:
        """The sections to read of a month, as far as it is known: none of one that is not there."""
        head = self._known.head(self._keys[month])
        if not head.version or head.together:
            return []
        found = (name for group in self._groups.values() for name, _ in self._sections(group, month, head.buckets))
        return list(dict.fromkeys(found))

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
                self._hand_out(found, name, questions)

    def _hand_out(self, month: Month, name: str, questions: Sequence[tuple[Wanted, Question]]) -> None:
        deadline.check()
        only = _together(question.only for _, question in questions)
        measures = _measures([question.measures for _, question in questions])
        slots = {at for wanted, _ in questions for at in wanted}
        numbers = month.numbers(name, only, Needed(sum(1 << at for at in slots), measures))
        for wanted, (entities, _, take) in questions if numbers else ():
            for entity in numbers if entities is None else entities:
                if entity in numbers:
                    take(entity, numbers[entity], wanted)


def _measures(many: Sequence[Sequence[str] | Beginning | None]) -> Container[str] | None:
    """As `_together`. All questions about a section begin alike, or none of them does."""
    first = many[0]
    if isinstance(first, Beginning):
        return first if all(one is first for one in many) else None
    return _together(None if isinstance(one, Beginning) else one for one in many)


def _together(many: Iterable[Sequence[str] | None]) -> set[str] | None:
    """All names of some questions; None if one is about all that there are."""
    found: set[str] = set()
    for names in many:
        if names is None:
            return None
        found.update(names)
    return found


def _answers(client: Any, commands: Sequence[Command]) -> list[Any]:
    if not commands:
        return []
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        found: list[Any] = pipe.execute(raise_on_error=False)
    return found
