"""Pages of a list that stay in order while traffic flows: totals are of the whole, whatever page is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from usage_middleware.report.parameters import Parameters

Row = TypeVar("Row")

#: Keeps the order of a list for a while: (organisation, question, names in today's order) -> names in the order that was
#: kept first. It is what makes the pages of one list belong together.
Keep = Callable[[str, object, list[str]], list[str]]


def forget(org: str, question: object, names: list[str]) -> list[str]:
    """Keeps nothing: every page is of the list as it is now."""
    return names


class Pagination(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page lies in the whole list."""

    total: int
    limit: int
    offset: int
    has_more: bool


def page(total: int, limit: int, offset: int) -> Pagination:
    """The page of `limit` rows from `offset` on."""
    return Pagination(total=total, limit=limit, offset=offset, has_more=offset + limit < total)


class Paging(NamedTuple):
    """What a page is of: whose list, the question without its page, and how many rows from where on."""

    org: str
    question: object
    limit: int
    offset: int
    keep: Keep

    def order(self, rows: Sequence[Row], name: Callable[[Row], str], absent: Callable[[str], Row]) -> list[Row]:
        """The rows in the order in which the first page was cut; what came since stands at the end, what went, as `absent`."""
        if self.offset == 0 and len(rows) <= self.limit:
            return list(rows)
        by_name = {name(row): row for row in rows}
        order = self.keep(self.org, self.question, list(by_name))
        since = by_name.keys() - set(order)
        return [by_name.get(one) or absent(one) for one in order] + [row for one, row in by_name.items() if one in since]

    def cut(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The page itself."""
        return rows[self.offset : self.offset + self.limit]


def unpaged(view: str, who: Iterable[object], params: Parameters) -> object:
    """A question without its page: what the pages of one list have in common."""
    return view, *who, msgspec.structs.replace(params, limit=None, offset=0)
