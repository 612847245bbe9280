"""The window of a question: from a period, or start and end, to the slots that answer it exactly.

A named period is one window in every view, whoever looks. A custom one is exact, or moved outward by at most a tenth and
said so, or refused. What decides is the counters of the totals alone, never a breakdown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

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


class Window(NamedTuple):
    """A resolved window. `end` may lie in an open slot only where it is now.

    Attributes:
        now: whole seconds, rounded up: calls of the running second are in.
        moment: now as it is echoed, with milliseconds.
        requested: what was asked for, where the window is another.
        period: the one it was made from; None where `start` was given.
    """

    start: int
    end: int
    label: str
    timezone: str
    resolution: Resolution
    now: int
    moment: float
    requested: Edges | None = None
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
            end=rfc3339(self._shown(self.end)),
            label=self.label,
            timezone=self.timezone,
            resolution=self.resolution.name,
            requested=None if self.requested is None else self._echoed(self.requested),
        )

    def _echoed(self, edges: Edges) -> WindowEdges:
        return WindowEdges(start=rfc3339(edges.start), end=rfc3339(self._shown(edges.end)))

    def _shown(self, end: int) -> float:
        return self.moment if end == self.now else end

    def slots(self, layers: Resolutions, cuts: Sequence[int] = ()) -> list[Slot]:
        """The slots that hold exactly the calls inside."""
        return cover(self.start, self.end, now=self.now, layers=layers, cuts=cuts)


class WindowRequest(NamedTuple):
    """The window that was asked for: the period in force, and start and end if given."""

    preset: str
    start: int | None = None
    end: int | None = None
    timezone: str = "UTC"
    align: Align = "outward"

    @property
    def is_custom(self) -> bool:
        """True where start or end was given."""
        return self.start is not None or self.end is not None


def resolve(
    request: WindowRequest,
    moment: float,
    settings: Settings,
    kinds: Sequence[CounterKind],
    cap: int | None = None,
    needs: Sequence[CounterKind] = (),
) -> Window:
    """The window whose totals are exact, by what is kept of the counters that hold them.

    `moment` is now. `cap` is how many local days a custom one may reach back; the future does not count towards it. `needs`
    are counters without which there is no answer: they don't move an edge.

    Raises:
        QueryError: `invalid_window`, or `not_retained` with the nearest windows that can be answered.
    """
    kept = Kept(settings, kinds, math.ceil(moment))
    asked = _asked(request, moment, kept)
    capped = asked if cap is None or not request.is_custom else _capped(asked, request, kept.now, cap)
    alignment = request.align if request.is_custom or request.align == "exact" else "nearest"
    found = kept.aligned(capped, alignment)
    everything = kept._replace(kinds=(*kinds, *needs))
    if found is None or everything.gap(found) is not None:
        raise not_retained(capped, everything)
    return Window(
        *found,
        CUSTOM if request.is_custom else request.preset,
        request.timezone,
        resolution(found, kept),
        kept.now,
        moment,
        None if found == asked else asked,
        request.preset if request.start is None else None,
    )


def _asked(request: WindowRequest, moment: float, kept: Kept) -> Edges:
    end = kept.now if request.end is None else request.end
    if request.start is not None:
        found = Edges(request.start, end)
    else:
        named = NamedPeriod(request.preset, zone(request.timezone), kept.settings.layers)
        found = named.until(int(moment) if request.end is None else end, _oldest_of_all(kept))
        found = found if request.preset == LAST_MONTH else Edges(found.start, end)
    if found.length < 0 or (found.length == 0 and request.is_custom):
        raise QueryError("invalid_window", "end must be after start (an end that is not given is now)", "end")
    return found


def _oldest_of_all(kept: Kept) -> int:
    """Where `all` begins: with the breakdowns, but never later than a year ago if the totals are kept for longer."""
    day = kept.settings.layers.day
    totals = kept.oldest(day)
    also = Kept(kept.settings, [*kept.kinds, *(_BREAKDOWNS[kind] for kind in kept.kinds if kind in _BREAKDOWNS)], kept.now)
    everything = also.oldest(day)
    return everything if everything <= max(totals, kept.now - DAYS["1y"] * day.seconds) else totals


def _capped(asked: Edges, request: WindowRequest, now: int, days: int) -> Edges:
    earliest = days_before(min(asked.end, now), days, zone(request.timezone))
    return Edges(max(asked.start, earliest), asked.end)


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
    requested = None if found == asked else asked
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


def not_retained(asked: Edges, kept: Kept, param: str = "start") -> QueryError:
    """The error of a window that can't be answered exactly; it names the nearest that can."""
    gap = missing(asked, kept)
    nearest = [(rfc3339(start), rfc3339(min(end, kept.now))) for start, end in kept.nearest(asked)]
    return QueryError("not_retained", why(gap, kept.settings.layers), param, nearest=nearest)
