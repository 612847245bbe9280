"""One day at one resolution: every two places that count the same calls, read and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from usage_middleware.options import CounterKind
from usage_middleware.periods import DAY, HOUR, Resolution, Slot, rfc3339
from usage_middleware.report.context import Members, ReportContext, Series
from usage_middleware.report.kept import oldest_kept
from usage_middleware.report.metrics import statuses, summed
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.members import OPERATOR, OTHER
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.replies import KeyBoard
from usage_middleware.store.schema import (
    BOARD_MEASURES,
    BYTES,
    CALLS,
    CLASSES,
    CORRECTED,
    DROPPED,
    LATENCY,
    counter_field,
    status_class,
)

#: Counters that end within so many seconds are left alone: clocks differ a little.
_ENDING = 120
_Amounts: TypeAlias = Mapping[str, int]


class _Side(NamedTuple):
    """One of two places, and what it tells once it is read: measure -> number."""

    place: str
    amounts: Deferred[_Amounts]


class _Check(NamedTuple):
    """Two places to be compared, and what they are about.

    `measures` None: the places tell the calls of each member of the dimension that it is about. `may_lack`: the other place
    began later, and may have less.
    """

    about: str
    one: _Side
    other: _Side
    measures: Sequence[str] | None = BOARD_MEASURES
    may_lack: bool = False

    def numbers(self) -> Iterator[tuple[str, str, int, int]]:
        """(about, measure, one number, the other) of everything that is compared."""
        ours, theirs = self.one.amounts.value, self.other.amounts.value
        for name in (ours.keys() | theirs.keys()) if self.measures is None else self.measures:
            about, measure = (f"{self.about} {name}", CALLS) if self.measures is None else (self.about, name)
            yield about, measure, ours.get(name, 0), theirs.get(name, 0)

    def is_equal(self, ours: int, theirs: int) -> bool:
        """Whether two of these numbers agree."""
        return ours == theirs or (self.may_lack and theirs < ours)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two places that count the same calls and tell different numbers.

    Attributes:
        day: the UTC day, `2026-11-20`.
        resolution: of the slots that were added up: `1m`, `30m` or `1d`.
        about: whose calls: empty for all of the organisation, else `endpoint GET /v1/items`, `key key_7`, `org acme`.
        measure: what is counted, as in the names of Redis: `calls`, `4xx`, `latency_us`.
        places: the two places.
        amounts: what each of them tells.
    """

    day: str
    resolution: str
    about: str
    measure: str
    places: tuple[str, str]
    amounts: tuple[int, int]

    def __str__(self) -> str:
        """For instance `2026-11-20 1d calls of key key_7: series 12, board 11`."""
        of = f" of {self.about}" if self.about else ""
        (one, other), (here, there) = self.places, self.amounts
        return f"{self.day} {self.resolution} {self.measure}{of}: {one} {here}, {other} {there}"


class _Slots(NamedTuple):
    """Slots that are compared, and the coarser ones that hold the same calls (of days: none)."""

    fine: list[Slot]
    coarse: list[Slot]


