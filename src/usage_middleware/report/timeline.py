"""A window cut into calendar buckets of a zone: how fine they may be, given the slots that are kept."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from usage_middleware.errors import QueryError
from usage_middleware.lazily import cached
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import DAY, HOUR, MINUTE, BucketSize, Slot, bucket_start, buckets, cover, rfc3339, rfc3339_in
from usage_middleware.report.kept import Gap, oldest_kept
from usage_middleware.report.metrics import Measures
from usage_middleware.report.window import Window, why

MOST_BUCKETS = 10_000
#: No bucket is longer, clock changes included: a window wider than `MOST_BUCKETS` of them is refused without counting.
_LONGEST: Mapping[BucketSize, int] = {
    "minute": MINUTE,
    "hour": 2 * HOUR,
    "day": DAY + 2 * HOUR,
    "week": 7 * DAY + 2 * HOUR,
    "month": 31 * DAY + 2 * HOUR,
    "quarter": 92 * DAY + 2 * HOUR,
    "year": 366 * DAY + 2 * HOUR,
}

Granularity = Literal["minute", "hour", "day", "week", "month"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
#: Of longer windows, hours are told only where they are asked for: they would be thousands.
MOST_DAYS_BY_HOUR = 100
#: Why no slot begins at the edge of a bucket: the zone's offset is finer than the slots, or the finer slots are gone.
EdgeProblem = Literal["unaligned", "expired"]


@dataclass(frozen=True)
class Timeline:
    """The buckets of a window.

    Attributes:
        starts: where each bucket begins; the first may begin before the window.
        tz: the zone whose calendar it is.
    """

    starts: Sequence[int]
    window: Window
    tz: ZoneInfo

    @cached
    def cuts(self) -> Sequence[int]:
        """Where one bucket ends and the next begins, inside the window."""
        return self.starts[1:]

    def slots(self, settings: Settings, until: int) -> list[Slot]:
        """Slots that hold the calls of the window, none of them in two buckets.

        `until` is where the last slot of the breakdowns ends. A worker whose clock is ahead may have counted calls between now
        and then: breakdowns hold them, so the last bucket must too.
        """
        window = self.window
        if window.end < window.now:
            return window.slots(settings.layers, self.cuts)
        return cover(window.start, until, now=until, layers=settings.layers, cuts=self.cuts)

    def index(self, at: int) -> int:
        """The bucket that holds an instant; the last one for what comes after."""
        return max(0, bisect_right(self.starts, at) - 1)

    def grouped(self, slots: Sequence[Slot]) -> list[list[Slot]]:
        """The slots of each bucket."""
        found: list[list[Slot]] = [[] for _ in self.starts]
        for slot in slots:
            found[self.index(slot.start)].append(slot)
        return found

    def split(self, series: Mapping[Slot, Measures]) -> list[list[Measures]]:
        """The measures of each bucket's slots."""
        found: list[list[Measures]] = [[] for _ in self.starts]
        for slot, measures in series.items():
            found[self.index(slot.start)].append(measures)
        return found

    def check(self, edges: Sequence[int], settings: Settings, kind: CounterKind) -> None:
        """Refuse buckets that days and half-hours of a kind can't tell apart at these edges.

        Raises:
            QueryError: `unsupported_timezone` or `not_retained`.
        """
        found = edge_problem(edges, self.window.now, settings, kind, minutes=False)
        if found == "unaligned":
            raise unsupported(self.tz, settings)
        if found == "expired":
            raise buckets_expired(self, first_day(self.window.now, settings, kind), settings)

    def dates(self) -> list[str]:
        """The local date of each bucket's start."""
        return [datetime.fromtimestamp(start, self.tz).date().isoformat() for start in self.starts]

    def stamps(self, *, with_offset: bool) -> list[str]:
        """RFC 3339 of each bucket's start; of UTC with `Z` unless an offset is wanted."""
        if self.tz.key == "UTC" and not with_offset:
            return [rfc3339(start) for start in self.starts]
        return [rfc3339_in(start, self.tz) for start in self.starts]


def timeline(window: Window, size: BucketSize, tz: ZoneInfo) -> Timeline:
    """The window in buckets.

    Raises:
        QueryError: `window_too_wide`.
    """
    certain = (window.end - window.start) // _LONGEST[size] > MOST_BUCKETS
    starts = [] if certain else buckets(window.start, window.end, size, tz)
    if certain or len(starts) > MOST_BUCKETS:
        raise too_wide(f"that would be more than {MOST_BUCKETS} buckets of a {size}")
    return Timeline(starts, window, tz)


def too_wide(why: str) -> QueryError:
    """The error of a window with too many buckets."""
    return QueryError("window_too_wide", f"The window is too wide: {why}. Ask for a shorter one, or for wider buckets.")


def edge_problem(
    edges: Sequence[int], now: int, settings: Settings, kind: CounterKind, *, minutes: bool = True
) -> EdgeProblem | None:
    """Why slots of a kind can't be cut at these instants, or None if they can. `minutes` says whether minutes are read."""
    minute, middle, day = settings.layers
    oldest_minute = oldest_kept(minute, now, settings.kept(kind, minute.rank)) if minutes else now
    oldest_middle = oldest_kept(middle, now, settings.kept(kind, middle.rank))
    worst: EdgeProblem | None = None
    for edge in edges:
        if edge % day.seconds == 0 or edge >= now:
            continue
        if edge % middle.seconds == 0:
            worst = worst if day.floor(edge) >= oldest_middle else "expired"
        elif edge % MINUTE or middle.floor(edge) < oldest_minute:
            return "unaligned"
    return worst


