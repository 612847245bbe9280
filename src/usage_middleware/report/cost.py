"""The cost view: what a billing period costs, line by line, and who carries it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import msgspec

from usage_middleware.errors import QueryError
from usage_middleware.periods import rfc3339
from usage_middleware.plans.statement import Line, Statement
from usage_middleware.report.billing_period import billing_period
from usage_middleware.report.context import ReportContext, missing_org, report_scope
from usage_middleware.report.cost_rows import KEY, OWNER, CostRow, CostRows, amount_text
from usage_middleware.report.over_quota import plans_version
from usage_middleware.report.parameters import AskedOf, described
from usage_middleware.report.statements import Biller, PeriodCost, State
from usage_middleware.report.view import Table, View
from usage_middleware.report.window import WindowEdges
from usage_middleware.store.members import OPERATOR

_LABEL = re.compile(r"label:([a-z][a-z0-9_.-]{0,63})")


class CostParameters(AskedOf, frozen=True, kw_only=True):
    """What the cost view may be asked."""

    period: Annotated[
        str,
        described(
            "The billing period: `current`, `previous`, the month in which it begins, the day, or the time in UTC.",
            "2026-10",
            code="invalid_period",
        ),
    ] = "current"
    by: Annotated[str, described("Who carries the cost: `key`, `owner`, or a label of keys.", "label:team")] = KEY


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one price comes to.

    Attributes:
        quantity: how much was used.
        amount: exact, in the currency.
        carried: whether it was left over by an earlier period that was final already.
        carried_from: when that period began, RFC 3339; None of the period's own lines.
        currency: of an amount carried from another currency that one; it is in `other_totals`, not in `total`.
    """

    price: str
    quantity: int
    amount: str
    carried: bool
    carried_from: str | None
    currency: str


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """What was added to a final period since, by corrections, backfill, and calls that came late."""

    price: str
    quantity: int
    amount: str


class OtherTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The total of what was carried from another currency."""

    currency: str
    total: str


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a billing period costs. Of a key viewer, what its key carries.

    Attributes:
        currency: None where there are no prices, and then so are the amounts.
        state: `open` while the period runs, `provisional` while calls may still come in, then `final`: it never changes.
        total: the sum of the lines, exact.
        rows: who carries it; their amounts add up to the total.
        corrected: what was added since it was final; the next period carries it.
        digest: a SHA-256 of a final statement; None before, and for a key viewer.
    """

    org_id: str | None
    plan: str | None
    period: WindowEdges
    state: State
    currency: str | None
    total: str | None
    lines: list[CostLine]
    rows: list[CostRow]
    other_totals: list[OtherTotal]
    corrected: list[Corrected]
    digest: str | None
    by: str
    generated_at: str


def build(context: ReportContext, params: CostParameters) -> Cost:
    """Answer a question about cost.

    Raises:
        QueryError: `invalid_period`; `not_retained` for a period that is not kept any more and has no final statement.
    """
    scope = report_scope(context.viewer, params.org)
    if scope.org == OPERATOR:
        raise missing_org("A cost is one organisation's: say which with org=.")
    label = _label(params.by)
    plans = context.plans.of(scope.org)
    period = billing_period(plans.history, params.period, context.now)
    found = Biller(context, scope.org, plans).cost(period)
    if not found.is_kept:
        raise QueryError("not_retained", "What was used then is not kept any more, and no final statement was made.", "period")
    bill = None if found.statement is None else _of_key(found.statement, scope.key)
    return Cost(
        org_id=scope.shown_org,
        plan=found.plan,
        period=WindowEdges(start=rfc3339(found.period.start), end=rfc3339(found.period.end)),
        state=found.state,
        currency=None if bill is None else bill.currency,
        total=None if bill is None else amount_text(bill.total(), bill.currency),
        lines=[] if bill is None else [_line(line) for line in bill.lines],
        rows=[] if bill is None else CostRows(context, scope, bill, found.state == "final").of(params.by, label),
        other_totals=[] if bill is None else _other_totals(bill),
        corrected=_corrected(found, scope.key),
        digest=_digest(found, scope.key),
        by=params.by,
        generated_at=context.generated_at,
    )


