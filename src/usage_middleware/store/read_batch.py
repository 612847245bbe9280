"""A batch of reads of one organisation's tree: series, boards and histograms, in few round trips.

Slots that may still change are read in one MULTI, so that the parts of an answer agree. Closed slots are read without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from usage_middleware.gil import rest
from usage_middleware.periods import Slot
from usage_middleware.store.block_reads import Blocks
from usage_middleware.store.damage import DamageLog
from usage_middleware.store.deferred import Deferred, Given, Pending
from usage_middleware.store.history import adding
from usage_middleware.store.history import names as history
from usage_middleware.store.history.fetching import fetch_with
from usage_middleware.store.history.known_months import KnownMonths
from usage_middleware.store.history.packed_reads import PackedReads
from usage_middleware.store.history.questions import Beginning
from usage_middleware.store.key_sums import KEYS_A_COMMAND, sum_read
from usage_middleware.store.minute_reads import minute_reads
from usage_middleware.store.reads import Read, hand_out
from usage_middleware.store.replies import (
    AddBins,
    AddKeyBoard,
    Boards,
    KeyBoard,
    Measures,
    Note,
    add_board,
    add_member_scores,
    add_scores,
    add_seen,
    by_member,
)
from usage_middleware.store.schema import BOARD_MEASURES, Schema

T = TypeVar("T")

#: What the board under a key has of endpoints' calls.
CALLS_OF_ENDPOINTS = Beginning("calls endpoint ")
#: How many members are asked for in one command.
_BATCH = 500
#: To put reads together is work, too: what they cost is told when it is so much, not at the end alone.
_CHARGED_AT_ONCE = 500
#: How many members one ZUNION may read, if all of them are in every slot: it keeps other clients waiting.
_MOST_UNITED = 300_000
#: How many members of a reply, and how many keys of a union, cost as much as a command.
_MEMBERS_A_COMMAND, _KEYS_A_COMMAND = 20, 2
#: Slots as boards' keys name them: those that are closed, those that are open.
_Named = tuple[list[str], list[str]]


class ReadBatch:
    """A batch of reads with deferred results. `read` sends all of them; then the batch may be used again.

    `charge` is told what a read costs before it is sent, in Redis commands, and may raise. `damage` is told what is damaged.
    `months` is what this process knows of packed months.
    """

    def __init__(
        self,
        client: Any,
        schema: Schema,
        org: str,
        now: int,
        charge: Callable[[int], object] = lambda cost: None,
        damage: DamageLog | None = None,
        months: KnownMonths | None = None,
    ) -> None:
        self._client = client
        self._damage = damage or DamageLog()
        self._schema = schema
        self._org = org
        self._pending = Pending()
        self._packed = PackedReads(schema, org, now, self._damage, months)
        self._charge = charge
        self._blocks = Blocks(schema, now)
        #: No method: what is asked for and not read must not refer to this.
        self._note_bin = partial(_note_bin, self._damage, org)
        #: How many Redis keys have been asked for.
        self.keys = 0
        #: What the reads that are not sent yet may cost.
        self._cost = 0
        self._last_named: tuple[Sequence[Slot], _Named] = ((), ([], []))

    def series(
        self, slots: Sequence[Slot], of: tuple[str, str] | None = None, measures: Sequence[str] | None = None
    ) -> Deferred[dict[Slot, Measures]]:
        """The organisation's series, or that `of` an endpoint or key: slot -> measure -> number.

        Slots without calls are absent. `measures` says which are wanted; None: all.
        """
        found: dict[Slot, Measures] = {}
        for block in self._blocks.of(slots, measures):
            read = block.read(self._series_key(block.res, block.block, of), found)
            self._put(read)
            self._cost += block.size // _MEMBERS_A_COMMAND
        what, name = of or (history.SERIES, history.WHOLE)
        bucket_of = name if what == history.KEY else None
        self._packed.ask(slots, what, adding.AddSeries(found, measures), (name,), measures=measures, bucket_of=bucket_of)
        return self._deferred(found)

    def sums(self, slots: Sequence[Slot], keys: Sequence[str], measures: Sequence[str]) -> Deferred[dict[str, Measures]]:
        """As `series` of each of these API keys, added up over the slots; keys without are absent. Never in one MULTI."""
        found: dict[str, Measures] = {}
        for block in self._blocks.of(slots, measures):
            for begin in range(0, len(keys), KEYS_A_COMMAND):
                some = keys[begin : begin + KEYS_A_COMMAND]
                names = [self._series_key(block.res, block.block, ("key", key)) for key in some]
                read = sum_read(block, names, some, measures, found)
                self._put(read)
                self.keys += len(some) - 1
                self._cost += len(some) * (1 + block.size // _MEMBERS_A_COMMAND) - 1
        for key in keys:
            take = adding.board(found, measures)
            self._packed.ask_sums(slots, history.KEY, take, (key,), measures=measures, bucket_of=key)
        return self._deferred(found)

    def boards(self, slots: Sequence[Slot], dimension: str, measures: Sequence[str] = BOARD_MEASURES) -> Deferred[Boards]:
        """The boards of a dimension, added up over the slots: measure -> member -> number."""
        found: Boards = {measure: {} for measure in measures}
        shards = self._schema.all_shards(dimension)
        limit = self._schema.settings.member_limit(dimension)
        self._cost += limit * len(measures) // _MEMBERS_A_COMMAND
        most = max(1, _MOST_UNITED * len(shards) // limit)
        for begin in range(0, len(slots), most):
            some = self._named(slots[begin : begin + most])
            for shard in shards:
                for measure, numbers in found.items():
                    name = partial(self._schema.boards, self._org, dimension=shard, measure=measure)
                    self._add_union(some, name, partial(add_board, numbers))
        for shard in shards:
            self._packed.ask_sums(slots, f"{history.BOARD} {shard}", adding.boards(found), measures=measures)
        return self._deferred(found)

    def board(
        self, slots: Sequence[Slot], dimension: str, measures: Sequence[str] = BOARD_MEASURES
    ) -> Deferred[dict[str, Measures]]:
        """As `boards`, the other way round: member -> measure -> number."""
        return self.boards(slots, dimension, measures).map(by_member).kept()

    def members(
        self, slots: Iterable[Slot], dimension: str, names: Iterable[str], measures: Sequence[str] = BOARD_MEASURES
    ) -> Deferred[dict[str, Measures]]:
        """As `board`, of a few members: what it costs does not depend on how many others there are."""
        found: dict[str, Measures] = {}
        shards: dict[str, list[str]] = {}
        for name in names:
            shards.setdefault(self._schema.sharded(dimension, name), []).append(name)
        wanted = list(slots)
        for shard, some in shards.items():
            self._packed.ask_sums(wanted, f"{history.BOARD} {shard}", adding.board(found, measures), some, measures=measures)
        for slot in wanted:
            for shard, some in shards.items():
                for measure in measures:
                    key = self._schema.board(self._org, slot.resolution.name, self._blocks.names(slot).slot, shard, measure)
                    add = partial(add_member_scores, measure, some, found)
                    self._add(("ZMSCORE", key, *some), self._blocks.is_open(slot), add)
                    self._cost += len(some) // _MEMBERS_A_COMMAND
        return self._deferred(found)

    def latency(self, slots: Sequence[Slot], endpoint: str | None = None) -> Deferred[dict[int, int]]:
        """The latency histogram of the organisation, or of one endpoint: bin -> calls."""
        found: dict[int, int] = {}
        self._add_union(
            self._named(slots),
            partial(self._schema.latency_boards, self._org, endpoint=endpoint),
            AddBins(found),
        )
        what, name = (history.LATENCY, history.WHOLE) if endpoint is None else (history.ENDPOINT_LATENCY, endpoint)
        self._packed.ask_sums(slots, what, adding.AddBins(found, self._note_bin), (name,))
        return self._deferred(found)

    def key_board(self, slots: Sequence[Slot], key: str, *, endpoints: bool = False) -> Deferred[KeyBoard]:
        """All that one key did; with `endpoints`, at least how often it called each."""
        found, wanted = KeyBoard({}, {}), CALLS_OF_ENDPOINTS if endpoints else None
        name = partial(self._schema.key_boards, self._org, key=key)
        self._add_union(self._named(slots), name, AddKeyBoard(found))
        self._packed.ask_sums(
            slots, history.KEY_BOARD, adding.AddKeyBoard(found, self._note_bin), (key,), measures=wanted, bucket_of=key
        )
        return self._deferred(found)

    def minutes(self, key: str | None, measure: str, start: int, end: int) -> Deferred[dict[int, int]]:
        """One measure of a key, or of the organisation (None): each minute of `[start, end)` -> number; others are absent."""
        found: dict[int, int] = {}
        for read in minute_reads(self._schema, self._org, key, measure, start, end, found):
            self._put(read)
            more = len(read.keys) - 1
            self.keys += more
            self._cost += 1 + 2 * more
        return self._deferred(found)

    def all_of(self, asked: Mapping[str, Deferred[T]]) -> Deferred[dict[str, T]]:
        """Several reads of this batch as one, by their names."""
        return Deferred(self._pending, lambda: {name: found.value for name, found in asked.items()})

    def seen(self, dimension: str) -> Deferred[dict[str, int]]:
        """All known members of a dimension, and when each was last active, in milliseconds since the epoch."""
        found: dict[str, int] = {}
        self._cost += self._schema.settings.member_limit(dimension) // _MEMBERS_A_COMMAND
        command = ("ZRANGE", self._schema.seen(self._org, dimension), 0, -1, "WITHSCORES")
        self._add(command, False, partial(add_seen, found))
        return self._deferred(found)

    def seen_count(self, dimension: str) -> Deferred[int]:
        """How many members of a dimension are known."""
        return self._lengths(("ZCARD", self._schema.seen(self._org, dimension))).map(sum)

    def corrections(self, months: Iterable[str]) -> Deferred[list[int]]:
        """How many corrections there are of each of these months."""
        return self._lengths(*(("HLEN", self._schema.corrections(self._org, month)) for month in months))

    def _lengths(self, *commands: tuple[object, ...]) -> Deferred[list[int]]:
        found: list[int] = []
        for command in commands:
            self._add(command, False, lambda _, reply: found.append(int(reply)))
        return self._deferred(found)

    def seen_of(self, dimension: str, members: Sequence[str]) -> Deferred[dict[str, int]]:
        """As `seen`, of some members; those never seen are absent."""
        found: dict[str, int] = {}
        key = self._schema.seen(self._org, dimension)
        for begin in range(0, len(members), _BATCH):
            some = members[begin : begin + _BATCH]
            self._add(("ZMSCORE", key, *some), False, partial(add_scores, some, found))
        return self._deferred(found)

    def read(self) -> None:
        """Send all reads of the batch to Redis, and wait for the replies."""
        self._charge_all()
        pending, self._pending = self._pending, Pending()
        packed, self._packed = self._packed, self._packed.renewed()
        hand_out(fetch_with(packed, self._client, pending, self._damage, self._charge), self._damage)
        packed.hand_out()
        pending.done = True

    def _add(self, command: tuple[object, ...], is_open: bool, add: Callable[[Note, Any], None]) -> None:
        self._put(Read(command, is_open, add))

    def _put(self, read: Read) -> None:
        self.keys += 1
        self._cost += 1
        self._pending.append(read)
        if self._cost > _CHARGED_AT_ONCE:
            self._charge_all()
        rest()

    def _charge_all(self) -> None:
        cost, self._cost = self._cost, 0
        self._charge(cost)

    def _named(self, slots: Sequence[Slot]) -> _Named:
        """The names of the slots that are closed, and of those that are open. The last result is remembered."""
        if self._last_named[0] is not slots:
            self._last_named = slots, self._name(slots)
        return self._last_named[1]

    def _name(self, slots: Sequence[Slot]) -> _Named:
        closed: list[str] = []
        opened: list[str] = []
        for slot in slots:
            (opened if self._blocks.is_open(slot) else closed).append(f"{slot.resolution.name}:{self._blocks.names(slot).slot}")
        return closed, opened

    def _add_union(self, slots: _Named, names: Callable[[Iterable[str]], list[str]], add: Callable[[Note, Any], None]) -> None:
        for is_open, some in enumerate(slots):
            if some:
                keys = names(some)
                self._add(("ZUNION", len(keys), *keys, "WITHSCORES"), bool(is_open), add)
                self.keys += len(keys) - 1
                self._cost += len(keys) // _KEYS_A_COMMAND

    def _deferred(self, found: T) -> Deferred[T]:
        return Deferred(self._pending, Given(found))

    def _series_key(self, res: str, block: str, of: tuple[str, str] | None) -> str:
        if of is None:
            return self._schema.series(self._org, res, block)
        return self._schema.series_of(self._org, res, block, *of)


def _note_bin(damage: DamageLog, org: str, name: str) -> None:
    damage.note(f"the history of {org}", f"the number of {name:.100}")
