"""The window of a question: from a period, or start and end, to the slots that answer it exactly.

A named period is one window in every view, whoever looks. A custom one is exact, or moved outward by at most a tenth and
said so, or refused. What decides is the counters of the totals alone, never a breakdown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import Resolution, Resolutions, Slot, cover, rfc3339, zone
from usage_middleware.report.kept import Gap, Kept
from usage_middleware.report.named_periods import DAYS, LAST_MONTH, Edges, NamedPeriod, days_before

CUSTOM = "custom"
#: How many local days a custom window may reach back from its end, in the views that cap it; as many as `90d` does.
CAP = 90
#: `outward` may move an edge and says so, `exact` refuses instead.
Align = Literal["outward", "exact"]

#: Which breakdowns `all` reaches back to, for totals of each kind.
_BREAKDOWNS: Mapping[CounterKind, CounterKind] = {"series": "board", "key": "key_board"}


class WindowEdges(msgspec.Struct, frozen=True, kw_only=True):
    """A window: RFC 3339, `start` inclusive, `end` exclusive."""

    start: str
    end: str


class WindowReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The window that an answer is exact for.

    Attributes:
        start: RFC 3339, inclusive.
        end: RFC 3339, exclusive.
        label: the period, or `custom`.
        timezone: the zone whose calendar places days and buckets.
        resolution: the slots that `start` and `end` lie at.
        requested: what was asked for, where that could not be answered exactly and was moved.
    """

    start: str
    end: str
    label: str
    timezone: str
    resolution: str
    requested: WindowEdges | None = None


class AskedEdges(NamedTuple):
    """A window as it was asked for, in seconds since the epoch with their parts."""

    start: float
    end: float

    def report(self) -> WindowEdges:
        """The window as reports echo it."""
        return WindowEdges(start=rfc3339(self.start), end=rfc3339(self.end))


class Window(NamedTuple):
    """A resolved window. `end` may lie in an open slot only where it is now.

    Attributes:
        now: whole seconds, rounded up: calls of the running second are in.
        moment: now as it is echoed, with milliseconds.
        requested: what was asked for, with parts of a second, where the window is another.
        period: the one it was made from; None where `start` was given.
    """

    start: int
    end: int
    label: str
    timezone: str
    resolution: Resolution
    now: int
    moment: float
    requested: AskedEdges | None = None
    period: str | None = None

    @property
    def edges(self) -> Edges:
        """Where it begins and ends."""
        return Edges(self.start, self.end)

    @property
    def ends_now(self) -> bool:
        """True where nothing after the window was counted yet."""
        return self.end >= self.now

    def report(self) -> WindowReport:
        """The window as reports echo it."""
        return WindowReport(
            start=rfc3339(self.start),
            end=self.shown_end,
            label=self.label,
            timezone=self.timezone,
            resolution=self.resolution.name,
            requested=None if self.requested is None else self.requested.report(),
        )

    @property
    def shown_end(self) -> str:
        """The end as reports echo it, RFC 3339."""
        return rfc3339(self.moment if self.end == self.now else self.end)

    def slots(self, layers: Resolutions, cuts: Sequence[int] = ()) -> list[Slot]:
        """The slots that hold exactly the calls inside."""
        return cover(self.start, self.end, now=self.now, layers=layers, cuts=cuts)


class WindowRequest(NamedTuple):
    """The window that was asked for: the period in force, and start and end if given."""

    preset: str
    start: float | None = None
    end: float | None = None
    timezone: str = "UTC"
    align: Align = "outward"

    @property
    def is_custom(self) -> bool:
        """True where start or end was given."""
        return self.start is not None or self.end is not None


#: Raises QueryError where a question can't be answered in a window although its totals can.
Fits: TypeAlias = Callable[[Window], object]


def resolve(
    request: WindowRequest,
    moment: float,
    settings: Settings,
    kinds: Sequence[CounterKind],
    cap: int | None = None,
    needs: Sequence[CounterKind] = (),
    fits: Fits = bool,
) -> Window:
    """The window whose totals are exact, by what is kept of the counters that hold them.

    `moment` is now. `cap` is how many local days a custom one may reach back; the future does not count towards it. `needs`
    are counters without which there is no answer: they don't move an edge. `fits` says which windows an error may name.

    Raises:
        QueryError: `invalid_window`, or `not_retained` with the nearest windows that can be answered.
    """
    kept = Kept(settings, kinds, math.ceil(moment))
    asked = _asked(request, moment, kept)
    edges = Edges(math.floor(asked.start), kept.now if asked.end == moment else math.ceil(asked.end))
    if edges.length < 0 or (edges.length == 0 and request.is_custom):
        raise QueryError("invalid_window", "end must be after start (an end that is not given is now)", "end")
    capped = _capped(edges, request.timezone, kept.now, cap if request.is_custom else None)
    alignment = request.align if request.is_custom or request.align == "exact" else "nearest"
    found = kept.aligned(capped, alignment)
    everything = kept._replace(kinds=(*kinds, *needs))
    if found is None or everything.gap(found) is not None:
        possible = [one for one in everything.nearest(capped) if one == _capped(one, request.timezone, kept.now, cap)]
        raise Refusal(everything, moment, request.timezone, fits).error(capped, possible)
    label = CUSTOM if request.is_custom else request.preset
    window = Window(*found, label, request.timezone, resolution(found, kept), kept.now, moment)
    is_asked = found.start == asked.start and (found.end == asked.end or moment <= asked.end <= found.end == kept.now)
    return window._replace(requested=None if is_asked else asked, period=request.preset if request.start is None else None)


