"""How a final statement is kept: as JSON, with its digest. Its head, without the keys, can be read alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from usage_middleware.errors import ConfigurationError
from usage_middleware.plans.billing import Period
from usage_middleware.plans.plan import Billable, Price, Tier
from usage_middleware.plans.statement import Holder, Line, LineTotal, Statement, digest


class FinalHead(NamedTuple):
    """What a final statement says of its period, without its keys.

    Attributes:
        plan: the plan's name.
        prices: those that it was made with.
        lines: their totals.
        made_at: when it was made, seconds since the epoch.
        corrections: how many corrections there were then, of its own period and of those whose changes it may carry: by
            the begin of the period.
    """

    period: Period
    plan: str | None
    prices: tuple[Price, ...]
    currency: str
    lines: Sequence[LineTotal]
    made_at: int
    corrections: Mapping[int, int]

    def carries(self, origin: int) -> bool:
        """Whether it has a line that the period has left over which began then."""
        return any(line.origin == origin for line in self.lines)


class FinalStatement(NamedTuple):
    """A statement that never moves. The attributes are those of its head."""

    period: Period
    plan: str | None
    prices: tuple[Price, ...]
    statement: Statement
    made_at: int
    corrections: Mapping[int, int] = {}

    @property
    def head(self) -> FinalHead:
        """It, without its keys."""
        totals = [LineTotal(one.price, one.quantity, one.amount, one.currency, one.origin) for one in self.statement.lines]
        currency = self.statement.currency
        return FinalHead(self.period, self.plan, self.prices, currency, totals, self.made_at, self.corrections)


class _Price(msgspec.Struct, omit_defaults=True):
    name: str
    of: str
    billable: Billable
    included: int = 0
    flat: Decimal | None = None
    graduated: list[Tier] = []
    volume: list[Tier] = []
    package: tuple[int, Decimal] | None = None


class _Begin(msgspec.Struct):
    start: int
    end: int
    plan: str | None
    currency: str
    made_at: int
    digest: str
    keys_digest: str
    corrections: dict[int, int]
    prices: list[_Price]


class _KeptHead(_Begin):
    lines: Sequence[LineTotal]


class _Kept(_Begin):
    """Many keys have the same holder: `held` has its place for each key."""

    lines: Sequence[Line]
    holders: list[Holder]
    held: dict[str, int]


_decode, _decode_head = msgspec.json.Decoder(_Kept).decode, msgspec.json.Decoder(_KeptHead).decode


def encode(final: FinalStatement) -> bytes:
    """A statement as JSON."""
    (start, end), found = final.period, final.statement
    prices = [_Price(*(getattr(price, name) for name in _Price.__struct_fields__)) for price in final.prices]
    holders, held = _numbered(found.holders)
    kept = _Kept(
        start, end, final.plan, found.currency, final.made_at, found.digest, found.keys_digest, dict(final.corrections), prices,
        found.lines, holders, held,
    )  # fmt: skip
    return msgspec.json.encode(kept)


def decode(raw: bytes) -> FinalStatement | None:
    """The statement that `encode` wrote; None if it is damaged, or is not what its digest says."""
    try:
        kept = _decode(raw)
        prices = _prices(kept.prices)
        holders = {key: kept.holders[place] for key, place in kept.held.items()}
    except (msgspec.MsgspecError, ConfigurationError, IndexError):
        return None
    found = Statement(kept.currency, kept.lines, holders)
    if (found.digest, found.keys_digest) != (kept.digest, kept.keys_digest):
        return None
    return FinalStatement(Period(kept.start, kept.end), kept.plan, prices, found, kept.made_at, kept.corrections)


def decode_head(raw: bytes) -> FinalHead | None:
    """The head of the statement that `encode` wrote; None if it is damaged. With many keys it takes a tenth of the time."""
    try:
        kept = _decode_head(raw)
        prices = _prices(kept.prices)
    except (msgspec.MsgspecError, ConfigurationError):
        return None
    if digest(kept.currency, kept.lines, kept.keys_digest) != kept.digest:
        return None
    period = Period(kept.start, kept.end)
    return FinalHead(period, kept.plan, prices, kept.currency, kept.lines, kept.made_at, kept.corrections)


def _prices(kept: Sequence[_Price]) -> tuple[Price, ...]:
    return tuple(Price(**msgspec.structs.asdict(price)) for price in kept)


def _numbered(holders: Mapping[str, Holder]) -> tuple[list[Holder], dict[str, int]]:
    """The different holders, and which of them each key has."""
    places: dict[tuple[object, ...], int] = {}
    found: list[Holder] = []
    held: dict[str, int] = {}
    for key, holder in holders.items():
        name = holder.owner, *sorted(holder.labels.items())
        if name not in places:
            places[name] = len(found)
            found.append(holder)
        held[key] = places[name]
    return found, held