class Comparison:
    """The comparison of one day at one resolution."""

    def __init__(self, context: ReportContext, org: str, layer: Resolution, day: int, members: int) -> None:
        self._context = context
        self._settings = context.settings
        self._org = org
        self._layer = layer
        self._day = day
        self._members = members
        self.compared = 0
        self.left_out: dict[str, int] = {}

    def compare(self) -> list[Difference]:
        """Read both places of each pair, and name those that differ."""
        chosen = self._choose()
        # The open slots of one tree are read in one transaction, so that the places are of one moment.
        batch, others = self._context.batch(self._org), list[ReadBatch]()
        checks = [
            *self._series_checks(batch),
            *self._board_checks(batch),
            *self._member_checks(batch, chosen),
            *self._key_checks(batch, chosen.get("key", [])),
            *self._tree_checks(batch, others, chosen.get("org", [])),
        ]
        for one in (batch, *others):
            one.read()
        pairs = [(check, pair) for check in checks for pair in check.numbers()]
        self.compared = len(pairs)
        return [self._difference(check, *pair) for check, pair in pairs if not check.is_equal(*pair[2:])]

    def _difference(self, check: _Check, about: str, measure: str, ours: int, theirs: int) -> Difference:
        return Difference(
            day=rfc3339(self._day)[:10],
            resolution=self._layer.name,
            about=about,
            measure=measure,
            places=(check.one.place, check.other.place),
            amounts=(ours, theirs),
        )

    def _slots(self, *kinds: CounterKind) -> _Slots:
        """The slots of the day that all these kinds keep, as far as the whole of their coarser slot is kept."""
        kept = min(self._settings.kept(kind, self._layer.rank) for kind in kinds)
        oldest = oldest_kept(self._layer, self._context.now + _ENDING, kept)
        layers = self._settings.layers
        outer = layers[min(self._layer.rank + 1, layers.day.rank)]
        latest = min(self._day + DAY, self._context.now + HOUR)
        coarse = [Slot(outer, at) for at in range(self._day, latest, outer.seconds) if at >= oldest]
        fine = [Slot(self._layer, at) for slot in coarse for at in range(slot.start, slot.end, self._layer.seconds)]
        return _Slots(fine, [] if outer == self._layer else coarse)

    @property
    def _board_slots(self) -> _Slots:
        return self._slots("series", "board", "endpoint", "key")

    @property
    def _dimensions(self) -> tuple[str, ...]:
        return ("endpoint", "org" if self._org == OPERATOR else "key", *self._settings.dimensions)

    def _choose(self) -> dict[str, list[str]]:
        """The busiest members of the dimensions whose members have counters of their own."""
        batch, slots = self._context.batch(self._org), self._board_slots.fine
        boards = {dimension: batch.board(slots, dimension, (CALLS,)) for dimension in self._dimensions[:2]}
        batch.read()
        chosen = {}
        for dimension, board in boards.items():
            calls = _calls_of_members(board.value)
            if dimension == "org":
                calls = {name: number for name, number in calls.items() if name != OTHER}  # It has no tree of its own.
            names = [name for _, name in sorted((-number, name) for name, number in calls.items())]
            chosen[dimension] = names[: self._members]
            if len(names) > self._members:
                self.left_out[dimension] = len(names) - self._members
        return chosen

    def _series_checks(self, batch: ReadBatch) -> Iterator[_Check]:
        """Calls by status with calls, and the finer slots with the coarser ones."""
        slots = self._slots("series")
        series = batch.series(slots.fine).map(_summed)
        yield _Check("", _Side("series", series), _Side("statuses", series.map(_answered)), (CALLS,))
        if slots.coarse:
            measures = (CALLS, LATENCY, BYTES, DROPPED, CORRECTED, *map(counter_field, self._settings.counters))
            coarse = batch.series(slots.coarse).map(_summed)
            yield _Check("", _Side("series", series), _Side(_coarser("series", slots), coarse), measures)

    def _board_checks(self, batch: ReadBatch) -> Iterator[_Check]:
        """The histogram and each dimension with the series, and each member's finer slots with its coarser ones."""
        slots = self._board_slots
        if not slots.fine:
            return
        found = batch.series(slots.fine)
        series = _Side("series", found.map(_as_board))
        bins = _Side("latency", batch.latency(slots.fine).map(_in_bins))
        yield _Check("", _uncorrected(series, found), bins, (CALLS,))
        since = self._context.standing.since
        for dimension in self._dimensions:
            # Calls from before it was declared are on no board of it.
            is_new = since.get(dimension, 0) > slots.fine[0].start
            place, board = f"board {dimension}", batch.board(slots.fine, dimension)
            yield _Check("", series, _Side(place, board.map(_all_members)), may_lack=is_new)
            if slots.coarse:
                coarse = batch.board(slots.coarse, dimension, (CALLS,)).map(_calls_of_members)
                yield _Check(dimension, _Side(place, board.map(_calls_of_members)), _Side(_coarser(place, slots), coarse), None)

    def _member_checks(self, batch: ReadBatch, chosen: Mapping[str, list[str]]) -> Iterator[_Check]:
        """The series of each endpoint and key, and the histogram of each endpoint, with the boards."""
        slots = self._board_slots.fine
        for dimension in ("endpoint", "key"):
            names = chosen.get(dimension, [])
            board = batch.board(slots if names else (), dimension)
            for name in names:
                row = _Side(f"board {dimension}", _row(board, name))
                series = batch.series(slots, (dimension, name))
                yield _Check(f"{dimension} {name}", _Side("series", series.map(_as_board)), row)
                if dimension == "endpoint":
                    bins = _Side("latency", batch.latency(slots, name).map(_in_bins))
                    yield _Check(f"{dimension} {name}", bins, _uncorrected(row, series), (CALLS,))

    def _key_checks(self, batch: ReadBatch, keys: Sequence[str]) -> Iterator[_Check]:
        """The board under each key: its endpoints, its dimensions and its histogram."""
        slots = self._slots("series", "board", "endpoint", "key", "key_board").fine
        if not slots or not keys:
            return
        board = batch.board(slots, "key")
        for name in keys:
            row, own = _Side("board key", _row(board, name)), batch.key_board(slots, name)
            uncorrected = _uncorrected(row, batch.series(slots, ("key", name)))
            yield _Check(f"key {name}", _Side("its latency", own.map(_bins_of_key)), uncorrected, (CALLS,))
            yield _Check(f"key {name}", _Side("its endpoints", own.map(_endpoints_of_key)), row)

    def _tree_checks(self, batch: ReadBatch, others: list[ReadBatch], orgs: Sequence[str]) -> Iterator[_Check]:
        """Each organisation's row in the operator's boards with its own series, which another tree holds."""
        slots = self._board_slots.fine
        if not slots or not self._settings.operator_tree:
            return
        is_operator = self._org == OPERATOR
        operator = batch if is_operator else self._context.batch(OPERATOR)
        board = operator.board(slots, "org")
        others += [] if is_operator else [operator]
        for name in orgs if is_operator else [self._org]:
            own = self._context.batch(name) if is_operator else batch
            others += [own] if is_operator else []
            series = own.series(slots).map(_as_board)
            yield _Check(f"org {name}", _Side("series of its own", series), _Side("board org", _row(board, name)))


