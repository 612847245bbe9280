"""The sections of a small organisation, together in one field: in tables, each of which is over all days of the month.

A section of few numbers is mostly names and lengths. A table has every name once, and a number is a row of it.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Generator, Mapping

import msgspec

from usage_middleware.gil import rest
from usage_middleware.lazily import cached
from usage_middleware.store.history.cells import Cells
from usage_middleware.store.history.layout import EVERYTHING, DamagedSection, Needed
from usage_middleware.store.history.planes import MOST_SLOTS, Planes, ascending_planes, folded, planes
from usage_middleware.store.history.section import Numbers, compressed, inflated
from usage_middleware.store.history.sums import EntitySums

#: A row is one number: the place of its measure, the day, the slot, and the place of its entity.
_DAYS, _ENTITY = 32, 24
_SLOT, _DAY, _MEASURE = _ENTITY, _ENTITY + (MOST_SLOTS - 1).bit_length(), _ENTITY + (MOST_SLOTS * _DAYS - 1).bit_length()
_LAST_ENTITY = (1 << _ENTITY) - 1


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What is read first: names, sorted, and how many rows there are."""

    entities: list[str]
    measures: list[str]
    rows: int


class Table:
    """The numbers of one thing, such as `board endpoint`, on all days of a month.

    Args:
        entities, measures: names; rows have their places.
        rows: row -> number.
    """

    def __init__(self, entities: list[str], measures: list[str], rows: dict[int, int]) -> None:
        self._entities = entities
        self._measures = measures
        self._rows = rows

    @classmethod
    def of(cls, body: bytes) -> Table:
        """Read what `encoded` wrote.

        Raises:
            DamagedSection: the bytes are no table.
        """
        try:
            source = Planes(body)
            head = msgspec.msgpack.decode(source.take(int.from_bytes(source.take(4), "little")), type=Head)
            if head.rows > len(body):  # No number is 0, so each takes a byte.
                raise ValueError("it ends too early")
            places, entities = source.ascending(head.rows), source.numbers(head.rows)
            numbers = source.folded(head.rows).part(0, head.rows)
            last_measure = places[-1] >> _MEASURE - _ENTITY if places else -1
            if last_measure >= len(head.measures) or max(entities, default=-1) >= len(head.entities):
                raise ValueError("a row has no name")
        except (msgspec.MsgspecError, ValueError, IndexError, OverflowError) as damaged:
            raise DamagedSection(f"a table of the history can't be read: {damaged}") from damaged
        rows = (place << _ENTITY | entity for place, entity in zip(places, entities, strict=True))
        return cls(head.entities, head.measures, dict(zip(rows, numbers, strict=True)))

    @cached
    def days(self) -> Mapping[int, list[int]]:
        """The rows of each day; of a section that has a month, those of day 0."""
        found: dict[int, list[int]] = {}
        for row in self._rows:
            found.setdefault(row >> _DAY & _DAYS - 1, []).append(row)
        return found

    def numbers(self, day: int, only: Container[str] | None = None, needed: Needed = EVERYTHING) -> Numbers:
        """The numbers of a day."""
        found: Numbers = {}
        for row in self.days.get(day, ()):
            slot = row >> _SLOT & MOST_SLOTS - 1
            entity, measure = self._entities[row & _LAST_ENTITY], self._measures[row >> _MEASURE]
            is_asked = (only is None or entity in only) and (needed.measures is None or measure in needed.measures)
            if is_asked and needed.slots >> slot & 1:
                found.setdefault(entity, {}).setdefault(measure, {})[slot] = self._rows[row]
        return found

    def changed(self, days: Mapping[int, Cells]) -> Table:
        """The same with these numbers on these days, instead of those that they have."""
        entities = {name: place for place, name in enumerate(self._entities)}
        measures = {name: place for place, name in enumerate(self._measures)}
        rows = self._without(self.days.keys() & days.keys())
        for day, cells in days.items():
            places = [entities.setdefault(name, len(entities)) for name in cells.entities]
            for measure, column in cells.columns.items():
                rest()
                first = measures.setdefault(measure, len(measures)) << _MEASURE | day << _DAY
                for cell, number in column.items():
                    if number:
                        rows[first | cell % MOST_SLOTS << _SLOT | places[cell // MOST_SLOTS]] = number
        return Table(list(entities), list(measures), rows)

    def _without(self, days: Collection[int]) -> dict[int, int]:
        if not days:
            return dict(self._rows)
        return {row: number for row, number in self._rows.items() if row >> _DAY & _DAYS - 1 not in days}

    def encoded(self) -> bytes:
        """The table as bytes; none if it has no rows."""
        if not self._rows:
            return b""
        entities, measures, numbers = self._in_order()
        rest()
        rows = sorted(numbers)
        head = msgspec.msgpack.encode(Head(entities, measures, len(rows)))
        parts = [
            ascending_planes([row >> _ENTITY for row in rows]),
            planes([row & _LAST_ENTITY for row in rows]),
            planes(folded(map(numbers.__getitem__, rows))),
        ]
        return b"".join([len(head).to_bytes(4, "little"), head, *parts])

    def _in_order(self) -> tuple[list[str], list[str], dict[int, int]]:
        """Entities and measures that have rows, sorted, and the rows with their new places."""
        used = {row & _LAST_ENTITY for row in self._rows}, {row >> _MEASURE for row in self._rows}
        entities, entity_moved = _sorted(self._entities, used[0])
        measures, measure_moved = _sorted(self._measures, used[1])
        if entities == self._entities and measures == self._measures:
            return entities, measures, self._rows
        between = (1 << _MEASURE) - 1 - _LAST_ENTITY
        return entities, measures, {
            measure_moved[row >> _MEASURE] << _MEASURE | row & between | entity_moved[row & _LAST_ENTITY]: one
            for row, one in self._rows.items()
        }  # fmt: skip


def _sorted(names: list[str], used: Container[int]) -> tuple[list[str], dict[int, int]]:
    """The names that are used, sorted, and the new place of each by its old one."""
    order = sorted((name, place) for place, name in enumerate(names) if place in used)
    return [name for name, _ in order], {before: place for place, (_, before) in enumerate(order)}


class Together:
    """All sections of a month, by tables, which are read when somebody asks.

    Attributes:
        bodies: the name of a table -> its bytes.
    """

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self.bodies = bodies
        self._tables: dict[str, Table] = {}

    @classmethod
    def of(cls, packed: bytes) -> Together:
        """Read what `encoded` wrote.

        Raises:
            DamagedSection: the bytes are something else. A damaged table is told when it is asked for.
        """
        try:
            return cls(msgspec.msgpack.decode(inflated(packed), type=dict[str, bytes]))
        except msgspec.MsgspecError as damaged:
            raise DamagedSection(f"tables of the history can't be read: {damaged}") from damaged

    def encoded(self) -> bytes:
        """All tables, compressed. Those that resemble each other are neighbours."""
        return compressed(msgspec.msgpack.encode({name: self.bodies[name] for name in sorted(self.bodies, key=_likeness)}))

    @property
    def size(self) -> int:
        """How many bytes the tables are, not compressed."""
        return sum(map(len, self.bodies.values()))

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = Table.of(self.bodies[name]) if name in self.bodies else Table([], [], {})
        return self._tables[name]

    def sections(self, table: str) -> list[str]:
        """The names of the sections that a table has.

        Raises:
            DamagedSection: it can't be read.
        """
        return [f"{day:02} {table}" if day else table for day in sorted(self._table(table).days)]

    def __contains__(self, section: str) -> bool:
        table, day = _place(section)
        return table in self.bodies and day in self._table(table).days

    def numbers(self, section: str, only: Container[str] | None = None, needed: Needed = EVERYTHING) -> Numbers:
        """The numbers of a section.

        Raises:
            DamagedSection: they can't be read.
        """
        table, day = _place(section)
        return self._table(table).numbers(day, only, needed)

    def sums(self, section: str, only: Container[str] | None, needed: Needed) -> dict[str, EntitySums]:
        """As `numbers`, added up over the slots."""
        found = self.numbers(section, only, needed)
        return {entity: {name: sum(column.values()) for name, column in columns.items()} for entity, columns in found.items()}

    def changed_in_steps(self, sections: Mapping[str, Cells]) -> Generator[None, None, Together]:
        """The same with these sections as they are now; one without numbers is not there. With pauses.

        Raises:
            DamagedSection: what is changed can't be read.
        """
        days: dict[str, dict[int, Cells]] = {}
        for section, cells in sections.items():
            table, day = _place(section)
            days.setdefault(table, {})[day] = cells
        bodies = dict(self.bodies)
        for table, some in days.items():
            changed = self._table(table).changed(some)
            yield
            bodies[table] = changed.encoded()
            yield
        return Together({table: body for table, body in bodies.items() if body})

    def cells(self) -> Generator[None, None, dict[str, Cells]]:
        """All sections, with pauses.

        Raises:
            DamagedSection: one can't be read.
        """
        found: dict[str, Cells] = {}
        for table in self.bodies:
            for section in self.sections(table):
                found[section] = Cells.of(self.numbers(section))
                yield
        return found


def decode(packed: bytes) -> dict[str, Numbers]:
    """The sections that are together in a field.

    Raises:
        DamagedSection: the bytes are not what `Together.encoded` made.
    """
    found = Together.of(packed)
    return {section: found.numbers(section) for table in found.bodies for section in found.sections(table)}


def _place(section: str) -> tuple[str, int]:
    """The table of a section, and the day there.

    >>> _place("20 board key"), _place("days key 3")
    (('board key', 20), ('days key 3', 0))
    """
    return (section[3:], int(section[:2])) if section[2] == " " else (section, 0)


def _likeness(table: str) -> tuple[bool, str]:
    """Boards stand beside the series that have the same numbers.

    >>> sorted(["board key", "days key 0", "key 0", "days board key", "latency"], key=_likeness)
    ['board key', 'key 0', 'latency', 'days board key', 'days key 0']
    """
    first, _, rest_of_it = table.partition(" ")
    is_of_days = first in ("day", "days")
    return is_of_days, (rest_of_it if is_of_days else table).removeprefix("board ")
