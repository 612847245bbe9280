"""The views as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

#: How many of the latest days are listed.
DAYS = 7
#: The JSON answer of a view.
Report = dict[str, Any]


def summary(report: Report) -> RenderableType:
    """`/summary`: endpoints, then projects, status classes and the latest days side by side."""
    head = f"{report['total_calls']} calls, {report['successful_calls']} successful, {span(report)}"
    endpoints = grid("endpoint", "calls", "successful")
    fill(endpoints, ((row["endpoint"], row["calls"], row["successful"]) for row in report["by_endpoint"]))
    days = [row for row in report["by_day"] if row["calls"]][-DAYS:]
    parts = (
        part("project", ((row["project_name"], row["calls"]) for row in report["by_project"])),
        part("status class", ((row["status_class"], row["calls"]) for row in report["by_status_class"])),
        part("day", ((row["day"], row["calls"]) for row in days)),
    )
    return Group(Text(head), endpoints, Columns(parts, padding=(0, 3)))


def by_key(report: Report) -> RenderableType:
    """`/by-key`: all active keys, with or without calls."""
    table = grid("key", "name", "environment", "calls", "errors", "last activity")
    fill(
        table,
        (
            (
                row["key_id"],
                row["name"],
                f"{row['environment']}, revoked" if row["revoked_at"] else row["environment"],
                row["request_count"],
                row["error_count"],
                moment(row["last_activity"]),
            )
            for row in report["keys"]
        ),
    )
    return Group(Text(f"{report['total_keys']} active keys"), table)


def by_group(report: Report) -> RenderableType:
    """`/by-group`: the busiest values of one dimension."""
    totals = report["totals"]
    over = meter(report)
    head = f"{totals['calls']} calls, {totals['errors']} errors, {totals['bytes']:,} bytes, {span(report)}, {over}"
    table = grid(report["group"], "calls", "errors", "avg ms")
    fill(table, ((row["bucket"], row["calls"], row["errors"], row["avg_ms"]) for row in report["buckets"]))
    return Group(Text(head), table)


def limits(report: Report) -> RenderableType:
    """`/limits`: what may be used, and what is left of it."""
    table = grid("limit", "of", "used", "allowed", "left", "expected")
    fill(
        table,
        (
            (
                row["name"],
                row["key_id"] or "all keys",
                f"{row['used']:,}",
                f"{row['limit']:,} a {'minute' if row['kind'] == 'rate' else 'period'}",
                f"{row['remaining']:,}",
                None if row["projected"] is None else f"{row['projected']['value']:,}",
            )
            for row in report["limits"]
        ),
    )
    return Group(Text(f"plan {report['plan']}, {'over quota' if report['over_quota'] else 'within its quotas'}"), table)


def alerts(report: Report) -> RenderableType:
    """`/`: thresholds that were reached in the running periods."""
    return Group(*(Text(f"{alert['severity']}: {alert['message']}") for alert in report["alerts"]))


def meter(report: Report) -> str:
    """How much of its quota the customer has used."""
    quota = report["quota"]
    if quota is None:
        return "no quota"
    state = "over quota" if report["over_quota"] else "within its quota"
    return f"{quota['used']:,} of {quota['included']:,} {quota['name']} used, {state}"


def span(report: Report) -> str:
    """The time range of the report."""
    return f"last {report['window']['label']}"


def moment(text: str | None) -> str | None:
    """A time, to the minute."""
    return None if text is None else text[:16].replace("T", " ")


def grid(*columns: str) -> Table:
    """An empty table with these columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in NUMERIC else "left", no_wrap=True)
    return table


NUMERIC = {"calls", "successful", "errors", "avg ms", "used", "allowed", "left", "expected"}


def part(name: str, rows: Iterable[Sequence[object]]) -> Table:
    """A small table of calls by `name`."""
    return fill(grid(name, "calls"), rows)


def fill(table: Table, rows: Iterable[Sequence[object]]) -> Table:
    """Add rows to a table. Names come from callers, so they are never parsed as markup."""
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    return table


def cell(value: object) -> str:
    """A value as text."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
