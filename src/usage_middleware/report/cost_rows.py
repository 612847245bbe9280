"""Who carries what a billing period costs: keys, owners, or the values of a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec

from usage_middleware.plans.money import rounded
from usage_middleware.plans.statement import UNALLOCATED, Holder, Statement
from usage_middleware.report.context import ReportContext, ReportScope
from usage_middleware.store.keys import KeyInfo
from usage_middleware.store.members import key_member

KEY, OWNER = "key", "owner"


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one key, owner or value of a label carries.

    Attributes:
        key_id: None where it isn't divided by keys.
        value: the owner, or the value of the label; None where it is divided by keys.
        name: the key's, as in the key directory.
        quantity: how much was used of what has a price; None where several units have one.
        amount: exact, in the currency.
    """

    key_id: str | None
    value: str | None
    name: str | None
    quantity: int | None
    amount: str


def amount_text(amount: Decimal, currency: str) -> str:
    """An amount with all the digits of its currency."""
    return str(rounded(amount, currency))


class CostRows(NamedTuple):
    """Divides a statement. Of a final one those carry it who answered for the keys when it became final."""

    context: ReportContext
    scope: ReportScope
    bill: Statement
    is_final: bool

    def of(self, by: str, label: str | None) -> list[CostRow]:
        """Who carries how much, the greatest first."""
        amounts, quantities = self.bill.by_key, self._quantities()
        if by == KEY:
            infos = self._infos()
            rows = [self._key_row(key, infos.get(key), quantities, amounts) for key in {**amounts, **(quantities or {})}]
        else:
            holders = self.bill.holders if self.is_final else self._holders()
            rows = _grouped(amounts, quantities, lambda key: _value(holders.get(key), label), self.bill.currency)
        return sorted(rows, key=lambda row: (-Decimal(row.amount), row.key_id or row.value or ""))

    def _key_row(
        self, key: str, info: KeyInfo | None, quantities: Mapping[str, int] | None, amounts: Mapping[str, Decimal]
    ) -> CostRow:
        return CostRow(
            key_id=key,
            value=None,
            name=None if info is None else info.name,
            quantity=None if quantities is None else quantities.get(key, 0),
            amount=amount_text(amounts.get(key, Decimal(0)), self.bill.currency),
        )

    def _quantities(self) -> dict[str, int] | None:
        """How much each key used; None where that are different things."""
        own = self.bill.own
        if not own or any(line.quantities != own[0].quantities for line in own):
            return None
        return dict(own[0].quantities)

    def _holders(self) -> Mapping[str, Holder]:
        return {key: Holder(info.owner, info.labels) for key, info in self._infos().items()}

    def _infos(self) -> Mapping[str, KeyInfo]:
        directory, scope = self.context.directory, self.scope
        if scope.key is None:
            return {key_member(info.id): info for info in directory.list(scope.org_name, include_revoked=True)}
        info = directory.get(scope.org_name, scope.key_name)
        return {} if info is None else {scope.key: info}


def _grouped(
    amounts: Mapping[str, Decimal], quantities: Mapping[str, int] | None, group: Callable[[str], str], currency: str
) -> list[CostRow]:
    keys: dict[str, list[str]] = {}
    for key in {**amounts, **(quantities or {})}:
        keys.setdefault(group(key), []).append(key)
    return [
        CostRow(
            key_id=None,
            value=value,
            name=None,
            quantity=None if quantities is None else sum(quantities.get(key, 0) for key in many),
            amount=amount_text(sum((amounts.get(key, Decimal(0)) for key in many), Decimal(0)), currency),
        )
        for value, many in keys.items()
    ]


def _value(holder: Holder | None, label: str | None) -> str:
    """Who carries what a key costs; unallocated where nobody is named."""
    found = None if holder is None else holder.owner if label is None else holder.labels.get(label)
    return found or UNALLOCATED
