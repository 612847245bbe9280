"""How fine a time series may be: what was asked for if it is kept, or the finest that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from usage_middleware.errors import QueryError
from usage_middleware.options import CounterKind, Settings
from usage_middleware.periods import MINUTE
from usage_middleware.report.timeline import Trouble, not_kept, timeline, trouble, unsupported
from usage_middleware.report.window import Window

Granularity = Literal["minute", "hour", "day", "week", "month"]
GRANULARITIES: tuple[Granularity, ...] = ("minute", "hour", "day", "week", "month")
#: What is looked for where nothing was asked for: hours, as the source document says, or what comes after.
_BY_DEFAULT = GRANULARITIES[1:]


class Chooser(NamedTuple):
    """Chooses the buckets of one window, told by slots of one kind."""

    window: Window
    tz: ZoneInfo
    settings: Settings
    kind: CounterKind

    def choose(self, wanted: Granularity | None) -> Granularity:
        """What was asked for, or the finest from hours on.

        Raises:
            QueryError: `invalid_granularity`, which names the finest that is kept; `unsupported_timezone`, `not_retained` or
                `window_too_wide` where none is.
        """
        if wanted is not None and self._checked(wanted) is None:
            return wanted
        finest = self._finest(_BY_DEFAULT if wanted is None else GRANULARITIES)
        if finest is None:
            raise self._nothing()
        if wanted is None:
            return finest
        message = f"granularity={wanted} is not kept for this window; the finest that is kept is {finest}"
        raise QueryError("invalid_granularity", message, "granularity")

    def _finest(self, sizes: Sequence[Granularity]) -> Granularity | None:
        return next((size for size in sizes if self._fits(size)), None)

    def _fits(self, size: Granularity) -> bool:
        try:
            return self._checked(size) is None
        except QueryError as refused:
            if refused.code == "unsupported_timezone":
                raise
            return False

    def _checked(self, size: Granularity) -> Trouble | None:
        """What is wrong with a size; a zone that no slots fit is refused, lest a week be answered as one month."""
        found = self._trouble(size)
        if found == "unaligned" and size != "minute":
            raise unsupported(self.tz, self.settings)
        return found

    def _trouble(self, size: Granularity) -> Trouble | None:
        first = self.window.start + MINUTE
        # Before they are counted: that minutes are gone is said rather than that there would be too many.
        if size == "minute" and first < self.window.end and (gone := self._told([first])):
            return gone
        return self._told(timeline(self.window, size, self.tz).cuts)

    def _told(self, edges: Sequence[int]) -> Trouble | None:
        return trouble(edges, self.window.now, self.settings, self.kind)

    def _nothing(self) -> QueryError:
        if self._trouble("day") == "unaligned":
            return unsupported(self.tz, self.settings)
        return not_kept(self.tz, self.window.now, self.settings, self.kind)
