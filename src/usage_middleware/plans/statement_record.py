"""How a final statement is kept: as JSON, with its digest."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Billable, Price, Tier
from usage_middleware.plans.statement import Line, Statement


class FinalStatement(NamedTuple):
    """A statement that never moves.

    Attributes:
        plan: the plan's name.
        prices: those that it was made with.
        made_at: when it was made, seconds since the epoch.
    """

    period: Period
    plan: str | None
    prices: tuple[Price, ...]
    statement: Statement
    made_at: int


class _Price(msgspec.Struct, omit_defaults=True):
    name: str
    of: str
    billable: Billable
    included: int = 0
    flat: Decimal | None = None
    graduated: list[Tier] = []
    volume: list[Tier] = []
    package: tuple[int, Decimal] | None = None


class _Kept(msgspec.Struct):
    start: int
    end: int
    plan: str | None
    currency: str
    made_at: int
    digest: str
    prices: list[_Price]
    lines: Sequence[Line]


_decode = msgspec.json.Decoder(_Kept).decode


def encode(final: FinalStatement) -> bytes:
    """A statement as JSON."""
    (start, end), found = final.period, final.statement
    prices = [_Price(*(getattr(price, name) for name in _Price.__struct_fields__)) for price in final.prices]
    kept = _Kept(start, end, final.plan, found.currency, final.made_at, found.digest, prices, found.lines)
    return msgspec.json.encode(kept)


def decode(raw: bytes) -> FinalStatement | None:
    """The statement that `encode` wrote; None if it is damaged, or is not what its digest says."""
    try:
        kept = _decode(raw)
        prices = tuple(Price(**msgspec.structs.asdict(price)) for price in kept.prices)
    except (msgspec.MsgspecError, ConfigurationError):
        return None
    found = Statement(kept.currency, kept.lines)
    if found.digest != kept.digest:
        return None
    return FinalStatement(Period(kept.start, kept.end), kept.plan, prices, found, kept.made_at)
