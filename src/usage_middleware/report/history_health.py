"""How far packing is, and what keeps it from going on, for `/health`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from usage_middleware.errors import UsageUnavailable
from usage_middleware.periods import DAY, HOUR, rfc3339
from usage_middleware.report.at_rest import Warned
from usage_middleware.report.context import ReportSource
from usage_middleware.store.history.state import HistoryState, history_state
from usage_middleware.store.worker_status import SeenStatus

#: Packing that is behind for longer is worth a warning; for as long as a week, somebody has to act. Seconds.
BEHIND, FAR_BEHIND = DAY // 2, 7 * DAY


class HistoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """Packed time.

    Attributes:
        since: since when all that is counted is packed in time, RFC 3339; None: it is not. What is older is kept as without
            history. `1970-01-01T00:00:00Z` where there is nothing older.
        organisations: how many have something to pack, now or later.
        behind_seconds: how long the organisation that waits longest has waited; 0: nothing waits.
    """

    since: str | None
    organisations: int
    behind_seconds: int


def history_of(source: ReportSource, now: float) -> tuple[HistoryReport | None, HistoryState | None]:
    """What Redis says of packed time; None where history is off, or Redis does not answer."""
    try:
        with source.engine.guard():
            state = history_state(source.engine.read_client, source.schema, source.engine.damage)
    except UsageUnavailable:
        return None, None
    if not source.schema.settings.history:
        return None, state
    waits = 0 if state.next_due is None else max(0, int(now) - state.next_due)
    since = None if state.since is None else rfc3339(state.since)
    return HistoryReport(since=since, organisations=state.organisations, behind_seconds=waits), state


def warnings_of(report: HistoryReport | None, state: HistoryState | None, workers: Sequence[SeenStatus]) -> Iterator[Warned]:
    """What is wrong with packing."""
    if state is not None and report is None and state.is_packed:
        sentence = (
            "Some time is packed, and history is off here: views lack it. Set history=True, or call usage.unpack_history()."
        )
        yield Warned("history_off", sentence)
    others = [f"{one.host}:{one.pid}" for one in workers if not one.history] if report is not None else []
    if others:
        sentence = f"{others[0]} runs without history: nothing is packed meanwhile. Update it, or set history=True there."
        yield Warned("history_waits", sentence)
    if report is not None and report.behind_seconds > BEHIND:
        yield Warned("history_behind", _behind(report), "failing" if report.behind_seconds > FAR_BEHIND else "warning")


def _behind(report: HistoryReport) -> str:
    return (
        f"Packing is {report.behind_seconds // HOUR} hours behind: half-hours fill the memory until they are packed. See the "
        "log, and call usage.pack_history() from cron."
    )
