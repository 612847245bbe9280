"""Reads a measure of many things in the same buckets of time: an organisation, a key, endpoints, members of a dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from usage_middleware.lazily import cached
from usage_middleware.options import NONE, CounterKind
from usage_middleware.periods import Slot
from usage_middleware.report.context import Members
from usage_middleware.report.endpoint_sums import PrefixSums
from usage_middleware.report.measure import Cell, Measure
from usage_middleware.report.metrics import summed, with_rest
from usage_middleware.report.timeline import too_wide
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.replies import KeyBoard
from usage_middleware.store.schema import BOARD_MEASURES, CALLS, status_field

T = TypeVar("T")
#: A cell for each bucket.
Cells: TypeAlias = list[Cell]

#: How many Redis keys one question may read at once.
MOST_KEYS = 100_000


class Subject(Protocol):
    """What a measure is followed of."""

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """Its cells in the buckets."""

    def kind(self, measure: Measure) -> CounterKind:
        """The counters that they are read from."""


class BucketReads:
    """Reads of one measure over some slots, grouped into buckets. What several subjects share is read once."""

    def __init__(
        self, batch: ReadBatch, groups: Callable[[], Sequence[Sequence[Slot]]], measure: Measure, sums: PrefixSums | None = None
    ) -> None:
        """Reads of the slots of each bucket; of series by their `sums`, if there are any, which takes fewer slots."""
        self.batch = batch
        self.measure = measure
        self._groups = groups
        # One list: the batch remembers the blocks of the list it saw last.
        self._slots = [slot for group in self.groups for slot in group] if sums is None else sums.slots
        self._split = partial(_by_bucket, self.groups) if sums is None else sums.buckets
        self._kept: dict[object, Deferred[Any]] = {}

    @cached
    def groups(self) -> Sequence[Sequence[Slot]]:
        """The slots of each bucket."""
        return self._groups()

    def read(self, subjects: Sequence[Subject]) -> list[Cells]:
        """The cells of each subject.

        Raises:
            QueryError: `window_too_wide` where they are too many to be read at once.
        """
        found = []
        for subject in subjects:
            found.append(subject.cells(self))
            if self.batch.keys > MOST_KEYS:
                raise too_wide(f"that would read more than {MOST_KEYS} counters at once")
        self.batch.read()
        cells = [each.value for each in found]
        # It refers to this: nothing is left for the garbage collector to find.
        self._kept.clear()
        return cells

    def series(self, of: tuple[str, str] | None, fields: Sequence[str] | None) -> Deferred[Cells]:
        """The series of the organisation, or `of` an endpoint or key; `fields` None: all measures."""
        return self._once((of, fields), lambda: self.batch.series(self._slots, of, fields).map(self._split))

    def histograms(self, endpoint: str | None) -> Deferred[Cells]:
        """The latency histograms of the organisation, or of an endpoint."""
        return gathered(self.batch, [self.batch.latency(group, endpoint) for group in self.groups])

    def key_boards(self, key: str) -> Deferred[list[KeyBoard]]:
        """All that one key did."""
        return self._once(
            ("board", key), lambda: gathered(self.batch, [self.batch.key_board(group, key) for group in self.groups])
        )

    def boards(self, dimension: str) -> Deferred[list[Members]]:
        """The measures of every member of a dimension."""
        return gathered(self.batch, [self.batch.board(group, dimension, BOARD_MEASURES) for group in self.groups])

    def members(self, dimension: str, names: tuple[str, ...]) -> Deferred[list[Members]]:
        """The measures of a few members of a dimension."""

        def read() -> Deferred[list[Members]]:
            return gathered(
                self.batch, [self.batch.members(group, dimension, names, self.measure.board) for group in self.groups]
            )

        return self._once((dimension, names), read)

    def _once(self, question: object, read: Callable[[], Deferred[list[T]]]) -> Deferred[list[T]]:
        """What was asked already is neither read nor added up again."""
        if question not in self._kept:
            self._kept[question] = read().kept()
        return self._kept[question]


def gathered(batch: ReadBatch, many: Sequence[Deferred[T]]) -> Deferred[list[T]]:
    """Several results as one; of no buckets, where a period begins this very second, none."""
    return batch.all_of({str(at): one for at, one in enumerate(many)}).map(lambda found: list(found.values()))


class Organization(NamedTuple):
    """Everything of the organisation, or of all of them together."""

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """From its series."""
        return reads.histograms(None) if reads.measure.is_percentile else reads.series(None, reads.measure.fields)

    def kind(self, measure: Measure) -> CounterKind:
        """Histograms are boards."""
        return "board" if measure.is_percentile else "series"


class OneKey(NamedTuple):
    """One API key."""

    key: str

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """From its series."""
        if reads.measure.is_percentile:
            return reads.key_boards(self.key).map(lambda boards: [board.latency for board in boards])
        return reads.series(("key", self.key), reads.measure.fields)

    def kind(self, measure: Measure) -> CounterKind:
        """Its histogram is part of the board under it."""
        return "key_board" if measure.is_percentile else "key"


class Endpoints(NamedTuple):
    """Some endpoints together: those under one label, or of one method."""

    names: tuple[str, ...]

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """From the series of each."""
        return gathered(reads.batch, [self._cells_of(name, reads) for name in self.names]).map(_added)

    def kind(self, measure: Measure) -> CounterKind:
        """Histograms are boards."""
        return "board" if measure.is_percentile else "endpoint"

    def _cells_of(self, name: str, reads: BucketReads) -> Deferred[Cells]:
        is_percentile = reads.measure.is_percentile
        return reads.histograms(name) if is_percentile else reads.series(("endpoint", name), reads.measure.fields)


class MembersOfKey(NamedTuple):
    """Some members of a dimension within one key."""

    key: str
    dimension: str
    names: tuple[str, ...]

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """From the board under the key."""
        return reads.key_boards(self.key).map(lambda boards: [self._cell(board) for board in boards])

    def kind(self, _: Measure) -> CounterKind:
        """The board under the key."""
        return "key_board"

    def _cell(self, board: KeyBoard) -> Cell:
        members = board.members.get(self.dimension, {})
        return summed(members[name] for name in self.names if name in members)


class Member(NamedTuple):
    """One member of a dimension; it is read together with those that it stands `among`."""

    dimension: str
    name: str
    among: tuple[str, ...]

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """From the boards of the dimension."""
        members = reads.members(self.dimension, self.among)
        return members.map(lambda found: [cell.get(self.name, {}) for cell in found])

    def kind(self, _: Measure) -> CounterKind:
        """Boards."""
        return "board"


class Untagged(NamedTuple):
    """The member `(none)`, with the calls from before the dimension was declared: they are on no board of it."""

    whole: Subject
    dimension: str

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """What the series have beyond the boards, and what the boards themselves have of it."""
        of = ("key", self.whole.key) if isinstance(self.whole, OneKey) else None
        series = reads.series(of, None)
        return self._members(reads).map(lambda members: _untagged(members, series.value))

    def kind(self, measure: Measure) -> CounterKind:
        """The boards that it is the rest of."""
        return "key_board" if isinstance(self.whole, OneKey) else "board"

    def _members(self, reads: BucketReads) -> Deferred[list[Members]]:
        if not isinstance(self.whole, OneKey):
            return reads.boards(self.dimension)
        return reads.key_boards(self.whole.key).map(lambda boards: [one.members.get(self.dimension, {}) for one in boards])


class Status(NamedTuple):
    """The calls of a subject that ended with one status."""

    of: Subject
    status: int

    def cells(self, reads: BucketReads) -> Deferred[Cells]:
        """From the subject's series, which have every status code."""
        field = status_field(self.status)
        return self.of.cells(reads).map(lambda cells: [{CALLS: cell.get(field, 0)} for cell in cells])

    def kind(self, measure: Measure) -> CounterKind:
        """Those of the subject."""
        return self.of.kind(measure)


def _by_bucket(groups: Sequence[Sequence[Slot]], series: Mapping[Slot, Mapping[str, int]]) -> Cells:
    return [summed(series[slot] for slot in group if slot in series) for group in groups]


def _added(many: Sequence[Cells]) -> Cells:
    """Several subjects as one, bucket by bucket."""
    return [summed(cells) for cells in zip(*many, strict=True)] if len(many) > 1 else many[0]


def _untagged(members: Sequence[Members], series: Cells) -> Cells:
    return [with_rest(listed, [cell]).get(NONE, {}) for listed, cell in zip(members, series, strict=True)]