def _asked(request: WindowRequest, moment: float, kept: Kept) -> AskedEdges:
    end = moment if request.end is None else request.end
    if request.start is not None:
        return AskedEdges(request.start, end)
    named = NamedPeriod(request.preset, zone(request.timezone), kept.settings.layers)
    found = named.until(int(moment) if request.end is None else math.ceil(end), _oldest_of_all(kept))
    return AskedEdges(*found) if request.preset == LAST_MONTH else AskedEdges(found.start, end)


def _oldest_of_all(kept: Kept) -> int:
    """Where `all` begins: with the breakdowns, but never later than a year ago if the totals are kept for longer."""
    day = kept.settings.layers.day
    totals = kept.oldest(day)
    also = Kept(kept.settings, [*kept.kinds, *(_BREAKDOWNS[kind] for kind in kept.kinds if kind in _BREAKDOWNS)], kept.now)
    everything = also.oldest(day)
    return everything if everything <= max(totals, kept.now - DAYS["1y"] * day.seconds) else totals


def _capped(asked: Edges, timezone: str, now: int, days: int | None) -> Edges:
    if days is None:
        return asked
    return Edges(max(asked.start, days_before(min(asked.end, now), days, zone(timezone))), asked.end)


def resolution(edges: Edges, kept: Kept) -> Resolution:
    """The widest slots that both edges lie at; an end that is now or later lies at all."""
    minute, middle, day = kept.settings.layers
    at = [edges.start] if edges.end >= kept.now else list(edges)
    return next((layer for layer in (day, middle) if not any(edge % layer.seconds for edge in at)), minute)


def previous(window: Window, settings: Settings, kinds: Sequence[CounterKind]) -> Window | Gap:
    """The window before this one that compares with it; or what is missing to count it exactly.

    A period moves by whole local days (months), an hour by 61 minutes, 24 hours by a slot more, a custom one by its length.
    Then its edges are moved outward to what is kept.
    """
    kept = Kept(settings, kinds, window.now)
    named = NamedPeriod(window.period or CUSTOM, zone(window.timezone), settings.layers)
    asked = named.before(Edges(window.start, window.end if window.end != window.now else int(window.moment)))
    found = kept.aligned(asked, "nearest")
    if found is None:
        return missing(asked, kept)
    requested = None if found == asked else AskedEdges(*asked)
    return window._replace(
        start=found.start, end=found.end, label=CUSTOM, resolution=resolution(found, kept), requested=requested, period=None
    )


def missing(asked: Edges, kept: Kept) -> Gap:
    """What is missing to count the calls of a window that can't be aligned."""
    minute = kept.settings.layers.minute
    gap = kept.gap(Edges(minute.floor(asked.start), minute.ceil(asked.end)))
    return gap or Gap(kept.settings.layers.day, kept.oldest(kept.settings.layers.day))


def why(gap: Gap, layers: Resolutions) -> str:
    """A sentence for people that says what is kept."""
    since = rfc3339(gap.since)
    if gap.layer == layers.day:
        return f"What is asked for is kept from {since} on: start there or later."
    return f"Edges within {_WIDER[gap.layer.rank]} are kept from {since} on: start there or later, or ask for wider edges."


_WIDER = ("half-hours", "UTC days")


class Refusal(NamedTuple):
    """Makes the error of a window that can't be answered exactly."""

    kept: Kept
    moment: float
    timezone: str
    fits: Fits = bool

    def error(self, asked: Edges, nearest: Sequence[Edges], param: str = "start") -> QueryError:
        """It names those of the nearest windows in which the question can be answered.

        Where nothing but `fits` is in the way of these, its error is the one to tell.
        """
        found, problem = [], None
        for window in map(self._window, nearest):
            try:
                self.fits(window)
                found.append((rfc3339(window.start), window.shown_end))
            except QueryError as error:
                problem = error
        if problem is not None and not found:
            return problem
        message = why(missing(asked, self.kept), self.kept.settings.layers)
        return QueryError("not_retained", message, param, nearest=found)

    def _window(self, edges: Edges) -> Window:
        return Window(*edges, CUSTOM, self.timezone, resolution(edges, self.kept), self.kept.now, self.moment)
