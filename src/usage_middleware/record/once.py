"""Has rows counted once by their ids, in each tree that they belong to, in chunks of the kind that calls travel in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec.structs import replace

from usage_middleware.errors import ConfigurationError, RowRefused, UsageUnavailable
from usage_middleware.events import Cells
from usage_middleware.periods import DAY, Slot, slot_names
from usage_middleware.record.overflow import FindKnownKeys, substitute
from usage_middleware.record.rows import Row
from usage_middleware.store.chunk import Chunk
from usage_middleware.store.members import OPERATOR
from usage_middleware.store.payload import EncodedChunk, KeptIds, Once, encode_chunk, longest_kept
from usage_middleware.store.schema import Schema, org_segment
from usage_middleware.store.send_result import Outcome, SendResult
from usage_middleware.store.writer import Disagreement, Writer

#: How many corrections an organisation may have in one month, so that they can be listed.
MOST_CORRECTIONS = 10_000
#: How many ids one chunk may have: the script takes them at once.
MOST_IDS = 1_000
#: How long a chunk of rows may be, encoded: Redis works on it for some 15 ms. What rows share is written once a chunk, so
#: longer ones cost less in all.
MOST_BYTES = 120_000
#: How many names one Redis key may have in it: the script hands each with its number to one command, and Lua takes 8,000.
MOST_NAMES = 3_500
#: How many rows the first chunk has, and how full the next ones are to be: rows differ.
_FIRST, _FILL = 100, 0.9
#: How often one chunk is sent, each time without what Redis has just refused.
_MOST_TRIES = 20

_REPEAT = "Repeat it with the same ids: what is counted already is not counted again."


class Way(NamedTuple):
    """How rows are counted: as corrections or as a backfill, or only tried."""

    corrects: bool
    trying: bool = False


class _TooLarge(Exception):
    """So many rows make a chunk that takes Redis too long."""


class _Size:
    """How many rows make a chunk of the right size, as the last one tells."""

    def __init__(self) -> None:
        self.rows = _FIRST

    def check(self, rows: int, encoded: EncodedChunk) -> None:
        """Take note of a chunk of so many rows.

        Raises:
            _TooLarge: it must not be sent.
        """
        load = max(len(encoded.data) / MOST_BYTES, encoded.most_names / MOST_NAMES)
        self.rows = max(1, min(MOST_IDS, int(rows / load * _FILL)))
        if load > 1 and rows > 1:
            raise _TooLarge


class OnceWriter:
    """Counts rows once.

    Args:
        writer: writes to Redis.
        known_keys: which ids are keys of the directory, for which the cap on members does not hold.
        guard: turns errors of Redis into `UsageUnavailable`.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        writer: Writer,
        known_keys: FindKnownKeys,
        guard: Callable[[], AbstractContextManager[None]],
        clock: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._known_keys = known_keys
        self._guard = guard
        self._clock = clock
        self.schema = writer.schema

    def agree(self) -> dict[str, int]:
        """Check that Redis holds counters of the shape that is written here; since when it keeps each dimension, in ms.

        Raises:
            ConfigurationError: it holds others.
            UsageUnavailable: Redis does not answer.
        """
        try:
            with self._guard():
                self._writer.check_schema(int(self._clock() * 1000))
                return self._writer.since()
        except Disagreement as error:
            raise ConfigurationError(str(error)) from None

    def count(self, rows: Sequence[Row], way: Way) -> int:
        """Count rows for their organisations, then for all organisations together; how many were counted before.

        Raises:
            RowRefused: a row can't be counted.
            UsageUnavailable: Redis can't count them now, or not all.
        """
        by_org: dict[str, list[Row]] = {}
        for row in rows:
            by_org.setdefault(row.org, []).append(row)
        repeated = sum(self._count_in(org, some, way) for org, some in by_org.items())
        if self.schema.settings.operator_tree:
            self._count_for_operator(rows, way)
        return repeated

    def _count_for_operator(self, rows: Sequence[Row], way: Way) -> None:
        try:
            self._count_in(OPERATOR, [_for_operator(row) for row in rows], way)
        except RowRefused as refused:
            if way.trying:
                raise
            # Calls, or other corrections, that the operator's counters have yet to get.
            why = "It is counted for its organisation, and can't yet be for all organisations together"
            raise UsageUnavailable(f"{why} ({refused}). {_REPEAT}") from None

    def _count_in(self, tree: str, rows: Sequence[Row], way: Way) -> int:
        ordered, size, begin, repeated = sorted(rows, key=_place), _Size(), 0, 0
        while begin < len(ordered):
            some = ordered[begin : begin + size.rows]
            try:
                repeated += self._count_chunk(tree, some, way, size)
            except _TooLarge:
                continue
            begin += len(some)
        return repeated

    def _count_chunk(self, tree: str, rows: Sequence[Row], way: Way, size: _Size) -> int:
        wanted, refused, exempt = len(rows), dict[str, set[str]](), set[str]()
        for _ in range(_MOST_TRIES):
            chunk = substitute(self.schema, Chunk(tree, 1, _cells(rows), corrects=way.corrects), refused)
            answer = self._send(chunk, rows, way, exempt, size)
            if answer.outcome is Outcome.KNOWN:
                rows = _unknown(rows, answer)
            elif answer.outcome is Outcome.FULL:
                exempt |= self._refuse(tree, answer, refused)
            elif answer.outcome not in (Outcome.COUNTED, Outcome.AGAIN):
                raise _error(answer, rows)
            if not rows or answer.outcome is Outcome.COUNTED:
                return wanted - len(rows)
        raise UsageUnavailable(f"Others write the same counters all the time. {_REPEAT}")

    def _send(self, chunk: Chunk, rows: Sequence[Row], way: Way, exempt: Collection[str], size: _Size) -> SendResult:
        now = self._clock()
        name = self.schema.corrections if way.corrects else self.schema.backfilled
        places = [name(chunk.org, month) for month in _months(self.schema, int(now))]
        once = Once(places, _kept(self.schema, chunk.org, rows, way), way.trying, way.corrects)
        try:
            with self._guard():
                base = self._writer.packed(chunk, now)
                encoded = encode_chunk(self.schema, "", chunk, 0, now, exempt, once=once, base=base)
                size.check(len(rows), encoded)
                return self._writer.count_once(chunk.org, once, encoded)
        except UsageUnavailable as error:
            raise UsageUnavailable(f"{error} {_REPEAT}") from None

    def _refuse(self, tree: str, answer: SendResult, refused: dict[str, set[str]]) -> set[str]:
        """Add members over the cap to those that are counted as `(other)`; returns those that the cap does not hold for."""
        known = set(self._known_keys(tree, answer.refused.get("key", ())))
        for dimension, names in answer.refused.items():
            refused.setdefault(dimension, set()).update(set(names) - (known if dimension == "key" else set()))
        return known