def _label(by: str) -> str | None:
    found = _LABEL.fullmatch(by)
    if found is None and by not in (KEY, OWNER):
        raise QueryError(
            "invalid_parameter", "by must be key, owner, or label: and the name of a label, such as label:team", "by"
        )
    return None if found is None else found[1]


def _of_key(bill: Statement, key: str | None) -> Statement:
    """What a key carries of it; None: all."""
    return bill if key is None else bill._replace(lines=_parts(bill.lines, key))


def _parts(lines: Sequence[Line], key: str) -> list[Line]:
    """A key's part of each line. What was left over of others is not there."""
    parts = [_part(line, key) for line in lines]
    return [part for part in parts if part.origin is None or part.quantity or part.amount]


def _part(line: Line, key: str) -> Line:
    share, quantity = line.shares.get(key, Decimal(0)), line.quantities.get(key, 0)
    return msgspec.structs.replace(line, quantity=quantity, amount=share, shares={key: share}, quantities={key: quantity})


def _line(line: Line) -> CostLine:
    return CostLine(
        price=line.price,
        quantity=line.quantity,
        amount=amount_text(line.amount, line.currency),
        carried=line.origin is not None,
        carried_from=None if line.origin is None else rfc3339(line.origin),
        currency=line.currency,
    )


def _other_totals(bill: Statement) -> list[OtherTotal]:
    others = sorted({line.currency for line in bill.lines} - {bill.currency})
    return [OtherTotal(currency=currency, total=amount_text(bill.total(currency), currency)) for currency in others]


def _digest(found: PeriodCost, key: str | None) -> str | None:
    """The digest of a final statement. Not of one key's part: with few keys and known prices it would tell what others use."""
    return found.statement.digest if found.state == "final" and found.statement is not None and key is None else None


def _corrected(found: PeriodCost, key: str | None) -> list[Corrected]:
    lines = found.corrected if key is None else _parts(found.corrected, key)
    return [
        Corrected(price=line.price, quantity=line.quantity, amount=amount_text(line.amount, line.currency)) for line in lines
    ]


def _row_table(report: Cost) -> Table:
    header = CostRow.__struct_fields__
    return [*header, "currency"], ([*(_cell(row, name) for name in header), report.currency] for row in report.rows)


def _line_table(report: Cost) -> Table:
    header = CostLine.__struct_fields__
    return header, ([_cell(line, name) for name in header] for line in report.lines)


def _cell(row: CostRow | CostLine, name: str) -> object:
    """A field; an amount as a number: one below 0 as text might be a formula."""
    return Decimal(row.amount) if name == "amount" else getattr(row, name)


VIEW = View(
    name="cost",
    path="/cost",
    title="What a billing period costs, and who carries it",
    asks=CostParameters,
    report=Cost,
    build=build,
    tables={"rows": _row_table, "lines": _line_table},
    depends_on=plans_version,
    more_codes=("not_retained", "window_too_wide"),
    example="""{
  "org_id": "acme",
  "plan": "pro",
  "period": {"start": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"},
  "state": "final",
  "currency": "EUR",
  "total": "24.99",
  "lines": [
    {
      "price": "base", "quantity": 61250, "amount": "19.00", "carried": false, "carried_from": null, "currency": "EUR"
    },
    {
      "price": "calls", "quantity": 61250, "amount": "6.13", "carried": false, "carried_from": null, "currency": "EUR"
    },
    {
      "price": "calls", "quantity": -1400, "amount": "-0.14", "carried": true, "carried_from": "2026-09-01T00:00:00Z",
      "currency": "EUR"
    }
  ],
  "rows": [
    {"key_id": null, "value": "search", "name": null, "quantity": 40000, "amount": "16.28"},
    {"key_id": null, "value": "maps", "name": null, "quantity": 21250, "amount": "8.71"}
  ],
  "other_totals": [],
  "corrected": [{"price": "calls", "quantity": 100, "amount": "0.01"}],
  "digest": "9f2c1f0b6a6f4c5f8f6f6d4c2a2c0d3c1b5f1e7a8d9e0f1a2b3c4d5e6f708192",
  "by": "label:team",
  "generated_at": "2026-11-20T13:45:20Z"
}""",
)