def _coarser(place: str, slots: _Slots) -> str:
    return f"{place} at {slots.coarse[0].resolution.name}"


def _summed(series: Series) -> _Amounts:
    return summed(series.values())


def _answered(total: _Amounts) -> _Amounts:
    return {CALLS: sum(calls for _, calls in statuses(total))}


def _as_board(series: Series) -> _Amounts:
    """What the boards of a dimension add up to, if they have the same calls as a series."""
    total = summed(series.values())
    found = {CALLS: total.get(CALLS, 0), LATENCY: total.get(LATENCY, 0)}
    for status, calls in statuses(total):
        if status_class(status) in CLASSES:
            found[status_class(status)] = found.get(status_class(status), 0) + calls
    return found


def _uncorrected(side: _Side, series: Deferred[Series]) -> _Side:
    """The calls of a place that are in histograms: without what was corrected, as the series of the same calls tells."""

    def calls(amounts: _Amounts) -> _Amounts:
        return {CALLS: amounts.get(CALLS, 0) - summed(series.value.values()).get(CORRECTED, 0)}

    return _Side(side.place, side.amounts.map(calls))


def _in_bins(bins: Mapping[int, int]) -> _Amounts:
    return {CALLS: sum(bins.values())}


def _bins_of_key(board: KeyBoard) -> _Amounts:
    return _in_bins(board.latency)


def _endpoints_of_key(board: KeyBoard) -> _Amounts:
    return summed(board.members.get("endpoint", {}).values())


def _all_members(board: Members) -> _Amounts:
    return summed(board.values())


def _calls_of_members(board: Members) -> _Amounts:
    return {name: measures.get(CALLS, 0) for name, measures in board.items()}


def _row(board: Deferred[Members], name: str) -> Deferred[_Amounts]:
    return board.map(lambda members: members.get(name, {}))
