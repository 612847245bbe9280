"""CSV as spreadsheets and RFC 4180 want it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_middleware.report.csv import encode


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_inert(start: str) -> None:
    (_, row) = csv.reader(io.StringIO(encode(["name"], [[f"{start}cmd|' /C calc'!A0"]]).decode(), newline=""))
    assert row == [f"'{start}cmd|' /C calc'!A0"]


def test_numbers_are_no_formulas() -> None:
    assert encode(["a", "b", "c", "d"], [[-1, -0.5, None, True]]) == b"a,b,c,d\r\n-1,-0.5,,true\r\n"


def test_what_has_no_utf8_does_not_fail() -> None:
    assert encode(["a"], [["\ud800"]]) == b"a\r\n?\r\n"


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2)))
def test_cells_come_back(rows: list[list[str]]) -> None:
    found = list(csv.reader(io.StringIO(encode(["a", "b"], rows).decode(), newline="")))
    assert found[0] == ["a", "b"]
    assert [[cell.removeprefix("'") for cell in row] for row in found[1:]] == [
        [cell.encode("utf-8", "replace").decode().removeprefix("'") for cell in row] for row in rows
    ]
