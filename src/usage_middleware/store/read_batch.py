"""Questions about one organisation's tree, answered together: series, boards and histograms, in few round trips.

What lies in slots that still change is read in one MULTI, so that the parts of an answer agree; what lies in closed ones is
read freely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from usage_middleware.errors import UsageError
from usage_middleware.periods import Slot, SlotNames, names
from usage_middleware.store.replies import (
    KeyBoard,
    Measures,
    number,
    pairs,
    parse_bins,
    parse_board,
    parse_key_board,
    parse_named,
    parse_seen,
    parse_series,
    text,
)
from usage_middleware.store.schema import BOARD_MEASURES, Schema

T = TypeVar("T")
U = TypeVar("U")

#: A slot may still change for so long after it ended, in seconds: workers flush every few.
STILL_OPEN = 120
_BATCH = 500
#: So many members at most are united in one command, if all of them are in every slot: nobody else waits longer than that.
_MOST_UNITED = 300_000
#: So many fields of a block are named one by one; beyond, reading all of it costs less.
_FEW_FIELDS = 64


class _Asking:
    """The questions that are asked together, and whether they were."""

    def __init__(self) -> None:
        self.questions: list[_Question] = []
        self.done = False


class Deferred(Generic[T]):
    """What a question on a sheet will come to."""

    def __init__(self, asking: _Asking, get: Callable[[], T]) -> None:
        self._asking = asking
        self._get = get

    @property
    def value(self) -> T:
        """The answer, once the sheet was read."""
        if not self._asking.done:
            raise UsageError("this sheet was not read yet")
        return self._get()

    def map(self, make: Callable[[T], U]) -> Deferred[U]:
        """The same answer, seen otherwise."""
        return Deferred(self._asking, lambda: make(self._get()))


class _Question(NamedTuple):
    command: tuple[object, ...]
    is_open: bool
    take: Callable[[Any], None]


class _Part(NamedTuple):
    """What is read of one block: all of it, or, where they are few, its fields `names` for these slots and measures."""

    res: str
    block: str
    is_open: bool
    slots: Mapping[str, Slot]
    names: Sequence[bytes]
    places: Sequence[tuple[Slot, str]]


class ReadBatch:
    """Questions about one organisation's tree, asked together."""

    def __init__(self, client: Any, schema: Schema, org: str, now: int) -> None:
        self._client = client
        self._schema = schema
        self._org = org
        self._now = now
        self._asking = _Asking()
        self._parted: tuple[Iterable[Slot], Sequence[str] | None, list[_Part]] = ((), None, [])

    def series(
        self, slots: Iterable[Slot], of: tuple[str, str] | None = None, measures: Sequence[str] | None = None
    ) -> Deferred[dict[Slot, Measures]]:
        """How the organisation, or `of` an endpoint or key, went over time: slot -> measure -> number.

        Quiet slots are absent. `measures` says which are wanted; else all are.
        """
        found: dict[Slot, Measures] = {}
        for part in self._parts(slots, measures):
            key = self._series_key(part.res, part.block, of)
            if part.names:
                self._ask(("HMGET", key, *part.names), part.is_open, parse_named(part.places, found))
            else:
                self._ask(("HGETALL", key), part.is_open, parse_series(part.slots, found))
        return self._answer(found)

    def board(
        self, slots: Sequence[Slot], dimension: str, measures: Sequence[str] = BOARD_MEASURES
    ) -> Deferred[dict[str, Measures]]:
        """Who did how much: member -> measure -> number."""
        found: dict[str, Measures] = {}
        shards = self._schema.all_shards(dimension)
        most = max(1, _MOST_UNITED * len(shards) // self._schema.settings.member_limit(dimension))
        for shard in shards:
            for measure in measures:
                for begin in range(0, len(slots), most):
                    some = slots[begin : begin + most]
                    self._ask_union(some, self._board_key(shard, measure), parse_board(measure, found))
        return self._answer(found)

    def latency(self, slots: Sequence[Slot], endpoint: str | None = None) -> Deferred[dict[int, int]]:
        """The histogram of the organisation, or of one endpoint: bin -> calls."""
        found: dict[int, int] = {}
        self._ask_union(slots, lambda res, at: self._schema.latency_board(self._org, res, at.slot, endpoint), parse_bins(found))
        return self._answer(found)

    def key_board(self, slots: Sequence[Slot], key: str) -> Deferred[KeyBoard]:
        """All that one key did."""
        found = KeyBoard({}, {})
        self._ask_union(slots, lambda res, at: self._schema.key_board(self._org, res, at.slot, key), parse_key_board(found))
        return self._answer(found)

    def seen(self, dimension: str) -> Deferred[dict[str, int]]:
        """Every member that is known, and when it was last active, in milliseconds since the epoch."""
        found: dict[str, int] = {}
        command = ("ZRANGE", self._schema.seen(self._org, dimension), 0, -1, "WITHSCORES")
        self._ask(command, False, lambda reply: found.update((text(name), number(score)) for name, score in pairs(reply)))
        return self._answer(found)

    def seen_of(self, dimension: str, members: Sequence[str]) -> Deferred[dict[str, int]]:
        """As `seen`, of some members; those never seen are absent."""
        found: dict[str, int] = {}
        key = self._schema.seen(self._org, dimension)
        for begin in range(0, len(members), _BATCH):
            some = members[begin : begin + _BATCH]
            self._ask(("ZMSCORE", key, *some), False, parse_seen(some, found))
        return self._answer(found)

    def read(self) -> None:
        """Ask Redis everything that is on the sheet."""
        asking, self._asking = self._asking, _Asking()
        closed = [question for question in asking.questions if not question.is_open]
        for begin in range(0, len(closed), _BATCH):
            self._run(closed[begin : begin + _BATCH], transaction=False)
        changing = [question for question in asking.questions if question.is_open]
        if changing:
            self._run(changing, transaction=True)
        asking.done = True

    def _run(self, questions: Sequence[_Question], *, transaction: bool) -> None:
        with self._client.pipeline(transaction=transaction) as pipe:
            for question in questions:
                pipe.execute_command(*question.command)
            replies = pipe.execute()
        for question, reply in zip(questions, replies, strict=True):
            question.take(reply)

    def _ask(self, command: tuple[object, ...], is_open: bool, take: Callable[[Any], None]) -> None:
        self._asking.questions.append(_Question(command, is_open, take))

    def _ask_union(self, slots: Sequence[Slot], key: Callable[[str, SlotNames], str], take: Callable[[Any], None]) -> None:
        for is_open in (False, True):
            keys = [key(slot.resolution.name, self._names(slot)) for slot in slots if self._changes(slot) is is_open]
            if keys:
                self._ask(("ZUNION", len(keys), *keys, "WITHSCORES"), is_open, take)

    def _answer(self, value: T) -> Deferred[T]:
        return Deferred(self._asking, lambda: value)

    def _changes(self, slot: Slot) -> bool:
        return slot.end + STILL_OPEN > self._now

    def _names(self, slot: Slot) -> SlotNames:
        return names(slot, self._schema.layers.middle.seconds)

    def _parts(self, slots: Iterable[Slot], measures: Sequence[str] | None) -> list[_Part]:
        """What to read of which blocks. The last answer is remembered: many endpoints are asked about the same slots."""
        if self._parted[0] is not slots or self._parted[1] != measures:
            blocks: dict[tuple[str, str], dict[str, Slot]] = {}
            for slot in slots:
                at = self._names(slot)
                blocks.setdefault((slot.resolution.name, at.block), {})[at.field] = slot
            parts = [self._part(res, block, wanted, measures) for (res, block), wanted in blocks.items()]
            self._parted = slots, measures, parts
        return self._parted[2]

    def _part(self, res: str, block: str, slots: dict[str, Slot], measures: Sequence[str] | None) -> _Part:
        is_open = any(self._changes(slot) for slot in slots.values())
        if measures is None or len(slots) * len(measures) > _FEW_FIELDS:
            return _Part(res, block, is_open, slots, (), ())
        names = tuple(f"{field} {measure}".encode() for field in slots for measure in measures)
        return _Part(res, block, is_open, slots, names, [(slot, measure) for slot in slots.values() for measure in measures])

    def _series_key(self, res: str, block: str, of: tuple[str, str] | None) -> str:
        if of is None:
            return self._schema.series(self._org, res, block)
        return self._schema.series_of(self._org, res, block, *of)

    def _board_key(self, shard: str, measure: str) -> Callable[[str, SlotNames], str]:
        return lambda res, at: self._schema.board(self._org, res, at.slot, shard, measure)
