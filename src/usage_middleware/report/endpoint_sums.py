"""What every endpoint comes to in every bucket of a timeline, read from few slots.

A local day of New York is no sum of UTC days, but what ran up to its end less what ran up to its start: the UTC days before,
and the slots between midnight UTC and the edge, or the day less the slots after the edge where they are fewer. That reads ten
half-hours a day instead of 48. Greatest values can't be subtracted, so `last_ms` is read otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import Slot
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.report.kept import Kept
from usage_middleware.report.metrics import summed, under_label
from usage_middleware.report.size import check_size
from usage_middleware.report.timeline import Timeline, edge_problem, too_wide
from usage_middleware.store.replies import latest
from usage_middleware.store.schema import CALLS, counter_field

Sums: TypeAlias = dict[str, int]

MOST_BUCKETS_IN_ALL = 100_000
#: The least that a bucket takes as JSON, and each of its counters beside its name.
_BUCKET_BYTES, _COUNTER_BYTES = 64, 9


class EndpointSums(NamedTuple):
    """What an endpoint comes to: each measure in each bucket, and in all, and the last call in the range (ms, 0 for none)."""

    sums: Sequence[Mapping[str, int]]
    total: Mapping[str, int]
    last_ms: int


def endpoint_sums(sums: Sequence[Mapping[str, int]], last_ms: int) -> EndpointSums:
    """What buckets come to."""
    return EndpointSums(sums, summed(sums), last_ms)


class FoundEndpoints(NamedTuple):
    """Every endpoint of which something is counted, under its label, and what they come to together.

    Attributes:
        whole: what everything is added up from: slots, or the totals of endpoints.
        counters: those that are kept for everything.
    """

    usages: Mapping[str, EndpointSums]
    whole: Sequence[Mapping[str, int]]
    counters: tuple[str, ...]

    def totals(self) -> dict[str, int]:
        """What is listed comes to these requests, and everything to these counters."""
        requests = sum(usage.total.get(CALLS, 0) for usage in self.usages.values())
        return {**self.totals_of(self.whole), "total_requests": requests}

    def totals_of(self, many: Iterable[Mapping[str, int]]) -> dict[str, int]:
        """Slots of a series, or buckets, as `total_requests` and `num_<counter>`."""
        sums = summed(many)
        counted = {f"num_{name}": sums.get(counter_field(name), 0) for name in self.counters}
        return {"total_requests": sums.get(CALLS, 0), **counted}


def read_endpoints(context: ReportContext, scope: ReportScope, line: Timeline) -> FoundEndpoints:
    """Read what each endpoint comes to."""
    if scope.key is None:
        usages = _by_label(_of_organization(context, scope, line), context.settings)
        return FoundEndpoints(usages, [usage.total for usage in usages.values()], context.settings.counters)
    is_kept = Kept(context.settings, ("key",), context.now).gap(line.window.edges) is None
    found, series = _of_key(context, scope, scope.key, line, with_series=is_kept)
    return FoundEndpoints(_by_label(found, context.settings), series, context.settings.counters if is_kept else ())


def _of_organization(context: ReportContext, scope: ReportScope, line: Timeline) -> dict[str, EndpointSums]:
    window, settings = line.window, context.settings
    batch = context.batch(scope.org)
    seen = batch.seen("endpoint")
    batch.read()
    candidates = [name for name, last_ms in seen.value.items() if last_ms >= window.start * 1000]
    context.charge(_check_buckets(candidates, line, settings))
    measures = [CALLS, *(counter_field(counter) for counter in settings.counters)]
    sums = PrefixSums(line, settings) if PrefixSums.can(line, settings, ["endpoint"]) else SlotSums(line, settings)
    reads = {name: batch.series(sums.slots, ("endpoint", name), measures) for name in candidates}
    slots = window.slots(settings.layers)
    in_range = window.ends_now
    # The registry knows the last call ever; of what was called after the range too, the series know the last one in it.
    later = [name for name in candidates if not in_range and seen.value[name] >= window.end * 1000]
    ends = {name: batch.series(slots, ("endpoint", name)) for name in later}
    batch.read()
    last = {**seen.value, **{name: latest(series.value.values()) for name, series in ends.items()}}
    return {name: endpoint_sums(sums.buckets(read.value), last[name]) for name, read in reads.items()}


def _check_buckets(names: Collection[str], line: Timeline, settings: Settings) -> int:
    """Refuse what can't be answered before it is read; how many buckets there will be. Each costs as much as a command."""
    buckets = len(under_label(dict.fromkeys(names), settings)) * len(line.starts)
    check_buckets(buckets)
    check_size(buckets * (_BUCKET_BYTES + sum(len(name) + _COUNTER_BYTES for name in settings.counters)))
    return buckets