def unsupported(tz: ZoneInfo, settings: Settings) -> QueryError:
    """The error of a zone whose offset is finer than the slots."""
    minutes = settings.slot_minutes
    advice = "set slot_minutes=15 when the counters begin" if minutes == 30 else "ask for UTC"
    message = f"{tz.key} has an offset that slots of {minutes} minutes can't represent: {advice}."
    return QueryError("unsupported_timezone", message, "timezone")


def first_day(now: int, settings: Settings, kind: CounterKind) -> Gap:
    """Since when days can be told apart whose midnight is not that of UTC."""
    middle, day = settings.layers.middle, settings.layers.day
    return Gap(middle, day.ceil(oldest_kept(middle, now, settings.kept(kind, middle.rank))))


def buckets_expired(line: Timeline, gap: Gap, settings: Settings) -> QueryError:
    """The error of buckets that need finer slots than are kept; it names the first of them, or the first day, that is kept."""
    days = [max(line.window.start, bucket_start(gap.since + late, "day", line.tz)) for late in (DAY - 1, DAY + 2 * HOUR)]
    start = next((start for start in (*line.starts, *days) if gap.since <= start < line.window.end), None)
    nearest = [] if start is None else [(rfc3339(start), line.window.shown_end)]
    message = f"Buckets in {line.tz.key} can't be told apart here. {why(gap, settings.layers)}"
    return QueryError("not_retained", message, "timezone", nearest=nearest)


class GranularityChooser(NamedTuple):
    """Chooses how wide the buckets of one window are, which slots of one kind have to tell apart."""

    window: Window
    tz: ZoneInfo
    settings: Settings
    kind: CounterKind

    def choose(self, wanted: Granularity | None) -> Granularity:
        """The granularity that was asked for; where none was, the finest that is kept, from hours on, or days of long windows.

        Raises:
            QueryError: `invalid_granularity`, which names the finest that is kept; `not_retained` where none is;
                `unsupported_timezone` or `window_too_wide` where none is possible.
        """
        found = self.kept(wanted)
        if found is None:
            raise self._expired("minute" if wanted == "minute" else "day")
        if wanted not in (None, found):
            message = f"granularity={wanted} is not kept for this window; the finest that is kept is {found}"
            raise QueryError("invalid_granularity", message, "granularity")
        return found

    def kept(self, wanted: Granularity | None) -> Granularity | None:
        """The granularity that was asked for, if it is kept; else the finest that is, None if none is."""
        if wanted is not None:
            return wanted if self._why_not(wanted) is None else self._finest(GRANULARITIES)
        is_long = self.window.end - self.window.start > MOST_DAYS_BY_HOUR * DAY
        return (self._finest(GRANULARITIES[2:]) if is_long else None) or self._finest(GRANULARITIES[1:])

    def gap(self, size: Granularity) -> Gap | None:
        """What is missing to tell buckets of a size apart; None if nothing is.

        Raises:
            QueryError: `window_too_wide`.
        """
        found = self._problem(size)
        if found is None:
            return None
        is_fine = size == "minute" or found == "unaligned"
        return self._first_minutes() if is_fine else first_day(self.window.now, self.settings, self.kind)

    def _first_minutes(self) -> Gap:
        """Since when minutes are kept: they cut wherever it may be."""
        minute, middle, _ = self.settings.layers
        return Gap(minute, middle.ceil(oldest_kept(minute, self.window.now, self.settings.kept(self.kind, minute.rank))))

    def _expired(self, size: Literal["minute", "day"]) -> QueryError:
        gap = self._first_minutes() if size == "minute" else first_day(self.window.now, self.settings, self.kind)
        start = max(gap.since, self.window.start)
        line = timeline(self.window._replace(start=start), size, self.tz) if start < self.window.end else None
        return buckets_expired(line or Timeline((), self.window, self.tz), gap, self.settings)

    def _finest(self, sizes: Sequence[Granularity]) -> Granularity | None:
        return next((size for size in sizes if self._fits(size)), None)

    def _fits(self, size: Granularity) -> bool:
        try:
            return self._why_not(size) is None
        except QueryError as refused:
            if refused.code == "unsupported_timezone":
                raise
            return False

    def _why_not(self, size: Granularity) -> EdgeProblem | None:
        """What is wrong with a size. A zone that no slots fit is refused: else a week would be answered as one month."""
        found = self._problem(size)
        if found == "unaligned" and size != "minute":
            raise unsupported(self.tz, self.settings)
        return found

    def _problem(self, size: Granularity) -> EdgeProblem | None:
        first = self.window.start + MINUTE
        # First of all: the error then says that minutes are gone, not that there are too many.
        if size == "minute" and first < self.window.end and (gone := self._edge_problem([first])):
            return gone
        return self._edge_problem(timeline(self.window, size, self.tz).cuts)

    def _edge_problem(self, edges: Sequence[int]) -> EdgeProblem | None:
        return edge_problem(edges, self.window.now, self.settings, self.kind)
