"""What a report is built with: who asks, about what, when, and the counters that answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from usage_middleware.errors import QueryError
from usage_middleware.lazily import cached
from usage_middleware.options import DEFAULT_ORG, CounterKind, Settings
from usage_middleware.periods import Slot, rfc3339
from usage_middleware.plans.declared import DeclaredPlans
from usage_middleware.report.metrics import with_rest
from usage_middleware.report.plan_directory import PlanDirectory
from usage_middleware.report.viewer import Names, Viewer
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.engine import Engine
from usage_middleware.store.keys import Directory
from usage_middleware.store.members import OPERATOR, key_member, member_from_request, name_of, org_member, org_name_of
from usage_middleware.store.owing import is_final
from usage_middleware.store.read_batch import ReadBatch
from usage_middleware.store.reader import Reader, Standing
from usage_middleware.store.replies import KeyBoard
from usage_middleware.store.schema import BOARD_MEASURES, DROPPED, Schema

Members: TypeAlias = dict[str, dict[str, int]]
Series: TypeAlias = dict[Slot, dict[str, int]]
#: Which of the unused endpoints a viewer is shown: (viewer, labels) -> labels.
VisibleEndpoints: TypeAlias = Callable[[Viewer, list[str]], Iterable[str]]
#: Remembers the order of a list for a while, so that its pages belong together: (organisation, question, names as they are
#: ordered now) -> names as they were ordered for the first page.
PageOrder: TypeAlias = Callable[[str, object, list[str]], list[str]]


def free_of_charge(cost: int) -> None:
    """Let every read happen at once."""


#: The key of a viewer that asks for another's, or for one without a name: no call has it, since members are never empty.
NO_KEY = ""


class ReportScope(NamedTuple):
    """What a report is about: an organisation (`*`: all of them together), or one key of it; as members, with their names."""

    org: str
    key: str | None = None
    names: Names = Names()

    @property
    def shown_org(self) -> str | None:
        """The organisation as reports name it; None for all of them together."""
        return None if self.org == OPERATOR else self.org

    @property
    def org_name(self) -> str:
        """The organisation as the key directory calls it."""
        return org_name_of(self.org) if self.names.org is None else self.names.org

    @property
    def key_name(self) -> str:
        """The key as the key directory calls it; empty for all keys."""
        return name_of(self.key or "") if self.names.key is None else self.names.key

    @property
    def series_kind(self) -> CounterKind:
        """The counters that its time series are read from."""
        return "series" if self.key is None else "key"

    @property
    def board_kind(self) -> CounterKind:
        """The counters that its breakdowns are read from."""
        return "board" if self.key is None else "key_board"


def report_scope(viewer: Viewer, org: str | None, key_id: str | None = None, *, together: bool = True) -> ReportScope:
    """The scope of a viewer who asks for `org` and `key_id`. `together`: whether all organisations are counted together, too.

    Raises:
        QueryError: `not_found` where the organisation is another's, whether it exists or not; `missing_org` where an
            operator asks for a key without saying whose, or for all organisations together where that is not counted.
    """
    if viewer.org is None:
        return _operator_scope(org, key_id, together)
    if org is not None and viewer.org not in (member_from_request(org), org_member(org)):
        raise QueryError("not_found", "There is no such organisation.", "org")
    if viewer.key_id is None:
        return ReportScope(viewer.org, _asked_key(key_id), Names(viewer.names.org))
    is_own = key_id is None or (key_id and viewer.key_id in (member_from_request(key_id), key_member(key_id)))
    return ReportScope(viewer.org, viewer.key_id if is_own else NO_KEY, viewer.names)


def _operator_scope(org: str | None, key_id: str | None, together: bool) -> ReportScope:
    if org is None:
        if not together:
            raise missing_org(
                "All organisations together are not counted here (operator_tree is off): say which one with org=."
            )
        if key_id is not None:
            raise missing_org()
        return ReportScope(OPERATOR)
    named = member_from_request(org) if org else DEFAULT_ORG
    return ReportScope(org_member(org) if named == OPERATOR else named, _asked_key(key_id))


def _asked_key(key_id: str | None) -> str | None:
    """The key that is asked for: an empty name is nobody's, and never opens all keys."""
    return member_from_request(key_id) if key_id else key_id


def missing_org(why: str = "This view is about the keys of one organisation: say which with org=.") -> QueryError:
    """The error of an operator's question that only makes sense for one organisation."""
    return QueryError("missing_org", why, "org")


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Who asks, when, and where the answer comes from.

    Attributes:
        reader: the counters in Redis.
        directory: who the API keys belong to, for names and for keys without calls.
        plans: which plan an organisation has.
        now: seconds since the epoch, rounded up: calls of the running second count.
        moment: now in milliseconds, as answers echo it.
        visible_endpoints: None shows every viewer the unused endpoints that the application's schema lists.
        page_order: None: every page is of the list as it is now.
        charge: told what each read will cost, in Redis commands; it may wait, or raise.
    """

    reader: Reader
    directory: Directory
    plans: PlanDirectory
    viewer: Viewer
    now: int
    moment: float
    visible_endpoints: VisibleEndpoints | None = None
    page_order: PageOrder | None = None
    charge: Callable[[int], object] = free_of_charge

    @cached
    def settings(self) -> Settings:
        """What the counters were declared with, and how long they are kept."""
        return self.standing.settings if self.reader.settings.history else self.reader.settings

    @property
    def generated_at(self) -> str:
        """When the report is built, RFC 3339."""
        return rfc3339(self.moment)

    def batch(self, org: str) -> ReadBatch:
        """An empty batch of reads in one organisation's tree (`*`: all organisations together)."""
        # Asked before the counters are read: what workers said to have delivered is then in them.
        _ = self.standing.completeness()
        return self.reader.batch(org, self.now, self.charge)

    @cached
    def standing(self) -> Standing:
        """How things are in Redis when the report begins."""
        return self.reader.standing(self.now)

    def complete_through(self) -> str | None:
        """Every call that finished before it is counted, on workers that are alive; None without workers."""
        through = self.standing.completeness().through_ms
        return None if through is None else rfc3339(through / 1000)

    def is_final(self, end: int) -> bool:
        """Whether nothing will be added in the ordinary course to a window that ends at `end`, seconds since the epoch.

        Never of one that ends now.
        """
        return end < self.now and is_final(self.standing.completeness().debts, end * 1000, int(self.moment * 1000))