def check_buckets(buckets: int) -> None:
    """Refuse an answer with too many buckets.

    Raises:
        QueryError: `window_too_wide`.
    """
    if buckets > MOST_BUCKETS_IN_ALL:
        raise too_wide(f"that would be more than {MOST_BUCKETS_IN_ALL} buckets over all endpoints")


def _of_key(
    context: ReportContext, scope: ReportScope, key: str, line: Timeline, *, with_series: bool
) -> tuple[dict[str, EndpointSums], list[Mapping[str, int]]]:
    """The endpoints of a key, from the boards under it, and all of it, from its series: that has its counters."""
    batch, layers = context.batch(scope.org), context.settings.layers
    boards = [batch.key_board(slots, key) for slots in line.grouped(line.window.slots(layers, line.cuts))]
    series = batch.series(line.window.slots(layers) if with_series else (), ("key", key))
    batch.read()
    per_bucket = [board.value.members.get("endpoint", {}) for board in boards]
    names = sorted({name for members in per_bucket for name in members})
    found = {name: endpoint_sums([{CALLS: members.get(name, {}).get(CALLS, 0)} for members in per_bucket], 0) for name in names}
    return found, list(series.value.values())


def _by_label(usages: Mapping[str, EndpointSums], settings: Settings) -> dict[str, EndpointSums]:
    found: dict[str, EndpointSums] = {}
    for label, names in under_label(usages, settings).items():
        many = [usages[name] for name in names]
        usage = many[0] if len(many) == 1 else _together(many)
        # Corrections may leave or add counters without calls.
        if any(usage.total.values()):
            found[label] = usage
    return found


def _together(many: Sequence[EndpointSums]) -> EndpointSums:
    sums = [summed(parts) for parts in zip(*(usage.sums for usage in many), strict=True)]
    return endpoint_sums(sums, max(usage.last_ms for usage in many))


class SlotSums:
    """The slots of each bucket, added up: where edges lie at minutes, or half-hours before them are gone."""

    def __init__(self, line: Timeline, settings: Settings) -> None:
        self.slots = line.window.slots(settings.layers, line.cuts)
        self._groups = line.grouped(self.slots)

    def buckets(self, series: Mapping[Slot, Mapping[str, int]]) -> list[Sums]:
        """The sum of each bucket."""
        return [summed(series.get(slot, {}) for slot in slots) for slots in self._groups]


