"""The values of a dimension that the by-group view lists, each with its tally."""

from __future__ import annotations

from typing import NamedTuple

from usage_middleware.report import breakdown
from usage_middleware.report.context import Members, ScopedReader, Series
from usage_middleware.report.metrics import Tally, board_tally, by_status, series_tally, status_tallies, tallies_of
from usage_middleware.report.parts import Parts
from usage_middleware.report.window import Window
from usage_middleware.store.deferred import Deferred
from usage_middleware.store.members import OPERATOR, method_of

#: Groups that every application has, besides the declared dimensions.
ENDPOINT, KEY, METHOD, STATUS, ORG = "endpoint", "key", "method", "status", "org"


class GroupRows(NamedTuple):
    """Reads the values of a dimension."""

    source: ScopedReader
    window: Window
    parts: Parts

    def of(self, group: str, series: Deferred[Series]) -> Deferred[dict[str, Tally]] | None:
        """A tally for each value; None where they are not kept for this window."""
        scope, dimensions = self.source.scope, self.source.context.settings.dimensions
        if group == STATUS:
            return series.map(lambda found: status_tallies(by_status(found.values())))
        if group == KEY and scope.key is not None:
            key = scope.key
            return series.map(lambda found: _alone(key, found))
        if group == ORG and scope.org != OPERATOR:
            return series.map(lambda found: _alone(scope.org, found))
        found = self._tallies(group, series)
        if found is None:
            self.parts.offers(scope.board_kind, "buckets", "other")
            return None
        return found.map(_by_method) if group == METHOD and METHOD not in dimensions else found

    def _tallies(self, group: str, series: Deferred[Series]) -> Deferred[dict[str, Tally]] | None:
        if group in self.source.context.settings.dimensions:
            found = breakdown.tagged(self.source, self.parts, group, series)
        elif group == ENDPOINT:
            found = breakdown.endpoints(self.source, self.window, self.parts)
        else:
            boards = breakdown.boards(self.source, self.window, self.parts, ENDPOINT if group == METHOD else group)
            return None if boards is None else boards.map(tallies_of)
        return None if found is None else found.map(_of_members)


def _alone(name: str, series: Series) -> dict[str, Tally]:
    """All calls as those of one member."""
    total = series_tally(series.values())
    return {name: total} if total.calls else {}


def _of_members(members: Members) -> dict[str, Tally]:
    return {name: board_tally(measures) for name, measures in members.items()}


def _by_method(tallies: dict[str, Tally]) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for endpoint, tally in tallies.items():
        found.setdefault(method_of(endpoint), Tally()).add(tally)
    return found
