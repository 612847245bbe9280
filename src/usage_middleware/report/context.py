"""What a report is built with: the counters and keys, who asks, and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from usage_middleware.options import NONE, Settings
from usage_middleware.periods import Slot, rfc3339
from usage_middleware.report.metrics import Measures, board_measures, by_label
from usage_middleware.report.viewer import ReportScope, Viewer
from usage_middleware.store.engine import Engine
from usage_middleware.store.keys import Directory
from usage_middleware.store.read_batch import Deferred, ReadBatch
from usage_middleware.store.reader import Reader
from usage_middleware.store.replies import KeyBoard
from usage_middleware.store.schema import BOARD_MEASURES, DROPPED, Schema

Members: TypeAlias = dict[str, dict[str, int]]
Series: TypeAlias = dict[Slot, dict[str, int]]
#: Which of the unused endpoints a viewer is shown: (viewer, labels) -> labels.
VisibleEndpoints: TypeAlias = Callable[[Viewer, list[str]], Iterable[str]]
#: Remembers the order of a list for a while, so that its pages belong together: (organisation, question, names as they are
#: ordered now) -> names as they were ordered for the first page.
PageOrder: TypeAlias = Callable[[str, object, list[str]], list[str]]


def current_order(org: str, question: object, names: list[str]) -> list[str]:
    """A `PageOrder` that remembers nothing: every page is of the list as it is now."""
    return names


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Who asks, when, and what there is to answer with.

    Attributes:
        reader: the counters in Redis.
        directory: who the API keys belong to, for names and for keys without calls.
        now: seconds since the epoch; calls of the running second count.
        visible_endpoints: None shows every viewer all unused endpoints.
    """

    reader: Reader
    directory: Directory
    viewer: Viewer
    now: int
    visible_endpoints: VisibleEndpoints | None = None
    page_order: PageOrder = current_order

    @property
    def settings(self) -> Settings:
        """What the counters were declared with."""
        return self.reader.settings

    @property
    def generated_at(self) -> str:
        """When the report is built, RFC 3339."""
        return rfc3339(self.now)

    def batch(self, org: str) -> ReadBatch:
        """An empty batch of reads in one organisation's tree (`*`: all organisations together)."""
        return self.reader.sheet(org, self.now)

    def complete_through(self) -> str | None:
        """Every call that finished before it is counted, on workers that are alive; None without workers."""
        through = self.reader.complete_through(self.now)
        return None if through is None else rfc3339(through / 1000)


class ReportSource:
    """Where reports come from, whoever asks.

    Attributes:
        engine: the connection to Redis.
        clock: seconds since the epoch.
        recorder_stats: what the recorder of this process says of itself; None where it has none.
    """

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        directory: Directory,
        clock: Callable[[], float],
        *,
        own_routes: Callable[[], Collection[str]] = tuple,
        visible_endpoints: VisibleEndpoints | None = None,
        recorder_stats: Callable[[], object] | None = None,
    ) -> None:
        self.engine = engine
        self.schema = schema
        self.clock = clock
        self.recorder_stats = recorder_stats
        self._reader = Reader(engine, schema, own_routes=own_routes)
        self._directory = directory
        self._visible_endpoints = visible_endpoints

    def context(self, viewer: Viewer, *, now: int | None = None, page_order: PageOrder = current_order) -> ReportContext:
        """The context of one report. `now` None: by the clock, rounded up."""
        return ReportContext(
            reader=self._reader,
            directory=self._directory,
            viewer=viewer,
            now=math.ceil(self.clock()) if now is None else now,
            visible_endpoints=self._visible_endpoints,
            page_order=page_order,
        )


@dataclass
class ScopedReader:
    """Reads the counters of a scope, an organisation or one key of it, over the same slots, in one batch."""

    context: ReportContext
    scope: ReportScope
    slots: Sequence[Slot]

    @cached_property
    def batch(self) -> ReadBatch:
        """The batch of all its reads."""
        return self.context.batch(self.scope.org)

    def series(self, slots: Sequence[Slot] | None = None) -> Deferred[Series]:
        """How it went over time, slot by slot; `slots` where finer ones are wanted than for breakdowns."""
        wanted = self.slots if slots is None else slots
        return self.batch.series(wanted, None if self.scope.key is None else ("key", self.scope.key))

    def members(self, dimension: str, measures: Sequence[str] = BOARD_MEASURES) -> Deferred[Members]:
        """Who did how much in one dimension; endpoints by the names they are stored under."""
        if self.scope.key is None:
            return self.batch.board(self.slots, dimension, measures)
        return self._key_board.map(lambda board: board.members.get(dimension, {}))

    def endpoints(self) -> Deferred[Members]:
        """Who did how much by endpoint, under the labels that answers use."""
        return self.members("endpoint").map(lambda members: by_label(members, self.context.settings))

    def tagged(self, dimension: str, series: Deferred[Series]) -> Deferred[Members]:
        """Who did how much in a declared dimension; calls from before it was declared have no value in it: `(none)`."""
        members = self.members(dimension)
        began = self.slots[0].start if self.slots else self.context.now
        if began >= self.context.reader.since([dimension]).get(dimension, began):
            return members
        return members.map(lambda found: _with_the_rest(found, series.value.values()))

    def latency(self) -> Deferred[dict[int, int]]:
        """The histogram."""
        if self.scope.key is None:
            return self.batch.latency(self.slots)
        return self._key_board.map(lambda board: board.latency)

    @cached_property
    def _key_board(self) -> Deferred[KeyBoard]:
        assert self.scope.key is not None
        return self.batch.key_board(self.slots, self.scope.key)

    def read(self) -> None:
        """Read everything that was asked for."""
        self.batch.read()


def dropped_calls(scope: ReportScope, series: Series) -> int | None:
    """Finished requests that could not be counted; None of one key, for which that is not kept."""
    return None if scope.key is not None else sum(measures.get(DROPPED, 0) for measures in series.values())


def _with_the_rest(members: Members, series: Iterable[Measures]) -> Members:
    """The members, and what none of them has of the whole as `(none)`."""
    rest = board_measures(series)
    for measures in members.values():
        for measure, number in measures.items():
            rest[measure] = rest.get(measure, 0) - number
    none = {measure: rest[measure] + members.get(NONE, {}).get(measure, 0) for measure in rest}
    return {**members, NONE: none} if any(none.values()) else members
