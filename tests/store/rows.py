"""Rows for tests of the store: short to write, and at random."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from usage_middleware.store.chunk import Row

#: 2026-11-20T13:45:00Z
MINUTE = 1_795_182_300


def row(**changes: Any) -> Row:
    """One call of `acme`'s `key_7`, but for the changes."""
    return Row(
        **{
            "minute": MINUTE,
            "org": "acme",
            "key": "key_7",
            "endpoint": "GET /v1/items",
            "tags": (),
            "status": 200,
            "calls": 1,
            "latency_us": 1000,
            "sent": 50,
            "last_ms": MINUTE * 1000 + 20_000,
            "counts": [],
            "bins": {73: 1},
            **changes,
        }
    )


def rows(dimensions: int = 1, counters: int = 1) -> st.SearchStrategy[list[Row]]:
    """Lists of rows of a few organisations, keys and endpoints over three days."""
    names = st.sampled_from(["a", "b", "(none)", "c:d", "calls", "é {x}"])
    bins = st.dictionaries(st.integers(0, 290), st.integers(1, 9), min_size=1, max_size=4)
    one = st.builds(
        _row,
        minute=st.integers(-3 * 1440, 0).map(lambda minutes: MINUTE + 60 * minutes),
        org=st.sampled_from(["acme", "globex", "%2A"]),
        key=names,
        endpoint=names.map(lambda name: f"GET /{name}"),
        tags=st.tuples(*[names] * dimensions),
        status=st.sampled_from([200, 201, 304, 404, 500, 499, 700]),
        latency_us=st.integers(0, 10**7),
        sent=st.integers(0, 10**9),
        counts=st.lists(st.integers(0, 100), min_size=counters, max_size=counters),
        bins=bins,
    )
    return st.lists(one, min_size=1, max_size=25)


def _row(minute: int, bins: dict[int, int], **rest: Any) -> Row:
    return Row(minute=minute, calls=sum(bins.values()), last_ms=minute * 1000 + 1, bins=bins, **rest)
