"""The JSON of an answer is made in pieces, and is the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.web import encoding
from usage_middleware.web.encoding import ROWS, encode


class Row(msgspec.Struct):
    """A row as views have them."""

    name: str
    points: list[tuple[str, int | None]]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.builds(Row, st.text(), st.just([("a", 1)])),
    lambda inner: st.lists(inner, max_size=3 * ROWS) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=100,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_it_is_the_same(report: dict[str, Any]) -> None:
    assert encode(report) == msgspec.json.encode(report)


@pytest.mark.parametrize("rows", [0, 1, ROWS, ROWS + 1, 10 * ROWS])
def test_no_call_has_more_than_a_few_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def watched(value: Any) -> bytes:
        found.append(len(value) if isinstance(value, list) else 1)
        return msgspec.json.encode(value)

    monkeypatch.setattr(encoding, "_encode", watched)
    inner = {"buckets": [{"calls": number} for number in range(rows)]}
    report = {"results": [inner] * 2, "keys": [Row("a", [])] * rows}
    assert encode(report) == msgspec.json.encode(report)
    assert max(found, default=0) <= ROWS
