"""Which API keys come closest to their limits. Boards tell the calls of all keys at once; only the first ones are measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple, TypeAlias

from usage_middleware.periods import DAY, Slot
from usage_middleware.plans import units
from usage_middleware.plans.billing import Period
from usage_middleware.report.context import ReportContext
from usage_middleware.report.kept import Kept
from usage_middleware.report.limit_rows import LimitRow, Meter, Meters, Part
from usage_middleware.report.named_periods import Edges
from usage_middleware.store.members import is_reserved
from usage_middleware.store.schema import CALLS

#: How many rows are listed, and how many keys are looked at where boards don't tell: those that were used last.
MOST_ROWS, MOST_KEYS = 20, 1_000

#: What is counted over which period: the same of several limits.
_Kind: TypeAlias = tuple[str, Period]


class _Candidate(NamedTuple):
    """A limit of a key, and how much of it was used at most."""

    ratio: float
    meter: Meter


def closest_rows(context: ReportContext, org: str, meters: Meters) -> list[LimitRow]:
    """The limits of keys that have the least left, `MOST_ROWS` at most."""
    candidates = sorted(_candidates(context, org, meters), key=lambda one: (-one.ratio, one.meter.key, one.meter.part.name))
    found: list[LimitRow] = []
    for begin in range(0, len(candidates), MOST_ROWS):
        some = candidates[begin : begin + MOST_ROWS]
        if len(found) == MOST_ROWS and _ratio(found[-1].used, found[-1].limit) > some[0].ratio:
            break
        more = (row for row in meters.rows([one.meter for one in some]) if row.used > 0)
        found = sorted([*found, *more], key=_order)[:MOST_ROWS]
    return found


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


def _candidates(context: ReportContext, org: str, meters: Meters) -> Iterator[_Candidate]:
    """The limits of keys of which something was used."""
    usual = [] if meters.plan is None else [part for part in meters.plan.parts if part.by == "key"]
    own = {key: [meter.part for meter in meters.of_key(key)] for key in meters.plans.keys}
    parts = [*usual, *(part for some in own.values() for part in some)]
    used = _used(context, org, meters, parts)
    for part in usual:
        some = used[_kind(meters, part)]
        yield from (_candidate(part, key, much) for key, much in some.items() if much > 0 and key not in own)
    for key, some_parts in own.items():
        for part in some_parts:
            much = used[_kind(meters, part)].get(key, 0)
            if much > 0:
                yield _candidate(part, key, much)


def _candidate(part: Part, key: str, used: int) -> _Candidate:
    return _Candidate(_ratio(used, part.amount), Meter(part, key))


def _kind(meters: Meters, part: Part) -> _Kind:
    return part.of, meters.period(part)


def _used(context: ReportContext, org: str, meters: Meters, parts: Sequence[Part]) -> Mapping[_Kind, Mapping[str, int]]:
    """What each key used at most, of each kind."""
    kinds = {_kind(meters, part): part for part in parts}
    told = {kind: slots for kind in kinds if (slots := _board_slots(context, kind)) is not None}
    batch = context.batch(org)
    boards = {kind: batch.board(slots, "key", (CALLS,)) for kind, slots in told.items()}
    batch.read()
    found: dict[_Kind, Mapping[str, int]] = {
        kind: {key: sums.get(CALLS, 0) for key, sums in board.value.items() if not is_reserved("key", key)}
        for kind, board in boards.items()
    }
    rest = {kind: part for kind, part in kinds.items() if kind not in told}
    return found | _measured(context, org, meters, rest) if rest else found


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
