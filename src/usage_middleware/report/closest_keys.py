"""Which API keys come closest to their limits. Boards tell the calls of all keys at once; only the first ones are measured."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop
from math import inf
from typing import TypeAlias

from usage_middleware.periods import DAY, Slot
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import Kept
from usage_middleware.report.known_boards import KnownBoards
from usage_middleware.report.limit_rows import LimitRow, Meter, Meters, Part
from usage_middleware.report.named_periods import Edges
from usage_middleware.store.members import is_reserved
from usage_middleware.store.read_batch import ReadBatch

#: How many rows are listed, and how many keys are looked at where boards don't tell: those that were used last.
MOST_ROWS, MOST_KEYS = 20, 1_000

#: What is counted over which period: the same of several limits.
_Kind: TypeAlias = tuple[str, Period]
#: A limit of a key in the order of what is left: how much of it was used at most, below 0; the key; its name; the limit.
_Candidate: TypeAlias = tuple[float, str, str, Part]


class ClosestKeys:
    """Finds the limits of keys that have the least left, `MOST_ROWS` at most. `batch` is read before."""

    def __init__(self, context: ReportContext, org: str, meters: Meters, batch: ReadBatch) -> None:
        self._context = context
        self._org = org
        self._meters = meters
        #: What holds for the keys that have no plan of their own, and what for those that have.
        self._usual = [] if meters.plan is None else [part for part in meters.plan.parts if part.by == "key"]
        self._own = {key: [meter.part for meter in meters.of_key(key)] for key in meters.plans.keys}
        self._kinds = {_kind(meters, part): part for part in self._parts}
        self._boards = self._boards_in(batch)

    @property
    def _parts(self) -> list[Part]:
        return [*self._usual, *(part for some in self._own.values() for part in some)]

    def rows(self) -> list[LimitRow]:
        """A row for each, those with the least left first."""
        candidates = self._candidates()
        heapify(candidates)
        found: list[LimitRow] = []
        # A candidate comes no earlier than by how much it used at most.
        while candidates and not (len(found) == MOST_ROWS and _order(found[-1]) <= candidates[0][:3]):
            some = [heappop(candidates) for _ in range(min(MOST_ROWS, len(candidates)))]
            more = (row for row in self._meters.rows([Meter(part, key) for _, key, _, part in some]) if row.used > 0)
            found = sorted([*found, *more], key=_order)[:MOST_ROWS]
        return found

    def _candidates(self) -> list[_Candidate]:
        """The limits of keys of which something was used."""
        used, found = self._used(), list[_Candidate]()
        for part in self._usual:
            # They may be 100,000.
            some, own, limit, name = used[_kind(self._meters, part)], self._own, part.amount, part.name
            found += [
                (-much / limit if limit else -inf, key, name, part) for key, much in some.items() if much > 0 and key not in own
            ]
        for key, parts in self._own.items():
            of_key = ((part, used[_kind(self._meters, part)].get(key, 0)) for part in parts)
            found += [(-_ratio(much, part.amount), key, part.name, part) for part, much in of_key if much > 0]
        return found

    def _boards_in(self, batch: ReadBatch) -> dict[_Kind, KnownBoards]:
        """The boards that tell what each key used at most, of each kind that any tell."""
        told = {kind: slots for kind in self._kinds if (slots := _board_slots(self._context, kind)) is not None}
        return {kind: KnownBoards(self._context, self._org, batch, slots) for kind, slots in told.items()}

    def _used(self) -> Mapping[_Kind, Mapping[str, int]]:
        """What each key used at most, of each kind."""
        found: dict[_Kind, Mapping[str, int]] = {kind: board.calls() for kind, board in self._boards.items()}
        rest = {kind: part for kind, part in self._kinds.items() if kind not in self._boards}
        return found | _measured(self._context, self._org, self._meters, rest) if rest else found


def keys_used_since(context: ReportContext, org: str, meters: Meters, since_ms: int | None = None) -> list[str]:
    """The keys that were used since then, the last ones first; None: since the running periods began."""
    parts = _all_parts(meters)
    if not parts:
        return []
    batch = context.batch(org)
    seen = batch.seen("key")
    batch.read()
    began = min(meters.period(part).start for part in parts) * 1000
    since = began if since_ms is None else max(began, since_ms)
    found = {key: last for key, last in seen.value.items() if last >= since and not is_reserved("key", key)}
    return sorted(found, key=lambda key: (-found[key], key))


def _order(row: LimitRow) -> tuple[float, str, str]:
    return -_ratio(row.used, row.limit), row.key_id or "", row.name


def _ratio(used: int, limit: int) -> float:
    return used / limit if limit else inf


def _all_parts(meters: Meters) -> list[Part]:
    """All that may hold for keys."""
    others = meters.plans.declared.by_name.values() if meters.plans.keys else ()
    return [part for plan in (meters.plan, *others) if plan is not None for part in plan.parts if part.by == "key"]


def _kind(meters: Meters, part: Part) -> _Kind:
    return part.of, meters.period(part)


def _board_slots(context: ReportContext, kind: _Kind) -> list[Slot] | None:
    """The slots whose boards tell the calls in a period, and perhaps some more; None where no board tells them."""
    of, period = kind
    minute, _, day = context.settings.layers
    if of != units.CALLS:
        return None
    if period.end - period.start == minute.seconds:
        return [Slot(minute, period.start)]
    start = day.floor(period.start)
    if Kept(context.settings, ("board",), context.now).gap(Edges(start, max(period.end, context.now))) is not None:
        return None
    return [Slot(day, at) for at in range(start, min(context.now + 1, period.end), DAY)]


def _measured(context: ReportContext, org: str, meters: Meters, parts: Mapping[_Kind, Part]) -> dict[_Kind, Mapping[str, int]]:
    """What the keys that were used last have used: each is read."""
    keys = keys_used_since(context, org, meters)[:MOST_KEYS]
    used = meters.used([Meter(part, key) for part in parts.values() for key in keys])
    return {kind: {key: used[Meter(part, key)] for key in keys} for kind, part in parts.items()}