class ReportSource:
    """Makes the context of each report; one for each `Usage`.

    Attributes:
        engine: the connection to Redis.
        clock: seconds since the epoch.
        directory: the key directory.
        plans: which plan an organisation has.
        recorder_stats: what the recorder of this process says of itself; None where it has none.
    """

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        directory: Directory,
        clock: Callable[[], float],
        *,
        plans: PlanDirectory | None = None,
        own_routes: Callable[[], Mapping[str, bool]] = dict,
        visible_endpoints: VisibleEndpoints | None = None,
        recorder_stats: Callable[[], object] | None = None,
    ) -> None:
        self.engine = engine
        self.schema = schema
        self.clock = clock
        self.recorder_stats = recorder_stats
        self._reader = Reader(engine, schema, own_routes=own_routes)
        self.directory = directory
        self.plans = PlanDirectory(engine, schema, DeclaredPlans(), clock) if plans is None else plans
        self._visible_endpoints = visible_endpoints

    @property
    def depends_on(self) -> tuple[object, ...]:
        """What its answers depend on beside counters, questions and viewers."""
        return self.schema.settings, self._visible_endpoints, type(self.directory)

    def context(
        self,
        viewer: Viewer,
        *,
        now: int | None = None,
        page_order: PageOrder | None = None,
        charge: Callable[[int], object] = free_of_charge,
    ) -> ReportContext:
        """The context of one report. `now` None: by the clock."""
        moment = math.floor(self.clock() * 1000) / 1000 if now is None else float(now)
        return ReportContext(
            reader=self._reader,
            directory=self.directory,
            plans=self.plans,
            viewer=viewer,
            now=math.ceil(moment),
            moment=moment,
            visible_endpoints=self._visible_endpoints,
            page_order=page_order,
            charge=charge,
        )


@dataclass
class ScopedReader:
    """Reads the counters of a scope, an organisation or one key of it, over the same slots, in one batch."""

    context: ReportContext
    scope: ReportScope
    slots: Sequence[Slot]

    @cached
    def batch(self) -> ReadBatch:
        """The batch of all its reads."""
        return self.context.batch(self.scope.org)

    @property
    def until(self) -> int:
        """Where the last slot ends: after now, where the window ends now. 0 without slots."""
        return self.slots[-1].end if self.slots else 0

    def series(self, slots: Sequence[Slot] | None = None) -> Deferred[Series]:
        """The measures of each slot; `slots` where finer ones are needed than for breakdowns."""
        wanted = self.slots if slots is None else slots
        return self.batch.series(wanted, None if self.scope.key is None else ("key", self.scope.key))

    def members(self, dimension: str, measures: Sequence[str] = BOARD_MEASURES) -> Deferred[Members]:
        """The measures of each member of a dimension; endpoints under the names that are stored."""
        if self.scope.key is None:
            return self.batch.board(self.slots, dimension, measures)
        return self._key_board.map(lambda board: board.members.get(dimension, {}))

    def each_series(self, dimension: str, names: Iterable[str]) -> Deferred[dict[str, Series]]:
        """The measures of each slot, of each of these members."""
        return self.batch.all_of({name: self.batch.series(self.slots, (dimension, name)) for name in names})

    def tagged(self, dimension: str, series: Deferred[Series]) -> Deferred[Members]:
        """The measures of each member of a declared dimension; calls from before it was declared are `(none)`."""
        members = self.members(dimension)
        if not self.began_before(dimension):
            return members
        return members.map(lambda found: with_rest(found, series.value.values()))

    def began_before(self, dimension: str) -> bool:
        """True where the slots begin before a declared dimension did."""
        began = self.slots[0].start if self.slots else self.context.now
        return began < self.context.standing.since.get(dimension, began)

    def latency(self) -> Deferred[dict[int, int]]:
        """The latency histogram: bin -> calls."""
        if self.scope.key is None:
            return self.batch.latency(self.slots)
        return self._key_board.map(lambda board: board.latency)

    @cached
    def _key_board(self) -> Deferred[KeyBoard]:
        assert self.scope.key is not None
        return self.batch.key_board(self.slots, self.scope.key)

    def read(self) -> None:
        """Read everything in the batch."""
        self.batch.read()


def dropped_calls(scope: ReportScope, series: Series) -> int | None:
    """Finished requests that could not be counted; None of one key, for which that is not kept."""
    return None if scope.key is not None else sum(measures.get(DROPPED, 0) for measures in series.values())
