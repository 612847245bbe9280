"""Counted calls for tests of the store: short to write, and at random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from hypothesis import strategies as st

from usage_middleware.events import CallKey, CallTotals, Cells, add_totals

Cell: TypeAlias = tuple[CallKey, CallTotals]

#: 2026-11-20T13:45:00Z
MINUTE = 1_795_182_300


def cell(
    *,
    minute: int = MINUTE,
    org: str = "acme",
    key: str = "key_7",
    endpoint: str = "GET /v1/items",
    tags: tuple[str, ...] = (),
    status: int = 200,
    **totals: Any,
) -> Cell:
    """One call of `acme`'s `key_7`, but for the changes."""
    one: dict[str, Any] = {
        "calls": 1, "latency_us": 1000, "sent": 50, "last_ms": MINUTE * 1000 + 20_000, "counts": (), "bins": {73: 1}
    }  # fmt: skip
    return CallKey(minute, (org, key), endpoint, tags, status), CallTotals(**{**one, **totals})


def cells(many: Iterable[Cell]) -> Cells:
    """Those of the same key added up. The given ones stay as they are."""
    found: Cells = {}
    for key, totals in many:
        add_totals(found, key, totals.copy())
    return found


def lists_of_cells(dimensions: int = 1, counters: int = 1) -> st.SearchStrategy[list[Cell]]:
    """Calls of a few organisations, keys and endpoints over three days; some have the same key."""
    names = st.sampled_from(["a", "b", "(none)", "c:d", "calls", "é {x}"])
    bins = st.dictionaries(st.integers(0, 290), st.integers(1, 9), min_size=1, max_size=4)
    one = st.builds(
        _cell,
        minute=st.integers(-3 * 1440, 0).map(lambda minutes: MINUTE + 60 * minutes),
        org=st.sampled_from(["acme", "globex", "%2A"]),
        key=names,
        endpoint=names.map(lambda name: f"GET /{name}"),
        tags=st.tuples(*[names] * dimensions),
        status=st.sampled_from([200, 201, 304, 404, 500, 499, 700]),
        latency_us=st.integers(0, 10**7),
        sent=st.integers(0, 10**9),
        counts=st.tuples(*[st.integers(0, 100)] * counters),
        bins=bins,
    )
    return st.lists(one, min_size=1, max_size=25)


def _cell(minute: int, bins: dict[int, int], **rest: Any) -> Cell:
    return cell(minute=minute, calls=sum(bins.values()), last_ms=minute * 1000 + 1, bins=bins, **rest)
