"""Pages of a list: totals are of the whole, whatever page is asked for."""

from __future__ import annotations

import msgspec


class Pagination(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page lies in the whole list."""

    total: int
    limit: int
    offset: int
    has_more: bool


def page(total: int, limit: int, offset: int) -> Pagination:
    """The page of `limit` rows from `offset` on."""
    return Pagination(total=total, limit=limit, offset=offset, has_more=offset + limit < total)