class PrefixSums:
    """The slots that say what ran up to each edge of a timeline, and how they add up."""

    def __init__(self, line: Timeline, settings: Settings) -> None:
        self._layers = settings.layers
        window = line.window
        self._edges = [max(window.start, line.starts[0]), *line.cuts, window.end]
        self._now = window.now
        self._first_day = self._layers.day.floor(self._edges[0])
        #: Days of which only the slots after their first edge are read: what lies before is the day less these.
        self._backwards: dict[int, int] = {}
        self._days = self._whole_days()
        #: The days in which edges lie.
        self._edge_days = {self._layers.day.floor(edge) for edge in self._edges}
        self.slots = self._days + self._parts()

    @staticmethod
    def can(line: Timeline, settings: Settings, kinds: Iterable[CounterKind]) -> bool:
        """Whether whole days and half-hours are enough, and kept of all kinds from the first edge's midnight on."""
        window = line.window
        edges = [max(window.start, line.starts[0]), *line.cuts, window.end]
        return all(edge_problem(edges, window.now, settings, kind, minutes=False) is None for kind in kinds)

    def _whole_days(self) -> list[Slot]:
        end = self._layers.day.ceil(min(self._edges[-1], self._now + 1))
        return [Slot(self._layers.day, at) for at in range(self._first_day, end, self._layers.day.seconds)]

    def _parts(self) -> list[Slot]:
        inside: dict[int, list[int]] = {}
        for edge in self._edges:
            day = self._layers.day.floor(edge)
            if edge != day and edge < self._now:
                inside.setdefault(day, []).append(edge)
        for day, edges in inside.items():
            end = day + self._layers.day.seconds
            if end <= self._now and end - edges[0] < edges[-1] - day:
                self._backwards[day] = edges[0]
        return [slot for day, edges in inside.items() for slot in self._part(day, edges[-1])]

    def _part(self, day: int, last_edge: int) -> list[Slot]:
        """The slots of a day before its last edge; or those after its first one, where they are fewer."""
        start, end = day, last_edge
        if day in self._backwards:
            start, end = self._backwards[day], day + self._layers.day.seconds
        middle = self._layers.middle
        return [Slot(middle, at) for at in range(start, end, middle.seconds)]

    def buckets(self, series: Mapping[Slot, Mapping[str, int]]) -> list[Sums]:
        """The sum of each bucket: what ran up to its end, less what ran up to its start."""
        run = self._run(series)
        return [_less(run[end], run[start]) for start, end in pairwise(self._edges)]

    def _run(self, series: Mapping[Slot, Mapping[str, int]]) -> dict[int, Sums]:
        """What ran from the first day to each edge; up to an edge in the future, everything."""
        before, everything = self._before(series)
        middle = self._layers.middle
        parts = {slot.start: measures for slot, measures in series.items() if slot.resolution is middle}
        run: dict[int, Sums] = {}
        at, part = self._first_day - 1, Sums()
        for edge in self._edges:
            day = self._layers.day.floor(edge)
            if edge >= self._now or edge == day:
                run[edge] = everything if edge >= self._now else before[day]
                continue
            if at < day:
                at, part = self._entered(day, series)
            while at < edge:
                _add(part, parts.get(at))
                at += middle.seconds
            run[edge] = summed((before[day], part))
        return run

    def _entered(self, day: int, series: Mapping[Slot, Mapping[str, int]]) -> tuple[int, Sums]:
        """Where a day begins to be added up slot by slot, and what ran in it before."""
        if day not in self._backwards:
            return day, Sums()
        after = Sums()
        for slot in self._part(day, day):
            _add(after, series.get(slot))
        return self._backwards[day], _less(series.get(Slot(self._layers.day, day), {}), after)

    def _before(self, series: Mapping[Slot, Mapping[str, int]]) -> tuple[dict[int, Sums], Sums]:
        """What ran up to the start of each day in which an edge lies, and in all days."""
        total, end = Sums(), self._first_day
        before: dict[int, Sums] = {}
        for slot in self._days:
            if slot.start in self._edge_days:
                before[slot.start] = dict(total)
            _add(total, series.get(slot))
            end = slot.end
        return {**before, end: total}, total


def _add(total: Sums, more: Mapping[str, int] | None) -> None:
    for measure, number in (more or {}).items():
        total[measure] = total.get(measure, 0) + number


def _less(end: Mapping[str, int], start: Mapping[str, int]) -> Sums:
    return {measure: number - start.get(measure, 0) for measure, number in end.items()}
