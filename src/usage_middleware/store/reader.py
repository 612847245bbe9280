"""Reads slots back: series, boards and histograms, many questions in few round trips.

A view writes its questions on a `Sheet` and has them answered together. What lies in slots that still change is read in one
MULTI, so that the parts of an answer agree; what lies in closed ones is read freely.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from usage_middleware.errors import UsageError
from usage_middleware.periods import Slot, SlotNames, names
from usage_middleware.store.keys import Directory
from usage_middleware.store.schema import BOARD_MEASURES, LAST, Schema, parse_key_board_member, since_field

T = TypeVar("T")
U = TypeVar("U")
Measures = dict[str, int]

#: A slot may still change for so long after it ended, in seconds: workers flush every few.
STILL_OPEN = 120
#: A worker without a sign of life for so long is not waited for, in milliseconds.
WORKER_GONE_MS = 60_000
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


class Answer(Generic[T]):
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

    def map(self, make: Callable[[T], U]) -> Answer[U]:
        """The same answer, seen otherwise."""
        return Answer(self._asking, lambda: make(self._get()))


class KeyBoard(NamedTuple):
    """All that one key did: dimension -> member -> measure -> number, and its histogram."""

    members: dict[str, dict[str, Measures]]
    latency: dict[int, int]


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


class Connected(Protocol):
    """What the reader needs of an engine."""

    @property
    def read_client(self) -> Any:
        """The synchronous Redis client that views read with."""


class Sheet:
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
    ) -> Answer[dict[Slot, Measures]]:
        """How the organisation, or `of` an endpoint or key, went over time: slot -> measure -> number.

        Quiet slots are absent. `measures` says which are wanted; else all are.
        """
        found: dict[Slot, Measures] = {}
        for part in self._parts(slots, measures):
            key = self._series_key(part.res, part.block, of)
            if part.names:
                self._ask(("HMGET", key, *part.names), part.is_open, _named_taker(part.places, found))
            else:
                self._ask(("HGETALL", key), part.is_open, _series_taker(part.slots, found))
        return self._answer(found)

    def board(
        self, slots: Sequence[Slot], dimension: str, measures: Sequence[str] = BOARD_MEASURES
    ) -> Answer[dict[str, Measures]]:
        """Who did how much: member -> measure -> number."""
        found: dict[str, Measures] = {}
        shards = self._schema.all_shards(dimension)
        most = max(1, _MOST_UNITED * len(shards) // self._schema.settings.member_limit(dimension))
        for shard in shards:
            for measure in measures:
                for begin in range(0, len(slots), most):
                    some = slots[begin : begin + most]
                    self._ask_union(some, self._board_key(shard, measure), _board_taker(measure, found))
        return self._answer(found)

    def latency(self, slots: Sequence[Slot], endpoint: str | None = None) -> Answer[dict[int, int]]:
        """The histogram of the organisation, or of one endpoint: bin -> calls."""
        found: dict[int, int] = {}
        self._ask_union(
            slots, lambda res, at: self._schema.latency_board(self._org, res, at.slot, endpoint), _bins_taker(found)
        )
        return self._answer(found)

    def key_board(self, slots: Sequence[Slot], key: str) -> Answer[KeyBoard]:
        """All that one key did."""
        found = KeyBoard({}, {})
        self._ask_union(slots, lambda res, at: self._schema.key_board(self._org, res, at.slot, key), _key_board_taker(found))
        return self._answer(found)

    def seen(self, dimension: str) -> Answer[dict[str, int]]:
        """Every member that is known, and when it was last active, in milliseconds since the epoch."""
        found: dict[str, int] = {}
        command = ("ZRANGE", self._schema.seen(self._org, dimension), 0, -1, "WITHSCORES")
        self._ask(command, False, lambda reply: found.update((text(name), number(score)) for name, score in pairs(reply)))
        return self._answer(found)

    def seen_of(self, dimension: str, members: Sequence[str]) -> Answer[dict[str, int]]:
        """As `seen`, of some members; those never seen are absent."""
        found: dict[str, int] = {}
        key = self._schema.seen(self._org, dimension)
        for begin in range(0, len(members), _BATCH):
            some = members[begin : begin + _BATCH]
            self._ask(("ZMSCORE", key, *some), False, _seen_taker(some, found))
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

    def _answer(self, value: T) -> Answer[T]:
        return Answer(self._asking, lambda: value)

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


class Reader:
    """Opens sheets, and tells how far the numbers are complete.

    Attributes:
        directory: who the API keys belong to, for names and for keys without calls.
        visible: narrows the unused endpoints that a viewer is shown: (viewer, labels) -> labels.
    """

    def __init__(
        self,
        engine: Connected,
        schema: Schema,
        directory: Directory,
        *,
        own_routes: Callable[[], Collection[str]] = tuple,
        visible: Callable[[Any, list[str]], Iterable[str]] | None = None,
    ) -> None:
        self._engine = engine
        self.directory = directory
        self.schema = schema
        self.settings = schema.settings
        self.visible = visible
        self._own_routes = own_routes

    def routes(self) -> list[str]:
        """The application's own endpoints, called or not: those of this process, and those that its workers left in Redis."""
        stored = self._engine.read_client.execute_command("ZRANGE", self.schema.routes, 0, -1)
        return sorted({*self._own_routes(), *(text(name) for name in stored)})

    def sheet(self, org: str, now: int) -> Sheet:
        """An empty sheet about one organisation's tree (`*`: all of them together)."""
        return Sheet(self._engine.read_client, self.schema, org, now)

    def since(self, dimensions: Sequence[str]) -> dict[str, int]:
        """Since when each dimension is kept, in seconds since the epoch; those that never were are absent."""
        if not dimensions:
            return {}
        names = [since_field(dimension) for dimension in dimensions]
        found = self._engine.read_client.execute_command("HMGET", self.schema.meta, *names)
        return {name: int(ms) // 1000 for name, ms in zip(dimensions, found, strict=True) if ms is not None}

    def complete_through(self, now: int) -> int | None:
        """All calls finished before it, on workers that are alive, are in: ms since the epoch; None without workers."""
        client = self._engine.read_client
        alive = client.execute_command("ZRANGEBYSCORE", self.schema.workers, now * 1000 - WORKER_GONE_MS, "+inf")
        if not alive:
            return None
        with client.pipeline(transaction=False) as pipe:
            for worker in alive:
                pipe.execute_command("HGET", self.schema.worker(text(worker)), "flushed_through_ms")
            through = [int(found) for found in pipe.execute() if found is not None]
        return min(through) if through else None


def _series_taker(wanted: Mapping[str, Slot], found: dict[Slot, Measures]) -> Callable[[Any], None]:
    def take(reply: Any) -> None:
        for field, value in fields(reply):
            slot_name, measure = _slot_and_measure(field)
            slot = wanted.get(slot_name)
            if slot is not None:
                found.setdefault(slot, {})[measure] = int(value)

    return take


@lru_cache(maxsize=16384)  # the blocks of a year have the same fields
def _slot_and_measure(field: bytes | str) -> tuple[str, str]:
    slot_name, _, measure = text(field).partition(" ")
    return slot_name, measure


def _named_taker(places: Sequence[tuple[Slot, str]], found: dict[Slot, Measures]) -> Callable[[Any], None]:
    def take(reply: Any) -> None:
        for (slot, measure), value in zip(places, reply, strict=True):
            if value is not None:
                found.setdefault(slot, {})[measure] = int(value)

    return take


def _board_taker(measure: str, found: dict[str, Measures]) -> Callable[[Any], None]:
    def take(reply: Any) -> None:
        for name, score in pairs(reply):
            measures = found.setdefault(text(name), {})
            measures[measure] = measures.get(measure, 0) + number(score)

    return take


def _bins_taker(found: dict[int, int]) -> Callable[[Any], None]:
    def take(reply: Any) -> None:
        for name, score in pairs(reply):
            found[int(name)] = found.get(int(name), 0) + number(score)

    return take


def _key_board_taker(found: KeyBoard) -> Callable[[Any], None]:
    def take(reply: Any) -> None:
        for raw, score in pairs(reply):
            measure, dimension, name = parse_key_board_member(text(raw))
            if dimension == "latency":
                found.latency[int(name)] = found.latency.get(int(name), 0) + number(score)
            else:
                measures = found.members.setdefault(dimension, {}).setdefault(name, {})
                measures[measure] = measures.get(measure, 0) + number(score)

    return take


def _seen_taker(members: Sequence[str], found: dict[str, int]) -> Callable[[Any], None]:
    def take(reply: Any) -> None:
        found.update((name, number(score)) for name, score in zip(members, reply, strict=True) if score is not None)

    return take


def text(raw: bytes | str) -> str:
    """A name as Redis gave it, whatever the client decodes."""
    return raw.decode() if isinstance(raw, bytes) else raw


def number(score: bytes | str | float) -> int:
    """A score as a whole number."""
    try:
        return int(score)
    except ValueError:  # "1e+17"
        return int(float(score))


def pairs(reply: Collection[Any]) -> Iterable[tuple[Any, Any]]:
    """(member, score) of a reply WITHSCORES, flat or already in pairs."""
    flat = list(reply)
    if flat and isinstance(flat[0], (list, tuple)):
        return ((pair[0], pair[1]) for pair in flat)
    return zip(flat[::2], flat[1::2], strict=True)


def fields(reply: Any) -> Iterable[tuple[Any, Any]]:
    """(field, value) of an HGETALL, flat or already a mapping."""
    return reply.items() if isinstance(reply, Mapping) else pairs(reply)


def latest(many: Iterable[Measures]) -> int:
    """The greatest `last_ms` of several slots, 0 of none."""
    return max((measures.get(LAST, 0) for measures in many), default=0)