def _for_operator(row: Row) -> Row:
    """The row as the operator's tree counts it. Ids are unique in an organisation, so its name goes before."""
    return row._replace(id=f"{org_segment(row.org)}:{row.id}", key=replace(row.key, caller=(row.org, "")))


def _cells(rows: Sequence[Row]) -> Cells:
    cells: Cells = {}
    for row in rows:
        held = cells.get(row.key)
        cells[row.key] = row.totals if held is None else held.plus(row.totals)
    return cells


def _place(row: Row) -> tuple[int, str, int, str]:
    """Sorts rows so that those of a day and a key stand together: they have the most Redis keys in common."""
    key = row.key
    return key.minute // DAY, key.owner[1] or key.owner[0], key.minute, key.endpoint


def _unknown(rows: Sequence[Row], answer: SendResult) -> list[Row]:
    """The rows that were not counted before.

    Raises:
        RowRefused: an id was used for something else.
    """
    for row in rows:
        if row.id in answer.known and not row.is_kept_as(answer.known[row.id]):
            raise used_before(row)
    return [row for row in rows if row.id not in answer.known]


def used_before(row: Row) -> RowRefused:
    """The error of a row whose id another content has."""
    return RowRefused("id_used", f"the id {row.id!r} was used before, with another content", "id", row.place)


def _error(answer: SendResult, rows: Sequence[Row]) -> Exception:
    place = rows[0].place if len(rows) == 1 else None
    if answer.outcome is Outcome.BEYOND:
        return RowRefused("out_of_range", f"a counter can't take it: {answer.reason}", "calls", place)
    if answer.outcome is Outcome.CROWDED:
        most = f"an organisation can have {MOST_CORRECTIONS} corrections in a month; put several into one"
        return RowRefused("too_many", f"{most} ({answer.reason})", "id", place)
    return UsageUnavailable(f"Redis can't count it now: {answer.reason}. {_REPEAT}")


def _kept(schema: Schema, tree: str, rows: Sequence[Row], way: Way) -> list[KeptIds]:
    """Where the ids of rows are kept: by month, as long as the days of that month are."""
    name = schema.corrections if way.corrects else schema.backfilled
    limit = MOST_CORRECTIONS if way.corrects and tree != OPERATOR else 0
    months: dict[str, KeptIds] = {}
    for row in rows:
        at = slot_names(Slot(schema.layers.day, schema.layers.day.floor(row.key.minute)), schema.layers.middle.seconds)
        if at.block not in months:
            months[at.block] = KeptIds(name(tree, at.block), at.block_end + longest_kept(schema.settings), limit, [], [])
        months[at.block].ids.append(row.id)
        months[at.block].records.append(row.record)
    return list(months.values())


def _months(schema: Schema, now: int) -> list[str]:
    """Every month of which something may be kept, the latest first: `2026-11`."""
    oldest, at = now - longest_kept(schema.settings) - 31 * DAY, now + DAY
    found = []
    while at > oldest:
        first = datetime.fromtimestamp(at, UTC).replace(day=1)
        found.append(f"{first:%Y-%m}")
        at = int(first.timestamp()) - DAY
    return found
