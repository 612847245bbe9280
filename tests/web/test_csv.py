"""CSV as spreadsheets and RFC 4180 want it: every cell comes back, and none is a formula."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
from aiocsv import AsyncReader
from hypothesis import given
from hypothesis import strategies as st

from tests.support import record_call
from tests.web.hosts import Api
from usage_middleware import KeyInfo
from usage_middleware.report.csv import encode, inert
from usage_middleware.store.members import key_member

if TYPE_CHECKING:
    from usage_middleware import Usage

Parse: TypeAlias = Callable[[bytes], list[list[str]]]


def by_python(table: bytes) -> list[list[str]]:
    """The rows as Python's own parser reads them."""
    return list(csv.reader(io.StringIO(table.decode(), newline=""), strict=True))


def by_aiocsv(table: bytes) -> list[list[str]]:
    """The rows as a parser reads them that shares no code with it."""
    text = io.StringIO(table.decode(), newline="")

    class File:
        async def read(self, size: int) -> str:
            return text.read(size)

    async def rows() -> list[list[str]]:
        return [row async for row in AsyncReader(File(), strict=True)]

    return asyncio.run(rows())


PARSERS = pytest.mark.parametrize("parse", [by_python, by_aiocsv])
#: How a spreadsheet may be set to split a line, beside at commas and honouring quotes.
SPLITS = re.compile("[,;|\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029\0]")


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet might run a cell: after what it leaves out stands a sign, in whatever width."""
    seen = next((one for one in cell if unicodedata.category(one)[0] not in "ZC" and one != '"'), "")
    return unicodedata.normalize("NFKC", seen)[:1] in {*"=+-@\u2212"} - {""}


#: What stands before a formula in the hope that only a filter is misled.
BEFORE = [
    "",
    "\n",
    "\r",
    "\r\n",
    "\t",
    " ",
    "\u00a0",
    "\0",
    "\x01",
    "\x7f",
    "\ufeff",
    "\u200b",
    "\u3000",
    "\u2028",
    "\x85",
    '"',
]
SIGNS = ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66", "\u207c", "\u2212"]


@PARSERS
@pytest.mark.parametrize("before", BEFORE, ids=ascii)
@pytest.mark.parametrize("sign", SIGNS, ids=ascii)
def test_formulas_are_inert(parse: Parse, before: str, sign: str) -> None:
    formula = f"{before}{sign}cmd|' /C calc'!A0"
    (_, (cell,)) = parse(encode(["name"], [[formula]]))
    assert cell.startswith("'")
    assert cell.replace("'", "") == formula.replace("'", "")
    assert not [part for part in SPLITS.split(cell) if is_formula(part)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "\n", "\r\n", "\x85", "\u2028", "\0"], ids=ascii)
@pytest.mark.parametrize("inner", ['=HYPERLINK("http://evil.example")', ' "=1+1"', "\n@SUM(A1)"])
def test_formulas_inside_a_cell_are_inert_for_other_separators(separator: str, inner: str) -> None:
    table = encode(["name", "calls"], [["first", 1], [f"harmless{separator}{inner}", 2], ['say "hi"', 3]]).decode()
    assert not [part for part in SPLITS.split(table) if is_formula(part)]


@pytest.mark.parametrize("start", ["\t", "\r", "\n", "\0", "\x1b", "\ufeff"], ids=ascii)
def test_a_control_character_comes_first_in_no_cell(start: str) -> None:
    assert inert(f"{start}name") == f"'{start}name"


@given(st.lists(st.text(alphabet=st.sampled_from("=+-@ \t\r\n\0,;|\"'a1\ufeff\uff1d\u2212\u3000\u2028")), min_size=1))
def test_no_cell_is_a_formula_however_it_is_split(cells: list[str]) -> None:
    table = encode(["a"] * len(cells), [cells]).decode()
    assert not [part for part in SPLITS.split(table) if is_formula(part)]
    for parse in (by_python, by_aiocsv):
        assert not [cell for cell in parse(table.encode())[1] if is_formula(cell)]


@pytest.mark.parametrize("harmless", ["GET /v1/items/{id}", "a-b", "me@example.com", "1+1=2", "'quoted'", "Zürich", ""])
def test_other_text_stays_as_it_is(harmless: str) -> None:
    assert inert(harmless) == harmless


def test_numbers_are_no_formulas() -> None:
    assert encode(["a", "b", "c", "d"], [[-1, -0.5, None, True]]) == b"a,b,c,d\r\n-1,-0.5,,true\r\n"


def test_what_has_no_utf8_does_not_fail() -> None:
    assert encode(["a"], [["\ud800"]]) == b"a\r\n?\r\n"


@PARSERS
@given(rows=st.lists(st.lists(st.text(), min_size=2, max_size=2)))
def test_cells_come_back(parse: Parse, rows: list[list[str]]) -> None:
    found = parse(encode(["a", "b"], rows))
    assert found[0] == ["a", "b"]
    assert found[1:] == [[inert(cell).encode("utf-8", "replace").decode() for cell in row] for row in rows]
    for cells, row in zip(found[1:], rows, strict=True):
        for cell, text in zip(cells, row, strict=True):
            assert cell.replace("'", "") == text.encode("utf-8", "replace").decode().replace("'", "")


@pytest.mark.parametrize("name", ["=1+1", "\n=1+1", "\ufeff@SUM(1)", "a;=1+1", "\uff1d1+1", '"=1+1"'], ids=ascii)
@PARSERS
def test_a_table_of_hostile_names(one_api: Api, usage: Usage, name: str, parse: Parse) -> None:
    usage.keys.put("acme", KeyInfo(id=name, name=name, environment=name), secret="sk_hostile")
    record_call(usage.recorder, ("acme", key_member(name)), f"GET /{name}", (name, name), 200, 8_000, 0, (0, 0, 0))
    assert usage.flush()
    for path in ("/by-key", "/by-group?group=project", "/by-group?group=key", "/by-group?group=endpoint", "/endpoints"):
        table = one_api.get(f"{path}{'&' if '?' in path else '?'}format=csv").body
        assert len(parse(table)) > 1
        assert not [cell for row in parse(table) for cell in row if is_formula(cell)]
