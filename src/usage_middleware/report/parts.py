"""What the views share about windows: the one that was asked for, the parts that can't be exact in it, and the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import rfc3339
from usage_middleware.report.context import ReportContext, ReportScope, ScopedReader
from usage_middleware.report.kept import Gap, Kept
from usage_middleware.report.metrics import Measures
from usage_middleware.report.parameters import Parameters
from usage_middleware.report.timeline import Timeline, edge_problem, first_day, unsupported
from usage_middleware.report.window import Fits, Window, WindowReport, WindowRequest, previous, resolve, why

T = TypeVar("T")
Number: TypeAlias = int | float

#: The measures of some slots, added up only where they are needed.
Slots: TypeAlias = Callable[[], Iterable[Measures]]
#: What slots of a series come to, under the names of a view.
Totals: TypeAlias = Callable[[Iterable[Measures]], Mapping[str, int]]


class Unavailable(msgspec.Struct, frozen=True, kw_only=True):
    """Why a part of an answer is null.

    Attributes:
        since: from when the slots are kept that it needs for such a window, RFC 3339.
    """

    code: str
    message: str
    since: str


class Previous(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of the window before.

    Attributes:
        change: by how much of themselves the totals have grown since, 0.25 for a quarter; None where they were 0.
    """

    window: WindowReport
    totals: dict[str, int]
    change: dict[str, float | None]


class Parts:
    """Which parts of an answer can be exact in its window.

    Attributes:
        unavailable: the fields that can't, and why.
    """

    def __init__(self, window: Window, settings: Settings) -> None:
        self._window = window
        self._settings = settings
        self.unavailable: dict[str, Unavailable] = {}

    def has(self, kind: CounterKind) -> bool:
        """Whether a kind of counter holds exactly the calls of the window."""
        return self.gap(kind) is None

    def offers(self, kind: CounterKind, *fields: str) -> bool:
        """As `has`; if not, the fields are noted as unavailable."""
        gap = self.gap(kind)
        if gap is not None:
            self.lack(gap, *fields)
        return gap is None

    def buckets(self, line: Timeline, kind: CounterKind, *fields: str) -> Timeline | None:
        """The buckets; None where the half-hours are gone that tell them apart, and then the fields are noted.

        Raises:
            QueryError: `unsupported_timezone`.
        """
        problem = edge_problem(line.cuts, self._window.now, self._settings, kind)
        if problem == "unaligned":
            raise unsupported(line.tz, self._settings)
        if problem is not None:
            self.lack(first_day(self._window.now, self._settings, kind), *fields)
        return line if problem is None else None

    def lack(self, gap: Gap, *fields: str) -> None:
        """Note fields as unavailable."""
        message, since = why(gap, self._settings.layers), rfc3339(gap.since)
        self.unavailable |= dict.fromkeys(fields, Unavailable(code="not_retained", message=message, since=since))

    def gap(self, kind: CounterKind) -> Gap | None:
        """What is missing of a kind of counter to hold exactly the calls of the window; None where nothing is."""
        return Kept(self._settings, (kind,), self._window.now).gap(self._window.edges)


def asked_window(
    context: ReportContext,
    scope: ReportScope,
    params: Parameters,
    period: str,
    cap: int | None = None,
    needs: Sequence[CounterKind] = (),
    fits: Fits = bool,
) -> Window:
    """The window that a view was asked about: `period` is the view's own parameter, the rest as in `resolve`."""
    request = WindowRequest(period, params.start, params.end, params.timezone, params.align)
    return resolve(request, context.moment, context.settings, (scope.series_kind,), cap, needs, fits)


def compared(
    source: ScopedReader,
    params: Parameters,
    window: Window,
    parts: Parts,
    now: Callable[[], Iterable[Measures]],
    totals: Totals,
) -> Previous | msgspec.UnsetType | None:
    """The window before, if it was asked for: what `totals` makes of it, beside what it makes of `now`."""
    if params.compare is None:
        return msgspec.UNSET
    context, scope = source.context, source.scope
    found = previous(window, context.settings, (scope.series_kind,))
    if isinstance(found, Gap):
        parts.lack(found, "previous")
        return None
    before = ScopedReader(context, scope, found.slots(context.settings.layers))
    series = before.series()
    before.read()
    was = dict(totals(series.value.values()))
    return Previous(window=found.report(), totals=was, change=changes(was, totals(now())))


def changes(was: Mapping[str, Number | None], became: Mapping[str, Number | None]) -> dict[str, float | None]:
    """By how much of itself each number has grown; None where it was 0, or where there is none."""
    return {name: _change(number, became[name]) for name, number in was.items()}


def _change(was: Number | None, became: Number | None) -> float | None:
    return None if not was or became is None else (became - was) / was


def present(rows: Sequence[T] | None, field: str, unavailable: Mapping[str, Unavailable]) -> Sequence[T]:
    """The rows of a part, for CSV; none of one that was not asked for.

    Raises:
        QueryError: `unavailable`, because an empty table would say that there were no calls.
    """
    if rows is None and field in unavailable:
        raise QueryError("unavailable", unavailable[field].message)
    return rows or ()
