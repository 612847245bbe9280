"""Pages of a list that stay in order while traffic flows. Totals are of the whole list, whatever page is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from usage_middleware.report.context import ReportContext, ReportScope

R = TypeVar("R")


class Pagination(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page lies in the whole list."""

    total: int
    limit: int
    offset: int
    has_more: bool


class Pages(NamedTuple):
    """The pages of one list: whose it is, which view's, what was asked, and how many rows a page has."""

    context: ReportContext
    scope: ReportScope
    view: str
    params: msgspec.Struct
    limit: int
    offset: int

    def order(self, rows: Mapping[str, R], absent: Callable[[str], R]) -> list[R]:
        """The rows by name, in the order of the first page; what came since is last, what went since is an `absent` row."""
        return [rows[name] if name in rows else absent(name) for name in self.order_names(list(rows))]

    def order_names(self, names: list[str]) -> list[str]:
        """The names of rows in the order of the first page; what came since is last, what went since is still there."""
        page_order = self.context.page_order
        if page_order is None or (self.offset == 0 and len(names) <= self.limit):
            return names
        # All pages of the list are one question.
        question = self.view, self.scope.org, self.scope.key, msgspec.structs.replace(self.params, limit=None, offset=0)
        order = page_order(self.scope.org, question, names)
        if order == names:
            return names
        known = set(order)
        return [*order, *(name for name in names if name not in known)]

    def cut(self, rows: list[R]) -> list[R]:
        """The page that was asked for."""
        return rows[self.offset : self.offset + self.limit]

    def pagination(self, total: int) -> Pagination:
        """Where the page lies in a list of `total` rows."""
        return Pagination(total=total, limit=self.limit, offset=self.offset, has_more=self.offset + self.limit < total)
